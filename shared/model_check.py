"""Is the card's model here, is it the one that the card pins, and does it load."""

from collections.abc import Iterator

from shared.backbone import fingerprint, locate
from shared.backbones.protocol import weights_of
from shared.card import TaskCard
from shared.device import described
from shared.findings import Finding
from shared.room import size
from shared.scoring import build

OTHER = "install the model that the card names, or agree on a new card"


def file_findings(card: TaskCard) -> Iterator[Finding]:
    """Compare the model's files with the card's fingerprint, without loading them."""
    folder, source = locate(card.backbone.source), card.backbone.source
    found = fingerprint(folder)
    if found == card.backbone.fingerprint:
        yield Finding("model files", "ok", f"{source}: fingerprint {found}, as the card pins")
    else:
        said = f"{source}: fingerprint is {found} in {folder}; the card pins {card.backbone.fingerprint}"
        yield Finding("model files", "wrong", said, OTHER)


def device_findings(device: str) -> Iterator[Finding]:
    """Say where the model will run, and what that is; a device that is not here raises `InputError`."""
    yield Finding("device", "ok", f"the model runs on {described(device)}")


def load_findings(card: TaskCard, device: str = "cpu") -> Iterator[Finding]:
    """Load the model and make the first prompt, as every party does."""
    scorer, _ = build(card, device)
    tensor = f"a tensor {scorer.shape.shape} of {size(scorer.shape.nbytes)}"
    said = f"loaded, {weights_of(scorer.backbone.model):,} weights; the prompt is {tensor}"
    yield Finding("model", "ok", said)
