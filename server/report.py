"""`report.html` of a run between machines: what was trained, who took part in which round, what it cost, what nobody here knows."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from server.outcome import summary
from shared.card import TaskCard
from shared.page import templates

HERE = Path(__file__).parent
UNKNOWN = (
    "how many patients a hospital has, and how many of them took part in a round;",
    "how well the prompt works at any hospital: scores of patients stay there;",
    "why a hospital answered with an error: one fixed code comes, whatever happened;",
    "what a hospital charged for replies that did not arrive: its own ledger may say more than this page, and has the last word;",
    "whether a hospital really added its noise: that noise protects the hospital's own patients, and the hospital vouches for it.",
)


def write_report(result: Mapping[str, Any], card: TaskCard, path: Path) -> None:
    """Write the report of a run that has ended.

    Args:
        result: `result.json`'s content.
        card: of the task.
        path: the HTML file.
    """
    environment = templates(HERE)
    page = environment.get_template("report.html.j2").render(
        r=result,
        card=card,
        summary=summary(result),
        absences={site["name"]: absences(site["rounds_left_out"]) for site in result["sites"]},
        statement=statement(result, card),
        unknown=UNKNOWN,
    )
    path.write_text(page, encoding="utf-8")


def absences(left_out: Mapping[Any, str]) -> list[str]:
    """Return in which rounds a site did not count and why, rounds in a row together.

    >>> absences({3: "it did not reply", 4: "it did not reply", 6: "it did not reply", 7: "its shape is (1,)"})
    ['rounds 3–4, 6: it did not reply', 'round 7: its shape is (1,)']
    """
    reasons: dict[str, list[int]] = {}
    for round_, why in left_out.items():
        reasons.setdefault(why, []).append(int(round_))
    return [f"round{'s' if len(rounds) > 1 else ''} {_spans(rounds)}: {why}" for why, rounds in reasons.items()]


def statement(result: Mapping[str, Any], card: TaskCard) -> list[str]:
    """Return what the hospitals gave away, in plain words."""
    worst = max(result["sites"], key=lambda site: site["epsilon"])
    return [
        "In every round that it took part in, a hospital was sent the common prompt, and sent back one array with random noise in "
        "it: no record, no count, no accuracy, no text.",
        f"Whether any one {worst['unit']} is in a hospital's data changes what arrived here by at most epsilon = "
        f"{worst['epsilon']:.2f} at delta = {card.privacy.delta:g} over this run (unit: one {worst['unit']} with all records; "
        f"adjacency: {worst['adjacency'].replace('-', ' ')} {worst['unit']}; accountant: {worst['accountant']}; worst site: "
        f"{worst['name']}). Each hospital's own noise gives this, whatever the coordinator and the other hospitals do.",
        "Other runs and tasks on the same patients add to it: each hospital's ledger knows, and promptward ledger statement says.",
    ]


def _spans(numbers: Iterable[int]) -> str:
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in spans)
