"""A hospital: its records, its private training step, its ledger and its egress gate."""

import shared as shared  # first of all: it keeps Flower from phoning home
