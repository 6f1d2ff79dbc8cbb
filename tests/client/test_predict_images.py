"""`promptward predict` and the HTTP service on images: files of every kind, several prompts, patients with several pictures."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

import promptward
from client.model_service import Limits
from client.patches import GRID, hidings
from client.questions import questions_of
from shared.library import open_entry
from shared.reading import open_reader
from tests.pictures import write_dicom, write_manifest, write_nifti, write_png
from tests.serving import served
from tests.vit import PLAIN, WINDOWED, write_prompt, write_vit

Capture = pytest.CaptureFixture[str]
PICTURES = np.random.default_rng(3).integers(0, 256, (12, 8, 8)).astype(np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three prompts of one ViT; the third prepares pictures in its own way."""
    home = tmp_path_factory.mktemp("trained")
    vit = write_vit(home / "vit")
    for number, (name, image) in enumerate((("lungs", PLAIN), ("heart", PLAIN), ("window", WINDOWED))):
        write_prompt(home / name, vit, name, number, image)
    return home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hospital's new files: two photographs of one patient, a film of four frames and a slice of another, a volume."""
    files = tmp_path / "files"
    write_png(files / "a.png", PICTURES[0])
    Image.fromarray(PICTURES[1]).save(files / "b.jpg")
    write_dicom(files / "film.dcm", PICTURES[2:6], patient="P7")
    write_dicom(files / "IM1", PICTURES[6], patient="P7")
    write_nifti(files / "c.nii.gz", PICTURES[:3].transpose(1, 2, 0).astype(np.float32))
    rows = [("a.png", "p1"), ("b.jpg", "p1"), ("film.dcm", "p2"), ("IM1", "p2"), ("c.nii.gz", "p3")]
    write_manifest(tmp_path / "new.csv", ["file", "patient"], rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(capsys: Capture, *words: object, code: int = 0) -> Any:
    assert promptward.main(["predict", *map(str, words)]) == code
    return json.loads(capsys.readouterr().out) if "--json" in words else capsys.readouterr()


def shares(prompt: Path, *pictures: np.ndarray) -> np.ndarray:
    """Return what the trainer's own scorer says of pictures (H, W) from 0 to 1, each alone: (B, L)."""
    reader = open_reader(open_entry(prompt))
    image = reader.task.card.picture
    stack = np.stack([image.prepare(picture) for picture in pictures])
    return reader.scorer.probabilities(reader.scorer.read(stack), reader.prompt).numpy()


def test_a_patients_probability_is_the_mean_over_the_pictures_that_training_keeps(
    home: Path, trained: Path, capsys: Capture
) -> None:
    write_manifest(home / "files" / "new.csv", ["file", "patient"], [("a.png", "p1"), ("c.nii.gz", "p3"), ("b.jpg", "p1")])
    found = asked(capsys, trained / "lungs/prompt", "files/new.csv", "--json")["predictions"]
    assert [(line["patient"], line["files"], line["pictures"]) for line in found] == [
        ("p1", "a.png; b.jpg", 2),
        ("p3", "c.nii.gz", 2),
    ]
    jpeg = np.asarray(Image.open(home / "files/b.jpg"), dtype=np.float32) / 255
    wanted = shares(trained / "lungs/prompt", PICTURES[0] / np.float32(255), jpeg).mean(0)
    assert [found[0]["lungs.well"], found[0]["lungs.sick"]] == pytest.approx(wanted.tolist(), abs=2e-5)
    assert found[0]["lungs.label"] == ("well", "sick")[wanted.argmax()]


def test_a_folder_of_every_kind_is_read_and_dicoms_patient_counts(home: Path, trained: Path, capsys: Capture) -> None:
    (home / "files/notes.txt").write_text("no picture")
    found = asked(capsys, trained / "lungs/prompt", "files", "--json")
    told = {line["files"]: line["pictures"] for line in found["predictions"]}
    assert told == {"IM1; film.dcm": 2, "a.png": 1, "b.jpg": 1, "c.nii.gz": 2}
    assert found["left_out"] == {"no picture": ["notes.txt"]}
    one = asked(capsys, trained / "lungs/prompt", "files/a.png", "--json")["predictions"]
    assert one[0]["lungs.sick"] == pytest.approx(
        next(x["lungs.sick"] for x in found["predictions"] if x["files"] == "a.png"), abs=1e-5
    )


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_prompts_in_one_mixed_batch_read_as_alone(home: Path, trained: Path, capsys: Capture, ending: str) -> None:
    names = ("lungs", "heart", "window")
    write_manifest(home / "files" / "new.csv", ["file"], [("a.png",), ("film.dcm",), ("b.jpg",)])
    out = home / f"out.{ending}"
    asked(capsys, *(trained / name / "prompt" for name in names), "files/new.csv", "--out", out)
    table = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[ending](out)
    for name in names:
        alone = asked(capsys, trained / name / "prompt", "files/new.csv", "--json")["predictions"]
        assert table[f"{name}.sick"].tolist() == pytest.approx([line[f"{name}.sick"] for line in alone], abs=2e-5)
    assert table["window.sick"][1] != pytest.approx(table["lungs.sick"][1], abs=1e-3)


def test_files_above_what_training_keeps_are_told(home: Path, trained: Path, capsys: Capture) -> None:
    rows = [("film.dcm", "x"), ("a.png", "x")]
    write_manifest(home / "files" / "new.csv", ["file", "patient"], rows)
    found = asked(capsys, trained / "lungs/prompt", "files/new.csv", "--json")
    assert found["left_out"] == {"over max_records": ["a.png"]}


def test_broken_files_end_it_or_have_a_line_of_their_own(home: Path, trained: Path, capsys: Capture) -> None:
    (home / "files/a.png").write_bytes(b"no picture")
    (home / "files/a.gif").write_bytes(b"GIF89a")
    (home / "files/b.png").write_bytes(b"GIF89a" + bytes(40))  # another kind under a name that is read
    rows = [("a.png", "p1"), ("gone.png", "p2"), ("b.jpg", "p3"), ("a.gif", "p4"), ("b.png", "p5")]
    write_manifest(home / "files" / "new.csv", ["file", "patient"], rows)
    said = asked(capsys, trained / "lungs/prompt", "files/new.csv", code=2).err
    assert "4 of 5 files cannot be read; mend them, or add --skip-broken:" in said
    assert all(f"\n  {name}: " in said for name in ("a.png", "gone.png", "a.gif", "b.png"))
    found = asked(capsys, trained / "lungs/prompt", "files/new.csv", "--skip-broken", "--out", "out.csv", "--json")
    assert [line["file"] for line in found["broken"]] == ["a.png", "gone.png", "a.gif", "b.png"]
    table = pd.read_csv("out.csv")
    assert table["patient"].tolist() == ["p3", "p1", "p2", "p4", "p5"]
    assert table["broken"].notna().tolist() == [False, True, True, True, True]
    assert table["lungs.label"].notna().tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("empty",), "this folder holds no .png"),
        (("gone.png",), "there is no such file or folder"),
        (("other.csv",), "column 'file' is missing; the manifest has name"),
        (("blank.csv",), "row 2: column 'file' names no file"),
        (("nobody.csv",), "row 2: column 'patient' names no patient"),
        (("files/a.png", "--id", "age"), "no column 'age' to repeat"),
        (("files/a.png", "--site", "texts.toml"), "prompt 'lungs' reads images, so its site file needs [images]"),
        (("files/notes.txt",), "1 of 1 files cannot be read"),
    ],
)
def test_what_is_wrong_gets_one_sentence(home: Path, trained: Path, capsys: Capture, words: tuple[str, ...], said: str) -> None:
    (home / "empty").mkdir()
    (home / "files/notes.txt").write_text("x")
    write_manifest(home / "other.csv", ["name"], [("a.png",)])
    write_manifest(home / "blank.csv", ["file", "patient"], [("a.png", "1"), ("", "2")])
    write_manifest(home / "nobody.csv", ["file", "patient"], [("a.png", "1"), ("b.jpg", "")])
    (home / "texts.toml").write_text(
        'schema = 1\nsite = "North"\n[data]\npath = "x.csv"\nlabel = "y"\nlabels = {}\n[ledger]\npath = "l.jsonl"\n'
        "[policy]\nepsilon = 1.0\ndelta = 1e-4\ntasks = []\n"
    )
    assert said in asked(capsys, trained / "lungs/prompt", *words, code=2).err


def test_a_prompt_for_another_size_of_picture_is_named(home: Path, trained: Path, capsys: Capture) -> None:
    text = (trained / "heart/task.toml").read_text().replace("size = 8", "size = 16")
    for name in ("task.toml", "prompt/promptward.json"):
        (home / "big" / name).parent.mkdir(parents=True, exist_ok=True)
    for file in (trained / "heart/prompt").iterdir():
        (home / "big/prompt" / file.name).write_bytes(file.read_bytes())
    from shared.toml import digest

    facts = json.loads((home / "big/prompt/promptward.json").read_text()) | {"task_digest": digest(text)}
    (home / "big/prompt/promptward.json").write_text(json.dumps(facts))
    (home / "big/task.toml").write_text(text)
    said = asked(capsys, trained / "lungs/prompt", "big/prompt", trained / "window/prompt", "files/a.png", code=2).err
    assert "prompt 'heart': images of shape (1, 16, 16) do not fit the backbone, which takes (1, 8, 8)" in said
    assert said.count("\n") == 1


def test_a_site_that_is_calibrated_on_its_own_pictures(home: Path, trained: Path, capsys: Capture) -> None:
    rows = []
    for number in range(24):
        picture = np.random.default_rng(number).integers(0, 256, (8, 8)).astype(np.uint8)
        write_png(home / f"archive/{number}.png", picture)
        rows.append((f"{number}.png", f"p{number}", ("no", "yes")[number % 2], "test"))
    write_manifest(home / "manifest.csv", ["name", "who", "dx", "part"], rows)
    (home / "site.toml").write_text(
        'schema = 1\nsite = "North"\n[images]\nmanifest = "manifest.csv"\nfolder = "archive"\nfile = "name"\npatient = "who"\n'
        'label = "dx"\nsplit = "part"\nlabels = { no = "well", yes = "sick" }\n[ledger]\npath = "north.jsonl"\n'
        "[policy]\nepsilon = 1.0\ndelta = 1e-4\ntasks = []\n"
    )
    warm = asked(capsys, trained / "lungs/prompt", "manifest.csv", "--calibrate", "site.toml", "--json")
    assert warm["prompts"][0]["temperature"] != 1.0
    assert [line["who"] for line in warm["predictions"]] == [row[1] for row in rows]  # the site's names of columns, its folder
    again = asked(capsys, trained / "lungs/prompt", "manifest.csv", "--site", "site.toml", "--json")
    assert again == warm
    reader = open_reader(open_entry(trained / "lungs/prompt"))
    picture = reader.task.card.picture.prepare(np.asarray(Image.open(home / "archive/0.png"), dtype=np.float32) / 255)
    logits = reader.scorer.logits(reader.scorer.read(picture[None]), reader.prompt)
    wanted = (logits[0].double() / warm["prompts"][0]["temperature"]).softmax(-1)
    assert warm["predictions"][0]["lungs.sick"] == pytest.approx(float(wanted[1]), abs=2e-5)


def test_patches_cover_every_pixel_and_each_is_filled_with_the_mean() -> None:
    picture = np.random.default_rng(0).normal(size=(3, 28, 28)).astype(np.float32)
    hidden = hidings(picture)
    assert hidden.shape == (GRID * GRID, 3, 28, 28)
    changed = (hidden != picture).all(1)  # (G * G, S, S)
    assert changed.any(0).all()
    assert changed[0].sum() == 36  # a corner: four pixels and half of the neighbour's
    assert changed[0][:6, :6].all()
    assert changed[GRID - 1][:6, -6:].all()  # the last of the first row: top right
    assert changed[GRID * 3 + 3].sum() == 64
    for number in (0, 24, 48):
        np.testing.assert_allclose(
            hidden[number][:, changed[number]], np.repeat(picture.mean((1, 2))[:, None], changed[number].sum(), 1)
        )
    assert hidings(picture[:, :3, :3]).shape == (9, 3, 3, 3)


def test_the_page_shows_the_pictures_and_needs_nothing_else(home: Path, trained: Path, capsys: Capture) -> None:
    found = asked(capsys, trained / "lungs/prompt", trained / "heart/prompt", "files/a.png", "--why", "why.html", "--json")["why"]
    assert [(said["prompt"], len(said["pictures"])) for said in found] == [("lungs", 1), ("heart", 1)]
    changes = np.array(found[0]["pictures"][0]["changes"])
    assert changes.shape == (GRID, GRID)
    hidden = hidings(open_reader(open_entry(trained / "lungs/prompt")).task.card.picture.prepare(PICTURES[0] / np.float32(255)))
    reader = open_reader(open_entry(trained / "lungs/prompt"))
    label = ("well", "sick").index(found[0]["label"])
    logits = reader.scorer.logits(reader.scorer.read(hidden), reader.prompt).double()  # (G * G, L)
    without = logits.softmax(-1)[:, label].reshape(GRID, GRID)
    np.testing.assert_allclose(changes, found[0]["probability"] - without.numpy(), atol=2e-5)
    odds = logits[:, label] - logits[:, 1 - label]
    whole = np.log(found[0]["probability"] / (1 - found[0]["probability"]))
    np.testing.assert_allclose(np.ravel(found[0]["pictures"][0]["evidence"]), whole - odds.numpy(), atol=1e-3)
    page = (home / "why.html").read_text()
    assert "http" not in page
    assert "<script" not in page
    shown = [Image.open(io.BytesIO(base64.b64decode(each))) for each in re.findall(r"data:image/png;base64,([^\"]+)", page)]
    assert len(shown) == 4
    plain, heat = (np.asarray(each, dtype=float) for each in shown[:2])
    assert plain.shape == heat.shape == (280, 280, 3)
    assert (plain[..., 0] == plain[..., 1]).all()
    assert not (heat[..., 0] == heat[..., 1]).all()


# ---- the HTTP service ----


@pytest.fixture
def calls(trained: Path) -> Iterator[httpx.Client]:
    questions = questions_of([str(trained / "lungs/prompt"), str(trained / "heart/prompt")], None, None)
    with served(questions, Limits(rows=3, bytes=20_000, pixels=400)) as client:
        yield client


def packed(path: Path, **more: str) -> dict[str, str]:
    return {"content": base64.b64encode(path.read_bytes()).decode(), **more}


def test_the_service_answers_as_the_command_does(home: Path, trained: Path, capsys: Capture, calls: httpx.Client) -> None:
    wanted = asked(capsys, trained / "lungs/prompt", trained / "heart/prompt", "files/film.dcm", "--json")["predictions"][0]
    body = {"files": [packed(home / "files/a.png"), packed(home / "files/film.dcm"), packed(home / "files/IM1")]}
    said = calls.post("/predict", json=body).json()["predictions"]
    assert [one["files"] for one in said] == [[0], [1, 2]]  # both DICOM files name P7
    for name in ("lungs", "heart"):
        assert said[1]["prompts"][name]["probabilities"]["sick"] == pytest.approx(wanted[f"{name}.sick"], abs=1e-5)
    apart = {"files": [{**each, "patient": f"x{n}"} for n, each in enumerate(body["files"])], "prompts": ["heart"]}
    said = calls.post("/predict", json=apart).json()["predictions"]
    assert [one["files"] for one in said] == [[0], [1], [2]]
    assert list(said[0]["prompts"]) == ["heart"]
    assert calls.get("/health").json()["prompts"]["lungs"]["reads"] == "images"


def test_what_the_service_takes_stands_in_its_openapi(calls: httpx.Client) -> None:
    found = calls.get("/openapi.json").json()
    name = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert found["components"]["schemas"][name]["required"] == ["files"]
    assert found["components"]["schemas"]["Picture"]["properties"]["content"]["format"] == "base64"


def test_the_service_refuses_what_is_too_much_or_no_picture(home: Path, calls: httpx.Client) -> None:
    small = packed(home / "files/a.png")
    assert calls.post("/predict", json={"files": [small] * 4}).status_code == 413
    assert calls.post("/predict", json={"files": [{"content": "A" * 30_000}]}).status_code == 413
    assert calls.post("/predict", json={"files": [small], "prompts": ["nobody"]}).status_code == 404
    wrong = [
        ({"content": base64.b64encode(b"GIF89a and more").decode()}, "it is no PNG, JPEG or DICOM file"),
        (
            packed(write_png(home / "wide.png", np.zeros((100, 100), dtype=np.uint8))),
            "it has 10000 pixels; at most 400 are decoded",
        ),
        (packed(write_dicom(home / "wide.dcm", np.zeros((30, 30), dtype=np.uint8))), "it has 900 pixels; at most 400"),
        (packed(write_dicom(home / "name.dcm", PICTURES[0], BurnedInAnnotation="YES")), "BurnedInAnnotation"),
        ({"content": small["content"][:60]}, "file 1: "),
    ]
    for file, said in wrong:
        answer = calls.post("/predict", json={"files": [small, file]})
        assert answer.status_code == 422
        assert said in answer.json()["detail"]
    for body in ({"files": []}, {"files": [{"content": "not base64 §§"}]}, {"files": [{"text": "secret"}]}, {"rows": [{"age": 1}]}):
        answer = calls.post("/predict", json=body)
        assert answer.status_code == 422
        assert "secret" not in answer.text


def test_a_file_that_inflates_is_refused_before_it_does(home: Path, calls: httpx.Client) -> None:
    path = write_dicom(home / "deep.dcm", np.zeros((2000, 2000), dtype=np.uint8))
    import pydicom

    file = pydicom.dcmread(path)
    file.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file.save_as(path)
    assert path.stat().st_size < 10_000  # four megabytes in ten thousand bytes
    answer = calls.post("/predict", json={"files": [packed(path)]})
    assert "deflated DICOM is not taken here" in answer.json()["detail"]
