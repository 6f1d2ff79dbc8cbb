"""`audit.html`: one self-contained page, works offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audits.section import Section
from shared.page import templates

HERE = Path(__file__).parent


def write_report(sections: Sequence[Section], facts: Mapping[str, Any], title: str, path: Path) -> None:
    """Write the page.

    Args:
        sections: one an audit, in the order of the page.
        facts: `audit.json`'s content.
        title: of the task.
        path: the HTML file.
    """
    environment = templates(HERE)
    page = environment.get_template("audit.html.j2").render(sections=sections, facts=facts, title=title)
    path.write_text(page, encoding="utf-8")
