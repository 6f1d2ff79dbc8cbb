"""`promptward doctor coordinator TASK --keys DIR`: what is wrong at this coordinator, before anything is started."""

import argparse

from server.checkup import Examined, coordinator_checks
from server.credentials import Credentials
from shared.card import Task
from shared.certificates import listening_at
from shared.errors import InputError
from shared.findings import examine, report
from shared.installation import installation_checks
from shared.room import fetch_nothing


def run(args: argparse.Namespace) -> int:
    """Run the command; raises `InputError` when there is no card or no folder of keys that could be checked."""
    fetch_nothing()
    if not args.keys.is_dir():
        raise InputError(f"{args.keys}: there is no such folder; make one with promptward keys coordinator.")
    listening_at(args.address)
    it = Examined(Task.load(args.task), Credentials(args.keys), args.address, args.out)
    checks = [*installation_checks("server", "flower-superlink"), *coordinator_checks(it)]
    return report(f"coordinator of {it.task.card.name}: {args.keys}", examine(checks), args.json)
