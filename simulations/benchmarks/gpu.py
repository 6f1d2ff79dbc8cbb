"""The floors of a GPU: ``python -m simulations.benchmarks.gpu [--device cuda] [--turns 5] [--tiny]``.

BERT-base and ViT-B sizes with random weights, a prompt at the input, made-up records, in float32 and bfloat16:

* a round of 100 sites, each of which draws about ten of its twenty patients: all together (`simulations.batched`) against one site
  after the other (`client.round`), with clipping and noise, by the clock on the wall;
* a step's share of the device's own matrix product peak, measured again before every step, in the same dtype: 4N operations a token
  are counted, with N the weights of the layers' linear maps; attention's own products, which are work too, are not.

``--device cpu --tiny`` tries the script itself, with sizes whose ratios mean nothing.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
import transformers
from torch import Tensor, nn

from client.round import LocalPlan, Pool, answer
from shared.backbone import Records, fingerprint, locate
from shared.card import Task
from shared.device import described
from shared.errors import InputError
from shared.privacy.planned import mechanism_of
from shared.privacy.source import SimulationSource
from shared.scoring import WIDE, Scorer, build
from simulations.benchmarks.steps import SENTENCE
from simulations.benchmarks.turns import conditions, line, measured
from simulations.stack import answers, stack

ROWS = 4
FLOORS = {"batched": ">= 5", "share": ">= 0.40"}


@dataclass(frozen=True)
class Sizes:
    """How much is computed; `layers`, `width` and `side` (of the products that give the peak) are the sizes of the models."""

    sites: int = 100
    patients: int = 20
    layers: int = 12
    width: int = 768
    side: int = 8192


TINY = Sizes(sites=3, patients=4, layers=2, width=64, side=128)


def bert(folder: Path, sizes: Sizes) -> Records:
    """Write a BERT with random weights, and return a site's records: sentences of 64 tokens."""
    shape = {"hidden_size": sizes.width, "num_hidden_layers": sizes.layers, "intermediate_size": 4 * sizes.width}
    config = transformers.BertConfig(**shape, num_attention_heads=sizes.width // 64)
    transformers.BertModel(config).save_pretrained(folder)
    demonstration = locate(Task.load("heart-disease").card.backbone.source)
    transformers.AutoTokenizer.from_pretrained(demonstration, local_files_only=True).save_pretrained(folder)
    return [SENTENCE * 10] * sizes.patients


def vit(folder: Path, sizes: Sizes) -> Records:
    """Write a ViT with random weights, and return a site's records: images of noise, 197 tokens each where sizes are real."""
    shape = {"hidden_size": sizes.width, "num_hidden_layers": sizes.layers, "intermediate_size": 4 * sizes.width}
    side = 224 if sizes.width == 768 else 32
    config = transformers.ViTConfig(**shape, num_attention_heads=sizes.width // 64, image_size=side)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return np.random.default_rng(0).standard_normal((sizes.patients, 3, side, side), dtype=np.float32)


def card(folder: Path, dtype: str, texts: bool) -> Task:
    """Return a card whose prompt stands at the input of the model in `folder`."""
    raw: dict[str, Any] = {
        "schema": 1,
        "name": "gpu",
        "title": "Random weights",
        "labels": [{"name": name, "text": name if texts else ""} for name in ("well", "sick")],
        "backbone": {"source": f"folder:{folder}", "fingerprint": fingerprint(folder), "dtype": dtype, "max_tokens": 64},
        "prompt": {"rows": ROWS, "layer": 0, "public_records": 8},
        "privacy": {"delta": 1e-4, "sample_rate": 0.5, "clip_norm": 1.0, "noise_multiplier": 3.0},
        "plan": {"rounds": 10, "patients_per_round": 10.0, "sites": ["North"]},
    }
    words = {"text": "age {age}", "fields": {"age": {"edges": [50], "words": ["low", "high"]}}}
    return Task.parse(tomli_w.dumps(raw | ({"template": words} if texts else {})), "the benchmark's card")


def pools_of(scorer: Scorer, records: Records, sizes: Sizes) -> dict[str, Pool]:
    """Return the sites, all of which have the same patients: what they are does not change how long they take."""
    hidden, labels = scorer.read(records), torch.arange(sizes.patients) % 2
    own = tuple(torch.tensor([number]) for number in range(sizes.patients))
    return {f"site-{number}": Pool(hidden, labels, own) for number in range(sizes.sites)}


def rounds(task: Task, scorer: Scorer, prompt: Any, pools: dict[str, Pool]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return a round of all sites together, and of one after the other; both give the same updates, in the sites' order."""
    plan, source = LocalPlan(mechanism_of(task.card), 1, 0.1, 10.0), SimulationSource(0)
    stacked = stack(pools)

    def together() -> list[Any]:
        return list(answers(stacked, range(len(pools)), prompt, plan, scorer, source, "seed0", 1).values())

    def alone() -> list[Any]:
        return [answer(pool, prompt, plan, scorer, source, "seed0", name, 1) for name, pool in pools.items()]

    return together, alone


def peak(side: int, dtype: torch.dtype, device: str) -> float:
    """Return operations a second, of the best of three products."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def product() -> float:
        return float((a @ b)[0, 0])  # a number waits for the device

    return 2 * side**3 / min(measured(product).wall for _ in range(3))


def share(scorer: Scorer, prompt: Tensor, pool: Pool, sizes: Sizes, turns: int) -> list[float]:
    """Return the share of the peak in each step, gradients in this machine's memory included; the first step warms up."""
    device, dtype = str(scorer.device), scorer.backbone.model.dtype
    index = torch.arange(WIDE) % len(pool.labels)
    hidden, labels = pool.hidden[index], pool.labels[index]
    linear = sum(
        module.weight.numel() for layer in scorer.backbone.layers for module in layer.modules() if isinstance(module, nn.Linear)
    )
    work = 4 * linear * WIDE * (hidden.mask.shape[1] + ROWS)
    found = []
    for _ in range(turns + 1):
        best = peak(sizes.side, dtype, device)
        found.append(work / measured(lambda: scorer.record_gradients(hidden, labels, prompt, WIDE)).wall / best)
    return found[1:]


def measure(name: str, dtype: str, device: str, sizes: Sizes, turns: int) -> None:
    """Print both ratios for a model."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        records = (bert if name == "BERT" else vit)(Path(folder), sizes)
        task = card(Path(folder), dtype, texts=name == "BERT")
        scorer, prompt = build(task.card, device)
    pools = pools_of(scorer, records, sizes)
    together, alone = rounds(task, scorer, prompt, pools)
    off = max(int(np.abs(a - b).max()) for a, b in zip(together(), alone(), strict=True))  # this warms both up
    times = [(measured(alone).wall, measured(together).wall) for _ in range(turns)]
    print(json.dumps({"model": name, "dtype": dtype, "alone_s": times[-1][0], "together_s": times[-1][1], "grid_steps_off": off}))
    print(line(f"{sizes.sites} sites together, {name}, {dtype}", [a / b for a, b in times], FLOORS["batched"]))
    shares = share(scorer, torch.from_numpy(prompt), pools["site-0"], sizes, turns)
    print(line(f"share of peak, {name}, {dtype}", shares, FLOORS["share"]), flush=True)


def main(words: Sequence[str]) -> int:
    """Print the ratios, or why they cannot be measured here."""
    parser = argparse.ArgumentParser(prog="python -m simulations.benchmarks.gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args(words)
    try:
        print(f"{conditions()}; {described(args.device)}")
    except InputError as error:
        print(f"NOT MEASURED: {error}")
        return 2
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in ("BERT", "ViT"):
        for dtype in ("float32", "bfloat16"):
            measure(name, dtype, args.device, TINY if args.tiny else Sizes(), args.turns)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
