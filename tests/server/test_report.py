"""What a coordinator reads at the end of a run between machines."""

import json
from pathlib import Path

from server.outcome import summary
from server.report import UNKNOWN, write_report
from shared.card import Task
from tests.books import Files


def test_a_whole_run_says_so(played: Files) -> None:
    page = (played.run / "report.html").read_text()
    assert "Complete: all 2 sites contributed to all 6 rounds." in page
    assert all(line.replace("'", "&#39;") in page for line in UNKNOWN)
    assert "unit: one patient with all records; adjacency: add or remove one patient; accountant: PLD" in page
    assert "src=" not in page
    assert "href=" not in page  # it works offline


def test_a_run_that_lost_a_site_never_says_that_all_is_well(played: Files, task: Task, tmp_path: Path) -> None:
    result = json.loads((played.run / "result.json").read_text())
    result["complete"] = False
    site = result["sites"][1]
    site["rounds_left_out"] = {"2": "it did not reply", "3": "it did not reply", "5": "<b>its shape</b>"}
    site["rounds_contributed"] = 3
    write_report(result, task.card, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert summary(result) == "Not complete: 6 of 6 rounds were run; left out: South in 3 rounds."
    assert summary(result) in page
    assert "Complete:" not in page
    assert "rounds 2–3: it did not reply<br>round 5: &lt;b&gt;its shape&lt;/b&gt;" in page
