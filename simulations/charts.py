"""The report's pictures as inline SVG: the same input gives the same bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.drawing import BLUE, GREEN, GREY, INK, RED, as_svg, new_figure

MOST_BARS = 24  # sites drawn one by one; more are drawn as a histogram


def learning_curve(lines: Sequence[Mapping[str, Any]], majority: float) -> str:
    """Draw mean-of-sites accuracy and pooled AUC over the rounds, a thin line for each seed and a thick one for their mean."""
    figure, axes = new_figure(3.4)
    scored = [line for line in lines if line["mean_of_sites_accuracy"] is not None]
    for key, colour, name in (
        ("mean_of_sites_accuracy", BLUE, "mean of sites' accuracies"),
        ("pooled_auc", GREEN, "pooled AUC"),
    ):
        known = [line for line in scored if line[key] is not None]
        for seed in sorted({line["seed"] for line in known}):
            mine = [line for line in known if line["seed"] == seed]
            axes.plot([x["round"] for x in mine], [x[key] for x in mine], color=colour, linewidth=0.7, alpha=0.4)
        rounds = sorted({line["round"] for line in known})
        means = [_mean([line[key] for line in known if line["round"] == round_]) for round_ in rounds]
        axes.plot(rounds, means, color=colour, linewidth=2.2, marker="o", markersize=3, label=name)
    axes.axhline(majority, color=GREY, linestyle="--", linewidth=1.2, label="majority guessing (accuracy)")
    axes.set_xlabel("round")
    axes.set_xlim(left=0)
    axes.legend(frameon=False, loc="lower right")
    return as_svg(figure, "Learning curve")


def site_bars(per_site: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw each site's accuracy with its 95 % interval beside majority guessing; many sites become a histogram."""
    shown = {name: scores for name, scores in per_site.items() if scores["accuracy"] is not None}
    if len(shown) > MOST_BARS:
        return _gain_histogram(shown)
    figure, axes = new_figure(0.9 + 0.55 * len(shown))
    for row, scores in enumerate(shown.values()):
        low, high = scores["accuracy_ci95"]
        axes.barh(row - 0.18, scores["accuracy"], height=0.34, color=BLUE, label="this prompt" if row == 0 else None)
        axes.barh(row + 0.2, scores["majority_accuracy"], height=0.3, color=GREY, label="majority guessing" if row == 0 else None)
        axes.plot([low, high], [row - 0.18] * 2, color=INK, linewidth=1.4, label="95 % interval" if row == 0 else None)
    axes.set_yticks(range(len(shown)), [f"{name} (n={scores['n_test']})" for name, scores in shown.items()])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy on the site's test patients")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, 1.22 if len(shown) > 2 else 1.5), ncol=3)
    return as_svg(figure, "Accuracy per site beside majority guessing")


def epsilon_bars(sites: Sequence[Mapping[str, Any]]) -> str:
    """Draw what each site spent, with the two other accountants' numbers as marks; equal sites share one bar."""
    groups: dict[tuple[float, float, float], list[str]] = {}
    for site in sites:
        key = (site["epsilon"], site["cross_checks"]["PRV"], site["cross_checks"]["RDP"])
        groups.setdefault(key, []).append(site["name"])
    bars = [(name, key) for key, names in groups.items() for name in (names if len(sites) <= MOST_BARS else [_several(names)])]
    figure, axes = new_figure(0.9 + 0.4 * len(bars))
    for row, (_, (pld, prv, rdp)) in enumerate(bars):
        axes.barh(row, pld, height=0.5, color=BLUE, label="PLD (published)" if row == 0 else None)
        axes.plot(prv, row, marker="|", markersize=14, color=INK, linestyle="", label="PRV cross-check" if row == 0 else None)
        axes.plot(rdp, row, marker="x", markersize=7, color=RED, linestyle="", label="RDP cross-check" if row == 0 else None)
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel("epsilon (smaller protects more)")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, 1.3 if len(bars) > 2 else 1.8), ncol=3)
    return as_svg(figure, "Epsilon per site")


def byte_bars(tensor: int, sent: int, full: int) -> str:
    """Draw, on a logarithmic axis, what a site sends a round beside what full fine-tuning would move."""
    figure, axes = new_figure(1.7)
    rows = [("the prompt itself", tensor, BLUE), ("sent by a site", sent, BLUE), ("full fine-tuning", full, GREY)]
    for row, (_, size, colour) in enumerate(rows):
        axes.barh(row, size, height=0.55, color=colour)
        axes.annotate(f" {size:,} bytes", (size, row), va="center")
    axes.set_yticks(range(3), [name for name, _, _ in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(100, full * 60)
    axes.set_xlabel("bytes per site and round (logarithmic)")
    return as_svg(figure, "Bytes per site and round")


def _gain_histogram(per_site: Mapping[str, Mapping[str, Any]]) -> str:
    figure, axes = new_figure(3.0)
    gains = [scores["accuracy"] - scores["majority_accuracy"] for scores in per_site.values()]
    axes.hist(gains, bins=21, range=(-1, 1), color=BLUE, edgecolor="white")
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1.2)
    axes.set_xlabel("accuracy above majority guessing")
    axes.set_ylabel("sites")
    return as_svg(figure, "Accuracy above majority guessing, all sites")


def _several(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} sites"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
