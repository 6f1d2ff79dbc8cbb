"""`report.html`: one self-contained page that a physician and a privacy officer can read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from shared.page import templates
from simulations.charts import byte_bars, epsilon_bars, learning_curve, site_bars
from simulations.table import aggregation, number, over_seeds, spread

HERE = Path(__file__).parent
MOST_ROWS = 60  # sites in the table; the rest is in result.json


def write_report(result: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the report of a finished run.

    Args:
        result: `result.json`'s content.
        lines: the lines of `metrics.jsonl`.
        path: the HTML file.
    """
    environment = templates(HERE)
    environment.filters |= {"number": number, "spread": spread, "aggregation": aggregation, "over_seeds": over_seeds}
    page = environment.get_template("report.html.j2").render(
        r=result, charts=_charts(result, lines), sites=result["sites"][:MOST_ROWS], statement=privacy_statement(result)
    )
    path.write_text(page, encoding="utf-8")


def privacy_statement(result: Mapping[str, Any]) -> list[str]:
    """Return the privacy statement in plain words, one paragraph an entry, from what the ledgers say."""
    if not result["privacy"]:
        return [
            "This run had no privacy protection. No noise was added, no budget was kept, and a single update can reveal which "
            "patients were in it. It exists to show what privacy costs in accuracy."
        ]
    personal = [
        "Every hospital also keeps a prompt of its own. It follows by a public rule from what that hospital was sent and had sent "
        "already, so it costs no further epsilon; it does not leave, unless the hospital decides so."
    ] * ("personal" in result.get("metrics", {}))
    worst = max(result["sites"], key=lambda site: site["epsilon"])
    return [
        f"Every hospital sent, in each of {result['rounds']} rounds, one array of {result['bytes']['tensor']:,} bytes with "
        "random noise in it, and nothing else: no patient's record, no count, no accuracy, no model weights.",
        f"Whether any one patient took part changes what left a hospital by at most epsilon = {worst['epsilon']:.2f} at "
        f"delta = {worst['delta']:g} over the whole run (unit: one patient with all records; adjacency: "
        f"{worst['adjacency'].replace('-', ' ')} patient; accountant: {worst['accountant']}; worst site: {worst['name']}).",
        "In words: someone who saw everything that was sent, knew every other patient, and had to say whether one given patient "
        f"took part, would be right at most {100 * worst['attacker_accuracy']:.0f} times in 100, where a coin is right 50 times "
        f"(equivalent to Gaussian differential privacy with mu = {worst['mu']:.2f}).",
        "This covers each hospital's patients by that hospital's own noise: it holds even if the coordinator and all other "
        "hospitals work together. A patient who is treated at two of the hospitals is covered at each of them separately.",
        *personal,
        "This was a simulation: its noise came from public seeds so that the numbers can be repeated. The statement is what the "
        "same run gives with the operating system's noise, which a hospital always uses.",
    ]


def _charts(result: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> dict[str, Markup]:
    metrics, size = result["metrics"], result["bytes"]
    drawn = {
        "curve": learning_curve(lines, metrics["majority_baseline_mean_of_sites"]),
        "sites": site_bars(metrics["per_site"]),
        "bytes": byte_bars(size["tensor"], size["up_per_site_round"], size["full_finetuning_per_site_round"]),
    }
    if result["privacy"]:
        drawn["epsilon"] = epsilon_bars(result["sites"])
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704 (our own pictures; their texts are escaped)
