"""The command line of `promptward prompts`, apart from its work so that `--help` imports nothing."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--library", type=Path, metavar="DIR", help="default: ~/.local/share/promptward/prompts")
    common.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, what: str, *more: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=what, description=what, parents=[common, *more])

    action("list", "what the library holds")
    action("show", "a prompt's model card").add_argument("prompt")
    compare = action("compare", "two prompts side by side")
    compare.add_argument("first")
    compare.add_argument("second")
    compare.add_argument("--input", type=Path, help="rows of a table: how often do the two agree?")
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--personal", action="store_true", help="a site's own prompt too: the site has decided to hand it on")
    export = action("export", "copy a prompt out, byte for byte", own)
    export.add_argument("prompt")
    export.add_argument("folder", type=Path, help="a new folder")
    _push(action("push", "lay a prompt out as a repository of the Hugging Face hub; nothing is uploaded", own))
    _import(action("import", "take in a run's prompt, an exported one, or rows trained with PEFT"))
    action("rm", "remove a prompt").add_argument("prompt")
    nearest = action("nearest", "rank the library's prompts as starts of a task, from public facts")
    nearest.add_argument("task", help="a task card's path, or a shipped one's name")
    _handover(action("handover", "write the card that goes on from a prompt with LoRA, or with all weights of its layers"))
    guard = action("guard", "at a hospital: does the card's trained start beat a fresh one here? charged to the ledger")
    guard.add_argument("site", type=Path, help="the hospital's site file")
    guard.add_argument("task", help='the card, whose init is "prompt:..."')
    guard.add_argument("--fresh", default="vocabulary", help="init of the start that it is compared with (default: vocabulary)")
    write = action("personal", "at a hospital: write the site's own prompt of a run as a prompt folder; nothing is sent")
    write.add_argument("site", type=Path, help="the hospital's site file")
    write.add_argument("task", help="the card, with [plan.personal]")
    write.add_argument("folder", type=Path, help="a new folder")
    write.add_argument("--run", help="the run's name on the ledger (default: the newest)")


def _handover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", help="a prompt of the library, or RUN/prompt")
    parser.add_argument("card", type=Path, help="the new card's file")
    parser.add_argument("--kind", choices=("lora", "layers"), default="lora", help="what moves (default: lora)")
    parser.add_argument("--rank", type=int, default=4, help="of lora (default: 4)")


def _push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt")
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument(
        "--base-model", metavar="ORG/NAME", help="the frozen model's name on the hub, where the card names another place"
    )
    parser.add_argument(
        "--figures", type=Path, metavar="RUN", help="also tell the AUC and accuracy of this simulation, which have no noise"
    )


def _import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="RUN/prompt, an exported folder, or a PEFT prompt-tuning folder")
    parser.add_argument("--name", help="default: the task's name")
    parser.add_argument("--licence", help="for example CC-BY-4.0")
    parser.add_argument("--intended-use", help="a sentence: for whom, for what, and for what not")
    parser.add_argument(
        "--backbone", help="for PEFT rows of others: the model they were trained on, as folder:PATH or package:NAME"
    )
