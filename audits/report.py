"""`audit.html`: one self-contained page, works offline. The first screen is for a privacy officer, the rest for a reviewer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audits.charts import everything, roc
from audits.section import Section, Verdict
from shared.page import templates

HERE = Path(__file__).parent
WORDS = {True: "holds", False: "fails", None: "open"}


def write_report(sections: Sequence[Section], facts: Mapping[str, Any], title: str, path: Path) -> None:
    """Write the page.

    Args:
        sections: one an audit, in the order of the page.
        facts: `audit.json`'s content.
        title: of the task.
        path: the HTML file.
    """
    verdicts = [verdict for section in sections for verdict in section.verdicts]
    marks = [mark for section in sections for mark in section.marks]
    page = (
        templates(HERE)
        .get_template("audit.html.j2")
        .render(
            sections=sections,
            facts=facts,
            title=title,
            verdicts=sorted(verdicts, key=lambda v: v.layer),
            words=WORDS,
            answer=answer(sections),
            picture=everything(marks) if marks else "",
            curves={section.title: [roc(curve) for curve in section.curves] for section in sections},
        )
    )
    path.write_text(page, encoding="utf-8")


def answer(sections: Sequence[Section]) -> str:
    """Return the page's first sentence."""
    verdicts = [verdict for section in sections for verdict in section.verdicts]
    failed = [s for s in sections if not s.passed]
    if failed:
        return f"Something is wrong: {len(failed)} of {len(sections)} audits found it. {' '.join(s.title for s in failed)}"
    open_ = sum(v.holds is None for v in verdicts)
    told = f"Nothing contradicts what was claimed: {_decided(verdicts)} claims were checked and hold"
    return f"{told}, {open_} could not be decided." if open_ else f"{told}."


def _decided(verdicts: Sequence[Verdict]) -> int:
    return sum(v.holds is not None for v in verdicts)
