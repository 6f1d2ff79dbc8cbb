"""The page of `promptward predict --why`: each prediction with its reasons drawn as bars; self-contained, works offline."""

from collections.abc import Sequence
from pathlib import Path

from client.occlusion import Explanation
from shared.errors import InputError
from shared.page import templates

HERE = Path(__file__).parent
MOST_REASONS = 15  # drawn for one prediction; all are in the JSON


def write_report(found: Sequence[Explanation], rows: int, path: Path) -> None:
    """Write the page; it holds what the rows say, so it is as private as they are."""
    scale = max((abs(reason.change) for said in found for reason in said.reasons), default=0.0) or 1.0
    page = templates(HERE).get_template("predict.html.j2").render(found=found, rows=rows, scale=scale, most=MOST_REASONS)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); mend --why.") from None
