"""Promptward's front door: the `promptward` command, and the few public names of the Python API.

Every command imports its role inside its own function, so that `--help` answers at once.
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
    _add(commands, "simulate", "many hospitals on this machine, by default four real ones", _simulate_arguments, _simulate)
    _add(
        commands,
        "sweep",
        "many simulations from one file: how sites, skew, epsilon and more change the score",
        _sweep_arguments,
        _sweep,
    )
    _add(
        commands, "compare", "is a prompt enough? prompt, LoRA and full fine-tuning at equal epsilon", _compare_arguments, _compare
    )
    _add(commands, "serve", "coordinate a federation of real hospitals", _serve_arguments, _serve)
    _add(commands, "join", "take part in a federation as a hospital", _join_arguments, _join)
    _add(commands, "doctor", "what is wrong on this machine, before a run", _doctor_arguments, _doctor)
    _add(commands, "transcript", "what left a hospital, byte by byte", _transcript_arguments, _transcript)
    _add(commands, "ledger", "what a hospital's ledger says was spent", _ledger_arguments, _ledger)
    _add(commands, "audit", "audit what was shared in a run", _audit_arguments, _audit)
    _add(commands, "canaries", "the secret canaries of an audit site", _canaries_arguments, _canaries)
    _add(commands, "keys", "keys and certificates of a federation", _keys_arguments, _keys)
    _add(commands, "publish", "a noised accuracy of a prompt on a hospital's own test patients", _publish_arguments, _publish)
    _add(commands, "predict", "read the rows of a table, or images, with one or several prompts", _predict_arguments, _predict)
    _add(commands, "prompts", "the prompt library", _prompts_arguments, _prompts)
    _add(commands, "serve-model", "answer predictions over HTTP on this machine", _serve_model_arguments, _serve_model)
    _add(commands, "init", "a task card and a site file from a table or folder of your own", _init_arguments, _init)
    return parser


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


def _simulate_arguments(parser: argparse.ArgumentParser) -> None:
    from simulations.arguments import add_arguments

    add_arguments(parser)


def _simulate(args: argparse.Namespace) -> int:
    from simulations.command import run

    return run(args, STARTED)


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    from simulations.sweep.arguments import add_arguments

    add_arguments(parser)


def _sweep(args: argparse.Namespace) -> int:
    from simulations.sweep.command import run

    return run(args)


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    from simulations.comparison.arguments import add_arguments

    add_arguments(parser)


def _compare(args: argparse.Namespace) -> int:
    from simulations.comparison.command import run

    return run(args)


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    from server.serve_arguments import add_arguments

    add_arguments(parser)


def _serve(args: argparse.Namespace) -> int:
    from server.serve_command import run

    return run(args)


def _join_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("site", type=Path, help="the hospital's site file")
    parser.add_argument("--once", action="store_true", help="end when the plan's last round has left")


def _join(args: argparse.Namespace) -> int:
    from client.join_command import run

    return run(args)


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    from shared.doctor_arguments import add_arguments

    add_arguments(parser)


def _doctor(args: argparse.Namespace) -> int:
    roles = {"site": "client.doctor_command", "coordinator": "server.doctor_command"}
    return int(importlib.import_module(roles[args.role]).run(args))


def _transcript_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("transcript", type=Path, help="a site's transcript, LEDGER.transcript.jsonl")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--round", type=int, metavar="N", help="show round N field by field")
    which.add_argument("--last", action="store_true", help="show the last round field by field")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _transcript(args: argparse.Namespace) -> int:
    from client.transcript_command import run

    return run(args)


def _ledger_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["show", "verify", "statement"])
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--delta", type=float, default=1e-4, help="delta of the epsilon that is shown (default: 1e-4)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _ledger(args: argparse.Namespace) -> int:
    from client.ledger_command import run

    return run(args)


def _audit_arguments(parser: argparse.ArgumentParser) -> None:
    from audits.audit_arguments import add_arguments

    add_arguments(parser)


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


def _canaries(args: argparse.Namespace) -> int:
    from audits.canaries_command import run

    return run(args)


def _keys_arguments(parser: argparse.ArgumentParser) -> None:
    from shared.keys_arguments import add_arguments

    add_arguments(parser)


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


def _publish(args: argparse.Namespace) -> int:
    from client.publish_command import run

    return run(args)


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    from client.predict_arguments import add_arguments

    add_arguments(parser)


def _predict(args: argparse.Namespace) -> int:
    from client.predict_command import run

    return run(args)


def _prompts_arguments(parser: argparse.ArgumentParser) -> None:
    from client.prompts_arguments import add_arguments

    add_arguments(parser)


def _prompts(args: argparse.Namespace) -> int:
    from client.prompts_command import run

    return run(args)


def _serve_model_arguments(parser: argparse.ArgumentParser) -> None:
    from client.serve_model_arguments import add_arguments

    add_arguments(parser)


def _serve_model(args: argparse.Namespace) -> int:
    from client.serve_model_command import run

    return run(args)


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    from client.init_arguments import add_arguments

    add_arguments(parser)


def _init(args: argparse.Namespace) -> int:
    from client.init_command import run

    return run(args)


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
