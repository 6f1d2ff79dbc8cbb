"""`audit.html`: one self-contained page, works offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from audits.section import Section

HERE = Path(__file__).parent


def write_report(sections: Sequence[Section], facts: Mapping[str, Any], title: str, path: Path) -> None:
    """Write the page.

    Args:
        sections: one an audit, in the order of the page.
        facts: `audit.json`'s content.
        title: of the task.
        path: the HTML file.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=jinja2.select_autoescape(default=True, default_for_string=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("audit.html.j2").render(sections=sections, facts=facts, title=title)
    path.write_text(page, encoding="utf-8")
