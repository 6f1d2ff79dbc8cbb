"""A real site from its files: the site file, a table and the card."""

import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from client.hospital import Hospital
from client.ledger import read_ledger
from client.opening import open_hospital
from client.site import load_site
from shared.card import Task
from shared.errors import InputError, RefusedError, RunError
from shared.privacy.source import SecureSource, SimulationSource
from shared.prompt import Array
from shared.scoring import Scorer
from shared.wire import Request, unpack_reply
from tests.far import FAR, far_device


@pytest.fixture
def site_file(tmp_path: Path, task: Task) -> Path:
    rows = [f"p{n},{25 + n},{60 + n},{'pos' if n > 20 else 'neg'},{'test' if n % 3 == 0 else 'train'}" for n in range(45)]
    (tmp_path / "rows.csv").write_text("who,age,pulse,dx,part\n" + "\n".join(rows) + "\n")
    path = tmp_path / "site.toml"
    path.write_text(
        'schema = 1\nsite = "North"\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\n'
        'patient = "who"\nsplit = "part"\n[ledger]\npath = "north.jsonl"\n'
        f'[policy]\nepsilon = 2.0\ndelta = 1e-4\ntasks = ["{task.digest}"]\n'
    )
    return path


def test_a_hospital_opens_answers_and_charges(site_file: Path, task: Task, scorer: Scorer, prompt: Array) -> None:
    with closing(open_hospital(load_site(site_file), task)) as hospital:
        answers_and_charges(hospital, task, scorer, prompt, site_file.parent / "north.jsonl")


def answers_and_charges(hospital: Hospital, task: Task, scorer: Scorer, prompt: Array, ledger: Path) -> None:
    assert isinstance(hospital.source, SecureSource)
    assert torch.equal(hospital.scorer.centre, scorer.centre)  # from the card's public words, whoever the patients are
    assert hospital.pool.patients == 30  # test patients are never trained on
    reply = hospital.respond(Request(task.digest, "run1", 1, prompt))
    assert unpack_reply(reply, np.dtype(np.int32)).shape == (4, 16)
    assert [event.round for event in read_ledger(ledger)] == [1]


def test_a_second_process_is_refused_before_any_work(site_file: Path, task: Task) -> None:
    site = load_site(site_file)
    with closing(open_hospital(site, task)):
        site.data.path.unlink()  # whoever reads the table says that it is gone
        with pytest.raises(
            RunError, match=rf"north.jsonl: another promptward process \(pid {os.getpid()}\) has this file open; stop"
        ):
            open_hospital(site, task)
    with pytest.raises(InputError, match="no such file"):  # and what fails half-way lets go of the files
        open_hospital(site, task)
    with pytest.raises(InputError, match="no such file"):
        open_hospital(site, task)


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ('site = "North"', 'site = "West"', InputError, r"site 'West' is not on the card's roster \(North, South\)"),
        ("epsilon = 2.0", "epsilon = 2.0\nleast_patients = 31", RefusedError, "least_patients 31"),
        ("epsilon = 2.0", "epsilon = 2.0\nleast_noise = 4.0", RefusedError, "noise multiplier 3 is under"),
        ('path = "rows.csv"', 'path = "gone.csv"', InputError, "no such file"),
    ],
)
def test_a_site_that_does_not_fit_does_not_open(
    site_file: Path, task: Task, old: str, new: str, error: type[Exception], said: str
) -> None:
    site_file.write_text(site_file.read_text().replace(old, new))
    with pytest.raises(error, match=said):
        open_hospital(load_site(site_file), task)


def test_bands_ask_for_the_patients_names(site_file: Path, task: Task, prompt: Array) -> None:
    card = Task.parse(task.text.replace("sample_rate = 0.5", "sample_rate = 0.25\nbands = 2"), "card.toml")
    text = site_file.read_text().replace(task.digest, card.digest)
    site_file.write_text(text.replace('patient = "who"\n', ""))
    with pytest.raises(InputError, match=r"groups follow from patients' names; name their column in \[data\] patient"):
        open_hospital(load_site(site_file), card)
    site_file.write_text(text)
    with closing(open_hospital(load_site(site_file), card)) as hospital:
        for round_ in (1, 2):
            hospital.respond(Request(card.digest, "run1", round_, prompt))
    assert [event.releases for event in read_ledger(site_file.parent / "north.jsonl")] == [1, 0]
    assert [file.suffix for file in sorted((site_file.parent / "north.carry").iterdir())] == [".npz", ".npz"]


def test_the_site_file_says_where_the_model_runs(
    site_file: Path, task: Task, prompt: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the pretended device the hospital sends what it sends from the CPU, but for last digits on the grid."""
    site, sent = load_site(site_file), []
    assert site.device == "cpu"
    monkeypatch.setattr("shared.backbone.require_device", lambda name: name)
    for device in ("cpu", FAR):
        ledger = site.ledger.model_copy(update={"path": site_file.parent / f"{device[:3]}.jsonl"})
        with (
            far_device(),
            closing(
                open_hospital(site.model_copy(update={"device": device, "ledger": ledger}), task, SimulationSource(0))
            ) as hospital,
        ):
            assert hospital.pool.hidden.states.device.type == device[:3]
            sent.append(unpack_reply(hospital.respond(Request(task.digest, "run1", 1, prompt)), np.dtype(np.int32)))
    np.testing.assert_allclose(sent[0], sent[1], atol=40)
    assert np.abs(sent[0]).max() > 1000


@pytest.mark.parametrize(("device", "said"), [("gpu", "device"), ("cuda:99", "device 'cuda:99'")])
def test_a_device_that_is_not_here_opens_nothing(site_file: Path, task: Task, device: str, said: str) -> None:
    site_file.write_text(site_file.read_text().replace("schema = 1", f'schema = 1\ndevice = "{device}"'))
    with pytest.raises(InputError, match=said):
        open_hospital(load_site(site_file), task)
    assert not (site_file.parent / "north.jsonl").exists() or not read_ledger(site_file.parent / "north.jsonl")
