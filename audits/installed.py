"""The layers that put the installed code to the test, on made-up patients and on whoever the auditor may know: L0 to L2, L4, L5."""

from collections.abc import Iterator, Mapping

import numpy as np

from audits import canary_audit
from audits.attacks import coordinator, recovery, suite
from audits.attacks.membership import Seen
from audits.conduct import conduct
from audits.inclusion import inclusion
from audits.patients import Known
from audits.replay import replay
from audits.residual import residual
from audits.section import Section
from audits.subject import Subject
from client.round import pool
from shared.privacy.mechanism import Update, decode


def installed_sections(
    subject: Subject, updates: Mapping[str, Mapping[int, Update]], known: Mapping[str, Known] | None, thorough: bool
) -> Iterator[Section]:
    """Give one section after the other, cheap ones first.

    Args:
        subject: the card, its model, the run's broadcast prompts, and the installed step.
        updates: site -> round -> what the run received from it.
        known: site -> patients of whom the auditor knows whether they were trained on; None where there are none.
        thorough: take minutes instead of seconds, for narrower intervals.
    """
    yield conduct(subject)
    yield replay(subject)
    yield residual(subject)
    yield inclusion(subject)
    yield canary_audit.shadow(subject)
    yield coordinator.audit(subject, thorough)
    yield from suite.run(subject, _seen(subject, updates, known or {}) or None, thorough)
    if subject.task.card.template is not None:  # words are of texts
        yield from recovery.run(subject, thorough)


def _seen(subject: Subject, updates: Mapping[str, Mapping[int, Update]], known: Mapping[str, Known]) -> dict[str, Seen]:
    """Return the sites that sent something in every round and whose patients are known, with and without training."""
    rounds = range(1, len(subject.prompts) + 1)
    whole = {name: some for name, some in updates.items() if name in known and set(rounds) <= set(some)}
    return {
        name: Seen(
            np.stack([decode(some[number], subject.mechanism) for number in rounds]),  # (T, P+L, D)
            pool(known[name].members, subject.scorer),
            pool(known[name].others, subject.scorer),
        )
        for name, some in whole.items()
        if known[name].members.size and known[name].others.size
    }
