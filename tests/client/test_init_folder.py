"""`promptward init FOLDER`: folders of images and of texts become a card, a site file and a study file that train."""

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import promptward
from client.cohorts import cohort_of
from client.records import read_rows
from client.site import load_site
from shared.card import Task
from tests.pictures import write_dicom, write_manifest, write_png
from tests.vit import write_vit

Capture = pytest.CaptureFixture[str]
PICTURES = np.random.default_rng(1).integers(0, 256, (60, 8, 8)).astype(np.uint8)
RULE = "([^_]+)_"


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{write_vit(tmp_path_factory.mktemp('vit'))}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty pictures of thirty patients in a folder for each label: the sick are bright."""
    for number, picture in enumerate(PICTURES):
        patient = number // 2
        label = ("well", "sick")[patient % 2]
        write_png(tmp_path / f"scans/{label}/p{patient}_{number % 2}.png", picture // 2 + 127 * (patient % 2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(capsys: Capture, *words: str, code: int = 0) -> Any:
    fixed = ["--name", "tiny-scans", "--sites", "North,South", "--expect", "20", "--json"]
    assert promptward.main(["init", *words, *fixed]) == code
    out = capsys.readouterr()
    return json.loads(out.out) if code == 0 else out.err


@pytest.mark.slow
def test_folders_of_labels_become_a_manifest_that_trains(home: Path, vit: str, capsys: Capture) -> None:
    found = init(capsys, "scans", "--backbone", vit, "--patient-rule", RULE)
    assert found["written"] == ["task.toml", "site.toml", "study.toml", "manifest.csv"]
    assert f"'{RULE}' finds the patient in a file's name: 30 patients of 60 files." in found["assumed"]
    assert any("mean and std are 0.5: the model's folder does not say" in sentence for sentence in found["assumed"])
    assert stat.S_IMODE((home / "manifest.csv").stat().st_mode) == 0o600
    task, site = Task.load("task.toml"), load_site(Path("site.toml"))
    assert (task.card.picture.size, task.card.picture.channels, task.card.privacy.max_records) == (8, 1, 4)
    cohort = cohort_of(site.data, read_rows(site.data.path), task.card)
    assert (cohort.size, len(cohort.labels)) == (30, 60)
    assert site.policy.tasks == (task.digest,)
    card = (home / "task.toml").read_text()  # what its user edits: a noise that is given costs no search for one
    card = card.replace("rounds = 34", "rounds = 2").replace("epsilon = 3.0", "noise_multiplier = 3.0")
    (home / "task.toml").write_text(card)
    words = ["simulate", "task.toml", "--data", "study.toml", "--partition", "iid", "--out", "run"]
    assert promptward.main(words) == 0
    found = json.loads((home / "run/result.json").read_text())
    assert sum(each["n_test"] for each in found["metrics"]["per_site"].values()) == 20  # two pictures of each of ten patients
    capsys.readouterr()
    assert promptward.main(["predict", "run/prompt", "scans/well", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 30


def test_a_manifest_is_used_where_it_lies(home: Path, vit: str, capsys: Capture) -> None:
    rows = [(f"{'sick' if n % 2 else 'well'}/p{n}_0.png", f"x{n}", str(n % 2), "test" if n > 20 else "train") for n in range(30)]
    write_manifest(home / "scans/list.csv", ["name", "who", "dx", "part"], rows)
    words = ["scans", "--backbone", vit, "--file-column", "name", "--label", "dx", "--patient", "who", "--split", "part"]
    found = init(capsys, *words)
    assert found["assumed"][0] == "list.csv: column 'who' names the patient."
    assert not (home / "manifest.csv").exists()
    site = load_site(Path("site.toml"))
    assert cohort_of(site.data, read_rows(site.data.path), Task.load("task.toml").card, "test").size == 9


def test_dicom_names_its_patients(home: Path, vit: str, capsys: Capture) -> None:
    for number in range(6):
        write_dicom(home / f"films/{('no', 'yes')[number % 2]}/IM{number}", PICTURES[number], patient=f"P{number // 2}")
    found = init(capsys, "films", "--backbone", vit)
    assert "DICOM's PatientID names the patient: 3 patients of 6 files." in found["assumed"]
    assert sorted(pd.read_csv("manifest.csv")["patient"]) == ["P0", "P0", "P1", "P1", "P2", "P2"]


def test_train_and_test_folders_are_the_split(home: Path, vit: str, capsys: Capture) -> None:
    for number in range(8):
        write_png(home / f"parts/{('train', 'test')[number % 2]}/{('a', 'b')[number // 4]}/{number}.png", PICTURES[number])
    init(capsys, "parts", "--backbone", vit, "--patient-rule", "file")
    site = load_site(Path("site.toml"))
    assert (site.data.split, set(site.data.labels)) == ("split", {"a", "b"})
    assert cohort_of(site.data, read_rows(site.data.path), Task.load("task.toml").card, "test").size == 4


def test_the_models_own_scale_is_taken(home: Path, capsys: Capture, tmp_path: Path) -> None:
    model = write_vit(tmp_path / "own")
    (model / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.25], "image_std": [0.125]}))
    init(capsys, "scans", "--backbone", f"folder:{model}", "--patient-rule", "file")
    picture = Task.load("task.toml").card.picture
    assert (picture.mean, picture.std) == ((0.25,), (0.125,))


def texts(home: Path) -> None:
    for number in range(24):
        label = ("well", "sick")[number % 2]
        path = home / f"notes/{label}/p{number // 2}_{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'age {"high" if number % 2 else "low"}\npulse, "fast" the')


def test_texts_become_a_table_that_records_reads(home: Path, backbone_folder: Path, capsys: Capture) -> None:
    texts(home)
    words = ["notes", "--backbone", f"folder:{backbone_folder}", "--patient-rule", RULE]
    found = init(capsys, *words, "--label-text", "sick=age high", "--label-text", "well=age low")
    assert found["written"][-1] == "notes.csv"
    assert stat.S_IMODE((home / "notes.csv").stat().st_mode) == 0o600
    card = (home / "task.toml").read_text()
    assert "pulse" not in card  # no word of a note stands in the public card
    task, site = Task.load("task.toml"), load_site(Path("site.toml"))
    cohort = cohort_of(site.data, read_rows(site.data.path), task.card)
    assert (cohort.size, len(cohort.texts)) == (12, 24)
    assert cohort.texts[0] == 'age high pulse, "fast" the'
    promptward_init_second(capsys, home, words)


def promptward_init_second(capsys: Capture, home: Path, words: list[str]) -> None:
    """The second hospital takes the card, whose one field has another name."""
    (home / "their.toml").write_text((home / "task.toml").read_text().replace("{text}", "{note}"))
    init(capsys, *words, "--task", "their.toml", "--site", "South", "--out", "second")
    site = load_site(Path("second/site.toml"))
    assert site.data.columns == {"note": "text"}
    assert cohort_of(site.data, read_rows(site.data.path), Task.load("their.toml").card).size == 12


def test_a_list_of_texts_may_name_the_hospital(home: Path, backbone_folder: Path, capsys: Capture) -> None:
    texts(home)
    names = sorted(str(path.relative_to(home / "notes")) for path in (home / "notes").rglob("*.txt"))
    rows = [(name, f"x{n}", name.split("/")[0], ("North", "South")[n % 2]) for n, name in enumerate(names)]
    write_manifest(home / "notes/list.csv", ["file", "patient", "dx", "clinic"], rows)
    init(capsys, "notes", "--backbone", f"folder:{backbone_folder}", "--label", "dx", "--site-column", "clinic")
    study = tomllib.loads((home / "study.toml").read_text())["data"]
    assert (study["site"], study["patient"], study["label"]) == ("clinic", "patient", "label")
    assert list(pd.read_csv("notes.csv").columns) == ["patient", "text", "label", "clinic"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "there is no such folder"),
        (("empty",), "it holds no .png"),
        (("mixed",), "it holds images (a.png) and texts (b.txt); give each a folder of its own"),
        (("loose", "--patient-rule", "file"), "'x.png' lies in no folder of a label"),
        (("single", "--patient-rule", "file"), "there is one label only ('only')"),
        (("scans",), "--patient-rule is missing"),
        (("scans", "--patient-rule", "["), "this is no regular expression"),
        (("scans", "--patient-rule", "p"), "it has 0 groups"),
        (("scans", "--patient-rule", "(q+)"), "it finds no patient in"),
        (("scans", "--patient-rule", "dicom"), "cannot be read as DICOM"),
        (("scans", "--patient-rule", "file", "--label", "dx"), "--label: scans holds no manifest"),
        (("listed", "--label", "dx"), "row 1: there is no file 'gone.png' in listed"),
        (("listed", "--label", "dx", "--patient-rule", "file"), "is the manifest, so its column names the patient"),
        (("listed", "--label", "finding"), "there is no column 'finding' (--label)"),
        (("two", "--label", "dx"), "it holds several tables (a.csv, b.csv)"),
        (("scans", "--csv", "x.csv"), "one of them"),
        (("bytes", "--patient-rule", "file"), "this is not UTF-8 text"),
        (("scans", "--patient-rule", "file", "--task", "heart-disease", "--site", "Hungary"), "these records are images and card"),
    ],
)
def test_what_is_wrong_gets_one_sentence_and_nothing_is_written(
    home: Path, vit: str, capsys: Capture, words: tuple[str, ...], said: str
) -> None:
    (home / "empty").mkdir()
    for name in ("mixed/a.png", "loose/x.png", "loose/well/y.png", "single/only/x.png", "listed/a.png", "two/a.png"):
        write_png(home / name, PICTURES[0])
    (home / "mixed/b.txt").write_text("x")
    for label, content in (("a", b"fine"), ("b", b"\xff\xfe")):
        (home / "bytes" / label).mkdir(parents=True)
        (home / "bytes" / label / "x.txt").write_bytes(content)
    for name in ("listed/list.csv", "two/a.csv", "two/b.csv"):
        write_manifest(home / name, ["file", "dx"], [("gone.png", "1")])
    more = () if "--task" in words else ("--backbone", vit)
    err = init(capsys, *words, *more, "--out", "out", code=2)
    assert said in err
    assert err.count("\n") == 1
    assert not (home / "out").exists()


def test_a_model_that_reads_text_is_none_for_images_and_the_reverse(
    home: Path, vit: str, backbone_folder: Path, capsys: Capture
) -> None:
    texts(home)
    said = init(capsys, "scans", "--patient-rule", "file", "--backbone", f"folder:{backbone_folder}", code=2)
    assert "this model reads text; name a vision transformer" in said
    assert "this model reads no text" in init(capsys, "notes", "--patient-rule", "file", "--backbone", vit, code=2)
    assert "--backbone is missing: which image model" in init(capsys, "scans", "--patient-rule", "file", code=2)
