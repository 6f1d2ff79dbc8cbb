import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import RecordDict

from client.chain import Chain
from client.ledger import read_ledger
from shared.errors import InputError, RefusedError, RunError
from shared.privacy.accounting import epsilon
from shared.privacy.clip import STEPS
from shared.privacy.mechanism import Update
from shared.privacy.source import SecureSource, Stream
from shared.wire import Request, sha256, unpack_reply
from tests.client.conftest import Open

Ask = Callable[..., Request]


def sent(reply: RecordDict) -> Update:
    return unpack_reply(reply, np.dtype(np.int32))


def test_a_round_is_charged_before_its_reply_leaves(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    hospital = open_hospital(steps=2)
    update = sent(hospital.respond(ask()))
    [event] = read_ledger(tmp_path / "ledger.jsonl")
    assert (event.round, event.releases, event.payload, event.unit) == (1, 2, sha256(update), "patient")
    assert hospital.ledger
    assert hospital.ledger.spent(1e-4).epsilon == pytest.approx(epsilon(0.5, 3.0, 2, 1e-4), abs=1e-6)


def test_nothing_leaves_when_the_ledger_cannot_be_written(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    hospital = open_hospital()
    (tmp_path / "ledger.jsonl").write_text("another process was here\n")
    with pytest.raises(RunError, match="another process writes to this file"):
        hospital.respond(ask())
    assert not (tmp_path / "egress.jsonl").exists()


def test_a_resend_is_the_same_bytes_and_costs_nothing(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    first = sent(open_hospital().respond(ask()))
    again = sent(open_hospital().respond(ask()))  # after a restart
    assert first.tobytes() == again.tobytes()
    assert len(read_ledger(tmp_path / "ledger.jsonl")) == 1


def test_a_round_is_answered_for_one_prompt_only(open_hospital: Open, ask: Ask) -> None:
    hospital = open_hospital()
    hospital.respond(ask())
    with pytest.raises(RefusedError, match="answered for another prompt"):
        hospital.respond(ask(shift=0.1))


def test_a_lost_or_changed_payload_is_never_made_anew(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    open_hospital().respond(ask())
    path = tmp_path / "outbox" / "run1-1.npy"
    np.save(path, np.zeros((4, 16), np.int32))
    with pytest.raises(RefusedError, match="gone from the outbox"):
        open_hospital().respond(ask())
    path.unlink()
    with pytest.raises(RefusedError, match="gone from the outbox"):
        open_hospital().respond(ask())


def test_the_budget_holds_over_runs_and_restarts(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    budget = epsilon(0.5, 3.0, 3, 1e-4, STEPS)
    for run in ("a", "b", "c"):
        open_hospital(budget).respond(ask(run=run))
    with pytest.raises(RefusedError, match=r"would bring epsilon to \d\.\d{4} at delta 0.0001; the site's budget is"):
        open_hospital(budget).respond(ask(run="d"))
    assert len(read_ledger(tmp_path / "ledger.jsonl")) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task_digest": "0" * 64}, "the task's digest is"),
        ({"round": 7}, "outside the plan of 6 rounds"),
        ({"round": 0}, "outside the plan of 6 rounds"),
        ({"run": "../../etc"}, "not made of at most 100 ASCII letters and digits"),
        ({"run": "a" * 5000}, "not made of at most 100 ASCII letters and digits"),
        ({"run": "\u0661"}, "not made of at most 100 ASCII letters and digits"),
        ({"prompt": np.zeros((4, 15), np.float32)}, "the prompt is not a finite float32 array"),
        ({"prompt": np.full((4, 16), np.nan, np.float32)}, "the prompt is not a finite float32 array"),
    ],
)
def test_a_strange_request_is_refused_and_costs_nothing(
    open_hospital: Open, ask: Ask, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    with pytest.raises(RefusedError, match=said):
        open_hospital().respond(replace(ask(), **change))  # type: ignore[arg-type]
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_changed_ledger_is_found_at_the_start(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    hospital = open_hospital()
    for round_ in (1, 2, 3):
        hospital.respond(ask(round_))
    path = tmp_path / "ledger.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0].replace('"noise_multiplier": 3.0', '"noise_multiplier": 9.0'), *lines[1:]]) + "\n")
    with pytest.raises(InputError, match="the chain breaks at line 1; the file was changed"):
        open_hospital()
    path.write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(InputError, match="the chain breaks at line 1"):
        open_hospital()
    path.write_text("\n".join(lines) + '\n{"number": 4, "ti\n')
    with pytest.raises(InputError, match="line 4 cannot be read"):
        open_hospital()


def test_a_line_torn_by_a_crash_is_cut_off(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    open_hospital().respond(ask(1))
    path = tmp_path / "ledger.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"number": 2, "ti')
    hospital = open_hospital()
    assert path.read_text() == whole
    hospital.respond(ask(2))
    assert [event.round for event in read_ledger(path)] == [1, 2]


def test_a_last_line_that_was_cut_after_its_payload_left_is_found(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    hospital, path = open_hospital(), tmp_path / "ledger.jsonl"
    hospital.respond(ask(1))
    hospital.respond(ask(2))
    os.truncate(path, path.stat().st_size - 40)
    with pytest.raises(InputError, match="a payload that left and is not on this ledger; put the newest copy"):
        open_hospital()


def test_an_older_copy_of_the_ledger_is_found_by_the_egress_log(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    hospital, path = open_hospital(), tmp_path / "ledger.jsonl"
    hospital.respond(ask(1))
    older = path.read_text()
    hospital.respond(ask(2))
    path.write_text(older)
    with pytest.raises(InputError, match="a payload that left and is not on this ledger; put the newest copy"):
        open_hospital()


def test_an_older_copy_of_the_whole_site_is_found_by_the_coordinators_record(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    hospital = open_hospital()
    hospital.respond(ask(1))
    files = {path: path.read_bytes() for path in (tmp_path / "ledger.jsonl", tmp_path / "egress.jsonl")}
    last = sha256(sent(hospital.respond(ask(2))))
    for path, content in files.items():
        path.write_bytes(content)
    with pytest.raises(RefusedError, match="a payload that this ledger did not pay for; was an older copy put back"):
        open_hospital().respond(replace(ask(3), last=last))


def test_a_clock_that_is_set_back_does_not_turn_the_ledger_back(tmp_path: Path) -> None:
    times = iter([100.0, 50.0])
    with closing(Chain(tmp_path / "chain.jsonl", clock=lambda: next(times))) as chain:
        assert [chain.append({}).time for _ in range(2)] == [100.0, 100.0]
    with closing(Chain(tmp_path / "chain.jsonl", clock=lambda: 7.0)) as chain:  # nor does it after a restart
        assert chain.append({}).time == 100.0


def test_noise_without_a_ledger_is_impossible(open_hospital: Open) -> None:
    with pytest.raises(ValueError, match="a ledger if and only if"):
        replace(open_hospital(), ledger=None)


def test_two_runs_of_the_default_source_never_repeat(open_hospital: Open, ask: Ask) -> None:
    hospital = open_hospital()
    assert sent(hospital.respond(ask(run="a"))).tobytes() != sent(hospital.respond(ask(run="b"))).tobytes()


def test_runs_rounds_sites_and_steps_have_streams_of_their_own(open_hospital: Open, ask: Ask) -> None:
    asked: list[tuple[str | int, ...]] = []

    class Recording(SecureSource):
        def stream(self, *purpose: str | int) -> Stream:
            asked.append(purpose)
            return super().stream(*purpose)

    hospital = open_hospital(steps=2, source=Recording())
    for run, round_ in (("a", 1), ("a", 2), ("b", 1)):
        hospital.respond(ask(round_, run))
    replace(hospital, name="South").respond(ask(1, "c"))
    assert len(asked) == len(set(asked)) == 4 * 2 * 2
    assert ["South" if purpose[1] == "c" else "North" for purpose in asked] == [purpose[2] for purpose in asked]


def test_files_of_the_site_are_for_its_owner_only(open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    open_hospital().respond(ask())
    for path in (tmp_path / "ledger.jsonl", tmp_path / "egress.jsonl", tmp_path / "outbox" / "run1-1.npy"):
        assert path.stat().st_mode & 0o077 == 0
