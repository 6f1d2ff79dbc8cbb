"""What people see of a comparison: the closing table and `report.html`, from `compare.json`'s content."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from shared.drawing import BLUE, GREEN, GREY, INK, as_svg, new_figure
from shared.page import templates

HERE = Path(__file__).parent
COLOURS = {"local": GREY, "federated": BLUE, "pooled": GREEN}


def write_page(result: Mapping[str, Any], path: Path) -> None:
    """Write the self-contained page."""
    environment = templates(HERE)
    environment.filters |= {"spread": spread, "size": size, "number": number}
    chart = Markup(picture(result))  # noqa: S704 (our own picture; its texts are escaped)
    page = environment.get_template("compare.html.j2").render(r=result, chart=chart)
    path.write_text(page, encoding="utf-8")


def closing_table(result: Mapping[str, Any]) -> Group:
    """Return what a person reads when a comparison ends."""
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{result['title']}: {len(result['sites'])} sites, equal {result['equal']}",
    )
    for name in ("method", "pooled AUC", "sites", "bytes", "rounds", "ε"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for row in result["rows"]:
        table.add_row(
            f"{row['method']}, {row['setting']}",
            spread({**row["metrics"]["pooled_auc"], "std": None}),
            f"{row['metrics']['mean_of_sites_accuracy']['mean']:.3f}",
            size(row["bytes_up_per_site_round"]),
            "–" if row["rounds"] is None else str(row["rounds"]),
            number(row["epsilon"]),
        )
    said = result["recommendation"]
    lines = [Text(said["sentence"], style="bold"), *(Text(line, style="dim") for line in [*said["beside"], *result["left_out"]])]
    return Group(table, *lines)


def picture(result: Mapping[str, Any]) -> str:
    """Draw the pooled AUC of every method and setting with its 95 % interval."""
    titles = list(dict.fromkeys(row["title"] for row in result["rows"]))
    figure, axes = new_figure(1.2 + 0.5 * len(titles))
    offsets = {"local": -0.22, "federated": 0.0, "pooled": 0.22}
    named: set[str] = set()
    for row in result["rows"]:
        place, score = titles.index(row["title"]) + offsets[row["setting"]], row["metrics"]["pooled_auc"]
        label = None if row["setting"] in named else row["setting"]
        named.add(row["setting"])
        colour = COLOURS[row["setting"]]
        axes.plot(score["ci95"], [place] * 2, color=colour, linewidth=1.6)
        axes.plot(score["mean"], place, color=colour, marker="o" if row["epsilon"] else "D", linestyle="", label=label)
    axes.set_yticks(range(len(titles)), titles)
    axes.invert_yaxis()
    axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlabel("pooled AUC on the test patients\n(0.5 is chance; diamonds: without privacy or training)")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, 1.12), ncol=3)
    return as_svg(figure, "Pooled AUC by method and setting")


def spread(score: Mapping[str, Any]) -> str:
    """Return mean, spread over seeds and interval as text.

    >>> spread({"mean": 0.8, "std": 0.01, "ci95": [0.75, 0.85]})
    '0.800 ± 0.010 [0.750, 0.850]'
    """
    over_seeds = "" if score["std"] is None else f" ± {score['std']:.3f}"
    return f"{score['mean']:.3f}{over_seeds} [{score['ci95'][0]:.3f}, {score['ci95'][1]:.3f}]"


def size(count: int) -> str:
    """Return a number of bytes, or a dash for none.

    >>> size(9216), size(0)
    ('9,216', '–')
    """
    return f"{count:,}" if count else "–"


def number(value: float | None) -> str:
    """Return two decimals, or a dash for a number that does not exist.

    >>> number(2.999), number(None)
    ('3.00', '–')
    """
    return "–" if value is None else f"{value:.2f}"
