"""The agreement audit: do the hospitals' ledgers and transcripts and the coordinator's files tell the same story?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from audits.coordinator import RunFiles
from audits.coordinator_checks import check_coordinator
from audits.evidence import Evidence
from audits.finding import CHECKS, Finding, Row
from audits.section import Section, Table
from audits.site_checks import SiteFiles, check_site, epsilons, rows_of

TITLE = "Do all books agree?"
MARKS = ("agrees", "disagrees", "–")
MOST_COLUMNS, MOST_ROWS = 8, 600  # sites in the table of checks, rows of payloads; everything is in audit.json


@dataclass(frozen=True)
class Account:
    """What one site's files allow to say: the checks, a row a round, epsilon by the ledger.

    `counted` is epsilon of what the coordinator holds, `charged` of all that was charged for this run; None without a ledger.
    """

    site: str
    shown: frozenset[str]
    rows: tuple[Row, ...]
    published: float | None
    counted: float | None
    charged: float | None


@dataclass(frozen=True)
class Agreement:
    """The audit's outcome: one account a site of the roster, and every disagreement."""

    accounts: tuple[Account, ...]
    findings: tuple[Finding, ...]
    wire: tuple[tuple[str, str, int, int, int], ...] = ()  # site, call, times, bytes, bytes of headers' values

    @property
    def agrees(self) -> bool:
        """Whether nothing contradicts anything, as far as files were shown."""
        return not self.findings

    @property
    def absent(self) -> tuple[str, ...]:
        """The sites of the roster that showed nothing."""
        return tuple(account.site for account in self.accounts if not account.shown)


def compare(run: RunFiles, evidence: Mapping[str, Sequence[Evidence]]) -> Agreement:
    """Compare the coordinator's files with each hospital's.

    Args:
        run: the coordinator's files.
        evidence: site -> its files, several for the seeds of a simulation; a site that showed nothing is absent.
    """
    files = {name: SiteFiles(name, some) for name, some in evidence.items()}
    findings = check_coordinator(run) + [finding for its in files.values() for finding in check_site(its, run)]
    published = {name: site.get("epsilon") for name, site in run.told.items()}
    accounts = []
    for name in run.task.card.plan.sites:
        its = files.get(name)
        if its is None:
            accounts.append(Account(name, frozenset(), (), published.get(name), None, None))
            continue
        counted, charged = epsilons(its, run) if its.charges is not None else (None, None)
        accounts.append(Account(name, its.shown, tuple(rows_of(its, run)), published.get(name), counted, charged))
    wire = [
        (name, call, *numbers)
        for name, some in evidence.items()
        for one in some
        if one.outgoing
        for call, numbers in sorted(one.outgoing.calls.items())
    ]
    return Agreement(tuple(accounts), tuple(findings), tuple(wire))


def sentence(agreement: Agreement) -> str:
    """Return the outcome in words; it never claims more than was shown."""
    rows = [row for account in agreement.accounts for row in account.rows]
    counted = sum(row.held is not None for row in rows)
    absent = f" Not looked at, because no files were shown: {', '.join(agreement.absent)}." if agreement.absent else ""
    if agreement.agrees:
        return f"Everything agrees: {counted} payloads of {len(rows)} site rounds were compared." + absent
    many = "disagreement" if len(agreement.findings) == 1 else "disagreements"
    return f"{len(agreement.findings)} {many} in {len(rows)} site rounds." + absent


def as_facts(agreement: Agreement) -> dict[str, Any]:
    """Return the outcome for `audit.json`."""
    return {
        "agrees": agreement.agrees,
        "summary": sentence(agreement),
        "not_shown": list(agreement.absent),
        "checks": {check: {"title": title, "sites": _marks(agreement, check)} for check, title in CHECKS.items()},
        "sites": [
            {
                "name": account.site,
                "epsilon_published": account.published,
                "epsilon_of_what_arrived": account.counted,
                "epsilon_charged": account.charged,
                "rounds": [asdict(row) for row in account.rows],
            }
            for account in agreement.accounts
        ],
        "findings": [asdict(finding) for finding in agreement.findings],
    }


def as_section(agreement: Agreement) -> Section:
    """Return the outcome as people read it."""
    spent = [[a.site, _number(a.published), _number(a.counted), _number(a.charged)] for a in agreement.accounts]
    rounds = [
        [row.site, row.run, str(row.round), _short(row.charged), _short(row.sent), _short(row.held), row.says]
        for account in agreement.accounts
        for row in account.rows
    ]
    more = f" The first {MOST_ROWS} of {len(rounds)}; all are in audit.json." if len(rounds) > MOST_ROWS else ""
    return Section(
        title=TITLE,
        passed=agreement.agrees,
        summary=sentence(agreement),
        findings=tuple(_where(finding) + finding.says for finding in agreement.findings),
        tables=(
            _checks(agreement),
            Table(
                "Epsilon per patient, recomputed from the ledgers. A hospital has spent what it charged, arrived or not.",
                ("site", "published", "of what arrived", "charged"),
                spent,
            ),
            Table(
                "Payloads by the first digits of their SHA-256: as the ledger charged them, as they left, as they arrived." + more,
                ("site", "run", "round", "charged", "sent", "held", ""),
                rounds[:MOST_ROWS],
            ),
            *_wire(agreement),
        ),
    )


def _wire(agreement: Agreement) -> tuple[Table, ...]:
    """Return the inventory of the wire, where hospitals showed their transcripts."""
    caption = "Everything that left a hospital, by the call that carried it (`promptward transcript` shows every byte)."
    rows = [[site, call, f"{times:,}", f"{size:,}", f"{heads:,}"] for site, call, times, size, heads in agreement.wire]
    columns = ("site", "call", "times", "bytes", "bytes of headers' values")
    return (Table(caption, columns, rows),) if rows else ()


def _checks(agreement: Agreement) -> Table:
    """Return a column a site, or, of many sites, how many agree."""
    caption = "What was compared. A dash: the files that were shown do not allow it."
    if len(agreement.accounts) <= MOST_COLUMNS:
        names = [account.site for account in agreement.accounts]
        return Table(caption, ("check", *names), [[t, *_marks(agreement, check).values()] for check, t in CHECKS.items()])
    counted = {check: Counter(_marks(agreement, check).values()) for check in CHECKS}
    rows = [[t, *(str(counted[check][mark]) for mark in MARKS)] for check, t in CHECKS.items()]
    return Table("What was compared, in sites.", ("check", "agree", "disagree", "not shown"), rows)


def _marks(agreement: Agreement, check: str) -> dict[str, str]:
    """Return each site's mark; what is found in the coordinator's files alone and names no site marks all."""
    found = {finding.site for finding in agreement.findings if finding.check == check}
    marks = {}
    for account in agreement.accounts:
        shown = check in account.shown or check == "coordinator"
        marks[account.site] = MARKS[1] if {account.site, None} & found else MARKS[0] if shown else MARKS[2]
    return marks


def _where(finding: Finding) -> str:
    run = finding.run if finding.run and finding.run.startswith("seed") else None  # the one run of serve needs no name
    words = [finding.site, run, f"round {finding.round}" if finding.round else None]
    told = ", ".join(word for word in words if word)
    return f"{told}: " if told else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _short(payload: str | None) -> str:
    return payload[:12] if payload else "–"
