"""A sweep's pictures: score against epsilon and sites as lines with bands, against bytes and seconds as points."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from shared.drawing import BLUE, GREEN, GREY, INK, RED, as_svg, new_panels
from simulations.sweep.frontier import COSTS, Point, costs_that_vary, pareto
from simulations.sweep.plan import NONE, in_words

COLOURS = (BLUE, GREEN, RED, "#b7791f", "#6b4fa0", "#0e7490", INK, GREY)
MARKS = ("o", "s", "^", "D", "v", "P", "X", "<")
MOST_PANELS = 12
SCORES = {
    "pooled_auc": "pooled AUC",
    "pooled_accuracy": "pooled accuracy",
    "pooled_balanced_accuracy": "pooled balanced accuracy",
    "mean_of_sites_accuracy": "mean of sites' accuracies",
}
LOGARITHMIC = 8.0  # an axis is logarithmic where its largest value is so many times the smallest


def pictures(points: Sequence[Point], score: str) -> dict[str, str]:
    """Return an SVG for each frontier that the sweep has: `epsilon`, `sites`, `bytes`, `seconds`, by what varies."""
    if len(points) < 2:
        return {}
    told, costs = points[0].told, costs_that_vary(points)
    drawn = {}
    if "epsilon" in told or "epsilon" in costs:
        drawn["epsilon"] = frontier(points, "epsilon", score)
    if "sites" in told:
        drawn["sites"] = frontier(points, "sites", score)
    return drawn | {cost: scatter(points, cost, score) for cost in costs if cost != "epsilon"}


def frontier(points: Sequence[Point], x: str, score: str) -> str:
    """Draw the score against epsilon or sites: a line for each level of one other setting, a panel for each of the rest."""
    line, rest = _roles(points, [key for key in points[0].told if key != x])
    panels = list(dict.fromkeys(_label(point, rest) for point in points))[:MOST_PANELS]
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = new_panels(rows, columns, 1.0 + 2.9 * rows)
    best = pareto(points, x) if x in COSTS else set()
    levels = list(dict.fromkeys(_label(point, line) for point in points))
    for panel, ax in zip(panels, axes, strict=False):
        for number, level in enumerate(levels):
            mine = [p for p in points if (_label(p, rest), _label(p, line)) == (panel, level)]
            _line(ax, mine, x, level, number)
        _stars(ax, [p for p in points if p.cell in best and _label(p, rest) == panel], x)
        ax.set_title(panel, fontsize=10)
    for spare in axes[len(panels) :]:
        spare.set_visible(False)
    _scale(axes[: len(panels)], [v for p in points if (v := _x(p, x)) is not None])
    figure.supxlabel(COSTS.get(x, "number of sites"), fontsize=10)
    figure.supylabel(SCORES[score], fontsize=10)
    if levels != [""] or best:
        handles, labels = _legend(axes)
        figure.legend(handles, labels, loc="outside upper center", ncol=3, frameon=False)
    return as_svg(figure, f"{SCORES[score]} against {x}")


def scatter(points: Sequence[Point], cost: str, score: str) -> str:
    """Draw the score against bytes or seconds: a mark for each cell, a colour for each level of one setting."""
    figure, axes = new_panels(1, 1, 3.8)
    line, _ = _roles(points, list(points[0].told))
    levels = list(dict.fromkeys(_label(point, line) for point in points))
    known = [point for point in points if cost in point.costs]
    for point in known:
        number, label = levels.index(_label(point, line)), _label(point, line)
        axes[0].errorbar(
            point.costs[cost],
            point.mean,
            yerr=point.half,
            fmt=MARKS[number % len(MARKS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=4,
            elinewidth=0.9,
            label=label or None,
        )
    best = pareto(points, cost)
    _stars(axes[0], [point for point in known if point.cell in best], cost)
    _scale(axes, [point.costs[cost] for point in known])
    axes[0].set_xlabel(COSTS[cost])
    axes[0].set_ylabel(SCORES[score])
    handles, labels = _legend(axes)
    figure.legend(handles, labels, loc="outside upper center", ncol=3, frameon=False)
    return as_svg(figure, f"{SCORES[score]} against {cost}")


def _line(axes: Axes, points: Sequence[Point], x: str, label: str, number: int) -> None:
    colour = COLOURS[number % len(COLOURS)]
    placed = _placed(points, x)
    if placed:
        at, means = [a for a, _ in placed], [p.mean for _, p in placed]
        axes.plot(at, means, color=colour, marker=MARKS[number % len(MARKS)], markersize=4, linewidth=1.6, label=label or None)
        if all(p.half is not None for _, p in placed):
            lows, highs = ([p.mean + sign * (p.half or 0) for _, p in placed] for sign in (-1, 1))
            if len(placed) > 1:
                axes.fill_between(at, lows, highs, color=colour, alpha=0.15, linewidth=0)
            else:
                axes.plot([at[0], at[0]], [lows[0], highs[0]], color=colour, linewidth=0.9)
    for point in points:  # without privacy there is no epsilon, only a level
        if x == "epsilon" and point.told.get("epsilon") == NONE:
            axes.axhline(point.mean, color=colour, linewidth=1.0, linestyle="--", label=f"{label} without privacy".strip())


def _stars(axes: Axes, points: Sequence[Point], x: str) -> None:
    if points:
        at, means = [a for a, _ in _placed(points, x)], [point.mean for _, point in _placed(points, x)]
        axes.plot(
            at,
            means,
            "o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=1.1,
            label="not beaten (Pareto)",
        )


def _placed(points: Sequence[Point], x: str) -> list[tuple[float, Point]]:
    """Return the points that have a place on the axis, from left to right."""
    return sorted(((at, point) for point in points if (at := _x(point, x)) is not None), key=lambda pair: pair[0])


def _x(point: Point, x: str) -> float | None:
    return point.costs.get(x) if x in COSTS else float(point.told[x])


def _roles(points: Sequence[Point], keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the setting that is drawn as lines, the one with most levels that there are colours for, and the rest."""
    levels = {key: len({in_words(point.told[key]) for point in points}) for key in keys}
    able = [key for key in keys if 1 < levels[key] <= len(COLOURS)]
    line = max(able, key=levels.__getitem__, default=None)
    return [line] if line else [], [key for key in keys if key != line]


def _label(point: Point, keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {in_words(point.told[key])}" for key in keys)


def _scale(axes: Sequence[Axes], values: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: PLC0415

    if values and min(values) > 0 and max(values) >= LOGARITHMIC * min(values):
        ticks = sorted(set(values)) if len(set(values)) <= 6 else None
        for ax in axes:
            ax.set_xscale("log")
            if ticks:
                ax.set_xticks(ticks)
                ax.xaxis.set_minor_formatter(NullFormatter())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"))


def _legend(axes: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    """Return each label once, over all panels."""
    found: Mapping[str, Any] = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    return list(found.values()), list(found)
