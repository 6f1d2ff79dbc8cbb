"""`promptward doctor site`: whatever is broken at a hospital, a finding says it, with its mend, and every other check is made."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import promptward
from client import doctor_command
from client.chain import Chain
from client.checkup import Examined
from client.checkup_books import books_checks
from client.checkup_link import link_checks
from client.checkup_machine import machine_checks
from client.checkup_terms import terms_checks
from client.ledger import Event, Ledger
from client.outbox import Outbox
from client.site import load_site
from client.transcript import Transcript
from shared.card import Task
from shared.certificates import make_authority
from shared.findings import Check, Finding, examine, exit_code
from shared.wire import sha256
from simulations.loopback import World

DATA = '[data]\npath = "rows.csv"\nlabel = "ill"\nlabels = { y = "sick", n = "well" }\n'
TABLE = "age,pulse,ill\n" + "".join(f"{20 + row},{60 + row},{'y' if row % 2 else 'n'}\n" for row in range(40))
UPDATE = np.arange(64, dtype=np.int32).reshape(4, 16)


@pytest.fixture
def world(task: Task, tmp_path: Path) -> World:
    """North and South with keys, certificates, tables and site files; nothing is started."""
    found = World(tmp_path / "w", task)
    found.folder.mkdir()
    found.build({"North": TABLE, "South": TABLE}, DATA)
    (home(found) / "rows.csv").chmod(0o600)
    return found


def home(world: World) -> Path:
    return world.home("North")


def look(world: World) -> list[Finding]:
    """All checks but those of the installation, which do not depend on the site file."""
    it = Examined(home(world) / "site.toml", load_site(home(world) / "site.toml"))
    return examine([*books_checks(it), *terms_checks(it), *machine_checks(it), *link_checks(it)])


def edit(old: str, new: str) -> Callable[[World], object]:
    def change(world: World) -> None:
        path = home(world) / "site.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def edit_card(*changes: tuple[str, str]) -> Callable[[World], object]:
    """Change the card, and agree to it."""

    def change(world: World) -> None:
        text = world.card.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        world.card.write_text(text)
        edit(world.task.digest, Task.load(str(world.card)).digest)(world)

    return change


def read_so(max_tokens: int, template: str = "", words: str = "") -> Callable[[World], object]:
    """Let the model read fewer tokens, with more keys in the template, of records that begin with more words."""
    longer = ('[template]\ntext = "', f'[template]\n{template}\ntext = "{words}')
    return edit_card(("max_tokens = 28", f"max_tokens = {max_tokens}"), longer)


WINDOWS = "windows = 2\noverlap = 1"


def write(name: str, text: str) -> Callable[[World], object]:
    return lambda world: (home(world) / name).write_text(text)


def without(name: str) -> Callable[[World], object]:
    return lambda world: (home(world) / name).unlink()


def charge(world: World, round_: int = 1) -> None:
    """Charge a round for `UPDATE`, as a run before would have left it."""
    ledger = Ledger(Chain(home(world) / "ledger.jsonl"))
    ledger.charge(Event(world.task.digest, "run1", round_, "", sha256(UPDATE), 1, 0.5, 3.0, 1.0, 0.001, 2))
    ledger.close()
    Outbox(home(world) / "ledger.outbox").keep("run1", round_, UPDATE)


def changed_ledger(world: World) -> None:
    charge(world)
    path = home(world) / "ledger.jsonl"
    path.write_text(path.read_text().replace('"releases": 1', '"releases": 0'))


def torn_ledger(world: World) -> None:
    charge(world)
    with (home(world) / "ledger.jsonl").open("a") as file:
        file.write('{"body"')


def unpaid_egress(world: World) -> None:
    charge(world)
    chain = Chain(home(world) / "ledger.egress.jsonl")
    chain.append({"sha256": "f" * 64})
    chain.close()


def unpaid_transcript(world: World) -> None:
    charge(world)
    transcript = Transcript(Chain(home(world) / "ledger.transcript.jsonl"))
    transcript.sent("PushObject", b"", {}, "f" * 64)
    transcript.close()


def changed_transcript(world: World) -> None:
    charge(world)
    path = home(world) / "ledger.transcript.jsonl"
    transcript = Transcript(Chain(path))
    transcript.refused("PushObject", "no")
    transcript.close()
    path.write_text(path.read_text().replace("no", "yes"))


def lost_outbox(world: World) -> None:
    charge(world)
    shutil.rmtree(home(world) / "ledger.outbox")


def open_to_others(name: str) -> Callable[[World], object]:
    def change(world: World) -> None:
        charge(world)
        (home(world) / name).chmod(0o644)

    return change


def authority(days_ago: int) -> Callable[[World], object]:
    """Put an authority into place that was made so many days ago and lasts for 3650."""

    def change(world: World) -> None:
        (world.keys / "ca.crt").write_bytes(make_authority(datetime.now(UTC) - timedelta(days=days_ago)).certificate_pem)

    return change


def from_the_future(world: World) -> None:
    later = datetime.now(UTC).timestamp() + 3600
    os.utime(home(world) / "site.toml", (later, later))


BROKEN: dict[str, tuple[Callable[[World], object], str, str, str]] = {
    "no card": (lambda world: world.card.unlink(), "card", "there is no such file", "check the path"),
    "another card": (
        lambda world: world.card.write_text(world.task.text + "\n# a word more"),
        "agreement",
        "is not among [policy] tasks",
        "read the card",
    ),
    "not on the roster": (edit('site = "North"', 'site = "West"'), "roster", "'West' is not on the card's roster", "exactly"),
    "no table": (without("rows.csv"), "data file", "there is no such file", "check [data] path"),
    "another kind of table": (edit("rows.csv", "rows.xls"), "data file", "files ending in '.xls' are not read", "use .csv"),
    "an empty table": (write("rows.csv", "age,pulse,ill\n"), "data file", "has no rows", "at least one patient"),
    "an open table": (lambda world: (home(world) / "rows.csv").chmod(0o644), "data file", "others on this machine", "chmod 600"),
    "a column": (write("rows.csv", TABLE.replace("pulse", "beat")), "mapping", "column 'pulse' is missing", "the table has"),
    "a label": (write("rows.csv", TABLE + "30,70,perhaps\n"), "mapping", "row 41", ""),
    "a cell": (write("rows.csv", TABLE + "old,70,y\n"), "mapping", "row 41", ""),
    "a label never": (edit('n = "well"', 'n = "sick"'), "mapping", "no training record has the label well", "compare"),
    "a split": (edit('label = "ill"', 'label = "ill"\nsplit = "age"'), "mapping", "column 'age' says", "write train or test"),
    "few patients": (edit("least_patients = 1", "least_patients = 41"), "patients", "40 training patients are fewer", "too small"),
    "little noise": (edit("least_patients = 1", "least_noise = 9"), "policy", "noise multiplier 3 is under", "another card"),
    "many rounds": (edit("least_patients = 1", "most_rounds = 5"), "policy", "rounds 6 is over", "another card"),
    "no budget": (edit("epsilon = 50.0", "epsilon = 1.0"), "budget", "2 of 6 rounds are affordable", "fewer rounds or more noise"),
    "no task budget": (edit("least_patients = 1", "task_epsilon = 1.0"), "budget", "task_epsilon is 1", "fewer rounds"),
    "no model": (edit_card(("folder:", "folder:/nowhere")), "model files", "has no config.json", "name the folder"),
    "another model": (
        edit_card(('fingerprint = "', 'fingerprint = "' + "0" * 64 + '"\n#')),
        "model files",
        "the card pins 000",
        "",
    ),
    "no GPU": (edit("schema = 1", 'schema = 1\ndevice = "cuda:99"'), "device", "device 'cuda:99'", "cpu"),
    "long records": (read_so(5), "texts", "40 of 40 training records have more", "windows"),
    "longer records": (
        read_so(5, WINDOWS, "a sick well "),
        "texts",
        "40 of them need more than [template] windows 2 (3 at most)",
        "more windows",
    ),
    "a changed ledger": (changed_ledger, "ledger", "the chain breaks at line 1", "changed after it was written"),
    "a torn ledger": (torn_ledger, "ledger", "the last line is not whole", "nothing to do"),
    "a ledger that is none": (write("ledger.jsonl", "hello\n"), "ledger", "line 1 cannot be read", "restore"),
    "an open ledger": (open_to_others("ledger.jsonl"), "ledger", "others on this machine", "chmod 600"),
    "an unpaid egress": (unpaid_egress, "egress log", "that is not on", "newest copy of the ledger"),
    "an unpaid transcript": (unpaid_transcript, "transcript", "that is not on", "newest copy of the ledger"),
    "a changed transcript": (changed_transcript, "transcript", "the chain breaks at line 1", ""),
    "a lost outbox": (lost_outbox, "outbox", "round 1 is not here", "put the folder back"),
    "a folder that is a file": (
        edit('"ledger.jsonl"', '"rows.csv/ledger.jsonl"'),
        "disk",
        "nothing can be written",
        "give the folder",
    ),
    "an open key": (lambda world: (home(world) / "North.key").chmod(0o640), "key", "others on this machine can read", "chmod 600"),
    "the public key": (edit("North.key", "North.pub"), "key", "others on this machine can read", "chmod"),
    "no key": (without("North.key"), "key", "there is no such file", "check the path"),
    "an ended CA": (authority(3700), "CA certificate", "this ended on", "makes a new federation"),
    "a CA about to end": (authority(3640), "CA certificate", "ends in 9 days", "next federation"),
    "a server's certificate": (edit("ca.crt", "server.crt"), "CA certificate", "not the CA's", "name ca.crt"),
    "no CA": (lambda world: (world.keys / "ca.crt").unlink(), "CA certificate", "there is no such file", "check the path"),
    "nobody listens": (lambda world: None, "network", "Connection refused", "promptward serve"),
    "no such name": (edit("127.0.0.1:", "hub.invalid:"), "network", "nobody knows this name", "DNS"),
    "a clock behind": (from_the_future, "clock", "and the site file", "NTP"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said_and_all_else_is_looked_at(world: World, name: str) -> None:
    change, check, said, mend = BROKEN[name]
    sound = {finding.check for finding in look(world)}
    change(world)
    before = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    found = look(world)
    hits = [f for f in found if f.check == check and f.state != "ok" and said in f.said and mend in f.mend]
    assert hits, "\n".join(map(str, found))
    assert {finding.check for finding in found} >= sound  # no check is lost because of another
    assert not [f for f in found if "the check itself failed" in f.said]
    assert before == {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}


def test_a_whole_hospital_has_no_wrong_but_the_coordinator_that_is_not_there(world: World) -> None:
    wrong = [finding.check for finding in look(world) if finding.state == "wrong"]
    assert wrong == ["network"]


def test_counts_of_patients_are_marked(world: World) -> None:
    counting = [finding for finding in look(world) if "40" in finding.said.replace("140", "")]
    assert [f.check for f in counting if f.private] == ["data file", "mapping", "patients", "texts"]


def test_records_that_windows_hold_whole_are_well(world: World) -> None:
    read_so(5, WINDOWS)(world)
    [found] = [finding for finding in look(world) if finding.check == "texts"]
    assert (found.state, found.private) == ("ok", True)
    assert "40 of 40 training records have more than [backbone] max_tokens 5 and are read in windows, 2 at most" in found.said


def test_the_command_says_everything_and_ends_with_one(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    file = str(home(world) / "site.toml")
    assert promptward.main(["doctor", "site", file, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["fit"]
    assert [finding["check"] for finding in told["findings"] if finding["state"] == "wrong"] == ["network"]
    checks = {finding["check"] for finding in told["findings"]}
    assert checks >= {"packages", "our packages", "app bundle", "ledger", "budget", "model", "disk", "key", "network"}
    assert promptward.main(["doctor", "site", file]) == 1
    shown = capsys.readouterr().out
    assert "Counts of patients stay on this screen" in shown
    assert "Nothing was changed here or at the other end." in shown
    assert "-> have the coordinator start promptward serve" in shown


@pytest.mark.parametrize(("change", "said"), [("", "there is no such file"), ("colour = 1\n", "key 'colour' is not known")])
def test_no_site_file_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, said: str) -> None:
    if change:
        (tmp_path / "site.toml").write_text(change)
    assert promptward.main(["doctor", "site", str(tmp_path / "site.toml")]) == 2
    assert said in capsys.readouterr().err


def test_a_site_file_without_a_federation_is_examined_all_the_same(world: World) -> None:
    path = home(world) / "site.toml"
    path.write_text(path.read_text().split("[federation]")[0])
    found = {finding.check: finding for finding in look(world)}
    assert "[federation] is missing" in found["federation"].said
    assert found["data file"].state == "ok"


def test_a_check_that_fails_itself_hides_nothing() -> None:
    def broken() -> list[Finding]:
        raise ZeroDivisionError("x")

    found = examine([Check("a", broken), Check("b", lambda: [Finding("b", "ok", "")]), Check("c", broken, needs=("a",))])
    assert [(f.check, f.state) for f in found] == [("a", "wrong"), ("b", "ok"), ("c", "warning")]
    assert exit_code(found) == 1
    assert asdict(found[1])["private"] is False
    assert doctor_command.site_checks
