"""A tiny ViT of the real class with random weights, and prompts on it, as a run leaves them."""

from pathlib import Path

import numpy as np
import torch
import transformers as hf

from shared.backbone import fingerprint
from shared.card import Task
from shared.peft_format import save_prompt
from shared.scoring import build

CARD = """
schema = 1
name = "{name}"
title = "A tiny task of images"
labels = [{{ name = "well" }}, {{ name = "sick" }}]
backbone = {{ source = "folder:{folder}", fingerprint = "{fingerprint}" }}
image = {image}
prompt = {{ rows = 1, readout = "mean", public_records = 8 }}
privacy = {{ delta = 1e-4, sample_rate = 0.5, clip_norm = 1.0, noise_multiplier = 3.0, max_records = 2 }}
plan = {{ rounds = 3, patients_per_round = 4.0, sites = ["North", "South"] }}
"""
PLAIN = "{ size = 8, mean = [0.5], std = [0.5] }"
WINDOWED = "{ size = 8, mean = [0.5], std = [0.5], window = [40, 100] }"


def write_vit(folder: Path) -> Path:
    torch.manual_seed(0)
    config = hf.ViTConfig(
        image_size=8, patch_size=4, num_channels=1, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32
    )
    hf.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def write_prompt(run: Path, vit: Path, name: str, seed: int, image: str = PLAIN) -> Task:
    """Write RUN/prompt and RUN/task.toml of a random prompt."""
    task = Task.parse(CARD.format(name=name, folder=vit, fingerprint=fingerprint(vit), image=image), name)
    scorer, prompt = build(task.card)
    moved = prompt + np.random.default_rng(seed).normal(size=prompt.shape).astype(np.float32)
    save_prompt(run / "prompt", moved, task, scorer, {})
    (run / "task.toml").write_text(task.text)
    return task
