"""From the task card to the numbers of the server's step."""

from server.aggregate import Rule
from shared.card import TaskCard


def rule_of(card: TaskCard) -> Rule:
    """Return the card's server step.

    >>> from shared.card import Task
    >>> rule_of(Task.load("heart-disease").card).average_from
    28
    """
    plan = card.plan
    return Rule(
        optimizer=plan.optimizer,
        learning_rate=plan.learning_rate,
        momentum=plan.momentum,
        denominator=plan.patients_per_round * plan.local_steps,
        average_from=plan.average_from,
    )
