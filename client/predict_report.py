"""The page of `promptward predict --why`: each prediction with its reasons as bars or over its pictures; works offline."""

import math
from collections.abc import Sequence
from pathlib import Path

from client.heat_drawing import heat_png, plain_png
from client.occlusion import Explanation
from client.patches import MOST_PICTURES, Heat, PictureExplanation
from shared.errors import InputError
from shared.page import templates

HERE = Path(__file__).parent
MOST_REASONS = 15  # drawn for one prediction; all are in the JSON


def write_report(found: Sequence[Explanation], rows: int, path: Path) -> None:
    """Write the page; it holds what the rows say, so it is as private as they are."""
    scale = max((abs(reason.change) for said in found for reason in said.reasons), default=0.0) or 1.0
    seen = [said for said in found if isinstance(said, PictureExplanation)]
    heat = max((float(abs(heat.evidence).max()) for said in seen for heat in said.heats), default=0.0) or 1.0
    drawn = {
        n: [_drawn(heat_, heat) for heat_ in said.heats] for n, said in enumerate(found) if isinstance(said, PictureExplanation)
    }
    page = templates(HERE).get_template("predict.html.j2")
    text = page.render(
        found=found, rows=rows, scale=scale, most=MOST_REASONS, drawn=drawn, fold=math.exp(heat), pictures=MOST_PICTURES
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); mend --why.") from None


def _drawn(heat: Heat, scale: float) -> dict[str, str | float]:
    changes = heat.changes
    return {
        "file": heat.file,
        "plain": plain_png(heat),
        "heat": heat_png(heat, scale),
        "most": float(changes.max()),
        "least": float(changes.min()),
    }
