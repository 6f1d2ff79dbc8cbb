"""Flower's ServerApp of the coordinator: it runs the rounds that are left.

`app` is what the bundle names and Flower starts between real machines; `server_app` makes one for a simulation.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from server.deployment import FOLDER, Deployment, conduct
from server.rule import rule_of
from server.strategy import RosterStrategy, RoundSeen, Run, Start


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


app = ServerApp()


@app.main()
def deployed(grid: Grid, _context: Context) -> None:
    """Run the run whose folder `promptward serve` named; nothing is read from Flower's run config."""
    conduct(Deployment(Path(os.environ[FOLDER])), grid)
