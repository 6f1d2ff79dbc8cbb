"""Can an attacker read words of a note from an update? Gradient matching and a learned inverter on the same updates."""

from audits.attacks import inverter, tokens
from audits.attacks.rehearsal import gather
from audits.section import Section
from audits.subject import Subject


def run(subject: Subject, thorough: bool = False, seed: int = 0) -> list[Section]:
    """Attack the subject's step with both; `thorough` takes four times the notes.

    Everything is made up and seeded, noise included: two runs give the same figures.
    """
    material = gather(subject, thorough, seed)
    return [tokens.audit(subject, material), inverter.audit(subject, material)]
