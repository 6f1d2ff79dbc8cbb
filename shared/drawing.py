"""Pictures for the reports as inline SVG, in one style: the same input gives the same bytes."""

import io

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, BLUE, GREY, RED, GREEN = "#1f2933", "#1f5fa8", "#9aa5b1", "#b42318", "#2f7d4f"
STYLE = {
    "svg.hashsalt": "promptward",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def new_figure(height: float, width: float = 8.2) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches with one pair of axes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def new_panels(rows: int, columns: int, height: float, width: float = 8.2) -> tuple[Figure, list[Axes]]:
    """Return a figure of this size in inches with rows x columns pairs of axes that share their scales, row by row."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)


def as_svg(figure: Figure, title: str) -> str:
    """Return the picture as an SVG element with a title for screen readers."""
    out = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Title": title}, transparent=True)
    svg = out.getvalue()
    return svg[svg.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
