"""The layers that put the installed code to the test, on made-up patients and on whoever the auditor may know: L1, L2, L4, L5."""

from collections.abc import Iterator, Mapping

from audits.patients import Known
from audits.section import Section
from audits.subject import Subject
from shared.privacy.mechanism import Update


def installed_sections(
    subject: Subject, updates: Mapping[str, Mapping[int, Update]], known: Mapping[str, Known] | None, thorough: bool
) -> Iterator[Section]:
    """Give one section after the other, cheap ones first.

    Args:
        subject: the card, its model, the run's broadcast prompts, and the installed step.
        updates: site -> round -> what the run received from it.
        known: site -> patients of whom the auditor knows whether they were trained on; None where there are none.
        thorough: take minutes instead of seconds, for narrower intervals.
    """
    yield from ()
