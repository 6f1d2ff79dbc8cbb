"""The command line of `promptward init`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line; what is left out is asked for at a terminal."""
    parser.add_argument(
        "folder", type=Path, nargs="?", help="a folder of images or .txt files, with a manifest or a folder a label"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a table instead: .csv, .parquet or .jsonl")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="the folder's manifest (default: the one table in it)")
    parser.add_argument(
        "--file-column", default="file", metavar="COL", help="the manifest's column that names files (default: file)"
    )
    parser.add_argument(
        "--patient-rule", metavar="RULE", help="whose a file is: 'file', 'dicom', or a regular expression with one group"
    )
    parser.add_argument("--task", metavar="CARD", help="there is a card already: write the site file only")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the files go (default: here)")
    parser.add_argument("--name", help="the task's name: lower-case letters, digits and hyphens")
    parser.add_argument("--title", help="the task in words (default: its name)")
    parser.add_argument("--label", metavar="COL", help="the column with what shall be predicted")
    parser.add_argument("--label-text", action="append", default=[], metavar="VALUE=TEXT", help="public words for a label")
    parser.add_argument("--site", help="this hospital's name")
    parser.add_argument("--sites", metavar="A,B,C", help="all hospitals that take part")
    parser.add_argument("--site-column", metavar="COL", help="a column that names the hospital, where one table has them all")
    parser.add_argument("--patient", metavar="COL", help="a column that names the patient (default: a row is a patient)")
    parser.add_argument("--split", metavar="COL", help="a column that says train or test")
    parser.add_argument("--edges", action="append", default=[], metavar="COL=E1,E2", help="public thresholds of a number")
    parser.add_argument("--skip", action="append", default=[], metavar="COL", help="a column to leave out")
    parser.add_argument("--expect", type=int, metavar="N", help="training patients of all hospitals together: public, round")
    parser.add_argument("--epsilon", type=float, help="the privacy budget of the task (default: 3)")
    parser.add_argument("--backbone", metavar="SOURCE", help="the frozen model (default: the one of promptward[demo])")
    parser.add_argument("--yes", action="store_true", help="the words of the table's columns may stand in the public card")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
