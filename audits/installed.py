"""The layers that put the installed code to the test, on made-up patients and on whoever the auditor may know: L0 to L2, L4, L5."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

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
from audits.turns import turns
from client.personal import points, rule_of
from client.round import pool
from shared.privacy.mechanism import Update, decode

TOGETHER = 2  # pieces of work at a time; more would only take more memory


def installed_sections(
    subject: Subject, updates: Mapping[str, Mapping[int, Update]], known: Mapping[str, Known] | None, thorough: bool
) -> Iterator[Section]:
    """Give one section after the other, cheap ones first; dear ones run two at a time, on one processor each.

    Args:
        subject: the card, its model, the run's broadcast prompts, and the installed step.
        updates: site -> round -> what the run received from it.
        known: site -> patients of whom the auditor knows whether they were trained on; None where there are none.
        thorough: take minutes instead of seconds, for narrower intervals.
    """
    if subject.mechanism.bands > 1:
        yield turns(subject)
        return
    yield conduct(subject)
    yield replay(subject)
    yield residual(subject)
    yield inclusion(subject)
    fresh = secrets.randbits(32)  # a malicious coordinator's luck is another one every time
    parts: list[Callable[[], list[Section]]] = [
        lambda: [canary_audit.shadow(subject)],
        lambda: [coordinator.audit(subject, thorough, fresh)],
        *suite.parts(subject, _seen(subject, updates, known or {}) or None, thorough),
    ]
    if subject.task.card.template is not None:  # words are of texts
        parts.append(lambda: recovery.run(subject, thorough))
    with _one_thread_each(), ThreadPoolExecutor(min(TOGETHER, os.cpu_count() or 1)) as pool_:
        for done in pool_.map(lambda part: part(), parts):
            yield from done


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep torch from cutting its small matrices in pieces: several pieces of work at once make better use of the processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seen(subject: Subject, updates: Mapping[str, Mapping[int, Update]], known: Mapping[str, Known]) -> dict[str, Seen]:
    """Return the sites that sent something in every round and whose patients are known, with and without training."""
    rounds = range(1, len(subject.prompts) + 1)
    whole = {name: some for name, some in updates.items() if name in known and set(rounds) <= set(some)}
    own = rule_of(subject.task.card, subject.mechanism)
    return {
        name: Seen(
            np.stack([decode(some[number], subject.mechanism) for number in rounds]),  # (T, P+L, D)
            pool(known[name].members, subject.scorer),
            pool(known[name].others, subject.scorer),
            points(own, subject.prompts, some) if own else (),
        )
        for name, some in whole.items()
        if known[name].members.size and known[name].others.size
    }
