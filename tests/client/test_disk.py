"""Two processes at once, a full disk, a torn line: with real processes, a real small disk and real limits."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import promptward
from client.chain import Chain, is_torn, read_chain
from client.ledger import read_ledger
from shared.errors import RunError
from shared.wire import Request
from tests.client.conftest import Open

HOLD = "import sys, time, pathlib, client.chain as c; c.Chain(pathlib.Path(sys.argv[1])); print('open', flush=True); time.sleep(60)"
Ask = Callable[..., Request]


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the chain open."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with holder(path) as other:
        with pytest.raises(RunError, match=rf"ledger.jsonl: another promptward process \(pid {other.pid}\) has this file open"):
            Chain(path)
        (tmp_path / "alias.jsonl").symlink_to(path)
        with pytest.raises(RunError, match="another promptward process"):
            Chain(tmp_path / "alias.jsonl")
        path.write_text("")  # a copy put in its place does not unlock it
        with pytest.raises(RunError, match="another promptward process"):
            Chain(path)
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        with closing(Chain(path)) as chain:
            assert chain.append({}).number == 1


def test_in_one_process_a_chain_is_open_once(tmp_path: Path) -> None:
    with closing(Chain(tmp_path / "ledger.jsonl")) as chain:
        with pytest.raises(RunError, match=rf"pid {os.getpid()}"):
            Chain(tmp_path / "ledger.jsonl")
        chain.append({})  # the refused one took nothing away
    with pytest.raises(RunError, match="has closed the file"):
        chain.append({})


def test_a_forked_child_can_neither_write_nor_unlock(tmp_path: Path) -> None:
    with closing(Chain(tmp_path / "ledger.jsonl")) as chain:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                chain.append({"from": "the child"})
            except RunError:
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with pytest.raises(RunError, match="another promptward process"):
            Chain(tmp_path / "ledger.jsonl")
        assert chain.append({}).number == 1


def test_where_locks_do_not_work_the_size_tells(tmp_path: Path) -> None:
    with closing(Chain(tmp_path / "ledger.jsonl")) as chain:
        chain.append({})
        with chain.path.open("a") as file:
            file.write("a line of another process\n")
        with pytest.raises(RunError, match="another process writes to this file"):
            chain.append({})


def test_simulated_sites_hold_no_lock(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    chains = [Chain(tmp_path / f"{n}.jsonl", durable=False) for n in range(50)]
    for chain in chains:
        chain.append({})
    assert len(os.listdir("/dev/fd")) == before
    assert not list(tmp_path.glob("*.lock"))


def test_the_ledger_can_be_read_while_a_hospital_writes(
    open_hospital: Open, ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_hospital().respond(ask())
    path = tmp_path / "ledger.jsonl"
    with path.open("ab") as file:
        file.write(b'{"number": 2, "body": {"\xc3')  # the hospital is in the middle of a line
    for action in ("show", "statement", "verify"):
        assert promptward.main(["ledger", action, str(path)]) == 0
    assert "The chain is whole: 1 events. A line after them is being written" in " ".join(capsys.readouterr().out.split())
    assert is_torn(path)  # readers change nothing


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False)  # noqa: S607
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)  # noqa: S607


@contextmanager
def no_room(disk: Path) -> Iterator[None]:
    """Fill the disk to the last byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    yield
    ballast.unlink()


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Let the system take that many bytes of a file and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_on_a_full_disk_nothing_leaves_and_with_room_the_run_goes_on(small_disk: Path, open_hospital: Open, ask: Ask) -> None:
    hospital = open_hospital(home=small_disk)
    hospital.respond(ask(1))
    with no_room(small_disk):
        for _ in range(2):
            with pytest.raises(RunError, match=r"outbox/run1-2.npy: the payload could not be written .*; free disk space"):
                hospital.respond(ask(2))
        with (
            closing(Chain(small_disk / "x.jsonl")) as chain,
            pytest.raises(RunError, match=r"x.jsonl: a line could not be written .*; free disk space and start again"),
        ):
            chain.append({})
    hospital.respond(ask(2))
    assert [event.round for event in read_ledger(small_disk / "ledger.jsonl")] == [1, 2]
    assert [entry.body["round"] for entry in read_chain(small_disk / "egress.jsonl")] == [1, 2]
    open_hospital(home=small_disk).respond(ask(3))


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_line_that_the_disk_takes_in_part_is_cut_off_again(room: int, open_hospital: Open, ask: Ask, tmp_path: Path) -> None:
    """The payload fits, the ledger's line does not: nothing leaves, and the same process goes on when there is room."""
    hospital, ledger = open_hospital(), tmp_path / "ledger.jsonl"
    for round_ in (1, 2):
        hospital.respond(ask(round_))
    whole, left = ledger.read_bytes(), (tmp_path / "egress.jsonl").read_bytes()
    with no_file_longer_than(len(whole) + room), pytest.raises(RunError, match=r"ledger\.jsonl: a line could not be written"):
        hospital.respond(ask(3))
    assert ledger.read_bytes() == whole
    assert (tmp_path / "egress.jsonl").read_bytes() == left
    hospital.respond(ask(3))
    assert [event.round for event in read_ledger(ledger)] == [1, 2, 3]
