"""Many sites in one process: partitions, the in-process Grid, evaluation and the report."""
