"""The imaging demonstration. Tests on its real radiographs are skipped where ../shared/data is not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from promptward import main
from shared.backbone import fingerprint, load_backbone
from shared.card import Task
from shared.errors import InputError
from shared.pixels import ImageTable
from shared.privacy.planned import epsilon_of_plan
from shared.scoring import Scorer, build
from simulations.chest import Shots, chest_study, mirrored, part_of, private_half, public_half, read_arrays
from simulations.partition import Scheme
from simulations.pretrain_vit import Painter, normalised, pretrain, save
from simulations.study import deal_out
from tests.pictures import write_manifest, write_png


def outputs(scorer: Scorer, shots: Shots, rows: torch.Tensor) -> np.ndarray:
    return scorer.embed(normalised(shots, CHEST.card.picture), rows).numpy()


DATA = Path(__file__).parents[3] / "shared/data/pneumoniamnist.npz"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not here")
CHEST, MIRROR = Task.load("chest-xray"), Task.load("chest-mirrored")


@needs_data
def test_the_two_halves_share_no_picture() -> None:
    arrays = read_arrays(DATA, CHEST.card.files)
    public, private = public_half(arrays), private_half(arrays)
    assert len(public.labels) == len(private.labels) == 2345
    seen = {picture.tobytes() for picture in public.pictures}
    assert not any(picture.tobytes() in seen for picture in private.pictures)


@needs_data
def test_what_the_model_comes_with_is_public() -> None:
    """Every labelled image beside the weights is of the public half, as it is or mirrored."""
    card = CHEST.card
    backbone = load_backbone(card.backbone.source, card.backbone.fingerprint)
    assert backbone.public_images is not None
    halves = public_half(read_arrays(DATA, card.files)).pictures
    prepared = np.stack([card.picture.prepare(p.astype(np.float32) / np.float32(255)) for p in halves])
    public = {image.tobytes() for each in (prepared, prepared[..., ::-1]) for image in np.ascontiguousarray(each)}
    assert all(image.tobytes() in public for image in backbone.public_images.images)


@needs_data
def test_labels_are_uneven_and_the_test_part_is_the_datasets() -> None:
    study = chest_study(DATA, CHEST.card)
    found = deal_out(study, CHEST.card, Scheme("natural"), CHEST.card.plan.sites, 43)
    assert sum(site.train.size for site in found.values()) == 2345
    assert sum(site.test.size for site in found.values()) == 621
    shares = [np.mean(site.train.labels) for site in found.values()]
    assert max(shares) - min(shares) > 0.3
    assert min(site.train.size for site in found.values()) >= 50


def test_both_tasks_stay_under_their_epsilon_on_the_same_frozen_model() -> None:
    for task in (CHEST, MIRROR):
        assert epsilon_of_plan(task.card) <= 3.0
    assert CHEST.card.backbone == MIRROR.card.backbone
    assert CHEST.card.image == MIRROR.card.image


@needs_data
@pytest.mark.slow
def test_hospitals_learn_pneumonia_with_privacy(tmp_path: Path) -> None:
    """The floor of the demonstration: pooled test AUC of at least .88 with epsilon at most 3 at each of six sites."""
    assert main(["simulate", "chest-xray", "--data", str(DATA), "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["task_digest"] == CHEST.digest
    assert len(result["sites"]) == 6
    assert all(site["epsilon"] <= 3.0 and site["unit"] == "patient" for site in result["sites"])
    assert result["metrics"]["pooled_auc"]["mean"] >= 0.88


@needs_data
@pytest.mark.slow
def test_without_privacy_a_prompt_reaches_the_linear_probe(tmp_path: Path) -> None:
    """On the same frozen model: what a logistic regression on its output, trained on all hospitals' images at once, reaches."""
    run = tmp_path / "run"
    assert main(["simulate", "chest-xray", "--data", str(DATA), "--no-privacy", "--out", str(run)]) == 0
    arrays = read_arrays(DATA, CHEST.card.files)
    scorer, _ = build(CHEST.card)
    no_rows = torch.zeros(0, scorer.shape.dim)
    train, test = (outputs(scorer, shots, no_rows) for shots in (private_half(arrays), part_of(arrays, "test")))
    labels = [half.labels for half in (private_half(arrays), part_of(arrays, "test"))]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(train, labels[0])
    reached = roc_auc_score(labels[1], probe.decision_function(test))
    result = json.loads((run / "result.json").read_text())
    assert reached > 0.9
    assert result["metrics"]["pooled_auc"]["mean"] >= reached - 0.01


@needs_data
def test_one_frozen_model_reads_both_tasks_and_only_the_prompt_changes() -> None:
    """One pass below the prompts' layer; each record is then scored by the prompt of its own task, in one mixed batch."""
    arrays = read_arrays(DATA, CHEST.card.files)
    (scorer, pneumonia), (other, turned) = build(CHEST.card), build(MIRROR.card)
    assert scorer.backbone is other.backbone
    assert torch.equal(scorer.centre, other.centre)
    shots = mirrored(part_of(arrays, "test"), 2)
    sick = np.array([label == "pneumonia" for label in part_of(arrays, "test").labels])
    hidden = scorer.read(normalised(shots, CHEST.card.picture))
    first, second = (scorer.probabilities(hidden, torch.from_numpy(prompt)) for prompt in (pneumonia, turned))
    assert roc_auc_score(sick, first[:, 1]) > 0.8  # where the prompts start, before any patient
    assert roc_auc_score([label == "mirrored" for label in shots.labels], second[:, 1]) > 0.8
    which = torch.arange(len(hidden)) % 2
    mixed = torch.stack([torch.from_numpy(prompt) for prompt in (pneumonia, turned)])[which]  # (B, P+L, D)
    with torch.no_grad():
        found = scorer.logits(hidden, mixed).softmax(-1)
    torch.testing.assert_close(found, torch.where(which[:, None] == 0, first, second), atol=1e-5, rtol=0)


@needs_data
def test_another_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, train_images=np.zeros((2, 28, 28), dtype=np.uint8))
    with pytest.raises(InputError, match="the card pins"):
        chest_study(other, CHEST.card)


def test_an_image_card_without_images_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "chest-xray"]) == 2
    assert "reads images; name them with --data" in capsys.readouterr().err


def test_mirroring_is_labelled_and_nothing_else_changes() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 6, 6)).astype(np.uint8)
    found = mirrored(Shots(pictures, ["normal"] * 40), 3)
    assert 10 < found.labels.count("mirrored") < 30
    for before, after, label in zip(pictures, found.pictures, found.labels, strict=True):
        np.testing.assert_array_equal(after, before[:, ::-1] if label == "mirrored" else before)


def test_pretraining_learns_to_draw_and_its_folder_is_a_backbone(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    bars = (np.indices((28, 28))[0] // random.integers(3, 9, (64, 1, 1)) % 2 * 255).astype(np.uint8)  # (64, 28, 28)
    how, shots = ImageTable(size=28), Shots(bars, ["normal"] * 32 + ["pneumonia"] * 32)
    model = Painter(28).train()
    losses = pretrain(model, np.stack([how.prepare(b.astype(np.float32) / np.float32(255)) for b in bars]), steps=12)
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    save(model.encoder.eval(), how, [shots], tmp_path)
    backbone = load_backbone(f"folder:{tmp_path}", fingerprint(tmp_path))
    assert backbone.depth == 6
    assert backbone.public_images is not None
    assert set(backbone.public_images.labels) == {"normal", "pneumonia"}


def test_your_own_folder_of_images_is_simulated(tmp_path: Path) -> None:
    """`simulate --data STUDY` with `[images]`: PNG files of two hospitals, the shipped model, one round."""
    random, rows = np.random.default_rng(0), []
    for number in range(48):
        sick = number % 2
        write_png(tmp_path / f"files/{number}.png", random.integers(0, 100 + 100 * sick, (30, 40)).astype(np.uint8))
        rows.append((f"{number}.png", f"p{number}", "1" if sick else "0", "east" if number % 4 < 2 else "west"))
    write_manifest(tmp_path / "manifest.csv", ["file", "patient", "sick", "ward"], rows)
    (tmp_path / "study.toml").write_text(
        'schema = 1\n[images]\nmanifest = "manifest.csv"\nfolder = "files"\nlabel = "sick"\npatient = "patient"\nsite = "ward"\n'
        'labels = { "0" = "normal", "1" = "pneumonia" }\n'
    )
    card = tmp_path / "card.toml"
    sites = 'sites = ["Alder", "Birch", "Cedar", "Elm", "Hazel", "Rowan"]'
    card.write_text(CHEST.text.replace(sites, 'sites = ["east", "west"]'))
    run = tmp_path / "run"
    assert main(["simulate", str(card), "--data", str(tmp_path / "study.toml"), "--rounds", "1", "--out", str(run)]) == 0
    result = json.loads((run / "result.json").read_text())
    assert [site["n_train"] + site["n_test"] for site in result["sites"]] == [24, 24]
