"""The names of all methods, and the public numbers that each is trained with.

Where a learning rate stands here, it was chosen on splits of the heart-disease study other than the published one (that of full
fine-tuning for 17 rounds); docs/compare.md lists every try. The others have the card's numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from shared.card import TaskCard
from shared.errors import InputError
from shared.privacy.planned import releases_of
from simulations.comparison.logistic import private_logistic
from simulations.comparison.method import Method
from simulations.comparison.prompts import card_prompt, deep_prompt, input_prompt, label_rows, rows_only
from simulations.comparison.split import Split
from simulations.comparison.weights import full, lora


@dataclass(frozen=True)
class Tuning:
    """The public numbers of a method's training; None: the card's. `seeds` is for a method that takes long: at most so many."""

    learning_rate: float | None = None
    clip_norm: float | None = None
    rounds: int | None = None
    seeds: int | None = None

    def filled(self, card: TaskCard) -> "Numbers":
        """Return the numbers with the card's in place of None."""
        return Numbers(
            self.learning_rate or card.plan.learning_rate,
            self.clip_norm or card.privacy.clip_norm,
            self.rounds or releases_of(card),
        )


@dataclass(frozen=True)
class Numbers:
    """The public numbers that a training has in the end."""

    learning_rate: float
    clip_norm: float
    rounds: int


@dataclass(frozen=True)
class Known:
    """A method by its name.

    Attributes:
        title: what people read.
        build: makes it for a split.
        tuning: its public numbers.
        conventional: whether it tunes weights, which is what a prompt is held against.
    """

    title: str
    build: Callable[[Split], Method]
    tuning: Tuning = Tuning()
    conventional: bool = False


PROMPT = "prompt"
METHODS: Mapping[str, Known] = {
    PROMPT: Known("the card's prompt", card_prompt),
    "input": Known("prompt at the input", input_prompt),
    "deep": Known("deep prompt", deep_prompt),
    "rows": Known("prompt rows, fixed labels", rows_only),
    "labels": Known("label rows alone (linear probe)", label_rows),
    "lora": Known("LoRA and label rows", lora, Tuning(learning_rate=0.008), conventional=True),
    "full": Known("full fine-tuning", full, Tuning(learning_rate=0.00512), conventional=True),
    "logistic": Known("logistic regression on the words", private_logistic, Tuning(learning_rate=0.03)),
}


def chosen(names: Sequence[str], changes: Sequence[str]) -> dict[str, Known]:
    """Return the named methods with the changes `METHOD.KEY=VALUE` made; raise `InputError` for what is not known."""
    for name in names:
        if name not in METHODS:
            raise InputError(f"--methods: '{name}' is no method; choose from {', '.join(METHODS)}.")
    found = {name: METHODS[name] for name in METHODS if name in names}
    for change in changes:
        name, tuning = _changed(found, change)
        found[name] = replace(found[name], tuning=tuning)
    return found


def _changed(found: Mapping[str, Known], change: str) -> tuple[str, Tuning]:
    where, _, value = change.partition("=")
    name, _, key = where.partition(".")
    kinds = {"learning_rate": float, "clip_norm": float, "rounds": int, "seeds": int}
    try:
        number = kinds[key](value)
        if not (name in found and 0 < number < 1e6):
            raise ValueError
    except (KeyError, ValueError):
        raise InputError(
            f"--set {change}: write METHOD.KEY=VALUE with a method of this run, learning_rate, clip_norm, rounds or seeds, "
            "and a number above 0."
        ) from None
    return name, replace(found[name].tuning, **{key: number})
