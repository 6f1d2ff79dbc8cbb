"""Is a prompt enough? Several ways of tuning one model on one split, all under the same patient-level mechanism."""
