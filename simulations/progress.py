"""What a person watches while a simulation runs: round, sites, epsilon so far, scores, time left."""

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Display:
    """A live line on a terminal; elsewhere one printed line for each round that was scored.

    Args:
        console: where to; standard error, so that standard output holds the result alone.
        rounds: rounds of all seeds together.
        private: False shouts that there is no privacy.
    """

    def __init__(self, console: Console, rounds: int, private: bool) -> None:
        """Prepare; nothing is shown before `with`."""
        self._console = console
        self._privacy = "" if private else "[bold red]NO PRIVACY[/] "
        self._epsilon, self._auc = "…", "…"
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(f"{self._privacy}round", total=rounds, what="")

    def __enter__(self) -> "Display":
        """Start to show."""
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop to show."""
        self._bar.stop()

    def begin(self, done: int) -> None:
        """Count rounds that an earlier start of this run finished already."""
        self._bar.update(self._task, completed=done)

    def show(self, line: dict[str, Any]) -> None:
        """Show one line of metrics.jsonl."""
        if line["epsilon_max"] is not None:
            self._epsilon = f"{line['epsilon_max']:.2f}"
        scored = line["mean_of_sites_accuracy"] is not None
        if scored:
            self._auc = "–" if line["pooled_auc"] is None else f"{line['pooled_auc']:.3f}"
        late = f", {len(line['left_out'])} left out" if line["left_out"] else ""
        what = f"seed {line['seed']}, {line['sites']} sites{late}, epsilon {self._epsilon}, AUC {self._auc}"
        self._bar.update(self._task, advance=1, what=what)
        if scored and not self._console.is_terminal:
            accuracy = f"{line['mean_of_sites_accuracy']:.3f}"
            self._console.print(
                f"{self._privacy}seed {line['seed']} round {line['round']}: {line['sites']} sites{late}, epsilon {self._epsilon}, "
                f"mean-of-sites accuracy {accuracy}, AUC {self._auc}",
                highlight=False,
            )
