"""The frozen model that a card names: where it is, whether it is the pinned one, and the family that runs it."""

import functools
import hashlib
import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from shared.backbones.loading import Options
from shared.backbones.protocol import Backbone, Hidden, Images, Position, Readout, Records
from shared.device import require_device
from shared.errors import InputError
from shared.imports import unswept

__all__ = ["Backbone", "Hidden", "Images", "Records", "fingerprint", "load_backbone", "locate"]

# Files that decide what the model computes, in the order in which they enter the fingerprint.
DECISIVE = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "preprocessor_config.json",
    "public_images.npz",
)
# A new family is its file in shared/backbones and its name here.
FAMILIES = ("encoder", "masked", "gpt2", "llama", "vit", "dinov2", "clip", "siglip")


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
def load_backbone(
    source: str,
    expected: str,
    dtype: str = "float32",
    max_tokens: int = 128,
    readout: Readout | None = None,
    position: Position = "before",
    device: str = "cpu",
) -> Backbone:
    """Check and load a backbone; the same arguments give the same object, so that one process holds it once.

    Args:
        source: see `locate`.
        expected: the fingerprint that the task card pins.
        dtype: `float32` or `bfloat16`; the prompt, clipping and noise stay float32.
        max_tokens: longer texts are cut.
        readout: what is read of a record; None: as the family does.
        position: prompt rows before or after the record.
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: missing model or device, wrong fingerprint, or a model of no family that is supported.
    """
    require_device(device)
    folder = locate(source)
    found = fingerprint(folder)
    if found != expected:
        raise InputError(
            f"backbone '{source}': fingerprint is {found}, the card pins {expected}; "
            "install the model that the card names, or agree on a new card."
        )
    with unswept():
        return _load(folder, family_of(model_type(folder), readout, source), Options(dtype, max_tokens, readout, position, device))


def _load(folder: Path, family: Any, options: Options) -> Backbone:
    import transformers  # noqa: PLC0415 (a second to import)

    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    backbone: Backbone = family.load(folder, config, options)
    return backbone


def model_type(folder: Path) -> str:
    """Return the kind of model that `config.json` names, in Hugging Face's words; `InputError` where it names none."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'}: no model_type can be read ({error}); name a Hugging Face model.") from None


def family_of(kind: str, readout: Readout | None, source: str) -> Any:
    """Return the module of `shared.backbones` for a Hugging Face model type; `InputError` names what it can be."""
    families = [importlib.import_module(f"shared.backbones.{name}") for name in FAMILIES]
    able = [family for family in families if kind in family.MODEL_TYPES]
    if not able:
        known = ", ".join(dict.fromkeys(name for family in families for name in family.MODEL_TYPES))
        raise InputError(f"backbone '{source}': a model of type '{kind}' is not supported; use one of {known}.")
    if readout is None:
        return able[0]
    fitting = [family for family in able if readout in family.READOUTS]
    if not fitting:
        known = " or ".join(name for family in able for name in family.READOUTS)
        raise InputError(f"[prompt] readout '{readout}' is not for a model of type '{kind}'; choose {known}.")
    return fitting[0]


def _from_hub(name: str) -> Path:
    import huggingface_hub  # noqa: PLC0415 (only for models named by hub)
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled  # noqa: PLC0415

    wanted = ["*.safetensors", "*.safetensors.index.json", *DECISIVE]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"backbone 'hub:{name}' cannot be had ({reason}); download it first and name it as folder:PATH.") from None
