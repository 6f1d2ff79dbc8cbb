"""The closing table of a simulation: every accuracy with the majority baseline beside it."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text


def closing_table(result: dict[str, Any]) -> Group:
    """Return what a person reads when a simulation ends."""
    parts: list[Any] = []
    if not result["privacy"]:
        parts.append(Text("NO PRIVACY: no noise was added. For comparison only.", style="bold white on red"))
    sites = _sites(result)
    parts += [sites, _summary(result)]
    if "personal" in result["metrics"]:
        parts.append(_own(result["metrics"]))
    parts += [Text(f"! {warning}", style="yellow") for warning in result["warnings"]]
    return Group(*parts)


def _sites(result: dict[str, Any]) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{result['title']}: {len(result['sites'])} sites, {result['rounds']} rounds, {len(result['seeds'])} seeds",
    )
    table.add_column("site", no_wrap=True)
    for name in ("train", "test", "acc.", "major.", "bal.", "AUC", "ε"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = result["sites"][:20]
    for site in shown:
        scores = result["metrics"]["per_site"][site["name"]]
        table.add_row(
            site["name"],
            str(site["n_train"]),
            str(site["n_test"]),
            number(scores["accuracy"]),
            number(scores["majority_accuracy"]),
            number(scores["balanced_accuracy"]),
            number(scores["auc"]),
            "none" if site["epsilon"] is None else f"{site['epsilon']:.3f}",
        )
    if len(shown) < len(result["sites"]):
        table.add_row(f"… {len(result['sites']) - len(shown)} more in result.json")
    return table


def _summary(result: dict[str, Any]) -> Table:
    metrics = result["metrics"]
    table = Table(
        box=SIMPLE_HEAD, title="All sites (± standard deviation over seeds, [95 % interval for the size of the test set])"
    )
    for name in ("", "this prompt", "majority, or full fine-tuning"):
        table.add_column(name)
    table.add_row(
        "mean of sites' accuracies",
        spread(metrics["mean_of_sites_accuracy"]),
        number(metrics["majority_baseline_mean_of_sites"]),
    )
    table.add_row("pooled accuracy", spread(metrics["pooled_accuracy"]), number(metrics["majority_baseline_pooled"]))
    table.add_row("pooled AUC", spread(metrics["pooled_auc"]), "")
    table.add_row("aggregation", aggregation(result["aggregation"]), "")
    size = result["bytes"]
    table.add_row("bytes per site and round", f"{size['up_per_site_round']:,}", f"{size['full_finetuning_per_site_round']:,}")
    for reference in result["references"]:
        told = [
            f"mean of sites {number(reference['mean_of_sites_accuracy'])}" if reference["mean_of_sites_accuracy"] else "",
            f"pooled {number(reference['pooled_accuracy'])}" if reference["pooled_accuracy"] else "",
            f"AUC {number(reference['pooled_auc'])}" if reference["pooled_auc"] else "",
        ]
        table.add_row(Text(reference["name"], style="dim"), Text(", ".join(filter(None, told)), style="dim"), "")
    return table


def _own(metrics: dict[str, Any]) -> Table:
    own = metrics["personal"]
    table = Table(box=SIMPLE_HEAD, title=f"Each site's own prompt (pull {own['pull']:g}, learning rate {own['learning_rate']:g})")
    table.add_column("site", no_wrap=True)
    table.caption = f"own less shared, mean of sites: {over_seeds(own['gain_mean_of_sites_accuracy'])}"
    for name in ("acc.", "own", "AUC", "own"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, mine in list(own["per_site"].items())[:20]:
        shared = metrics["per_site"][name]
        table.add_row(name, *(number(scores[key]) for key in ("accuracy", "auc") for scores in (shared, mine)))
    means = [number(of["mean_of_sites_accuracy"]["mean"]) for of in (metrics, own)]
    table.add_row("mean of sites", *means)
    return table


def aggregation(told: dict[str, Any]) -> str:
    """Return the rule in one line.

    >>> aggregation({"rule": "median", "tolerates": 1})
    'median (withstands lying sites: 1)'
    """
    return f"{told['rule']} (withstands lying sites: {told['tolerates']})" if told["tolerates"] else str(told["rule"])


def number(value: float | None) -> str:
    """Return three decimals, or a dash for a number that does not exist.

    >>> number(0.8028), number(None)
    ('0.803', '–')
    """
    return "–" if value is None else f"{value:.3f}"


def over_seeds(difference: dict[str, Any]) -> str:
    """Return a mean difference and its interval over seeds as text.

    >>> over_seeds({"mean": 0.012, "ci95_over_seeds": [-0.001, 0.025]})
    '+0.012 [-0.001, +0.025] over seeds'
    """
    interval = difference["ci95_over_seeds"]
    told = f" [{interval[0]:+.3f}, {interval[1]:+.3f}] over seeds" if interval else " (one seed: no interval)"
    return f"{difference['mean']:+.3f}{told}"


def spread(metric: dict[str, Any] | None) -> str:
    """Return mean, spread over seeds and interval as text.

    >>> spread({"mean": 0.8, "std": 0.01, "ci95": [0.75, 0.85], "values": [0.79, 0.81]})
    '0.800 ± 0.010 [0.750, 0.850]'
    """
    if metric is None:
        return "–"
    over_seeds = f" ± {metric['std']:.3f}" if len(metric["values"]) > 1 else ""
    interval = f" [{metric['ci95'][0]:.3f}, {metric['ci95'][1]:.3f}]" if metric["ci95"] else ""
    return f"{metric['mean']:.3f}{over_seeds}{interval}"
