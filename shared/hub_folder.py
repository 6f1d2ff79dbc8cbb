"""A prompt as a repository of the Hugging Face hub: PEFT's files as they are, ours beside them, a model card. Nothing is sent."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import InputError
from shared.files import new_folder
from shared.library import Entry, copy_files
from shared.model_card import model_card
from shared.page import texts
from shared.peft_format import FACTS

HERE = Path(__file__).parent
README = "README.md"
TAGS = ("peft", "federated-learning", "differential-privacy", "promptward")


@dataclass(frozen=True)
class Figures:
    """Scores on test patients, computed without noise: no epsilon covers them."""

    auc: float
    accuracy: float


def write_hub_folder(entry: Entry, target: Path, base_model: str | None = None, figures: Figures | None = None) -> bool:
    """Write a prompt's files and README.md into `target`; return False where this prompt is there already, left as it is.

    Args:
        entry: the prompt; its files are copied byte for byte.
        target: a new folder.
        base_model: the model's name on the hub; default: the card's, where it is a hub name.
        figures: scores that the card may tell.

    Raises:
        InputError: the folder is there and holds something else, or `base_model` is no name of the hub.
    """
    if base_model is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", base_model):
        raise InputError(f"--base-model '{base_model}': write the model's name on the hub, as ORG/NAME.")
    if (target / FACTS).is_file():
        there = json.loads((target / FACTS).read_text())
        if there == entry.facts and (target / README).is_file():
            return False
        raise InputError(
            f"{target}: this folder holds another prompt ({there.get('task')}); nothing was changed, name a new folder."
        )
    with new_folder(target) as folder:
        copy_files(entry, folder)
        (folder / README).write_text(readme(entry, base_model, figures), encoding="utf-8")
    return True


def readme(entry: Entry, base_model: str | None = None, figures: Figures | None = None) -> str:
    """Return the model card: the front matter that the hub reads, and the facts in words."""
    from huggingface_hub import ModelCardData  # noqa: PLC0415 (a second to import)

    card = model_card(entry)
    source = str(card["backbone"] or "")
    base = base_model or (source.removeprefix("hub:") if source.startswith("hub:") else None)
    sees = entry.task is not None and entry.task.card.image is not None
    data = ModelCardData(
        base_model=base,
        library_name="peft",
        pipeline_tag="image-classification" if sees else "text-classification",
        tags=[*TAGS, *((str(card["tune"]),) if card["tune"] else ("prompt-tuning", "soft-prompt"))],
        metrics=["roc_auc", "accuracy"],
        model_name=str(entry.facts["task"]) if entry.name == "prompt" else entry.name,
        eval_results=None if figures is None else _results(entry, figures, sees),
        **_licence(card["licence"]),
    )
    body = texts(HERE).get_template("hub_readme.md.j2").render(card=card, base=base, figures=figures)
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def figures_of(run: Path, entry: Entry) -> Figures:
    """Return the scores in a simulation's `result.json`; raise `InputError` where it has none, or is another task's."""
    path = run / "result.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        found = Figures(float(result["metrics"]["pooled_auc"]["mean"]), float(result["metrics"]["pooled_accuracy"]["mean"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: there are no scores of a simulation here; name its folder, or leave --figures out.") from None
    if result.get("task_digest") != entry.facts.get("task_digest"):
        raise InputError(f"{path}: this run trained another task card than the prompt's; name the run that it comes from.")
    return found


def _licence(said: str | None) -> dict[str, Any]:
    """Return the front matter's licence: the hub's lower-case identifiers, or `other` with a name."""
    if said is None:
        return {"license": "unknown"}
    known = said.strip().lower()
    return {"license": known} if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", known) else {"license": "other", "license_name": said}


def _results(entry: Entry, figures: Figures, sees: bool) -> list[Any]:
    from huggingface_hub import EvalResult  # noqa: PLC0415 (a second to import)

    kind = "image-classification" if sees else "text-classification"
    name = f"{entry.facts['task']}: test patients of the simulated sites, pooled"
    where: dict[str, Any] = {"task_type": kind, "dataset_type": "private", "dataset_name": name}
    given = (("roc_auc", figures.auc), ("accuracy", figures.accuracy))
    return [EvalResult(metric_type=metric, metric_value=round(value, 4), **where) for metric, value in given]
