"""Promptward's front door: the `promptward` command, and the few public names of the Python API.

A command imports its role when it is given, so that `--help` answers at once.
"""

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
PACKAGES = ("shared", "client", "server", "simulations", "audits")
HOME = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> int:
    """Run a command; return 0 when done, 1 when the run or check failed, 2 when the input was wrong."""
    foreign = _foreign_package()  # before the command line, which the roles declare themselves
    if foreign:
        return _complain(f"package '{foreign}' would be loaded from outside {HOME}; start promptward from another folder.", 2)
    args = _parser().parse_args(argv)
    from shared.errors import PromptwardError

    try:
        return int(args.command(args))
    except PromptwardError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("Stopped before anything was written.", 1)
    except BrokenPipeError:
        return 1


def __getattr__(name: str) -> Any:
    """Give the public names on first use: `promptward.Task`."""
    if name == "Task":
        from shared.card import Task

        return Task
    raise AttributeError(f"module 'promptward' has no attribute '{name}'")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="promptward", description="Federated soft prompt training for hospitals, with patient-level differential privacy."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add(
        commands,
        "simulate",
        "many hospitals on this machine, by default four real ones",
        _declared_in("simulations.arguments"),
        _simulate,
    )
    _add(
        commands,
        "sweep",
        "many simulations from one file: how sites, skew, epsilon and more change the score",
        _declared_in("simulations.sweep.arguments"),
        _run_by("simulations.sweep.command"),
    )
    _add(
        commands,
        "compare",
        "is a prompt enough? prompt, LoRA and full fine-tuning at equal epsilon",
        _declared_in("simulations.comparison.arguments"),
        _run_by("simulations.comparison.command"),
    )
    _add(
        commands,
        "serve",
        "coordinate a federation of real hospitals",
        _declared_in("server.serve_arguments"),
        _run_by("server.serve_command"),
    )
    _add(commands, "join", "take part in a federation as a hospital", _join_arguments, _run_by("client.join_command"))
    _add(commands, "doctor", "what is wrong on this machine, before a run", _declared_in("shared.doctor_arguments"), _doctor)
    _add(commands, "transcript", "what left a hospital, byte by byte", _transcript_arguments, _run_by("client.transcript_command"))
    _add(commands, "ledger", "what a hospital's ledger says was spent", _ledger_arguments, _run_by("client.ledger_command"))
    _add(commands, "audit", "audit what was shared in a run", _declared_in("audits.audit_arguments"), _audit)
    _add(commands, "canaries", "the secret canaries of an audit site", _canaries_arguments, _run_by("audits.canaries_command"))
    _add(commands, "keys", "keys and certificates of a federation", _declared_in("shared.keys_arguments"), _keys)
    _add(
        commands,
        "publish",
        "a noised accuracy of a prompt on a hospital's own test patients",
        _publish_arguments,
        _run_by("client.publish_command"),
    )
    _add(
        commands,
        "predict",
        "read the rows of a table, or images, with one or several prompts",
        _declared_in("client.predict_arguments"),
        _run_by("client.predict_command"),
    )
    _add(commands, "prompts", "the prompt library", _declared_in("client.prompts_arguments"), _run_by("client.prompts_command"))
    _add(
        commands,
        "serve-model",
        "answer predictions over HTTP on this machine",
        _declared_in("client.serve_model_arguments"),
        _run_by("client.serve_model_command"),
    )
    _add(
        commands,
        "init",
        "a task card and a site file from a table or folder of your own",
        _declared_in("client.init_arguments"),
        _run_by("client.init_command"),
    )
    return parser


def _declared_in(module: str) -> Callable[[argparse.ArgumentParser], None]:
    """Return what declares a command line: a module's `add_arguments`."""

    def declare(parser: argparse.ArgumentParser) -> None:
        importlib.import_module(module).add_arguments(parser)

    return declare


def _run_by(module: str) -> Callable[[argparse.Namespace], int]:
    """Return what runs a command: a module's `run`, imported when the command is given."""

    def run(args: argparse.Namespace) -> int:
        return int(_imported(module).run(args))

    return run


def _imported(module: str) -> Any:
    from shared.imports import unswept

    with unswept():
        return importlib.import_module(module)


def _add(
    commands: Any,
    name: str,
    what: str,
    arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
) -> None:
    parser = commands.add_parser(name, help=what, description=what)
    arguments(parser)
    parser.set_defaults(command=run)


def _simulate(args: argparse.Namespace) -> int:
    return int(_imported("simulations.command").run(args, STARTED))


def _join_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("site", type=Path, help="the hospital's site file")
    parser.add_argument("--once", action="store_true", help="end when the plan's last round has left")


def _doctor(args: argparse.Namespace) -> int:
    roles = {"site": "client.doctor_command", "coordinator": "server.doctor_command"}
    return int(importlib.import_module(roles[args.role]).run(args))


def _transcript_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("transcript", type=Path, help="a site's transcript, LEDGER.transcript.jsonl")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--round", type=int, metavar="N", help="show round N field by field")
    which.add_argument("--last", action="store_true", help="show the last round field by field")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _ledger_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["show", "verify", "statement"])
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--delta", type=float, default=1e-4, help="delta of the epsilon that is shown (default: 1e-4)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _audit(args: argparse.Namespace) -> int:
    from audits.audit_command import run

    def known(folder: Path) -> Any:
        from audits.patients import Known
        from simulations.known import patients_of

        found = patients_of(folder)
        return found and {name: Known(site.train, site.test) for name, site in found.items()}

    return run(args, known)


def _canaries_arguments(parser: argparse.ArgumentParser) -> None:
    from audits.audit_arguments import add_canaries_arguments

    add_canaries_arguments(parser)


def _keys(args: argparse.Namespace) -> int:
    roles = {"show": "shared.keys_command", "site": "client.keys_command"}
    roles |= dict.fromkeys(("coordinator", "admit"), "server.keys_command")
    roles |= dict.fromkeys(("invite", "trial"), "server.invite_command")
    return int(importlib.import_module(roles[args.action]).run(args))


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("site", type=Path, metavar="SITE", help="the hospital's site file")
    parser.add_argument("prompt", type=Path, metavar="PROMPT", help="a prompt folder, such as RUN/prompt")
    parser.add_argument("--task", help="the prompt's task card (default: task.toml beside the folder)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _foreign_package() -> str | None:
    """Return a package of ours that Python would load from somewhere else, for example from the working directory."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not Path(spec.origin).resolve().is_relative_to(HOME):
            return name
    return None


def _complain(sentence: str, code: int) -> int:
    print(f"promptward: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
