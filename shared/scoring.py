"""From hidden states and a prompt to label scores, and the gradient of each record's loss for the prompt.

Letters in shape comments: B records, T tokens, P prompt rows, L labels, D hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shared.backbone import Backbone, Hidden, Records, load_backbone
from shared.backbones.text import texts_of
from shared.backbones.tuning import Tuning, tuning_of
from shared.card import TaskCard
from shared.errors import InputError
from shared.prompt import Array, PromptShape, initial_rows, random_rows
from shared.reuse import PREFIX, trained_start
from shared.windows import Windows

WIDE = 256  # records in one pass on a GPU
BATCH = 64  # records in one pass: on a processor no slower a record than more of them, and a quarter of the memory of 256
COSINE_SCALE = 20.0  # of a card that names no scale and whose labels are scored by cosines


Loss = Callable[[Hidden, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Scorer:
    """Scores records with a prompt on a frozen backbone.

    logits = scale * z · w_label / |w_label|, with z the record's vector (of a text, the mean of its last states) minus `centre`,
    normalised; or, where the backbone's labels are words of an output layer, logits = scale * (z · w_label + bias_label).
    Every record is scored by itself: nothing couples the records of a batch.
    """

    backbone: Backbone
    shape: PromptShape
    layer: int
    scale: float
    centre: Tensor  # (D,) from public records only
    fixed_labels: Tensor | None = None  # (L, D) where the prompt has no label rows
    bias: Tensor | None = None  # (L,) the output layer's, of label words
    deep: bool = False  # the prompt has rows for every layer from `layer` on
    tuning: Tuning | None = None  # where the tensor's rows are changes of the model, and the prompt's rows are frozen
    windows: Windows | None = None  # how a long text is read; None: it is cut
    fast: Loss | None = None  # `loss`, compiled: `shared.compiled`

    @property
    def device(self) -> torch.device:
        """Where the model is; what the public functions return is in this machine's memory, but for `logits` and `pooled`."""
        return self.backbone.model.device  # type: ignore[no-any-return]

    @property
    def labels(self) -> int:
        """The number of labels."""
        return self.shape.labels if self.fixed_labels is None else len(self.fixed_labels)

    def read(self, records: Records) -> Hidden:
        """Return the hidden states below the prompt's layer of texts or images (B, C, H, W): computed once, kept in memory."""
        if self.windows is None or isinstance(records, np.ndarray):
            return self.backbone.below(records, self.layer)
        cut = self.windows.cut(texts_of(records), self.backbone.tokenizer)
        hidden = self.backbone.below([window for own in cut for window in own], self.layer)  # states (W, T, D)
        return replace(hidden, windows=torch.tensor([len(own) for own in cut])) if len(hidden) > len(cut) else hidden

    def prepared(self, hidden: Hidden) -> Hidden:
        """Return what was read, made ready for many steps: several times as large, the same but for floating point.

        Where the tensor holds changes of the model, everything above its layer may change, and nothing is made ready.
        """
        return hidden if self.tuning else self.backbone.prepared(hidden, self.layer)

    def logits(self, hidden: Hidden, prompt: Tensor) -> Tensor:
        """Return label scores (B, L) for a prompt (P+L, D), or one prompt per record (B, P+L, D).

        A record of several windows has the mean of their scores. They are on the model's device, wherever the arguments are.
        """
        hidden, prompt = hidden.to(self.device), prompt.to(self.device)
        per_record = prompt if prompt.dim() == 3 else prompt.expand(len(hidden), -1, -1)  # (B, P+L, D)
        if hidden.windows is not None:
            return hidden.averaged(self.logits(hidden.apart, per_record[hidden.owner]))
        rows, label_rows = self.shape.split(per_record)  # (B, P, D), (B, L, D)
        if self.fixed_labels is not None:
            label_rows = self.fixed_labels.to(self.device).expand(len(hidden), -1, -1)
        z = self.pooled(hidden, rows) - self.centre.to(self.device)  # (B, D)
        if not self.backbone.cosine:
            scores = torch.einsum("bd,bld->bl", z, label_rows)  # (B, L)
            return self.scale * (scores if self.bias is None else scores + self.bias.to(self.device))
        z, label_rows = functional.normalize(z, dim=-1), functional.normalize(label_rows, dim=-1)
        return self.scale * torch.einsum("bd,bld->bl", z, label_rows)  # (B, L)

    def pooled(self, hidden: Hidden, rows: Tensor) -> Tensor:
        """Return the vector of each record that labels are scored on, (B, D) as float32, for the tensor's rows (B, P, D)."""
        if self.tuning is None:
            return self._read_out(hidden, rows)
        with self.tuning.moved(rows):
            return self._read_out(hidden, self.tuning.frozen.to(rows.device).expand(len(rows), -1, -1))

    def _read_out(self, hidden: Hidden, rows: Tensor) -> Tensor:
        if self.deep:  # the layers' rows stand one after the other
            layers = self.backbone.depth - self.layer
            rows = rows.reshape(len(rows), layers, -1, self.shape.dim)  # (B, n, P/n, D)
        return self.backbone.pooled(hidden, rows, self.layer)

    @property
    def at_once(self) -> int:
        """How many records of many sites the batched engine reads in one pass."""
        return self.most(BATCH if self.device.type == "cpu" else WIDE)

    def most(self, batch: int) -> int:
        """Return how many records, at most `batch`, are read at once with gradients or prompts of their own."""
        return batch if self.tuning is None else self.tuning.fitting(batch)

    @property
    def positions(self) -> int:
        """The positions of the model that prompt rows take beside a text's tokens."""
        return self.shape.rows if self.tuning is None else len(self.tuning.frozen)

    @torch.no_grad()
    def embed(self, records: Records, rows: Tensor, batch: int = BATCH) -> Tensor:
        """Return the pooled output (B, D) of records with the same prompt rows (P, D) for each."""
        hidden = self.backbone.below(records, self.layer)  # public texts, which are cut where they are too long
        here, pieces = rows.to(self.device), [hidden[piece].to(self.device) for piece in pieces_of(hidden, self.most(batch))]
        return torch.cat([self.pooled(piece, here.expand(len(piece), -1, -1)) for piece in pieces]).cpu()

    @torch.no_grad()
    def probabilities(self, hidden: Hidden, prompt: Tensor, batch: int = BATCH) -> Tensor:
        """Return label probabilities (B, L) without gradients."""
        if len(hidden) == 0:
            return torch.zeros(0, self.labels)
        pieces = pieces_of(hidden, self.most(batch))
        return torch.cat([self.logits(hidden[piece], prompt) for piece in pieces]).softmax(-1).cpu()

    def record_gradients(self, hidden: Hidden, labels: Tensor, prompt: Tensor, batch: int = BATCH) -> Tensor:
        """Return the gradient of each record's own cross-entropy for its prompt, (B, P+L, D).

        The prompt is one for all records (P+L, D), which is expanded per record, or one per record (B, P+L, D); the gradient for
        the expanded tensor *is* the per-record gradient. The losses are summed, never averaged over the batch, so that no
        record's gradient depends on another record.
        """
        each = prompt.detach().to(self.device).expand(len(hidden), -1, -1)  # (B, P+L, D), a view
        pieces = [self._gradients(hidden[i], labels[i], each[i]) for i in pieces_of(hidden, self.most(batch))]
        return torch.cat(pieces) if pieces else torch.zeros(0, *self.shape.shape)

    def loss(self, hidden: Hidden, labels: Tensor, prompts: Tensor) -> Tensor:
        """Return the sum of the records' own cross-entropies, which never couples them."""
        return functional.cross_entropy(self.logits(hidden, prompts), labels.to(self.device), reduction="sum")

    def _gradients(self, hidden: Hidden, labels: Tensor, prompts: Tensor) -> Tensor:
        expanded = prompts.requires_grad_()  # (B, P+L, D), a copy
        loss = (self.fast or self.loss)(hidden, labels, expanded)
        return torch.autograd.grad(loss, expanded)[0].cpu()


def pieces_of(hidden: Hidden, batch: int) -> list[Tensor]:
    """Return the record indices cut into pieces of at most `batch` windows, or one record; no records give no piece."""
    return [piece for piece in torch.split(torch.arange(len(hidden)), max(1, batch // hidden.widest)) if len(piece)]


def build(card: TaskCard, device: str = "cpu") -> tuple[Scorer, Array]:
    """Return the card's scorer and its initial prompt (P+L, D), from public facts only: the same on every machine.

    Cosines are centred on the mean of public records: drawn from the template at random, or public images. A label row starts
    as the centred, normalised embedding of the label's text, unless the card starts from a trained prompt (`shared.reuse`).
    `device` is where the model runs; on another one, floating point gives the start in other last digits.

    Raises:
        InputError: the backbone or the device is not there, or the backbone is not the pinned one or cannot do what [prompt] says.
    """
    of, said = card.backbone, card.prompt
    backbone = load_backbone(of.source, of.fingerprint, of.dtype, of.max_tokens, said.readout, said.position, device)
    _check_fits(card, backbone)
    layers = range(said.layer, backbone.depth if said.deep else said.layer + 1)
    start = trained_start(card) if said.init.startswith(PREFIX) else None
    fresh = [initial_rows(backbone, said.rows, layer, said.init) for layer in layers if start is None]  # (P, D) each
    rows = start.rows if start else torch.cat(fresh)  # (P, D)
    shape = PromptShape(len(rows), len(card.labels) if said.label_rows else 0, backbone.dim)
    scale = said.scale or (COSINE_SCALE if backbone.cosine else 1.0)
    bare = Scorer(backbone, shape, said.layer, scale, torch.zeros(backbone.dim), deep=said.deep, windows=card.windows)
    words = backbone.label_words([label.text for label in card.labels])
    if words is None:
        public = bare.embed(public_records(card, backbone), rows).mean(0) if said.centre == "public" else bare.centre  # (D,)
        label_rows, bias = _label_rows(card, bare, rows, public), None  # (L, D)
        centre = public if backbone.cosine else bare.centre
    else:  # as the output layer scores them, which knows no centre
        (label_rows, bias), centre = words, bare.centre
    scorer = replace(bare, centre=centre, fixed_labels=None if shape.labels else label_rows, bias=bias)
    first = label_rows[: shape.labels] if start is None or start.label_rows is None else start.label_rows
    if card.tune is None:
        return scorer, torch.cat([rows, first]).numpy()
    if start is not None and start.centre is not None and backbone.cosine:
        scorer = replace(scorer, centre=start.centre)  # so that training goes on from the very model that the prompt made
    tuned = with_tuning(scorer, card, rows)
    assert tuned.tuning  # noqa: S101 (for the type checker)
    return tuned, torch.cat([tuned.tuning.start(), first]).numpy()


def with_tuning(scorer: Scorer, card: TaskCard, frozen: Tensor) -> Scorer:
    """Return a scorer whose tensor holds changes of the model, as the card's [tune] says, beside frozen prompt rows (P, D)."""
    assert card.tune  # noqa: S101 (for the type checker)
    said = card.tune
    tuning = tuning_of(scorer.backbone, said.kind, scorer.layer, said.rank, said.alpha, frozen)
    return replace(scorer, shape=replace(scorer.shape, rows=tuning.rows), tuning=tuning)


def _check_fits(card: TaskCard, backbone: Backbone) -> None:
    said = card.prompt
    if said.layer >= backbone.depth:
        raise InputError(f"[prompt] layer {said.layer} is too deep: the backbone has layers 0 to {backbone.depth - 1}.")
    if said.rows == 0 and (said.deep or said.position == "after"):
        raise InputError("[prompt] deep and position 'after' need rows; give rows = 1 or more.")
    if said.deep and said.position == "after":
        raise InputError("[prompt] deep rows after the text would be seen by nobody but the last; remove deep, or put them before.")
    if (card.template is None) == (backbone.public_images is None):
        need = "reads texts and needs a" if card.template is None else "reads images, which have no"
        raise InputError(f"the backbone '{card.backbone.source}' {need} [template]; mend the card.")
    positions = getattr(backbone.model.config, "max_position_embeddings", None)
    taken = card.backbone.max_tokens + (said.rows if said.layer == 0 else 0)
    if card.template is not None and positions and taken > positions:
        raise InputError(
            f"[backbone] max_tokens {card.backbone.max_tokens} is too many: the model has {positions} positions; lower it."
        )
    if card.windows is not None:
        card.windows.require_room(backbone.tokenizer)
    silent = next((label.name for label in card.labels if backbone.public_images is None and not label.text), None)
    if silent is not None:
        raise InputError(f"label '{silent}' has no text, from which its row starts; give it a public text.")


def public_records(card: TaskCard, backbone: Backbone) -> Records:
    """Return the card's made-up records, or the backbone's public images: the same on every machine, no hospital's."""
    if backbone.public_images is not None:
        return backbone.public_images.images[: card.prompt.public_records]
    public = np.random.default_rng(0)  # a public constant: every party draws the same made-up records
    return [card.record_text.draw(lambda n: int(public.integers(n))) for _ in range(card.prompt.public_records)]


def _label_rows(card: TaskCard, bare: Scorer, rows: Tensor, public: Tensor) -> Tensor:
    """Return where label rows start, (L, D): the normalised embedding of a label's text, minus the public records' mean.

    A label of images starts as the mean of the public images that have it, or else in a random direction.
    """
    images, labels = bare.backbone.public_images, card.labels
    if images is None:
        return functional.normalize(bare.embed([label.text for label in labels], rows) - public, dim=-1)
    start = random_rows(len(labels), bare.backbone.dim)  # (L, D)
    for number, label in enumerate(labels):
        mine = images.images[np.array(images.labels) == label.name]  # (n, C, H, W)
        if len(mine):
            start[number] = bare.embed(mine, rows).mean(0) - public
    return functional.normalize(start, dim=-1)
