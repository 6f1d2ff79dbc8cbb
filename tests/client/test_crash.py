"""A hospital's process is killed at random moments: afterwards the ledger is true, and the run goes on."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from client.chain import Chain
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Ledger, read_ledger
from client.outbox import Outbox
from client.policy import Policy, Proposal
from client.round import LocalPlan, answer, pool
from shared.card import Task
from shared.privacy.mechanism import Mechanism
from shared.privacy.source import SecureSource
from shared.scoring import build
from shared.wire import Request, sha256, unpack_reply
from tests.conftest import card_text, make_cohort

KILLS, ROUNDS, CARD = 200, 10**6, "PROMPTWARD_TEST_CARD"

PLAN = LocalPlan(Mechanism(0.5, 1.0, 300.0), 1, 0.1, 5.0)

if CARD in os.environ:  # in the server that the hospitals are forked from: the backbone is loaded once
    torch.set_num_threads(1)
    TASK = Task.parse(os.environ[CARD], "card")
    SCORER, PROMPT = build(TASK.card)
    POOL = pool(make_cohort(TASK, 5, seed=0), SCORER)
    answer(POOL, PROMPT, PLAN, SCORER, SecureSource(), "warm-up")


def work(home: Path) -> None:
    """Be a hospital with its coordinator: answer round after round; what left is written down after it left."""
    hospital = Hospital(
        name="North",
        policy=Policy(1e6, 1e-4, (TASK.digest,), 1e6, most_rounds=ROUNDS),
        proposal=Proposal(TASK.digest, PLAN, ROUNDS, 1),
        pool=POOL,
        scorer=SCORER,
        source=SecureSource(),
        ledger=Ledger(Chain(home / "ledger.jsonl")),
        gate=Gate(SCORER.shape, PLAN.mechanism.dtype, Chain(home / "egress.jsonl")),
        outbox=Outbox(home / "outbox"),
    )
    hospital._cleared = ROUNDS  # the budget is not what is tested here
    left = home / "left"
    (home / "ready").touch()
    while True:
        number = len(left.read_text().splitlines()) + 1 if left.exists() else 1
        reply = hospital.respond(Request(TASK.digest, "run1", number, PROMPT))
        with left.open("a") as file:
            file.write(sha256(unpack_reply(reply, np.dtype(np.int32))) + "\n")


def wait_for(path: Path) -> None:
    give_up = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < give_up, "the hospital did not start"
        time.sleep(0.002)


def seconds_a_round(left: Path) -> float:
    wait_for(left)
    start, before = time.monotonic(), len(left.read_text().splitlines())
    while (done := len(left.read_text().splitlines()) - before) < 5:
        time.sleep(0.002)
    return (time.monotonic() - start) / done


@pytest.mark.slow
def test_killed_at_any_moment_the_ledger_is_true_and_the_run_goes_on(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CARD, card_text(backbone_folder))
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["tests.client.test_crash"])
    moments, rounds, window, first = random.Random(0), [], 0.0, 0.0
    for _ in range(1 + KILLS):
        process = start.Process(target=work, args=(tmp_path,))
        process.start()
        wait_for(tmp_path / "ready")
        if not window:  # the first is killed late: this machine's time for a round, at this load
            first = window = 3 * seconds_a_round(tmp_path / "left")
        process.join(moments.random() * window)
        assert process.exitcode is None, "the hospital stopped by itself"
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        (tmp_path / "ready").unlink()
        events = read_ledger(tmp_path / "ledger.jsonl")  # verifies the chain
        left = (tmp_path / "left").read_text().split() if (tmp_path / "left").exists() else []
        assert [event.round for event in events] == list(range(1, len(events) + 1))  # no round was charged twice
        assert [event.payload for event in events][: len(left)] == left  # everything that left was paid for
        assert len(left) <= len(events) <= len(left) + 1
        rounds.append(len(left))
        if rounds[-1] < len(rounds) // 2:  # the machine got busier since
            window = min(1.1 * window, 10 * first)
    assert rounds[-1] > KILLS // 4  # it did get on: a round and a half between two kills, by the clock
    assert sorted(rounds) == rounds
