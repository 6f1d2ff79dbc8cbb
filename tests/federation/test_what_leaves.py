"""What the security office's page says of a round is what a real site's transcript holds; and its audit agrees."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import promptward
from client.fleet import parse
from client.transcript import NEWS, Sent, read_transcript
from simulations.loopback import ROOT
from tests.federation.conftest import Tiny

PAGE = (ROOT / "docs/security-office.md").read_text()
ONCE = {"ActivateNode", "GetRun", "GetFab", "DeactivateNode"}
TENSOR = 4 * 16 * 4  # the tiny task's array in bytes


def told() -> dict[tuple[str, str], int]:
    """The page's table: call and field -> bytes."""
    found, call = {}, ""
    for first, field, size in re.findall(r"^\| (\w*) ?\| *\d* ?\| ([\w.]+) \| ([\d,]+) \|", PAGE, re.MULTILINE):
        call = first or call
        found[call, field] = int(size.replace(",", ""))
    return found


def fields(message: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Every field of a protobuf message with the bytes that it takes; levels of a tree count as one."""
    for field, value in message.ListFields():
        if field.message_type is None:
            alone = type(message)()
            alone.MergeFrom(type(message)(**{field.name: value}))
            yield path + field.name, alone.ByteSize()
            continue
        for part in value if hasattr(value, "add") else [value]:
            yield from fields(part, path if field.name == "children" else f"{path}{field.name}.")


def one_round(lines: list[Sent]) -> list[Sent]:
    """The calls between two deliveries, news aside."""
    ends = [number for number, line in enumerate(lines) if line.delivered]
    return [line for line in lines[ends[0] + 1 : ends[1]] if line.content and line.call not in NEWS]


@pytest.mark.slow
def test_what_leaves_is_what_the_page_says_and_the_books_agree(tiny: Tiny, capfd: pytest.CaptureFixture[str]) -> None:
    world = tiny(rounds=3)
    serve = world.serve()
    sites = [world.join(name) for name in ("North", "South")]
    assert serve.wait(240) == 0, serve.text()
    for site in sites:
        assert site.wait(60) == 0, site.text()
    lines = read_transcript(world.home("North") / "ledger.transcript.jsonl")
    calls, table = one_round(lines), told()
    found: Counter[tuple[str, str]] = Counter()
    for line in calls:
        for field, size in fields(parse(line.call, line.content)):
            found[line.call, field] += size
    assert set(found) <= set(table)
    for key, size in found.items():
        if key != ("PushObject", "object_content"):  # the tiny task's tensor is smaller
            assert abs(size - table[key]) <= 12, key  # numbers of nodes and runs take nine or ten bytes
    assert found["PushObject", "object_content"] - TENSOR <= 839
    assert sum(len(line.content) for line in calls) - TENSOR <= 3072
    assert {line.call for line in lines if line.content} <= {call for call, _ in table} | ONCE | set(NEWS)
    assert {name for line in lines for name in line.headers} == set(re.findall(r"^\| (flwr-[\w-]+) ", PAGE, re.MULTILINE))
    assert all(sum(line.headers.values()) <= 371 for line in lines)
    assert not any(line.refused for line in lines)
    folders = [str(world.home(name)) for name in ("North", "South")]
    assert promptward.main(["audit", str(world.run), "--site", *folders]) == 0, capfd.readouterr().out
    audit = json.loads((world.run / "audit.json").read_text())["audits"]["agreement"]
    assert {mark for check in audit["checks"].values() for mark in check["sites"].values()} == {"agrees"}
    assert "Complete: all 2 sites contributed to all 3 rounds." in Path(world.run / "report.html").read_text()
