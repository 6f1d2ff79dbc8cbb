"""Methods that train the model's own weights: LoRA (Hu et al. 2022, by the library peft), and full fine-tuning.

Both score labels as the prompt does, with trained label rows, so that only what is tuned below them differs. Per-record gradients
come from `torch.func`: one gradient, mapped over the records of a micro-batch.
Letters in shape comments: R records, T tokens, L labels, D hidden size, K trained numbers.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from shared.backbone import Hidden
from shared.backbones.encoder import Encoder
from shared.backbones.text import tokens_of
from shared.errors import InputError
from shared.scoring import Scorer, build
from simulations.comparison.ghost import Named, add_clipped, trained_layers, watched
from simulations.comparison.method import AddClipped, Method, Probabilities
from simulations.comparison.prompts import probe
from simulations.comparison.split import Split

RANK = 4  # of LoRA; its scale alpha is twice that, peft's usual ratio
HELD = 2**27  # numbers of per-record gradients that are held at once: 512 MiB
MOST_RECORDS = 64
LABELS = "label_rows"


class Reader(nn.Module):
    """A model of its own that reads token numbers (R, T) and scores labels with given label rows (L, D)."""

    def __init__(self, scorer: Scorer) -> None:
        """Copy the scorer's model, which stays as it is."""
        super().__init__()
        encoder = _encoder(scorer)
        self.model = copy.deepcopy(encoder.model)
        self.model.set_attn_implementation("eager")  # plain matrix products, which vmap knows best
        self._scorer = replace(scorer, layer=0, backbone=replace(encoder, model=self.model))

    def forward(self, ids: Tensor, mask: Tensor, label_rows: Tensor) -> Tensor:
        """Return label scores (R, L)."""
        words = self.model.base_model.get_input_embeddings()(ids)  # (R, T, D)
        return self._scorer.logits(Hidden(words, mask), label_rows)


def lora(split: Split) -> Method:
    """Return LoRA on query and value of every layer, with label rows; its B starts at zero, so the model starts as it is."""
    import peft  # noqa: PLC0415 (seconds to import)

    reader, start = _reader(split)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # a public constant, from which A starts; not a source of noise
        config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0)
        peft.inject_adapter_in_model(config, reader.model)
    reader.eval()
    trained = {name: value for name, value in reader.named_parameters() if "lora_" in name}
    return _method(split, reader, trained, start)


def full(split: Split) -> Method:
    """Return full fine-tuning: every weight that the model's output depends on, with label rows."""
    reader, start = _reader(split)
    unused = () if _encoder(reader._scorer).readout == "pooler" else (".pooler.",)
    trained = {name: value for name, value in reader.named_parameters() if not any(part in f".{name}" for part in unused)}
    for value in trained.values():
        value.requires_grad_()
    method = _method(split, reader, trained, start)
    return replace(method, add_clipped=_ghost(split, reader, trained, start))


@dataclass(frozen=True)
class Layout:
    """How a flat tensor (K,) is cut into named ones."""

    shapes: Mapping[str, torch.Size]

    def cut(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the named tensors, views of `theta`."""
        pieces = torch.split(theta, [shape.numel() for shape in self.shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def joined(self, named: Mapping[str, Tensor]) -> Tensor:
        """Return per-record tensors (R, ...) of all names as (R, K)."""
        return torch.cat([named[name].flatten(1) for name in self.shapes], 1)


def _method(split: Split, reader: Reader, trained: Named, label_start: Tensor) -> Method:
    layout = _layout(trained, label_start)
    start = torch.cat([value.flatten() for value in (*trained.values(), label_start)]).detach()  # (K,)
    tokenizer, most = _encoder(reader._scorer).tokenizer, _encoder(reader._scorer).max_tokens
    ids, mask = tokens_of(tokenizer, split.train, most)  # (B, T) each
    tested, test_mask = tokens_of(tokenizer, split.test, most)  # (M, T) each
    batch = max(1, min(MOST_RECORDS, HELD // len(start)))

    def scores(parameters: Mapping[str, Tensor], ids: Tensor, mask: Tensor) -> Tensor:
        weights = {name: value for name, value in parameters.items() if name != LABELS}
        return functional_call(reader, weights, (ids, mask, parameters[LABELS]))  # type: ignore[no-any-return]  # (R, L)

    def loss(parameters: Mapping[str, Tensor], ids: Tensor, mask: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(scores(parameters, ids[None], mask[None]), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0, 0))

    def record_gradients(index: Tensor, theta: Tensor) -> Tensor:
        long = int(mask[index].sum(1).max())
        return layout.joined(each(layout.cut(theta), ids[index, :long], mask[index, :long], split.labels[index]))  # (R, K)

    @torch.no_grad()
    def probabilities(theta: Tensor) -> Probabilities:
        pieces = zip(torch.split(tested, 256), torch.split(test_mask, 256), strict=True)
        found = torch.cat([scores(layout.cut(theta), *piece) for piece in pieces])  # (M, L)
        return found.softmax(-1).numpy()

    return Method(start.numpy(), record_gradients, probabilities, batch)


def _layout(trained: Named, label_start: Tensor) -> Layout:
    return Layout({**{name: value.shape for name, value in trained.items()}, LABELS: label_start.shape})


def _ghost(split: Split, reader: Reader, trained: Named, label_start: Tensor) -> AddClipped | None:
    """Return the fast way to a clipped sum: see `ghost`; None for a model with layers that it does not know."""
    layers = trained_layers(reader)
    if layers is None:
        return None
    layout = _layout(trained, label_start)
    ids, mask = tokens_of(_encoder(reader._scorer).tokenizer, split.train, _encoder(reader._scorer).max_tokens)  # (B, T) each

    def add(total: Tensor, mine: Sequence[Tensor], theta: Tensor, clip_norm: float) -> None:
        index, counts = torch.cat(list(mine)), [len(m) for m in mine]
        long = int(mask[index].sum(1).max())
        named = layout.cut(theta.detach().requires_grad_())
        rows = named.pop(LABELS).detach().repeat(len(index), 1, 1).requires_grad_()  # (R, L, D)
        with watched(layers) as seen:
            scores = functional_call(reader, named, (ids[index, :long], mask[index, :long], rows))  # (R, L)
        weight = 1 / torch.tensor(counts).repeat_interleave(torch.tensor(counts))  # (R,)
        loss = weight @ functional.cross_entropy(scores, split.labels[index], reduction="none")
        *slopes, apart = torch.autograd.grad(loss, [*(each.given for each in seen), rows])  # (R, T, D) each, and (R, L, D)
        add_clipped(layout.cut(total), seen, slopes, {LABELS: apart}, counts, clip_norm)

    return add


def _reader(split: Split) -> tuple[Reader, Tensor]:
    """Return the model without prompt rows and where its label rows start, (L, D)."""
    scorer, start = build(probe(split.task).card)
    return Reader(scorer).requires_grad_(False), torch.from_numpy(start)


def _encoder(scorer: Scorer) -> Any:
    if type(scorer.backbone) is not Encoder:
        raise InputError("LoRA and full fine-tuning are compared on text encoders only; leave lora and full out of --methods.")
    if scorer.windows is not None:
        raise InputError("LoRA and full fine-tuning read no windows ([template] windows); leave lora and full out of --methods.")
    return scorer.backbone
