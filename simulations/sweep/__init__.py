"""Many simulations from one file: `promptward sweep`; docs/sweeps.md."""
