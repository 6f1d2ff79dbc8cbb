"""Closed-gallery identification: of known candidates, who was drawn in one release?

The attacker knows the records of all candidates, so that everyone who can be in the draw is a candidate, and sees the broadcast
prompt and one update. The score is the log-likelihood ratio of `decoding` (ridge decoding). Whether a patient was *drawn* is not
hidden by the draw, so the ceiling is that of one Gaussian release at rate 1.
"""

from collections.abc import Sequence

import numpy as np

from audits.attacks.ceiling import ceiling_of, drawn
from audits.attacks.decoding import Background, log_likelihood_ratios
from audits.attacks.judge import Scored, section, tell_apart
from audits.attacks.scenes import Draws, clusters
from audits.attacks.view import noise_of
from audits.section import Section
from audits.subject import Subject

TITLE = "Can one update tell who was in it?"
ENOUGH = 0.99


def attack(subject: Subject, draws: Sequence[Draws]) -> Section:
    """Score every candidate in every release and hold the scores against the ledger's ceiling for one release."""
    trial = tell_apart(
        "Who was drawn, one update",
        "One update does not tell who was in its draw better than its noise allows",
        _scored(subject, draws, True),
        _scored(subject, draws, False),
        ceiling_of([drawn(subject.mechanism.spends)]),
        ENOUGH,
        "the attacker has the whole record of every candidate; made-up patients, this attack only",
    )
    candidates, count = len(draws[0].gradients), sum(len(each.updates) for each in draws)
    return section(TITLE, [trial], {"candidates": candidates, "releases": count})


def _scored(subject: Subject, draws: Sequence[Draws], noisy: bool) -> Scored:
    truth = [each.drawn if noisy else each.control_drawn for each in draws]
    updates = [each.updates if noisy else each.control for each in draws]
    prior = Background.coins(subject.mechanism.sample_rate, len(draws[0].gradients))
    scores = [
        log_likelihood_ratios(each.gradients, seen, noise_of(subject, noisy), prior)
        for each, seen in zip(draws, updates, strict=True)
    ]
    return Scored(np.concatenate([s.ravel() for s in scores]), np.concatenate([t.ravel() for t in truth]), clusters(truth))
