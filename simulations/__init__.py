"""Many sites in one process: partitions, the in-process Grid, evaluation and the report."""

import shared as shared  # first of all: it keeps Flower from phoning home
