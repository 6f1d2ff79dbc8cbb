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
