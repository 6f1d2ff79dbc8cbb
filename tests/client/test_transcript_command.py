"""`promptward transcript`: what left is told field by field, and the sizes add up to every byte that left."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message

import promptward
from client import fleet
from client.chain import Chain
from client.gateway import Gateway
from client.transcript import Transcript, read_transcript
from client.transcript_fields import HEADERS, MEANING, fields_of
from client.transcript_rounds import LIMIT, rounds_of
from shared.wire import FAILED, pack_reply, sha256
from tests.client.test_fleet import UPDATE
from tests.client.test_gateway import Coordinator, answer_to, ask, coordinator, gateway, open_gateway, push

__all__ = ["coordinator", "gateway", "open_gateway"]  # fixtures


@pytest.fixture
def transcript(coordinator: Coordinator, gateway: Gateway, tmp_path: Path) -> Path:
    """An honest round, an answer with the fixed error, a reply that was refused."""
    push(gateway, answer_to(ask(coordinator, gateway), pack_reply(UPDATE)))
    push(gateway, Message(Error(FAILED), reply_to=ask(coordinator, gateway)))
    with pytest.raises(Exception, match="not paid"):
        push(gateway, answer_to(ask(coordinator, gateway), pack_reply(UPDATE + 1)))
    coordinator.lines[-1].close()
    return (tmp_path / "transcript.jsonl").rename(tmp_path / "ledger.transcript.jsonl")


@pytest.fixture
def said(transcript: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def found(*words: str) -> dict[str, Any]:
        assert promptward.main(["transcript", str(transcript), *words, "--json"]) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    return found


def with_ledger(transcript: Path, task: str = "a" * 64) -> None:
    """Put the ledger that paid for the update beside the transcript."""
    event = {"task": task, "run": "run1", "round": 7, "asked": "", "payload": sha256(UPDATE), "releases": 1, "sample_rate": 0.5}
    more = {"noise_multiplier": 3.0, "clip_norm": 1.0, "grid": 0.001, "max_records": 1}
    chain = Chain(transcript.with_name("ledger.jsonl"))
    chain.append(event | more)
    chain.close()


def test_the_fields_of_every_call_add_up_to_its_bytes(transcript: Path) -> None:
    lines = [line for line in read_transcript(transcript) if line.content]
    assert {line.call for line in lines} > {"ActivateNode", "GetRun", "PushMessages", "PushObject"}
    for line in lines:
        fields = fields_of(line.call, line.content)
        assert sum(field.size for field in fields) == len(line.content)
        assert all(field.size > 0 for field in fields)
        assert not [field.path for field in fields if "NOT KNOWN" in field.meaning]


def test_the_tensor_is_found_and_nothing_else_is_called_so(transcript: Path) -> None:
    first = rounds_of(read_transcript(transcript), {})[0]
    values = "".join(field.value for _, field in first.fields if field.path.endswith(".tensor"))
    assert bytes.fromhex(values) == UPDATE.tobytes()
    assert first.tensor == UPDATE.nbytes
    assert 0 < first.beyond == first.size - UPDATE.nbytes <= LIMIT


def test_what_was_delivered_and_what_was_refused_is_told(said: Callable[..., dict[str, Any]]) -> None:
    found = said()
    assert found["delivered"] == [sha256(UPDATE)]
    assert [item["reason"] for item in found["refused"]] == ["the ledger has not paid for the reply's array"]
    assert [one["delivered"] for one in found["rounds"]] == [True, False, False]  # the third was fetched, and its reply refused
    assert found["rounds"][1]["payload"] is None
    assert found["bytes"] == sum(counted["bytes"] for counted in found["calls"].values())


def test_a_round_is_picked_by_the_ledgers_number(transcript: Path, said: Callable[..., dict[str, Any]]) -> None:
    with_ledger(transcript)
    [picked] = said("--round", "7")["picked"]
    assert picked["payload"] == sha256(UPDATE)
    assert sum(field["size"] for field in picked["fields"]) == picked["bytes"] == picked["tensor_bytes"] + picked["beyond_tensor"]
    assert [field["value"] for field in picked["fields"] if field["path"] == "clientapp_runtime_list"] == ["0.0"]
    assert said("--last")["picked"][0]["payload"] is None  # the last answer was the fixed error
    codes = [field for field in said("--last")["picked"][0]["fields"] if field["path"].endswith("error.code")]
    assert {field["value"] for field in codes} == {str(FAILED)}


@pytest.mark.parametrize(("ledger", "told"), [(True, "it has 7 to 7"), (False, "the ledger that numbers them is not beside it")])
def test_a_round_that_is_not_there(transcript: Path, capsys: pytest.CaptureFixture[str], ledger: bool, told: str) -> None:
    if ledger:
        with_ledger(transcript)
    assert promptward.main(["transcript", str(transcript), "--round", "8"]) == 2
    assert f"there is no round 8 in it; {told}" in capsys.readouterr().err


def test_a_person_sees_every_field_in_words(
    transcript: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with_ledger(transcript)
    assert promptward.main(["transcript", str(transcript)]) == 0
    overview = capsys.readouterr().out
    assert f"{sha256(UPDATE)[:16]} delivered" in overview
    assert "Refused, 1 times, PushObject: the ledger has not paid" in overview
    assert promptward.main(["transcript", str(transcript), "--round", "7"]) == 0
    shown = capsys.readouterr().out
    assert "seconds of work: the gateway has put 0 here" in shown
    assert re.search(r"[\d,]+ bytes: 256 of the tensor, [\d,]+ beyond it \(at most 3,072\)", shown)
    assert "the noised update that the ledger paid for" in shown


def test_too_much_beyond_the_tensor_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain = Chain(tmp_path / "t.jsonl")
    transcript = Transcript(chain)
    for _ in range(2):
        transcript.sent("PushObject", b"\x22" + bytes([0x80, 0x10]) + bytes(2048), {})
    assert promptward.main(["transcript", str(tmp_path / "t.jsonl"), "--last"]) == 1
    assert "TOO MUCH" in capsys.readouterr().out


def test_bytes_that_are_no_call_are_shown_as_such() -> None:
    [field] = fields_of("PushObject", b"\xff\xff DOE, John")
    assert field.size == 12
    assert "NOT KNOWN" in field.meaning
    assert fields_of("Nothing", b"abc")[0].value == "616263"


def test_a_changed_or_missing_transcript(transcript: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transcript.write_text(transcript.read_text().replace('"times": 1', '"times": 2', 1))
    assert promptward.main(["transcript", str(transcript)]) == 2
    assert "the chain breaks at line" in capsys.readouterr().err
    assert promptward.main(["transcript", str(transcript.with_name("none"))]) == 2
    assert "there is no such transcript" in capsys.readouterr().err


def test_a_line_that_is_being_written_is_left_out(transcript: Path) -> None:
    with transcript.open("a") as file:
        file.write('{"body": {"call": "Pull')
    assert promptward.main(["transcript", str(transcript)]) == 0
    assert transcript.read_text().endswith("Pull")  # nothing is mended by looking


def test_every_meaning_is_a_sentence_part_and_every_header_is_known() -> None:
    assert set(HEADERS) == {fleet.KEY, fleet.TIME, fleet.SIGNATURE, *fleet.VERSION}
    assert all(MEANING.values())
    assert np.dtype(np.int32).itemsize * UPDATE.size == UPDATE.nbytes
