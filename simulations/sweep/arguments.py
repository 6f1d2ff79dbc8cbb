"""The command line of `promptward sweep`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("sweep", nargs="?", help="the sweep's TOML file (docs/sweeps.md), or a shipped one's name: heart")
    parser.add_argument("--out", type=Path, help="the sweep's folder (default: runs/sweep-NAME); one that was begun goes on")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with an interrupted sweep's folder")
    parser.add_argument("--dry-run", action="store_true", help="print the cells, and train nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
