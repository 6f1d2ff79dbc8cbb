"""A hospital: its records, its private training step, its ledger and its egress gate."""
