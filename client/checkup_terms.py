"""Does the card fit the hospital: its table, its patients, its policy, its budget, its model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from client.checkup import Examined
from client.ledger import TRAINING, Event, releases
from client.policy import Policy, Proposal, agree
from client.round import LocalPlan
from shared.errors import PromptwardError
from shared.findings import Check, Finding
from shared.model_check import device_findings, file_findings, load_findings
from shared.privacy.accounting import COARSE, FINE, Release, epsilon_of
from shared.room import memory_findings
from shared.scoring import build
from shared.windows import lengths

TALK = "agree with the coordinator on another card, or change [policy] if the hospital decides so"
LESS = "raise it if the hospital decides so, or agree on a card with fewer rounds or more noise"


def terms_checks(it: Examined) -> list[Check]:
    """Return the checks of card, data, policy and model."""
    return [
        Check("card", lambda: _card(it)),
        Check("agreement", lambda: _agreement(it), needs=("card",)),
        Check("roster", lambda: _roster(it), needs=("card",)),
        Check("data file", lambda: _data_file(it)),
        Check("mapping", lambda: _mapping(it), needs=("card", "data file")),
        Check("patients", lambda: _patients(it), needs=("mapping",)),
        Check("policy", lambda: _policy(it), TALK, needs=("card",)),
        Check("budget", lambda: budget_findings(it.policy, it.proposal, it.events), needs=("card", "ledger")),
        Check("model files", lambda: file_findings(it.task.card), needs=("card",)),
        Check("memory", lambda: memory_findings(it.task.card, _records(it)), needs=("model files",)),
        Check("device", lambda: device_findings(it.site.device)),
        Check("model", lambda: load_findings(it.task.card, it.site.device), needs=("memory", "device")),
        Check("texts", lambda: _texts(it), needs=("mapping", "model")),
    ]


def _card(it: Examined) -> Iterator[Finding]:
    card = it.task.card
    yield Finding(
        "card", "ok", f"{card.name}: {card.plan.rounds} rounds with {len(card.plan.sites)} hospitals, from {it.federation.task}"
    )


def _agreement(it: Examined) -> Iterator[Finding]:
    if it.task.digest in it.policy.tasks:
        yield Finding("agreement", "ok", f"the card's digest {it.task.digest} is among [policy] tasks")
    else:
        said = f"{it.federation.task}: the card's digest {it.task.digest} is not among [policy] tasks"
        yield Finding("agreement", "wrong", said, "read the card, and add its digest if the hospital agrees to it")


def _roster(it: Examined) -> Iterator[Finding]:
    sites = it.task.card.plan.sites
    if it.site.site in sites:
        yield Finding("roster", "ok", f"{it.site.site} is one of {', '.join(sites)}")
    else:
        said = f"{it.file}: site '{it.site.site}' is not on the card's roster ({', '.join(sites)})"
        yield Finding("roster", "wrong", said, "write the name exactly as the card does")


def _data_file(it: Examined) -> Iterator[Finding]:
    path = it.site.data.path
    if not it.rows:
        yield Finding("data file", "wrong", f"{path}: the table has no rows", "give at least one patient")
        return
    yield Finding("data file", "ok", f"{path}: {len(it.rows)} rows of {len(it.rows[0])} columns", private=True)
    if path.stat().st_mode & 0o077:
        yield Finding("data file", "warning", f"{path}: others on this machine can open this file", f"run: chmod 600 '{path}'")


def _mapping(it: Examined) -> Iterator[Finding]:
    """Read every row as the run will: the mapping, the labels and each cell."""
    data, labels = it.site.data, [label.name for label in it.task.card.labels]
    held = it.part("test").size if data.split else 0
    split = f"column '{data.split}' keeps {held} patients for tests" if data.split else "all rows are trained on"
    said = f"every cell fits the card; {it.patients.size} patients to train on; {split}"
    yield Finding("mapping", "ok", said, private=True)
    never = [name for number, name in enumerate(labels) if number not in it.patients.labels]
    if never:
        said = f"no training record has the label {', '.join(never)}"
        yield Finding("mapping", "warning", said, "compare [data.labels] with the table; a hospital without them may take part")


def _patients(it: Examined) -> Iterator[Finding]:
    have, least = it.patients.size, it.policy.least_patients
    if have >= least:
        yield Finding("patients", "ok", f"{have} training patients; [policy] least_patients is {least}", private=True)
    else:
        said = f"{have} training patients are fewer than [policy] least_patients {least}"
        yield Finding("patients", "wrong", said, "this cohort is too small to take part; add patients", private=True)


def _texts(it: Examined) -> Iterator[Finding]:
    """Say how many training records are longer than the model reads; a count that stays at the hospital."""
    card, texts = it.task.card, it.patients.texts
    if card.template is None or not texts:
        return
    tokenizer, most = build(card, it.site.device)[0].backbone.tokenizer, card.backbone.max_tokens
    long = [text for text, tokens in zip(texts, lengths(tokenizer, texts), strict=True) if tokens > most]
    said = f"{len(long)} of {len(texts)} training records have more than [backbone] max_tokens {most}"
    if not long:
        yield Finding("texts", "ok", said, private=True)
    elif card.windows is None:
        mend = "agree on a card with [template] windows, or with more max_tokens where the model has room"
        yield Finding("texts", "warning", f"{said} and are cut", mend, private=True)
    else:
        yield _windows(said, card.windows.needed(long, tokenizer), card.windows.most)


def _windows(said: str, needed: Sequence[int], most: int) -> Finding:
    """Say whether long records, which need so many windows each, are read to the last word."""
    unread = sum(windows > most for windows in needed)
    if not unread:
        return Finding("texts", "ok", f"{said} and are read in windows, {max(needed)} at most", private=True)
    said = f"{said}; {unread} of them need more than [template] windows {most} ({max(needed)} at most), and some words are left out"
    return Finding("texts", "warning", said, "agree on a card with more windows, or with more max_tokens", private=True)


def _policy(it: Examined) -> Iterator[Finding]:
    """Apply the policy's floors and ceilings; digest and patients have checks of their own."""
    policy, mechanism = it.policy, it.proposal.plan.mechanism
    agree(replace(policy, tasks=(it.proposal.task,)), it.proposal, policy.least_patients)
    said = f"rate {mechanism.draw_rate:g}, clip norm {mechanism.clip_norm:g}, noise multiplier {mechanism.noise_multiplier:g}"
    yield Finding("policy", "ok", f"{said} and {it.proposal.rounds} rounds are within [policy]")


def budget_findings(policy: Policy, proposal: Proposal, events: Sequence[Event]) -> Iterator[Finding]:
    """Say whether the rest of the plan, or the whole plan anew when it was done before, fits both budgets."""
    mine = [event for event in events if event.task == proposal.task]
    done = next((event.round for event in reversed(mine) if event.kind == TRAINING), 0)
    left = proposal.rounds - done
    budgets = [("epsilon", policy.epsilon, events)]
    if policy.task_epsilon < policy.epsilon:  # else the whole budget says it all
        budgets.append(("task_epsilon", policy.task_epsilon, mine))
    for key, limit, charged in budgets:
        spent, ahead = releases(charged), left or proposal.rounds
        plan = _Ahead(spent, proposal.plan, _turns(mine) if left else 0, policy.delta)
        now, then = epsilon_of(spent, policy.delta, FINE), plan.epsilon(ahead, FINE)
        what = f"{_part_of_plan(proposal, left)} ({ahead} rounds)"
        said = f"[policy] {key} is {limit:g} at delta {policy.delta:g}; {now:.4f} is spent, and {what} brings it to {then:.4f}"
        if then <= limit:
            yield Finding("budget", "ok", said)
        else:
            fits = f"{said}: {_affordable(plan, ahead, limit)} of {ahead} rounds are affordable"
            yield Finding("budget", "wrong" if left else "warning", fits, LESS)


@dataclass(frozen=True)
class _Ahead:
    """Rounds to come, from a run's turn `turn` on, on top of what was spent."""

    spent: list[Release]
    plan: LocalPlan
    turn: int
    delta: float

    def epsilon(self, rounds: int, interval: float) -> float:
        one, more = self.plan.mechanism.spends, self.plan.mechanism.releases(rounds * self.plan.steps, self.turn)
        return epsilon_of(self.spent + [one] * more, self.delta, interval)


def _turns(events: Sequence[Event]) -> int:
    """Return how many rounds of the newest run were charged."""
    newest = next((event.run for event in reversed(events) if event.kind == TRAINING), None)
    return sum(event.kind == TRAINING and event.run == newest for event in events)


def _affordable(plan: _Ahead, rounds: int, limit: float) -> int:
    low, high = 0, rounds  # `low` rounds fit, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if plan.epsilon(middle, COARSE) <= limit else (low, middle)
    return low


def _part_of_plan(proposal: Proposal, left: int) -> str:
    if left == 0:
        return "the whole plan once more"
    return "the whole plan" if left == proposal.rounds else "the rest of the plan"


def _records(it: Examined) -> int:
    """Return how many records are kept in memory; 0 when the table cannot be read, which another check says."""
    try:
        return len(it.patients.labels)
    except PromptwardError:
        return 0
