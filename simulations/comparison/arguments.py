"""The command line of `promptward compare`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("task", nargs="?", default="heart-disease", help="a task card's path, or a shipped one's name")
    parser.add_argument("--data", help="a study file (TOML) with your own table, or synthetic:COUNT for made-up patients")
    parser.add_argument("--sites", type=int, help="number of hospitals (default: those of the card)")
    parser.add_argument(
        "--partition", help="natural, iid, dirichlet:ALPHA, quantity:ALPHA, feature:COLUMN or cluster:ALPHA (default: natural)"
    )
    parser.add_argument("--split", type=int, default=43, help="seed of the train/test split (default: 43, FLamby's)")
    parser.add_argument("--seeds", type=int, default=5, help="repetitions with other draws and noise (default: 5)")
    parser.add_argument("--epsilon", type=float, help="what every patient spends (default: what the card plans)")
    parser.add_argument(
        "--equal",
        choices=["epsilon", "bytes", "time"],
        default="epsilon",
        help="epsilon (default): every method trains as many rounds as it needs; bytes or time: as many as fit into what the "
        "card's prompt takes, at the same epsilon",
    )
    parser.add_argument(
        "--methods", default="all", help="some of prompt,input,deep,rows,labels,lora,full,logistic; the card's prompt is always in"
    )
    parser.add_argument("--settings", default="local,federated,pooled", help="some of local,federated,pooled")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="METHOD.KEY=VALUE",
        help="a method's learning_rate, clip_norm, rounds, or seeds (at most so many)",
    )
    parser.add_argument("--margin", type=float, default=0.01, help="a difference in AUC that does not matter (default: 0.01)")
    parser.add_argument(
        "--out", type=Path, help="folder (default: runs/compare-TASK-TIME); trainings that it holds are not repeated"
    )
    parser.add_argument("--json", action="store_true", help="print compare.json instead of a table")
