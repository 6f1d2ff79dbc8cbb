"""Pre-train the small vision transformer of the chest X-ray demonstration: `python -m simulations.pretrain_vit DATA OUT`.

DATA is `pneumoniamnist.npz` (MedMNIST v2), OUT the folder of the model. Only the *public half* of the training images is read,
see `simulations.chest.public_half`, and no label is trained on. Half of an image's patches are masked; each token learns to draw
its own patch (SimMIM, Xie et al. 2022), and the class token and the mean of the patches' tokens learn to draw the whole image, so
that what a prompt's label rows read knows of all of it. The other half is what the hospitals hold; this script never looks at it.

Letters in shape comments: B images, T patches, S pixels of a side, D hidden size.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shared.card import Task
from shared.pixels import ImageTable, Pixels
from simulations.chest import Shots, mirrored, public_half, read_arrays

STEPS, BATCH, WARM = 600, 64, 30
MASKED = 0.5  # share of patches that the model must draw
PATCH = 7
RATE, DECAY = 2e-3, 0.05
SHIFT = 2  # pixels an image is moved at random, in both directions
SHOWN = 256  # public images of each task that go into the folder: they centre the output and start the label rows


class Painter(torch.nn.Module):
    """An encoder with three linear heads that draw; the heads are thrown away.

    Attributes:
        encoder: a `ViTModel`: one channel, 6 layers of 128, 0.7 million weights.
    """

    def __init__(self, size: int) -> None:
        """Make it for images of `size` pixels a side, untrained."""
        from transformers import ViTConfig, ViTModel  # noqa: PLC0415 (a second to import)

        super().__init__()
        config = ViTConfig(
            image_size=size,
            patch_size=PATCH,
            num_channels=1,
            hidden_size=128,
            num_hidden_layers=6,
            num_attention_heads=4,
            intermediate_size=192,
        )
        self.encoder = ViTModel(config, add_pooling_layer=False, use_mask_token=True)
        self.patch, self.whole, self.mean = (torch.nn.Linear(128, pixels) for pixels in (PATCH**2, size**2, size**2))

    def loss(self, images: Tensor, masked: Tensor) -> Tensor:
        """Return the mean squared error of what is drawn of images (B, 1, S, S) with patches `masked` (B, T)."""
        states = self.encoder(images, bool_masked_pos=masked).last_hidden_state  # (B, 1+T, D)
        patches = functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2)  # (B, T, 49)
        own = (self.patch(states[:, 1:]) - patches).square().mean(-1)[masked]
        every = images.flatten(1)  # (B, S*S)
        by_class_token = functional.mse_loss(self.whole(states[:, 0]), every)
        by_mean = functional.mse_loss(self.mean(states[:, 1:].mean(1)), every)
        loss: Tensor = own.mean() + by_class_token + by_mean
        return loss


def pretrain(model: Painter, images: Pixels, steps: int = STEPS) -> list[float]:
    """Train `model` in place on normalised images (N, 1, S, S), and return the loss of each step.

    Its seed and that of the weights fix the run up to the order of floating-point sums, which is the machine's.
    """
    random = torch.Generator().manual_seed(0)
    every = torch.from_numpy(images)
    patches = (images.shape[-1] // PATCH) ** 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    losses = []
    for step in range(steps):
        batch = _shifted(every[torch.randint(len(every), (BATCH,), generator=random)], random)  # (B, 1, S, S)
        masked = torch.rand(len(batch), patches, generator=random).argsort(1) < MASKED * patches  # (B, T)
        loss = model.loss(batch, masked)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {losses[-1]:.4f}", file=sys.stderr, flush=True)  # noqa: T201
    return losses


def save(encoder: Any, how: ImageTable, public: Sequence[Shots], out: Path) -> None:
    """Write weights and configuration, how images are prepared, and `SHOWN` labelled images of each of `public`."""
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
    shown = [np.linspace(0, len(shots.labels) - 1, SHOWN).astype(int) for shots in public]  # evenly over the file's order
    images = [normalised(Shots(shots.pictures[n], shots.labels), how) for n, shots in zip(shown, public, strict=True)]
    labels = [shots.labels[n] for some, shots in zip(shown, public, strict=True) for n in some]
    np.savez_compressed(out / "public_images.npz", images=np.concatenate(images), labels=np.array(labels))


def normalised(shots: Shots, how: ImageTable) -> Pixels:
    """Return pictures as the model reads them, (N, C, H, W)."""
    return np.stack([how.prepare(picture.astype(np.float32) / np.float32(255)) for picture in shots.pictures])


def main(data: str, out: str) -> None:
    """Pre-train on the public half of `data` and write the model's folder `out`."""
    card = Task.load("chest-xray").card
    torch.set_num_threads(1)  # another number sums in another order, and gives other weights
    started = time.perf_counter()
    public = public_half(read_arrays(Path(data), card.files))
    torch.manual_seed(0)
    model = Painter(card.picture.size).train()
    losses = pretrain(model, normalised(public, card.picture))
    model.encoder.embeddings.mask_token = None  # of no use once trained
    save(model.encoder.eval(), card.picture, [public, mirrored(public, 0)], Path(out))
    print(f"{len(public.labels)} images, last loss {np.mean(losses[-50:]):.4f}, {time.perf_counter() - started:.0f} s")  # noqa: T201


def _rate(step: int, steps: int) -> float:
    """Return the share of the top learning rate: a linear start, then half a cosine."""
    return min(1.0, (step + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """Move each image (B, 1, H, W) by up to `SHIFT` pixels; its edge is repeated."""
    size = images.shape[-1]
    padded = functional.pad(images, [SHIFT] * 4, mode="replicate")
    corner = torch.randint(2 * SHIFT + 1, (len(images), 2), generator=random).tolist()
    return torch.stack([x[:, i : i + size, j : j + size] for x, (i, j) in zip(padded, corner, strict=True)])


if __name__ == "__main__":
    main(*sys.argv[1:])
