"""Flower's ServerApp of the coordinator: it runs the rounds that are left."""

from collections.abc import Callable, Mapping

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from server.aggregate import Rule
from server.strategy import RosterStrategy, RoundSeen, Run, Start
from shared.card import TaskCard


def rule_of(card: TaskCard) -> Rule:
    """Return the card's server step.

    >>> from shared.card import Task
    >>> rule_of(Task.load("heart-disease").card).average_from
    28
    """
    plan = card.plan
    late = round(plan.average_last * plan.rounds)
    return Rule(
        optimizer=plan.optimizer,
        learning_rate=plan.learning_rate,
        momentum=plan.momentum,
        denominator=plan.patients_per_round * plan.local_steps,
        average_from=plan.rounds - late + 1,
    )


def server_app(
    run: Run, roster: Mapping[str, int], start: Start, observe: Callable[[RoundSeen], None], timeout: float = 3600.0
) -> ServerApp:
    """Return the ServerApp that goes on from `start` to the plan's last round.

    Args:
        run: the task and the run's name.
        roster: Flower's node id of each site.
        start: `Start(init(prompt))` for a new run, `RunFolder.latest` to resume.
        observe: called after every round.
        timeout: seconds that a round waits for replies.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, _context: Context) -> None:
        strategy = RosterStrategy(run, roster, rule_of(run.task.card), start, observe)
        left = run.task.card.plan.rounds - start.state.round
        if left > 0:
            strategy.start(grid, ArrayRecord(), num_rounds=left, timeout=timeout)

    return app
