"""`promptward doctor site SITE_FILE`: what is wrong at this hospital, in plain words, before anything is started."""

import argparse

from client.checkup import Examined
from client.checkup_books import books_checks
from client.checkup_link import link_checks
from client.checkup_machine import machine_checks
from client.checkup_terms import terms_checks
from client.site import load_site
from shared.findings import Check, Finding, examine, report
from shared.installation import installation_checks
from shared.room import fetch_nothing


def run(args: argparse.Namespace) -> int:
    """Run the command; raises `InputError` when there is no site file that could be checked."""
    fetch_nothing()
    it = Examined(args.site.resolve(), load_site(args.site))
    return report(f"{it.site.site}: {args.site}", examine(site_checks(it)), args.json)


def site_checks(it: Examined) -> list[Check]:
    """Return every check of a hospital, each after those that it needs."""
    return [
        Check("site file", lambda: [Finding("site file", "ok", f"{it.file}: every key is known")]),
        *installation_checks("client", "flower-supernode"),
        *books_checks(it),
        *terms_checks(it),
        *machine_checks(it),
        *link_checks(it),
    ]
