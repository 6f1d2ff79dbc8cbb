from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.checkup import Examined
from client.checkup_terms import terms_checks
from client.cohorts import cohort_of
from client.opening import open_hospital
from client.records import read_rows
from client.site import load_site
from shared.backbone import fingerprint
from shared.card import Task, TaskCard
from shared.errors import InputError
from shared.wire import Request, unpack_reply
from tests.pictures import write_dicom, write_manifest, write_nifti, write_png
from tests.vit import CARD, PLAIN, write_vit

SITE = """
schema = 1
site = "North"

[images]
manifest = "manifest.csv"
folder = "files"
label = "finding"
labels = {{ no = "well", yes = "sick" }}
{more}

[ledger]
path = "ledger.jsonl"

[policy]
epsilon = 10.0
delta = 1e-4
tasks = ["{digest}"]
least_patients = 2
"""

COLUMNS = ["file", "patient", "finding", "part"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A randomly initialised ViT of the real class, from a local folder."""
    folder = write_vit(tmp_path_factory.mktemp("vit"))
    return Task.parse(CARD.format(name="tiny-images", folder=folder, fingerprint=fingerprint(folder), image=PLAIN), "card.toml")


def grey(level: int) -> np.ndarray:
    return np.full((8, 8), level, dtype=np.uint8)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A hospital's folder: a photograph, a DICOM film, a volume and a file without ending, of three patients."""
    files = tmp_path / "files"
    write_png(files / "a.png", grey(255))
    write_dicom(files / "b.dcm", np.stack([grey(level) for level in (0, 51, 102, 153)]), WindowCenter=127.5, WindowWidth=255,
                VOILUTFunction="LINEAR_EXACT")  # fmt: skip
    write_nifti(files / "c.nii.gz", np.arange(8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3))
    write_dicom(files / "IM0001", grey(7))
    rows = [("a.png", "1", "no", "train"), ("b.dcm", "2", "yes", "train"), ("c.nii.gz", "3", "no", "train"),
            ("IM0001", "1", "no", "test")]  # fmt: skip
    write_manifest(tmp_path / "manifest.csv", COLUMNS, rows)
    return tmp_path


def site_at(home: Path, task: Task, more: str = 'patient = "patient"\nsplit = "part"'):
    (home / "site.toml").write_text(SITE.format(more=more, digest=task.digest))
    return load_site(home / "site.toml")


def read(home: Path, card: TaskCard, part: str = "train", more: str = 'patient = "patient"\nsplit = "part"'):
    (home / "site.toml").write_text(SITE.format(more=more, digest="0" * 64))
    table = load_site(home / "site.toml").data
    return cohort_of(table, read_rows(table.path), card, part)


def test_files_of_every_kind_become_one_cohort(home: Path, task: Task) -> None:
    found = read(home, task.card)
    assert found.size == 3
    assert found.patients == (0, 1, 1, 2, 2)  # of a film and of a volume two pictures each: max_records
    assert found.labels == (0, 1, 1, 0, 0)
    assert found.images is not None
    assert found.images.shape == (5, 1, 8, 8)
    assert found.images[0].tolist() == [[[1.0] * 8] * 8]
    np.testing.assert_allclose(found.images[1:3, 0, 0, 0], [51 / 127.5 - 1, 153 / 127.5 - 1], atol=1e-6)
    assert read(home, task.card, "test").size == 1


def test_a_patient_of_the_file_is_one_patient_wherever_it_stands(home: Path, task: Task) -> None:
    rows = [("b.dcm", "", "yes", "train"), ("IM0001", "", "yes", "train"), ("a.png", "", "no", "train")]
    write_manifest(home / "manifest.csv", COLUMNS, rows)
    found = read(home, task.card, more="")
    assert found.size == 2  # both DICOM files say P1
    assert found.patients == (0, 0, 1)  # and P1's third picture is over max_records


def test_every_broken_file_is_listed_and_ends_the_run(home: Path, task: Task) -> None:
    files = home / "files"
    (files / "a.png").write_bytes((files / "a.png").read_bytes()[:40])
    (files / "c.nii.gz").write_bytes(b"no volume")
    with pytest.raises(InputError) as caught:
        read(home, task.card)
    first, *listed = str(caught.value).splitlines()
    assert first == f"{home}/manifest.csv: 2 of 3 files cannot be read; mend them, or set skip_broken = true in [images]:"
    assert [line.split(":")[0].strip() for line in listed] == ["a.png", "c.nii.gz"]
    assert all(len(line.split(": ", 1)[1]) > 5 for line in listed)


def test_a_hospital_may_leave_broken_files_out_and_is_told(home: Path, task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "files/a.png").write_bytes(b"")
    found = read(home, task.card, more='patient = "patient"\nsplit = "part"\nskip_broken = true')
    assert found.size == 2
    told = capsys.readouterr().err
    assert "1 of 3 files cannot be read and are left out" in told
    assert "a.png: " in told


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.png", "No such file"),
        ("../secret.png", "it lies outside [images] folder"),
        ("notes.txt", "files ending in '.txt' are not read; use .png"),
        ("names.dcm", "tag BurnedInAnnotation (0028,0301) says YES"),
        ("nobody.dcm", "tag PatientID (0010,0020) is missing or empty"),
        ("nan.nii", "it holds values that are not finite"),
    ],
)
def test_why_a_file_is_not_read(name: str, said: str, home: Path, task: Task) -> None:
    write_png(home / "secret.png", grey(1))
    write_dicom(home / "files/names.dcm", grey(1), BurnedInAnnotation="YES")
    write_dicom(home / "files/nobody.dcm", grey(1), patient=None)
    write_nifti(home / "files/nan.nii", np.full((8, 8, 2), np.nan, dtype=np.float32))
    write_manifest(home / "manifest.csv", COLUMNS, [(name, "", "no", "train"), ("a.png", "", "no", "train")])
    with pytest.raises(InputError) as caught:
        read(home, task.card, more='split = "part"')
    assert f"{name}: " in str(caught.value)
    assert said in str(caught.value)


def test_the_hospital_decides_on_burned_in_text_and_files_of_nobody(home: Path, task: Task) -> None:
    write_dicom(home / "files/names.dcm", grey(1), patient=None, BurnedInAnnotation="YES")
    write_manifest(home / "manifest.csv", COLUMNS, [("names.dcm", "", "no", "train"), ("names.dcm", "", "no", "train")])
    assert read(home, task.card, more='burned_in = "allow"\nmissing_patient = "file"').size == 2


def test_a_table_where_the_card_reads_images_is_one_sentence_and_the_reverse(home: Path, task: Task) -> None:
    table = site_at(home, task).data
    texts = task.card.model_copy(update={"image": None})
    with pytest.raises(InputError, match=r"key 'image' is missing; add an \[image\]"):
        cohort_of(table, read_rows(table.path), texts)
    (home / "site.toml").write_text(
        SITE.format(more="", digest=task.digest).replace("[images]", "[data]").replace('manifest = "', 'path = "').replace(
            'folder = "files"\n', "")
    )  # fmt: skip
    data = load_site(home / "site.toml").data
    with pytest.raises(InputError, match=r"the card reads images; replace \[data\] by a table \[images\]"):
        cohort_of(data, read_rows(data.path), task.card)


def test_a_site_file_has_one_kind_of_record(home: Path, task: Task) -> None:
    text = SITE.format(more="", digest=task.digest)
    (home / "site.toml").write_text(text + '\n[data]\npath = "x.csv"\nlabel = "y"\nlabels = {}\n')
    with pytest.raises(InputError, match=r"exactly one of \[data\] and \[images\]; give one"):
        load_site(home / "site.toml")


def test_a_hospital_of_images_answers_a_round(home: Path, task: Task) -> None:
    """From files on disk to a noised update of the card's shape, on a ViT in a local folder."""
    with_split = site_at(home, task)
    hospital = open_hospital(with_split, task)
    try:
        prompt = np.zeros(hospital.scorer.shape.shape, dtype=np.float32)
        prompt[1:] = np.random.default_rng(0).standard_normal((2, 16))
        update = unpack_reply(hospital.respond(Request(task.digest, "run", 1, prompt)), hospital.gate.dtype)
    finally:
        hospital.close()
    assert update.shape == (3, 16)
    assert np.abs(update).max() > 0


def test_more_workers_do_not_change_the_order(home: Path, task: Task) -> None:
    rows = []
    for number in range(80):
        write_png(home / f"files/{number}.png", grey(number))
        rows.append((f"{number}.png", str(number), "no", "train"))
    write_manifest(home / "manifest.csv", COLUMNS, rows)
    found = read(home, task.card)
    assert found.images is not None
    np.testing.assert_allclose(found.images[:, 0, 3, 3], np.arange(80) / 127.5 - 1, atol=1e-6)
    assert replace(found, images=None).size == 80


def test_the_doctor_reads_every_file(home: Path, task: Task) -> None:
    (home / "card.toml").write_text(task.text)
    more = 'patient = "patient"\nsplit = "part"'
    federation = '\n[federation]\ntask = "card.toml"\naddress = "hub:1"\ncertificate = "ca.crt"\nkey = "North.key"\n'
    (home / "site.toml").write_text(SITE.format(more=more, digest=task.digest) + federation)
    checks = terms_checks(Examined(home / "site.toml", load_site(home / "site.toml")))
    found = {check.name: list(check.look()) for check in checks if check.name in ("mapping", "patients", "memory", "model")}
    assert "3 patients to train on" in found["mapping"][0].said
    assert [finding.state for findings in found.values() for finding in findings].count("wrong") == 0
    (home / "files/a.png").write_bytes(b"")
    with pytest.raises(InputError, match="1 of 3 files cannot be read"):
        list(terms_checks(Examined(home / "site.toml", load_site(home / "site.toml")))[4].look())
