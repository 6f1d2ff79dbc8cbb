"""The coordinator: aggregation, roster, checkpoints and the Flower strategy. It holds nothing private."""

import shared as shared  # first of all: it keeps Flower from phoning home
