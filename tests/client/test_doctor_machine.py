"""`promptward doctor site` on the machine itself: other processes, memory, disk, the temporary folder."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from shared import room
from simulations.loopback import World
from tests.client.test_doctor import charge, home, look, world

__all__ = ["world"]  # a fixture


def test_a_hospital_that_takes_part_already(world: World) -> None:
    """A process that has the ledger open, as the agent has it."""
    charge(world)
    opens = f"chain = Chain(Path({str(home(world) / 'ledger.jsonl')!r}))"
    code = f"from pathlib import Path; from client.chain import Chain; {opens}; print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            found = {finding.check: finding for finding in look(world)}
        finally:
            process.kill()
    assert found["one process"].state == "warning"
    assert "another promptward process has this file open" in found["one process"].said
    assert found["ledger"].state == "ok"
    assert {finding.check: finding for finding in look(world)}["one process"].state == "ok"


def test_memory_and_disk(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable: 20 kB\n")
    monkeypatch.setattr(room, "MEMORY", tmp_path / "meminfo")
    found = {finding.check: finding for finding in look(world)}
    assert found["memory"].state == "wrong"
    assert found["model"].said == "not looked at"
    (tmp_path / "meminfo").write_text("MemAvailable: 100000 kB\n")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 4096, 4096))
    found = {finding.check: finding for finding in look(world)}
    assert found["memory"].state == "warning"
    assert (found["disk"].state, found["disk"].mend[:9]) == ("wrong", "free some")


@pytest.mark.parametrize(("name", "mode", "said"), [("d" * 90, 0o700, "no socket can be made"), ("d", 0o777, "everybody can move")])
def test_the_temporary_folder(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: int, said: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name).chmod(mode)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    [found] = [finding for finding in look(world) if finding.check == "temporary folder"]
    assert said in found.said
    assert "TMPDIR" in found.mend
    assert not list((tmp_path / name).iterdir())
