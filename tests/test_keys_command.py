"""`promptward keys` as people use it: from the coordinator's first command to a site file that the hospital's code loads."""

import hashlib
import json
import stat
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import promptward
from client.site import PolicyTable, load_site
from server.roster import admitted
from shared.card import Task
from shared.keys import read_public_key, read_site_key
from shared.privacy.planned import epsilon_of_plan
from tests.conftest import card_text

ODD = ["VA Long Beach", "Köln", 'St. "Mary" #1\'s', "-x"]


@pytest.fixture
def card(tmp_path: Path, backbone_folder: Path) -> Path:
    """A card with awkward names: everything that could break TOML, a shell, or a file system."""
    text = card_text(backbone_folder).replace('sites = ["North", "South"]', f"sites = {json.dumps(ODD, ensure_ascii=False)}")
    text = text.replace('"A tiny task"', r'"A tiny task\nsite = 1"').replace('name = "well"', r'name = "w\"el l"')
    path = tmp_path / "card.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def coordinator(tmp_path: Path) -> Path:
    assert keys("coordinator", tmp_path / "c", "--host", "hub.example.org") == 0
    return tmp_path / "c"


def keys(*words: object) -> int:
    return promptward.main(["keys", *map(str, words)])


def said(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    assert keys(words[0], "--json", *words[1:]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert keys(*words) == 2
    return capsys.readouterr().err


def test_from_invitation_to_admission(tmp_path: Path, card: Path, coordinator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    invited = said(capsys, "invite", card, coordinator, "--address", "hub.example.org:9092", "--out", tmp_path / "out")
    task = Task.load(str(card))
    assert invited["task_digest"] == task.digest
    assert invited["authority_fingerprint"] == said(capsys, "show", coordinator / "ca.crt")["fingerprint"]
    for name in ODD:
        folder = Path(invited["sites"][name])
        assert hashlib.sha256((folder / "task.toml").read_bytes()).hexdigest() == task.digest
        assert (folder / "ca.crt").read_bytes() == (coordinator / "ca.crt").read_bytes()
        made = said(capsys, "site", "--out", folder, "--", name)
        site = load_site(folder / "site.toml")
        assert site.site == name
        assert site.federation is not None
        assert read_site_key(site.federation.key).public == read_public_key(Path(made["public_key"]))
        assert Task.load(site.federation.task).digest == task.digest
        added = said(capsys, "admit", coordinator, made["public_key"], f"--name={name}", "--task", card)
        assert added == {"site": name, "fingerprint": made["fingerprint"], "new": True}

    assert set(admitted(coordinator)) == set(ODD)


def test_the_archive_holds_the_folder_and_no_secret(
    tmp_path: Path, card: Path, coordinator: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    said(capsys, "invite", card, coordinator, "--address", "hub.example.org:9092", "--out", out)
    assert len(list(out.glob("*.zip"))) == len(ODD)
    with zipfile.ZipFile(out / "VA_Long_Beach.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    names = ("README.txt", "ca.crt", "site.toml", "task.toml")
    assert files == {f"VA_Long_Beach/{name}": (out / "VA_Long_Beach" / name).read_bytes() for name in names}
    assert not any(b"PRIVATE KEY" in content for content in files.values())
    assert b"promptward keys site -- -x\n" in (out / "%2Dx" / "README.txt").read_bytes()
    assert b"promptward keys site 'VA Long Beach'" in files["VA_Long_Beach/README.txt"]


def test_the_site_file_suggests_what_the_plan_needs_and_knows_the_cards_fields(
    tmp_path: Path, card: Path, coordinator: Path
) -> None:
    assert keys("invite", card, coordinator, "--address", "hub.example.org:9092", "--out", tmp_path / "out") == 0
    path = tmp_path / "out" / "VA_Long_Beach" / "site.toml"
    site, planned = load_site(path), epsilon_of_plan(Task.load(str(card)).card)
    assert planned < site.policy.epsilon < planned * 1.01 + 0.02
    assert site.data.labels == {'w"el l': 'w"el l', "sick": "sick"}
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('# age = "age"', 'age = "age_at_visit"').replace("# patient =", "patient ="), encoding="utf-8")
    assert load_site(path).data.columns == {"age": "age_at_visit"}
    assert load_site(path).data.patient == "patient_id"


def test_the_limits_in_the_site_files_comments_are_those_that_hold(tmp_path: Path, card: Path, coordinator: Path) -> None:
    assert keys("invite", card, coordinator, "--address", "hub.example.org:9092", "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "VA_Long_Beach" / "site.toml").read_text(encoding="utf-8")
    limits = ("least_", "most_")
    told = tomllib.loads(
        "\n".join(line[2:] for line in text.splitlines() if line.startswith(tuple(f"# {limit}" for limit in limits)))
    )
    assert told == {name: field.default for name, field in PolicyTable.model_fields.items() if name.startswith(limits)}


def test_a_trial_is_complete_and_says_what_it_is(tmp_path: Path, card: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = said(capsys, "trial", card, tmp_path / "t", "--address", "localhost:9999")
    assert trial["trial"] is True
    for name in ODD:
        site = load_site(Path(trial["sites"][name]) / "site.toml")
        assert site.federation is not None
        assert site.federation.address == "localhost:9999"
        assert admitted(Path(trial["coordinator"]))[name] == read_site_key(site.federation.key).public
    assert (tmp_path / "t" / "README.txt").read_text().startswith("FOR TRIALS ON THIS MACHINE ONLY")
    private = [path for path in (tmp_path / "t").rglob("*.key") if stat.S_IMODE(path.stat().st_mode) != 0o600]
    assert private == []
    assert "FOR TRIALS" in (keys("trial", card, tmp_path / "again"), capsys.readouterr().out)[1]


def test_what_files_are(tmp_path: Path, coordinator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = said(capsys, "site", "North", "--out", tmp_path)
    shown = {name: said(capsys, "show", tmp_path / name) for name in ("North.key", "North.pub", "c/server.key", "c/server.crt")}
    assert shown["North.key"]["fingerprint"] == shown["North.pub"]["fingerprint"] == made["fingerprint"]
    assert shown["c/server.crt"]["names"][0] == "hub.example.org"
    assert shown["c/server.crt"]["days_left"] == 364
    assert [shown[name]["kind"].split(";")[0] for name in shown] == [
        "private key of a hospital",
        "public key of a hospital",
        "private key of a certificate",
        "certificate of a server",
    ]
    (tmp_path / "text").write_text("hello")
    assert "neither a certificate nor a key" in refused(capsys, "show", tmp_path / "text")
    assert keys("show", tmp_path / "North.pub") == 0
    assert f"fingerprint: {made['fingerprint']}" in capsys.readouterr().out


def test_nothing_is_overwritten(tmp_path: Path, card: Path, coordinator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert keys("site", "North", "--out", tmp_path) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "there already" in refused(capsys, "coordinator", coordinator, "--host", "x.org")
    assert "not overwritten" in refused(capsys, "site", "North", "--out", tmp_path)
    assert "there already" in refused(capsys, "trial", card, coordinator)
    assert "there already" in refused(capsys, "invite", card, coordinator, "--address", "localhost:1", "--out", coordinator)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_renewal_by_command(coordinator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = (coordinator / "ca.crt").read_bytes()
    renewed = said(capsys, "coordinator", coordinator, "--renew", "--days", "10", "--host", "new.example.org")
    assert renewed["server"]["days_left"] == 9
    assert renewed["server"]["names"][0] == "new.example.org"
    assert (coordinator / "ca.crt").read_bytes() == authority


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("coordinator {here}/new", "--host is missing"),
        ("coordinator {here}/new --host a:1", "host 'a:1': give a DNS name"),
        ("coordinator {here}/new --host a --days 0", "--days 0: give a number between 1 and"),
        ("coordinator {here}/new --renew", "this is no coordinator's folder"),
        ("site a/b --out {here}", "site name 'a/b': give 1 to 64 characters"),
        ("site North --out {here}/card.toml", "cannot be made"),
        ("admit {here}/c {here}/gone.pub --name North", "gone.pub: there is no such file"),
        ("admit {here}/c {here}/c/ca.key --name North", "this is a private key, which must never leave its hospital"),
        ("admit {here}/c {here}/gone.pub --name North --task {here}/card.toml", "site 'North' is not on the roster of task tiny"),
        ("invite {here}/card.toml {here}/c --address hub.example.org --out {here}/new", "give HOST:PORT"),
        ("invite {here}/card.toml {here}/c --address a.org:1 --out {here}/new", "not for 'a.org'; give one of them, or --renew it"),
        ("invite {here}/card.toml {here}/gone --address localhost:1 --out {here}/new", "ca.crt: there is no such file"),
        ("invite nothing {here}/c --address localhost:1 --out {here}/new", "no shipped card"),
        ("trial {here}/card.toml {here}/new --address 10.0.0.5:1", "a trial is for this machine alone"),
        ("trial {here}/card.toml {here}/new --address a.org:1", "a trial is for this machine alone"),
    ],
)
def test_a_wrong_input_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, card: Path, coordinator: Path, capsys: pytest.CaptureFixture[str], words: str, sentence: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    error = refused(capsys, *(word.format(here=tmp_path) for word in words.split()))
    assert sentence in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_site_that_is_called_as_a_folder_of_the_trial(tmp_path: Path, card: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card.write_text(card.read_text(encoding="utf-8").replace("Köln", "coordinator"), encoding="utf-8")
    assert "is called 'coordinator'" in refused(capsys, "trial", card, tmp_path / "t")
