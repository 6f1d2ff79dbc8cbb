"""What a task card plans to spend at every site: mechanism, number of releases, epsilon."""

from shared.card import TaskCard
from shared.errors import InputError
from shared.privacy.accounting import calibrate, epsilon
from shared.privacy.banded import releases
from shared.privacy.clip import STEPS
from shared.privacy.mechanism import Mechanism


def mechanism_of(card: TaskCard) -> Mechanism:
    """Return the card's mechanism; a card that gives epsilon instead of noise is calibrated (seconds, then remembered).

    Calibration counts every local step of every round, on the card's own grid. `max_records` does not enter: a patient is
    drawn and clipped as one, whatever the number of records.
    Raises `InputError` when the epsilon cannot be reached.
    """
    privacy = card.privacy
    exact = privacy.mechanism == "discrete-gaussian"
    sigma = privacy.noise_multiplier
    if sigma is None:
        if privacy.epsilon is None:
            raise InputError("[privacy] needs noise_multiplier or epsilon; give one.")
        rate = min(1.0, privacy.bands * privacy.sample_rate)
        sigma = calibrate(privacy.epsilon, privacy.delta, rate, releases_of(card), STEPS if exact else None)
    return Mechanism(privacy.sample_rate, privacy.clip_norm, sigma, exact, privacy.bands)


def releases_of(card: TaskCard) -> int:
    """Return as how many releases the accountant takes a site's whole plan: a noised sum each, or with bands b of them."""
    return releases(card.plan.rounds * card.plan.local_steps, card.privacy.bands)


def epsilon_of_plan(card: TaskCard) -> float:
    """Return the PLD epsilon that a site has spent when it took part in every round."""
    one = mechanism_of(card).spends
    return epsilon(one.sample_rate, one.noise_multiplier, releases_of(card), card.privacy.delta, one.steps)
