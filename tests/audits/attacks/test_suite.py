"""All attacks in one call, as the report takes them."""

import json
from dataclasses import replace

from audits.attacks.suite import parts
from audits.section import as_json
from audits.subject import Subject
from tests.audits.attacks.conftest import SMALL

TINY = replace(
    SMALL, candidates=12, draws=3, control_draws=3, targets=3, repeats=2, roamers=12, rounds=2, shadows=6, shadow_patients=8
)


def test_every_attack_is_a_section_with_figures(subject: Subject) -> None:
    found = [section for part in parts(subject, None, thorough=False, sizes=TINY) for section in part()]
    assert len({section.title for section in found}) == 6
    for section in found:
        assert section.verdicts
        assert all(verdict.layer == "L5" for verdict in section.verdicts)
        assert section.marks
        assert all(0 <= m.low <= m.measured <= m.high <= 1 for m in section.marks)
        assert all(m.ceiling is not None and m.control is not None and m.ceiling > m.baseline for m in section.marks)
        assert "attacks" in json.loads(json.dumps(as_json(section)))["facts"]
    for curve in (curve for section in found for curve in section.curves):
        assert len(curve.fpr) == len(curve.tpr) == len(curve.ceiling)
        assert list(curve.ceiling) == sorted(curve.ceiling)
