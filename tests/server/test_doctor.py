"""`promptward doctor coordinator`: whatever is broken at a coordinator, a finding says it, with its mend."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import promptward
from server.checkup import Examined, coordinator_checks, quorum_findings
from server.credentials import Credentials, fill_folder
from server.deployment import Deployment, facts_of
from server.patience import Patience
from server.roster import admit
from shared.card import Task
from shared.certificates import make_authority
from shared.files import write_json
from shared.findings import Finding, examine
from shared.keys import make_site_key
from shared.processes import free_port


@pytest.fixture
def it(task: Task, tmp_path: Path) -> Examined:
    """A coordinator with everything in place."""
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    fill_folder(keys, ("127.0.0.1", "hub.example.org"), 365, datetime.now(UTC))
    for name in task.card.plan.sites:
        admit(keys, name, make_site_key().public)
    return Examined(task, Credentials(keys), f"127.0.0.1:{free_port()}", tmp_path / "run")


def look(it: Examined) -> list[Finding]:
    return examine(coordinator_checks(it))


def same_key(it: Examined) -> None:
    shutil.copy(it.keys.folder / "sites/North.pub", it.keys.folder / "sites/South.pub")


def soon_over(it: Examined) -> None:
    shutil.rmtree(it.keys.folder)
    it.keys.folder.mkdir(mode=0o700)
    fill_folder(it.keys.folder, ("127.0.0.1",), 10, datetime.now(UTC))
    for name in it.task.card.plan.sites:
        admit(it.keys.folder, name, make_site_key().public)


def ended(it: Examined) -> None:
    shutil.rmtree(it.keys.folder)
    it.keys.folder.mkdir(mode=0o700)
    fill_folder(it.keys.folder, ("127.0.0.1",), 10, datetime.now(UTC) - timedelta(days=20))
    (it.keys.folder / "sites" / "x").touch()


def other_authority(it: Examined) -> None:
    it.keys.authority.write_bytes(make_authority(datetime.now(UTC)).certificate_pem)


def other_run(it: Examined) -> None:
    it.out.mkdir()
    there = Deployment(it.out)
    write_json(there.facts, facts_of("run1", {}, Patience()))
    there.card.write_text("another card")


def key_from_the_future(it: Examined) -> None:
    later = datetime.now(UTC).timestamp() + 3600
    os.utime(it.keys.folder / "sites/North.pub", (later, later))


BROKEN: dict[str, tuple[Callable[[Examined], object], str, str, str]] = {
    "another authority": (other_authority, "keys", "this was not issued by", "put back"),
    "an open key": (lambda it: it.keys.key.chmod(0o644), "keys", "others on this machine can read", "chmod 600"),
    "an open folder": (lambda it: it.keys.folder.chmod(0o755), "keys", "others can enter this folder", "chmod 700"),
    "no server key": (lambda it: it.keys.key.unlink(), "keys", "there is no such file", "check the path"),
    "a certificate about to end": (soon_over, "certificate", "server.crt: ends in 9 days", "--renew"),
    "an ended certificate": (ended, "certificate", "this ended on", "--renew"),
    "a hospital without a key": (
        lambda it: (it.keys.folder / "sites/South.pub").unlink(),
        "roster",
        "South: no public key",
        "admit",
    ),
    "a key that is none": (
        lambda it: (it.keys.folder / "sites/South.pub").write_text("hello"),
        "roster",
        "is no public key",
        ".pub",
    ),
    "one key twice": (same_key, "roster", "North and South have the same key", "a key of its own"),
    "a stranger": (
        lambda it: admit(it.keys.folder, "West", make_site_key().public),
        "roster",
        "not on this card's roster",
        "misspelt",
    ),
    "no roster": (lambda it: shutil.rmtree(it.keys.folder / "sites"), "roster", "there is no such folder", "keys coordinator"),
    "another run": (other_run, "run directory", "this run is of another task card", "another folder"),
    "a file": (lambda it: it.out.touch(), "run directory", "this is a file", "name a folder"),
    "a clock behind": (key_from_the_future, "clock", "and the key North.pub says", "NTP"),
    "everyone must come": (lambda it: None, "quorum", "one that is away ends the run", "quorum"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said_and_all_else_is_looked_at(it: Examined, name: str) -> None:
    change, check, said, mend = BROKEN[name]
    sound = {finding.check for finding in look(it)}
    change(it)
    found = look(it)
    assert [f for f in found if f.check == check and f.state != "ok" and said in f.said and mend in f.mend], "\n".join(
        map(str, found)
    )
    assert {finding.check for finding in found} >= sound
    assert not [f for f in found if "the check itself failed" in f.said]


def test_a_whole_coordinator_has_no_wrong(it: Examined) -> None:
    found = look(it)
    assert [finding for finding in found if finding.state == "wrong"] == []
    assert not it.out.exists()


def at(it: Examined, address: str) -> list[Finding]:
    return look(Examined(it.task, it.keys, address, it.out))


def test_the_address(it: Examined) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = at(it, f"127.0.0.1:{taken.getsockname()[1]}")
    assert any(f.check == "address" and "Address already in use" in f.said and "running already" in f.mend for f in found)
    found = at(it, "192.0.2.1:9092")  # a documentation address, which no machine has
    assert any(f.check == "address" and f.state == "wrong" and "an address of this machine" in f.mend for f in found)
    assert any(f.check == "certificate" and "and not for 192.0.2.1" in f.said and "--host 192.0.2.1" in f.mend for f in found)
    found = at(it, f"0.0.0.0:{free_port()}")
    assert any("hospitals can call hub.example.org" in finding.said for finding in found)


@pytest.mark.parametrize(
    ("sites", "quorum", "said"), [(1, 1, "nothing to federate"), (4, 4, "ends the run"), (4, 2, "less than half")]
)
def test_a_quorum_to_think_about(sites: int, quorum: int, said: str) -> None:
    [finding] = quorum_findings(sites, quorum)
    assert finding.state == "warning"
    assert said in finding.said


def test_a_sensible_quorum() -> None:
    assert [finding.state for finding in quorum_findings(4, 3)] == ["ok"]


def test_a_run_to_go_on_with_is_named(it: Examined) -> None:
    it.out.mkdir()
    there = Deployment(it.out)
    write_json(there.facts, facts_of("run1", {}, Patience()))
    there.card.write_text(it.task.text)
    assert any("goes on after round 0" in finding.said for finding in look(it))


def test_a_weak_guarantee_is_a_warning(it: Examined, task: Task) -> None:
    weak = Task.parse(task.text.replace("noise_multiplier = 3.0", "noise_multiplier = 0.6"), "card")
    found = look(Examined(weak, it.keys, it.address, it.out))
    assert any(f.check == "privacy" and f.state == "warning" and "protects little" in f.said for f in found)


def test_the_command(it: Examined, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    card = tmp_path / "card.toml"
    card.write_text(it.task.text)
    words = ["doctor", "coordinator", str(card), "--keys", str(it.keys.folder), "--address", it.address, "--out", str(it.out)]
    assert promptward.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fit"]
    assert {finding["check"] for finding in told["findings"]} >= {"packages", "app bundle", "roster", "address", "model"}
    (it.keys.folder / "sites/North.pub").unlink()
    assert promptward.main(words) == 1
    assert "promptward keys admit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.toml", "--keys", "."], "there is no such file"),
        (["heart-disease", "--keys", "nowhere"], "there is no such folder"),
        (["heart-disease", "--keys", ".", "--address", "here"], "HOST:PORT"),
    ],
)
def test_unusable_input(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert promptward.main(["doctor", "coordinator", *words]) == 2
    assert said in capsys.readouterr().err
