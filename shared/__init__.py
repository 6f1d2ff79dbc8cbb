"""What all parties agree on: task card, prompt tensor, backbones, privacy mechanism and accounting, wire contract."""
