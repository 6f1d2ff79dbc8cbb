"""Frozen encoders of the BERT family, cut at a layer: what lies below is computed once, what lies above sees the prompt.

Letters in shape comments: B records, T text tokens, P prompt rows, D hidden size, L encoder layers.
"""

import functools
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.errors import InputError
from shared.late import last_layer

# Files that decide what the model computes, in the order in which they enter the fingerprint.
DECISIVE = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
FAMILY = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


@dataclass(frozen=True)
class Hidden:
    """Hidden states of records below the prompt's layer: ``states (B, T, D)`` and ``mask (B, T)`` of real tokens.

    They are computed from patients' records: keep them in memory, never in a message, a log or a file.
    """

    states: Tensor
    mask: Tensor

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.states)

    def __getitem__(self, index: Tensor) -> "Hidden":
        """Return the records at `index`, cut to the longest of them."""
        mask = self.mask[index]  # (b, T)
        longest = int(mask.sum(1).max()) if len(mask) else 0
        return Hidden(self.states[index, :longest], mask[:, :longest])


@dataclass(frozen=True)
class Backbone:
    """A frozen encoder with its tokenizer. Build one with `load_backbone`."""

    model: Any
    tokenizer: Any
    max_tokens: int

    @property
    def dim(self) -> int:
        """The hidden size D."""
        return int(self.model.config.hidden_size)

    @property
    def depth(self) -> int:
        """The number L of encoder layers."""
        return len(self.model.encoder.layer)

    @property
    def parameters(self) -> int:
        """The number of weights: what full fine-tuning would move."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def word_vectors(self) -> Tensor:
        """The vocabulary's embeddings, (V, D)."""
        return self.model.embeddings.word_embeddings.weight.detach()  # type: ignore[no-any-return]

    @torch.no_grad()
    def below(self, texts: list[str], layer: int, batch: int = 64) -> Hidden:
        """Return the hidden states (B, T, D) that enter encoder layer `layer`; 0 gives the bare word embeddings.

        A text is cut to `max_tokens` tokens. Every record is computed on its own tokens only (padding is masked).
        """
        if not texts:  # a hospital without patients is a hospital
            return Hidden(torch.zeros(0, 0, self.dim), torch.zeros(0, 0, dtype=torch.long))
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt", return_attention_mask=True
        )
        ids, mask = tokens["input_ids"], tokens["attention_mask"]  # (B, T)
        pieces = [self._lower(i, m, layer) for i, m in zip(ids.split(batch), mask.split(batch), strict=True)]
        return Hidden(torch.cat(pieces), mask)

    def above(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Run the layers from `layer` on with prompt rows (B, P, D) in front; return the text's last states (B, T, D).

        At layer 0 the rows stand before the first token, as in PEFT's prompt tuning (Lester et al. 2021).
        """
        rows = rows.to(hidden.states.dtype)
        mask = torch.cat([hidden.mask.new_ones(rows.shape[:2]), hidden.mask], dim=1)  # (B, P+T)
        if layer == self.depth - 1 > 0:
            return last_layer(self.model.encoder.layer[layer], rows, hidden.states, _blocked(mask, rows.dtype))
        states = torch.cat([rows, hidden.states], dim=1)  # (B, P+T, D)
        if layer == 0:
            states = self._embed(states)
        return self._layers(states, mask, layer, self.depth)[:, rows.shape[1] :]

    def _lower(self, ids: Tensor, mask: Tensor, layer: int) -> Tensor:
        words = self.model.embeddings.word_embeddings(ids)  # (B, T, D)
        return words if layer == 0 else self._layers(self._embed(words), mask, 0, layer)

    def _embed(self, words: Tensor) -> Tensor:
        """Add positions and token types: (B, T, D) -> (B, T, D)."""
        first = self.model.config.pad_token_id + 1 if "roberta" in self.model.config.model_type else 0
        positions = torch.arange(first, first + words.shape[1]).unsqueeze(0)  # (1, T)
        return self.model.embeddings(inputs_embeds=words, position_ids=positions)  # type: ignore[no-any-return]

    def _layers(self, states: Tensor, mask: Tensor, start: int, stop: int) -> Tensor:
        blocked = _blocked(mask, states.dtype)
        for layer in self.model.encoder.layer[start:stop]:
            states = layer(states, blocked)  # (B, T, D)
        return states


def _blocked(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the additive attention mask (B, 1, 1, T): 0 where a token is, the smallest number where padding is."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask == 0, torch.finfo(dtype).min)[:, None, None, :]


def locate(source: str) -> Path:
    """Return the folder of a backbone given as `package:IMPORT/FOLDER`, `folder:PATH` or `hub:ORG/NAME`.

    A package is found without importing it. A hub name is resolved in the local cache first.
    Raises `InputError` with the mend where the model is not there.
    """
    kind, _, where = source.partition(":")
    if kind == "package":
        package, _, inner = where.partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise InputError(f"backbone '{source}': package {package} is not installed; run pip install 'promptward[demo]'.")
        folder = Path(spec.origin).parent / inner
    elif kind == "folder":
        folder = Path(where).expanduser()
    else:
        folder = _from_hub(where)
    if not (folder / "config.json").is_file():
        raise InputError(f"backbone '{source}': {folder} has no config.json; name the folder that holds the model's files.")
    return folder


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 over names and SHA-256 of the weights, the configuration and the tokenizer in `folder`."""
    weights = sorted(path.name for path in folder.glob("*.safetensors"))
    if not weights:
        raise InputError(f"{folder}: no .safetensors weights; pickled weights are refused because they can run code.")
    lines = []
    for name in [*weights, *(n for n in DECISIVE if (folder / n).is_file())]:
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@functools.lru_cache(maxsize=2)
def load_backbone(source: str, expected: str, dtype: str = "float32", max_tokens: int = 128) -> Backbone:
    """Load, freeze and check a backbone; the same arguments give the same object, so that one process holds it once.

    Args:
        source: see `locate`.
        expected: the fingerprint that the task card pins.
        dtype: `float32` or `bfloat16`; the prompt, clipping and noise stay float32.
        max_tokens: longer texts are cut.

    Raises:
        InputError: missing model, wrong fingerprint, or a model that is not of the BERT family.
    """
    import transformers  # noqa: PLC0415 (a second to import)

    transformers.utils.logging.disable_progress_bar()
    folder = locate(source)
    found = fingerprint(folder)
    if found != expected:
        raise InputError(
            f"backbone '{source}': fingerprint is {found}, the card pins {expected}; "
            "install the model that the card names, or agree on a new card."
        )
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if config.model_type not in FAMILY:
        raise InputError(
            f"backbone '{source}': a model of type '{config.model_type}' is not supported; use one of {', '.join(FAMILY)}."
        )
    model = transformers.AutoModel.from_pretrained(
        folder, config=config, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return freeze(Backbone(model, tokenizer, max_tokens))


def freeze(backbone: Backbone) -> Backbone:
    """Put the model into `eval()` without gradients of its own, and return the backbone."""
    backbone.model.eval().requires_grad_(False)
    return backbone


def _from_hub(name: str) -> Path:
    import huggingface_hub  # noqa: PLC0415 (only for models named by hub)
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled  # noqa: PLC0415

    wanted = ["*.safetensors", *DECISIVE]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"backbone 'hub:{name}' cannot be had ({reason}); download it first and name it as folder:PATH.") from None
