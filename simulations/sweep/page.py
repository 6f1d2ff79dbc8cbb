"""What people see of a sweep: the closing table and `sweep.html`, from `sweep.json`'s content."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from shared.page import templates
from simulations.sweep.charts import SCORES, pictures
from simulations.sweep.frontier import Point
from simulations.sweep.significance import FEWEST, LEVEL

HERE = Path(__file__).parent


def write_page(result: Mapping[str, Any], points: Sequence[Point], path: Path) -> None:
    """Write the self-contained page."""
    environment = templates(HERE)
    environment.filters |= {"spread": spread, "cost": cost, "tested": tested}
    drawn = {name: Markup(svg) for name, svg in pictures(points, result["score"]).items()}  # noqa: S704 (our own, escaped)
    page = environment.get_template("sweep.html.j2").render(
        r=result, charts=drawn, score=SCORES[result["score"]], said=in_short(result), fewest=FEWEST, level=LEVEL
    )
    path.write_text(page, encoding="utf-8")


def closing_table(result: Mapping[str, Any]) -> Group:
    """Return what a person reads when a sweep ends."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=f"{result['title']}: {result['seeds']} seeds")
    for name in ("cell", "settings", SCORES[result["score"]], "ε", "against the reference"):
        table.add_column(name, justify="left" if name == "settings" else "right")
    for cell in result["cells"]:
        table.add_row(str(cell["cell"]), cell["words"], spread(cell), cost(cell, "epsilon"), tested(cell, result))
    lines = [Text(line, style="bold") for line in in_short(result)]
    lost = [Text(f"! cell {each['cell']} ({each['folder']}) failed: {each['sentence']}", style="red") for each in result["failed"]]
    return Group(table, *lines, *lost)


def in_short(result: Mapping[str, Any]) -> list[str]:
    """Return the sentences on what differs from what."""
    reference = result["reference"]
    if reference is None:
        return ["There are no two cells to compare."]
    how = "the baseline that the file names" if reference["named"] else "the best of these cells, chosen by these very numbers"
    said = [f"Reference: cell {reference['cell']} ({reference['words']}), {how}."]
    if reference["silent"]:
        return [*said, reference["silent"]]
    unlike = [cell for cell in result["cells"] if cell["against"] and cell["against"]["significant"]]
    family = f"{reference['tests']} {'test' if reference['tests'] == 1 else 'tests'}"
    return [
        *said,
        f"{len(unlike)} of {len(result['cells']) - 1} other cells differ from it after Holm's correction for {family} "
        f"(paired t-test over {result['seeds']} seeds, level {LEVEL:g}).",
    ]


def spread(cell: Mapping[str, Any]) -> str:
    """Return mean, spread and interval over seeds as text.

    >>> spread({"mean": 0.8, "std": 0.01, "ci95_over_seeds": [0.79, 0.81]}), spread({"mean": 0.8, "std": None})
    ('0.800 ± 0.010 [0.790, 0.810]', '0.800')
    """
    if cell["std"] is None:
        return f"{cell['mean']:.3f}"
    low, high = cell["ci95_over_seeds"]
    return f"{cell['mean']:.3f} ± {cell['std']:.3f} [{low:.3f}, {high:.3f}]"


def cost(cell: Mapping[str, Any], name: str) -> str:
    """Return a cost as text, or a dash where it is not known.

    >>> cost({"costs": {"bytes": 9216.0}}, "bytes"), cost({"costs": {}}, "epsilon")
    ('9,216', '–')
    """
    value = cell["costs"].get(name)
    if value is None:
        return "–"
    return f"{value:,.0f}" if name == "bytes" else f"{value:.2f}" if name == "epsilon" else f"{value:.1f}"


def tested(cell: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return the difference from the reference, and Holm's p where there is a test; a star marks what is significant."""
    if result["reference"] is None or cell["cell"] == result["reference"]["cell"]:
        return "reference"
    found = cell["against"]
    p = "" if found["adjusted"] is None else f", p {found['adjusted']:.2g}{' *' if found['significant'] else ''}"
    return f"{found['difference']:+.3f}{p}"
