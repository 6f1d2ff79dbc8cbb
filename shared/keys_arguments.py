"""The command line of `promptward keys`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path
from typing import Any

SERVER_DAYS = 365


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line; `action` says which of them was given."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _coordinator(_add(actions, "coordinator", "at the coordinator: make the federation's CA and server certificate"))
    _site(_add(actions, "site", "at a hospital: make its key pair; the private key never leaves the hospital"))
    _admit(_add(actions, "admit", "at the coordinator: admit a hospital by the public key that it sent"))
    _invite(_add(actions, "invite", "at the coordinator: make the folder that each hospital gets"))
    _show(_add(actions, "show", "what a certificate or key file is, and its fingerprint"))
    _trial(_add(actions, "trial", "for trials only: keys and folders of all parties on this one machine"))


def _add(actions: Any, name: str, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=what, description=what)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


def _coordinator(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder; it is made")
    parser.add_argument("--host", action="append", default=[], help="DNS name or IP address that hospitals call; may be repeated")
    parser.add_argument(
        "--days", type=int, default=SERVER_DAYS, help=f"days that the server certificate lasts (default: {SERVER_DAYS})"
    )
    parser.add_argument(
        "--renew",
        action="store_true",
        help="a new server certificate from the CA in DIR, for the same hosts unless --host is given; hospitals change nothing",
    )


def _site(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the hospital's name exactly as on the task card's roster")
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="where to write NAME.key and NAME.pub (default: here)"
    )


def _admit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    parser.add_argument("public", type=Path, metavar="PUBFILE", help="the public key that the hospital sent")
    parser.add_argument("--name", required=True, help="the hospital's name on the roster")
    parser.add_argument("--task", help="a task card; check that the name is on its roster")


def _invite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="a task card's path, or a shipped one's name")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    parser.add_argument("--address", required=True, metavar="HOST:PORT", help="where hospitals call the coordinator")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder (default: NAME-invitations, by the task's name)")


def _show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a certificate, a public key or a private key")


def _trial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="a task card's path, or a shipped one's name")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder; it is made")
    parser.add_argument(
        "--address", default="127.0.0.1:9092", metavar="HOST:PORT", help="on this machine (default: 127.0.0.1:9092)"
    )
