"""What can a malicious coordinator make a hospital do? `attempts` tries everything against a real hospital of made-up patients,
`audits.attacks.crafted` looks for the prompt that makes one patient stand out; here both become verdicts.
"""

from collections.abc import Sequence

from audits.attacks.attempts import Attempt, attempts
from audits.attacks.crafted import Membership, Prospect, accuracy_ceiling, auc_ceiling, measure, prospects
from audits.attacks.words import percent
from audits.section import Mark, Section, Table, Verdict, section_of
from audits.subject import Subject

TITLE = "What can a malicious coordinator make a hospital do?"
TRIALS, MOST_TRIALS = 300, 1200
LEVEL = 1e-3  # of the membership verdict


def audit(subject: Subject, thorough: bool = False, seed: int = 0) -> Section:
    """Try everything; patients are made up, and noise is seeded where it decides a verdict. `thorough` asks more sites."""
    tried = attempts(subject, seed)
    trials = MOST_TRIALS if thorough else TRIALS
    aimed = prospects(subject, seed)
    crafted = max(aimed, key=lambda prospect: prospect.separation)
    found = measure(subject, crafted, trials, seed)
    rows = [[a.tried, a.did, "holds" if a.holds else "FAILS"] for a in tried]
    return section_of(
        TITLE,
        [_protocol(tried), _membership(subject, found)],
        tables=(
            Table("What was tried, and what the hospital did.", ("tried", "it did", ""), rows),
            _prompts(aimed[0], crafted, found),
        ),
        marks=(_mark(subject, found),),
        caveats=("The ways in are those that we thought of; the search for a prompt is a search, not a proof.",),
        facts={"attempts": [vars(a) for a in tried], "membership_auc": found.auc},
    )


def _protocol(tried: Sequence[Attempt]) -> Verdict:
    failed = [a.tried for a in tried if not a.holds]
    return Verdict(
        layer="L5",
        claim="A hospital gives a malicious coordinator nothing beyond its paid, noised rounds",
        measured=f"{len(tried) - len(failed)} of {len(tried)} attempts came to nothing"
        + (f"; not so: {'; '.join(failed)}" if failed else ""),
        bound="all of them",
        holds=not failed,
        caveat="A list of attempts is no proof; docs/threat-model.md says what a coordinator can do.",
    )


def _membership(subject: Subject, found: Membership) -> Verdict:
    mu = 1 / subject.mechanism.noise_multiplier
    most = accuracy_ceiling(mu)
    works = found.control > most
    low, high = found.right.interval
    reach = "The best of a dozen prompts against one made-up patient; the bound holds for every prompt, the search does not."
    return Verdict(
        layer="L5",
        claim="A prompt crafted against one patient tells no more of that patient's presence than one release allows",
        measured=f"right in {percent(found.right.rate)} (95 %: {percent(low)} to {percent(high)}), AUC {found.auc:.2f}; "
        f"without noise right in {percent(found.control)}",
        bound=f"{percent(most)}, AUC {auc_ceiling(mu):.2f}",
        holds=False if found.right.p_value_above(most) < LEVEL else True if works else None,
        caveat=reach if works else "The prompt does not tell without noise either, so that its failure shows nothing.",
    )


def _prompts(honest: Prospect, crafted: Prospect, found: Membership) -> Table:
    """Return what the craft is worth: without noise, other patients are all that hides the target."""
    low, high = found.right.interval
    span = f"{percent(found.right.rate)} ({percent(low)} to {percent(high)})"
    rows = [
        ["as broadcast", f"{honest.length:.3f}", f"{honest.separation:.3f}", "", "", ""],
        ["crafted", f"{crafted.length:.3f}", f"{crafted.separation:.3f}", percent(found.control), span, f"{found.auc:.3f}"],
    ]
    caption = "Did one patient take part? Everybody is drawn, and the attacker knows the patient's record; by chance 50 %."
    columns = ("prompt", "target's clipped gradient", "predicted separation", "right without noise", "right as it leaves", "AUC")
    return Table(caption, columns, rows)


def _mark(subject: Subject, found: Membership) -> Mark:
    most = accuracy_ceiling(1 / subject.mechanism.noise_multiplier)
    name = "Did a patient take part? (prompt crafted by a malicious coordinator)"
    return Mark(name, 0.5, found.right.rate, *found.right.interval, ceiling=most, control=found.control)
