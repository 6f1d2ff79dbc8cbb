"""The command line of `promptward simulate`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("task", nargs="?", default="heart-disease", help="a task card's path, or a shipped one's name")
    parser.add_argument("--sites", type=int, help="number of hospitals (default: those of the card)")
    parser.add_argument(
        "--partition", help="natural, iid, dirichlet:ALPHA, quantity:ALPHA, feature:COLUMN or cluster:ALPHA (default: natural)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="repetitions; means and spreads are reported (default: 1)")
    parser.add_argument("--epsilon", type=float, help="calibrate the noise to this epsilon instead of the card's")
    parser.add_argument("--rounds", type=int, help="rounds instead of the card's")
    parser.add_argument("--aggregation", help="sum, trimmed-mean, median or krum instead of the card's (docs/robustness.md)")
    parser.add_argument("--tolerate", type=int, help="lying sites that trimmed-mean and krum withstand")
    parser.add_argument("--split", type=int, default=43, help="seed of the train/test split (default: 43, FLamby's)")
    parser.add_argument(
        "--data", help="a study file (TOML) with your own table or images, the .npz of an image card, or synthetic:COUNT"
    )
    parser.add_argument(
        "--engine",
        choices=["in-process", "batched", "ray"],
        default="in-process",
        help="in-process (default): every site is a hospital that gets Flower's messages; batched: all sites in large batches; "
        "ray: the hospitals in Ray's actors, on this machine or a cluster (docs/simulations.md)",
    )
    parser.add_argument("--actors", type=int, help="number of Ray's actors, each with a backbone (default: one for each core)")
    parser.add_argument("--ray-address", metavar="HOST:PORT", help="a running Ray cluster (default: RAY_ADDRESS, or none)")
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        help="of the frozen model, instead of the card's; prompt and noise stay as they are",
    )
    parser.add_argument("--device", default="cpu", help="where the frozen model runs: cpu (default), cuda or cuda:N")
    parser.add_argument(
        "--compile", action="store_true", help="gradients through torch.compile: no gain on a processor, see docs/benchmarks.md"
    )
    for name, what in (
        ("dropout", "probability that a site is away in a round"),
        ("stragglers", "probability that a site's reply comes too late: charged, not counted"),
        ("late-joiners", "share of sites that join at half time"),
    ):
        parser.add_argument(f"--{name}", type=float, default=0.0, metavar="SHARE", help=what)
    parser.add_argument(
        "--quorum", type=int, help="sites that must contribute to a round (default: the card's; 1 with missing sites)"
    )
    parser.add_argument(
        "--curve",
        type=int,
        default=6,
        metavar="N",
        help="score about N rounds on the test patients; the last is always scored, 1 is the last alone (default: 6)",
    )
    parser.add_argument("--canaries", type=Path, metavar="FILE", help="the canary file of the card's audit site (docs/canaries.md)")
    parser.add_argument("--no-privacy", action="store_true", help="add no noise: for comparison only, shouted everywhere")
    parser.add_argument("--out", type=Path, help="run directory (default: runs/TASK-TIME)")
    parser.add_argument("--resume", type=Path, metavar="OUT", help="go on with an interrupted run directory")
    parser.add_argument("--json", action="store_true", help="print result.json instead of a table")
