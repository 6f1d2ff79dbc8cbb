"""The command line of `promptward audit`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN", help="the run directory of `promptward serve` or `simulate`")
    parser.add_argument(
        "--site",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="a hospital's transcript (LEDGER.transcript.jsonl), or the folder of its ledger",
    )
    parser.add_argument(
        "--ledger", type=Path, nargs="+", action="extend", default=[], metavar="PATH", help="a ledger that lies elsewhere"
    )
    parser.add_argument(
        "--canaries", type=Path, metavar="FILE", help="the audit site's canary file, which audit.json then opens to everybody"
    )
    parser.add_argument(
        "--follow", action="store_true", help="while `promptward serve` runs: hold each round against the claim; needs --canaries"
    )
    parser.add_argument(
        "--site-file",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="a hospital's own site file: what do the updates that it sent tell of its own patients? Run this at the hospital",
    )
    parser.add_argument("--files-only", action="store_true", help="look at files only, in seconds; run no attack and no self-test")
    parser.add_argument("--thorough", action="store_true", help="take minutes instead of seconds, for narrower intervals")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where audit.html and audit.json are written (default: RUN)")
    parser.add_argument("--json", action="store_true", help="print audit.json instead of a summary")
    test = parser.add_argument_group("instead of a run: is the installed code right, and are the audits?")
    test.add_argument("--self-test", action="store_true", help="put bugs in one by one and print which layer finds each")
    test.add_argument(
        "--task", default="heart-disease", help="the card whose model and mechanism are used (default: heart-disease)"
    )
    test.add_argument("--runs", type=int, default=1, help="how often the right code is audited, to count false alarms (default: 1)")
    test.add_argument("--processes", type=int, default=0, help="default: two, where there are two processors")


def add_canaries_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `promptward canaries`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a canary file and print the [audit] lines of the task card")
    new.add_argument("task", metavar="TASK", help="a task card's path, or a shipped one's name; it may lack [audit] yet")
    new.add_argument("--site", required=True, metavar="NAME", help="the audit site's name on the roster")
    new.add_argument("--count", type=int, default=2000, help="canaries, at most one a number of the prompt (default: 2000)")
    new.add_argument("--segments", type=int, default=5, help="parts of the run for which all coins are flipped anew (default: 5)")
    new.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new file, readable by its owner only")
    show = actions.add_parser("show", help="what a canary file is, and its [audit] lines; no coin is shown")
    show.add_argument("file", type=Path, metavar="FILE")
    for action in (new, show):
        action.add_argument("--json", action="store_true", help="print JSON instead of text")
