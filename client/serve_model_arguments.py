"""The command line of `promptward serve-model`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="prompt folders, or names of the library's prompts")
    parser.add_argument("--site", type=Path, help="a site file: its column mapping, and the temperatures that it keeps")
    parser.add_argument("--port", type=int, default=8750, help="port on this machine (default: 8750)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument(
        "--expose", action="store_true", help="allow a --host that other machines reach: there is no login and no TLS"
    )
    parser.add_argument("--most-rows", type=int, default=256, help="rows or images that one request may hold (default: 256)")
    parser.add_argument(
        "--most-bytes", type=int, metavar="N", help="size of a request (default: 1000000, where prompts read images 60000000)"
    )
    parser.add_argument(
        "--most-pixels", type=int, default=25_000_000, metavar="N", help="pixels that one image is decoded to (default: 25000000)"
    )
    parser.add_argument(
        "--library", type=Path, metavar="DIR", help="the prompt library (default: ~/.local/share/promptward/prompts)"
    )
