"""What a task card plans to spend at every site: mechanism, number of releases, epsilon."""

from shared.card import TaskCard
from shared.errors import InputError
from shared.privacy.accounting import calibrate, epsilon
from shared.privacy.mechanism import Mechanism


def mechanism_of(card: TaskCard) -> Mechanism:
    """Return the card's mechanism; a card that gives epsilon instead of noise is calibrated (seconds, then remembered).

    Raises `InputError` when the epsilon cannot be reached.
    """
    privacy = card.privacy
    sigma = privacy.noise_multiplier
    if sigma is None:
        if privacy.epsilon is None:
            raise InputError("[privacy] needs noise_multiplier or epsilon; give one.")
        sigma = calibrate(privacy.epsilon, privacy.delta, privacy.sample_rate, releases_of(card))
    return Mechanism(privacy.sample_rate, privacy.clip_norm, sigma, privacy.mechanism == "discrete-gaussian")


def releases_of(card: TaskCard) -> int:
    """Return how many noised sums a site releases over the whole plan."""
    return card.plan.rounds * card.plan.local_steps


def epsilon_of_plan(card: TaskCard) -> float:
    """Return the PLD epsilon that a site has spent when it took part in every round."""
    mechanism = mechanism_of(card)
    return epsilon(mechanism.sample_rate, mechanism.noise_multiplier, releases_of(card), card.privacy.delta)
