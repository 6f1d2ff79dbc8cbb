"""L3: epsilon recounted from what arrived, without asking any ledger, by three accountants that check each other."""

from collections.abc import Mapping

from audits.agreement import Agreement
from audits.coordinator import RunArrays, RunFiles
from audits.section import Section, Table, Verdict, section_of
from shared.privacy.accounting import Spent, epsilon_of, spent
from shared.privacy.mechanism import Mechanism
from shared.privacy.planned import mechanism_of

TITLE = "Is the published epsilon true?"
SLACK = 0.02  # by which Opacus' PRV, an upper bound with an error of its own, may lie below PLD
LOOSE = 1.25  # Rényi accounting of these mechanisms is 8 to 17 % above PLD (privacy.md, table 2.1)
CLOSE = 1e-9
SHOWN = 12  # rounds of the evidence table


def audit(run: RunFiles, arrays: Mapping[str, RunArrays], agreement: Agreement) -> Section:
    """Return the section; of several seeds, which are runs of their own, the longest counts.

    Args:
        run: the coordinator's files.
        arrays: run name -> every update that it holds.
        agreement: what the hospitals' ledgers say, as far as they were shown.
    """
    counts = {name: max(len(one.updates.get(name, {})) for one in arrays.values()) for name in run.task.card.plan.sites}
    steps, mechanism = run.task.card.plan.local_steps, mechanism_of(run.task.card)
    delta = run.task.card.privacy.delta
    found = {n: spent([mechanism.spends] * mechanism.releases(n * steps), delta) for n in sorted(set(counts.values()))}
    by_site = {name: found[count] for name, count in counts.items()}
    verdicts = [_published(run, by_site), _accountants(found), _ledgers(agreement, by_site)]
    tables = (_per_site(run, by_site, agreement), _per_round(mechanism, max(counts.values()), steps, delta))
    return section_of(TITLE, verdicts, tables=tables, facts={"recounted": {name: s.epsilon for name, s in by_site.items()}})


def _published(run: RunFiles, by_site: Mapping[str, Spent]) -> Verdict:
    published = {name: float(site["epsilon"]) for name, site in run.told.items() if site.get("epsilon") is not None}
    low = [n for n, s in by_site.items() if published.get(n, -1.0) < s.epsilon * (1 - CLOSE)]
    most = max(s.epsilon for s in by_site.values())
    told = max(published.values(), default=0.0)
    measured = f"at most {most:.4f} at delta {run.task.card.privacy.delta:g} from the payloads" + (
        f"; too little is published for {', '.join(low)}" if low else ""
    )
    return Verdict(
        "L3",
        "The published epsilon is not below what the payloads cost",
        measured,
        f"published {told:.4f} (patient, add or remove one, PLD)",
        not low,
        "Counted are payloads that arrived; a hospital's ledger may hold more, never less.",
    )


def _accountants(found: Mapping[int, Spent]) -> Verdict:
    odd = [s for s in found.values() if s.releases and not (s.epsilon <= s.prv + SLACK and s.epsilon <= s.rdp <= LOOSE * s.epsilon)]
    most = max(found.values(), key=lambda s: s.epsilon)
    return Verdict(
        "L3",
        "Three accountants agree",
        f"PLD {most.epsilon:.4f}, PRV {most.prv:.4f}, RDP {most.rdp:.4f}",
        f"PLD at most PRV + {SLACK} and at most RDP, RDP at most {LOOSE} PLD",
        not odd,
        "They share the assumption that the mechanism is the one on the card; L1, L2 and L4 look at that.",
    )


def _ledgers(agreement: Agreement, by_site: Mapping[str, Spent]) -> Verdict:
    shown = {a.site: a.charged for a in agreement.accounts if a.charged is not None}
    low = [name for name, charged in shown.items() if charged < by_site[name].epsilon * (1 - CLOSE)]
    return Verdict(
        "L3",
        "No ledger charged less than what arrived from its hospital",
        f"{len(low)} of {len(shown)} ledgers did" + (f": {', '.join(low)}" if low else ""),
        "none",
        not low if shown else None,
        f"{len(agreement.absent)} hospitals showed no files." if agreement.absent else "All hospitals showed their files.",
    )


def _per_site(run: RunFiles, by_site: Mapping[str, Spent], agreement: Agreement) -> Table:
    published = {name: site.get("epsilon") for name, site in run.told.items()}
    charged = {a.site: a.charged for a in agreement.accounts}
    rows = [
        [name, str(s.releases), *(_number(x) for x in (s.epsilon, s.prv, s.rdp, charged.get(name), published.get(name)))]
        for name, s in by_site.items()
    ]
    columns = ("site", "releases", "PLD", "PRV", "RDP", "its ledger", "published")
    return Table("Epsilon per patient of each site, from the number of payloads and the card's mechanism.", columns, rows)


def _per_round(mechanism: Mechanism, rounds: int, steps: int, delta: float) -> Table:
    """Show how epsilon grew; live epsilon uses a coarser grid, which is an upper bound of the fine one."""
    at = sorted({round(rounds * k / SHOWN) for k in range(1, SHOWN + 1)} - {0})
    counts = {n: mechanism.releases(n * steps) for n in at}
    rows = [[str(n), str(count), f"{epsilon_of([mechanism.spends] * count, delta):.3f}"] for n, count in counts.items()]
    return Table("Epsilon after so many rounds (PLD, an upper bound on a coarser grid).", ("round", "releases", "epsilon"), rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
