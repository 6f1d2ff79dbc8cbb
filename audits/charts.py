"""The audit's pictures: the first page's one axis of everything, and ROC curves."""

from collections.abc import Sequence

from audits.section import Curve, Mark
from shared.drawing import BLUE, GREY, INK, RED, as_svg, new_figure

LEAST_RATE = 1e-3  # where the logarithmic axes of a ROC curve begin


def everything(marks: Sequence[Mark]) -> str:
    """Draw how often an attacker is right, a row a question: guessing, measured, without noise, and the ledger's ceiling."""
    figure, axes = new_figure(1.3 + 0.36 * len(marks))
    for row, mark in enumerate(marks):
        first = row == 0
        axes.plot([mark.baseline], [row], "|", color=GREY, markersize=15, markeredgewidth=2.5, label=_once("guessing", first))
        axes.plot([mark.low, mark.high], [row, row], color=BLUE, linewidth=3, alpha=0.45)
        axes.plot([mark.measured], [row], "o", color=BLUE, markersize=7, label=_once("measured, 95 % interval", first))
        if mark.control is not None:
            axes.plot([mark.control], [row], "o", color=INK, markerfacecolor="white", markersize=7)
        if mark.ceiling is not None:
            axes.plot([mark.ceiling], [row], "|", color=RED, markersize=17, markeredgewidth=3)
            axes.axhspan(row - 0.42, row + 0.42, xmin=min(mark.ceiling, 1.0), color=RED, alpha=0.07, linewidth=0)
    axes.plot([], [], "|", color=RED, markersize=15, markeredgewidth=3, label="ceiling by the claimed epsilon")
    axes.plot([], [], "o", color=INK, markerfacecolor="white", label="the same attack without noise")
    axes.set_yticks(range(len(marks)), [mark.name for mark in marks])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(axis="x", color=GREY, alpha=0.25)
    axes.set_xlabel("how often the attacker is right")
    figure.legend(frameon=False, loc="outside upper center", ncol=4, fontsize=9)
    return as_svg(figure, "What an attacker gets right, beside guessing and the claimed bound")


def roc(curve: Curve) -> str:
    """Draw one ROC curve on logarithmic axes, where a leak of few patients shows, with guessing and the ledger's ceiling."""
    figure, axes = new_figure(3.4, width=4.0)
    axes.plot([LEAST_RATE, 1], [LEAST_RATE, 1], color=GREY, linestyle="--", linewidth=1, label="guessing")
    if curve.ceiling:
        axes.plot(curve.fpr, curve.ceiling, color=RED, linewidth=1.5, label="ceiling")
    axes.plot(curve.fpr, curve.tpr, color=BLUE, linewidth=2, drawstyle="steps-post", label="measured")
    axes.set(xscale="log", yscale="log", xlim=(LEAST_RATE, 1), ylim=(LEAST_RATE, 1.05))
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_title(curve.name, fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return as_svg(figure, f"ROC curve: {curve.name}")


def _once(label: str, first: bool) -> str | None:
    return label if first else None
