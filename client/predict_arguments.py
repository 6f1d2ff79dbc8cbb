"""The command line of `promptward predict`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="prompt folders, or names of the library's prompts")
    parser.add_argument(
        "input",
        type=Path,
        metavar="INPUT",
        help="the rows: .csv, .parquet or .jsonl; for images such a manifest, one file or a folder",
    )
    parser.add_argument("--site", type=Path, help="a site file: its column mapping, and the temperatures that it keeps")
    parser.add_argument(
        "--calibrate", type=Path, metavar="SITE", help="first fit each prompt's temperature on this site's test patients"
    )
    parser.add_argument("--id", metavar="COLUMN", help="a column to repeat beside each prediction")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write predictions to a .csv, .json or .parquet file")
    parser.add_argument("--why", type=Path, metavar="HTML", help="write a page on what each prediction rests on")
    parser.add_argument("--skip-broken", action="store_true", help="list images that cannot be read, and go on without them")
    parser.add_argument(
        "--why-rows", type=int, default=20, metavar="N", help="rows or patients that --why explains (default: the first 20)"
    )
    parser.add_argument(
        "--library", type=Path, metavar="DIR", help="the prompt library (default: ~/.local/share/promptward/prompts)"
    )
    parser.add_argument("--json", action="store_true", help="print predictions, and reasons with --why, as JSON")
