"""What all parties agree on: task card, prompt tensor, backbones, privacy mechanism and accounting, wire contract.

Importing it switches off what would phone home: Flower reads its switch when it is first imported, so ours come first.
"""

import os

SILENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
os.environ.update(SILENT)
