"""Pre-train the small vision transformer of the chest X-ray demonstration: `python -m simulations.pretrain_vit DATA OUT`.

DATA is `pneumoniamnist.npz` (MedMNIST v2), OUT the folder of the model. Only the *public half* of the training images is read,
see `simulations.chest.public_half`, and no label is trained on: a masked autoencoder (He et al. 2022) learns to draw patches that
it does not see. The other half is what the demonstration's hospitals hold; this script never looks at it.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.card import Task
from shared.pixels import ImageTable, Pixels
from simulations.chest import Shots, public_half, read_arrays, with_nodules

STEPS, BATCH, WARM = 1600, 64, 50
HIDDEN = 0.6  # share of patches that the model must draw
RATE, DECAY = 1.5e-3, 0.05
SHIFT = 2  # pixels an image is moved at random, in both directions
SHOWN = 256  # public images of each task that go into the folder: they centre the output and start the label rows


def tiny_mae(size: int) -> Any:
    """Return an untrained `ViTMAEForPreTraining`: one channel, patches of 4, 6 layers of 128, 0.7 million weights."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining  # noqa: PLC0415 (a second to import)

    config = ViTMAEConfig(
        image_size=size,
        patch_size=4,
        num_channels=1,
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=192,
        decoder_hidden_size=64,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=128,
        mask_ratio=HIDDEN,
    )
    return ViTMAEForPreTraining(config)


def pretrain(model: Any, images: Pixels, steps: int = STEPS, seed: int = 0) -> list[float]:
    """Train `model` in place on normalised images (N, 1, H, W), and return the loss of each step.

    `seed` and torch's own seed fix the run up to the order of floating-point sums, which is the machine's.
    """
    random = torch.Generator().manual_seed(seed)
    every = torch.from_numpy(images)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    losses = []
    for step in range(steps):
        loss = model(_shifted(every[torch.randint(len(every), (BATCH,), generator=random)], random)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {losses[-1]:.4f}", file=sys.stderr, flush=True)  # noqa: T201
    return losses


def encoder_of(model: Any) -> Any:
    """Return the encoder as a plain `ViTModel`, which has the autoencoder's weights by the same names."""
    from transformers import ViTConfig, ViTModel  # noqa: PLC0415

    mae = model.config
    same = (
        "image_size",
        "patch_size",
        "num_channels",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
    )
    encoder = ViTModel(ViTConfig(**{name: getattr(mae, name) for name in same}), add_pooling_layer=False)
    encoder.load_state_dict(model.vit.state_dict())
    return encoder.eval()


def save(encoder: Any, how: ImageTable, public: dict[str, Shots], out: Path) -> None:
    """Write weights and configuration, how images are prepared, and labelled public images, a part of each entry of `public`."""
    encoder.save_pretrained(out)
    preparation = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": how.size, "width": how.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(how.mean),
        "image_std": list(how.std),
    }
    (out / "preprocessor_config.json").write_text(json.dumps(preparation, indent=2) + "\n", encoding="utf-8")
    step = [max(1, len(shots.labels) // SHOWN) for shots in public.values()]
    some = [Shots(shots.pictures[::n][:SHOWN], shots.labels[::n][:SHOWN]) for n, shots in zip(step, public.values(), strict=True)]
    images = np.concatenate([normalised(shots, how) for shots in some])
    np.savez_compressed(
        out / "public_images.npz", images=images, labels=np.array([name for shots in some for name in shots.labels])
    )


def normalised(shots: Shots, how: ImageTable) -> Pixels:
    """Return pictures as the model reads them, (N, C, H, W)."""
    return np.stack([how.prepare(picture.astype(np.float32) / np.float32(255)) for picture in shots.pictures])


def main(data: str, out: str) -> None:
    """Pre-train on the public half of `data` and write the model's folder `out`."""
    card = Task.load("chest-xray").card
    if card.image is None:
        raise TypeError("the chest X-ray card has no [image]")
    started = time.perf_counter()
    public = public_half(read_arrays(Path(data), card.files))
    torch.manual_seed(0)
    model = tiny_mae(card.image.size).train()
    losses = pretrain(model, normalised(public, card.image))
    save(encoder_of(model), card.image, {"finding": public, "nodule": with_nodules(public, 0)}, Path(out))
    print(f"{len(public.labels)} images, last loss {np.mean(losses[-50:]):.4f}, {time.perf_counter() - started:.0f} s")  # noqa: T201


def _rate(step: int, steps: int) -> float:
    """Return the share of the top learning rate: a linear start, then half a cosine."""
    return min(1.0, (step + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """Move each image (B, 1, H, W) by up to `SHIFT` pixels; its edge is repeated."""
    size = images.shape[-1]
    padded = torch.nn.functional.pad(images, [SHIFT] * 4, mode="replicate")
    corner = torch.randint(2 * SHIFT + 1, (len(images), 2), generator=random).tolist()
    return torch.stack([x[:, i : i + size, j : j + size] for x, (i, j) in zip(padded, corner, strict=True)])


if __name__ == "__main__":
    main(*sys.argv[1:])
