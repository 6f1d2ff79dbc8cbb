"""A mystery site is a hospital: same step, ledger, gate; only its draws can be recomputed, and only from its file."""

from pathlib import Path

import numpy as np
import pytest

from audits.canary_site import watched
from audits.statistics import examine_noise
from client.mystery import MysterySource, canary_pool, canary_scorer, canary_step
from client.opening import open_hospital
from client.round import answer
from client.site import load_site
from shared.canaries import card_lines, drawn_canaries, new_canaries
from shared.card import Task
from shared.errors import InputError
from shared.privacy.source import SecureStream
from shared.prompt import Array
from shared.wire import Request, unpack_reply
from tests.shared.test_canaries import audited

SITE = """
schema = 1
site = "{name}"
{where}
[ledger]
path = "ledger.jsonl"
[policy]
epsilon = 100.0
delta = 1e-4
tasks = ["{digest}"]
least_patients = 1
"""
CANARIES = '[canaries]\nfile = "watch.canaries"'


def site_file(folder: Path, task: Task, name: str = "Watch", where: str = CANARIES) -> Path:
    path = folder / "site.toml"
    path.write_text(SITE.format(name=name, where=where, digest=task.digest))
    return path


def test_an_audit_site_opens_answers_and_charges_and_its_auditor_knows_the_sum(task: Task, prompt: Array, tmp_path: Path) -> None:
    canaries = new_canaries(task.card, "Watch", (4, 16), 60, 3, tmp_path / "watch.canaries")
    card = audited(task, card_lines(canaries))
    hospital = open_hospital(load_site(site_file(tmp_path, card)), card)
    place, noise, drawn = watched(card, canaries, "run1"), [], 0
    for number in range(1, 7):
        reply = hospital.respond(Request(card.digest, "run1", number, prompt))
        update = unpack_reply(reply, np.dtype(np.int32))
        noise.append(update.ravel() - np.rint(place.clean(number) * 20_000).astype(np.int64))
        drawn += int(place.times(number).sum())
        outside = np.setdiff1d(np.arange(60), canaries.inside(number, 6))
        assert not place.times(number)[outside].any()
    hospital.close()
    assert drawn > 30
    assert examine_noise(np.array(noise), 3.0 * 20_000).p_value > 1e-4
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 6


def test_clipping_makes_a_canary_one_clip_norm_long(task: Task, prompt: Array) -> None:
    canaries = drawn_canaries(task.card, "Watch", (4, 16), 16, 1)
    place, quiet = watched(task, canaries, "r"), 1e-3
    from dataclasses import replace

    plan = replace(place.plan, mechanism=replace(place.mechanism, noise_multiplier=quiet))
    step = canary_step(canaries, 6, answer)
    update = step(canary_pool(canaries, 1, 6), prompt, plan, canary_scorer(canaries, 1.0), MysterySource(canaries), "r", "Watch", 1)
    assert np.abs(update.ravel() / 20_000 - place.clean(1)).max() < 10 * quiet
    assert set(np.abs(place.clean(1))) == {0.0, 1.0}


def test_noise_never_follows_from_the_file_and_draws_do(task: Task) -> None:
    canaries = drawn_canaries(task.card, "Watch", (4, 16), 16, 1)
    one, other = MysterySource(canaries), MysterySource(canaries)
    draws = [source.stream("draw", "r", "Watch", 1, 0).words(4).tolist() for source in (one, other)]
    assert draws[0] == draws[1]
    noise = [source.stream("noise", "r", "Watch", 1, 0) for source in (one, other)]
    assert all(isinstance(stream, SecureStream) for stream in noise)
    assert noise[0].words(4).tolist() != noise[1].words(4).tolist()


def test_patients_and_canaries_never_share_a_site(task: Task, tmp_path: Path) -> None:
    canaries = new_canaries(task.card, "Watch", (4, 16), 16, 1, tmp_path / "watch.canaries")
    card = audited(task, card_lines(canaries))
    data = '[data]\npath = "patients.csv"\nlabel = "y"\nlabels = { a = "well", b = "sick" }'
    with pytest.raises(InputError, match="exclude each other"):
        load_site(site_file(tmp_path, card, where=data + "\n" + CANARIES))
    with pytest.raises(InputError, match="key 'data' is missing"):
        load_site(site_file(tmp_path, card, where=""))
    (tmp_path / "patients.csv").write_text("age,pulse,y\n50,60,a\n")
    with pytest.raises(InputError, match="no patient belongs there"):
        open_hospital(load_site(site_file(tmp_path, card, where=data)), card)
    with pytest.raises(InputError, match="only that one has"):
        open_hospital(load_site(site_file(tmp_path, card, name="North")), card)
    with pytest.raises(InputError, match="has no patients and no table"):
        load_site(site_file(tmp_path, card)).data  # noqa: B018
    with pytest.raises(InputError, match="is missing; add the lines"):
        open_hospital(load_site(site_file(tmp_path, task, name="North")), task)
