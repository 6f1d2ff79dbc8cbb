"""The coordinator: aggregation, roster, checkpoints and the Flower strategy. It holds nothing private."""
