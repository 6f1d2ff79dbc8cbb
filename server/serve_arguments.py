"""The command line of `promptward serve`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("task", help="a task card's path, or a shipped one's name")
    parser.add_argument("--keys", type=Path, required=True, help="the folder that `promptward keys coordinator` made")
    parser.add_argument("--address", default="0.0.0.0:9092", help="HOST:PORT to listen on (default: 0.0.0.0:9092)")
    parser.add_argument("--out", type=Path, help="run directory; one that is there is gone on with (default: runs/TASK-TIME)")
    parser.add_argument("--wait", type=float, default=3600.0, help="seconds to wait for the first round's replies (default: 3600)")
    parser.add_argument("--deadline", type=float, default=60.0, help="a later round waits at least so many seconds (default: 60)")
    parser.add_argument("--json", action="store_true", help="print result.json at the end")
