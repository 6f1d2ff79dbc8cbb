"""The command line of `promptward doctor`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line; `role` says whose machine is looked at."""
    roles = parser.add_subparsers(dest="role", required=True, metavar="ROLE")
    site = _add(roles, "site", "at a hospital, before promptward join")
    site.add_argument("site", type=Path, metavar="SITE_FILE", help="the hospital's site file")
    coordinator = _add(roles, "coordinator", "at the coordinator, before promptward serve")
    coordinator.add_argument("task", metavar="TASK", help="a task card's path, or a shipped one's name")
    coordinator.add_argument(
        "--keys", type=Path, required=True, metavar="DIR", help="the folder that promptward keys coordinator made"
    )
    coordinator.add_argument(
        "--address",
        default="0.0.0.0:9092",
        metavar="HOST:PORT",
        help="where it will listen (default: 0.0.0.0:9092)",
    )
    coordinator.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="the run directory (default: a new one in runs)"
    )


def _add(roles: Any, name: str, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = roles.add_parser(name, help=what, description=what)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser
