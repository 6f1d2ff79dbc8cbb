"""A self-contained page from a template; in HTML values are escaped, and one that is missing is an error."""

from pathlib import Path

import jinja2


def templates(folder: Path) -> jinja2.Environment:
    """Return the templates of a folder."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=jinja2.select_autoescape(default=True, default_for_string=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def texts(folder: Path) -> jinja2.Environment:
    """Return the templates of a folder for files that are no HTML, such as Markdown: nothing is escaped."""
    return templates(folder).overlay(autoescape=False)
