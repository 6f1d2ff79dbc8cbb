"""From differences to words, by a stated rule.

The card's prompt, federated, is held against each conventional method, federated, by the difference of their pooled AUC, the other
minus the prompt, with its interval [low, high]. The intervals of all conventional methods hold together in 95 of 100 comparisons:

| verdict | when |
|---|---|
| enough | high < margin: the other is not ahead by the margin or more |
| not enough | otherwise, and low > 0: the other is ahead |
| open | otherwise: the interval holds both 0 and the margin |

The whole is "not enough" if one method says so, "enough" if all say so, and "open" otherwise. What is told beside it, of other
methods and settings, is a second family, whose intervals are corrected for its own number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from simulations.comparison.figures import Score

Verdict = Literal["enough", "not enough", "open", "unknown"]


@dataclass(frozen=True)
class Contrast:
    """Another method, or another setting, against the card's prompt.

    Attributes:
        title: of the other.
        gain: pooled AUC of the other minus that of the prompt.
        bytes: what a site sends in the whole training: the prompt, the other.
        conventional: whether the other is what a prompt is held against.
        together: how many differences are judged at once, this one among them; their intervals hold together.
    """

    title: str
    gain: Score
    bytes: tuple[int, int]
    conventional: bool = True
    together: int = 1

    @property
    def interval(self) -> tuple[float, float]:
        """The interval by which it is judged."""
        return self.gain.interval(self.together)

    def verdict(self, margin: float) -> Verdict:
        """Return the verdict by the rule above."""
        low, high = self.interval
        if high < margin:
            return "enough"
        return "not enough" if low > 0 else "open"

    @property
    def told(self) -> str:
        """The difference in words."""
        low, high = self.interval
        return f"{self.gain.mean:+.3f} AUC [{low:+.3f}, {high:+.3f}]"

    @property
    def cost(self) -> str:
        """What the other sends, as a multiple or a part of what the prompt sends."""
        prompt, other = self.bytes
        if not prompt or not other:
            return "without any update being sent"
        return f"for {other / prompt:,.0f} times the bytes" if other >= 2 * prompt else f"for {other / prompt:.2f} of the bytes"


@dataclass(frozen=True)
class Recommendation:
    """The verdict, a sentence that says what to use, and sentences on everything else that was compared.

    `together` counts the differences whose intervals hold together: those that decide, and those that are told beside.
    """

    verdict: Verdict
    sentence: str
    beside: tuple[str, ...]
    together: tuple[int, int]


def recommend(contrasts: Sequence[Contrast], margin: float, sites: int) -> Recommendation:
    """Return what follows from the contrasts; `sites` is said in the sentence, for which alone it holds."""
    decide, others = (_family(contrasts, conventional) for conventional in (True, False))
    verdict, sentence = _decided(decide, margin, sites)
    beside = tuple(_beside(contrast, margin) for contrast in others)
    return Recommendation(verdict, sentence, beside, (len(decide), len(others)))


def _family(contrasts: Sequence[Contrast], conventional: bool) -> list[Contrast]:
    found = [contrast for contrast in contrasts if contrast.conventional == conventional]
    return [replace(contrast, together=len(found)) for contrast in found]


def _decided(decide: Sequence[Contrast], margin: float, sites: int) -> tuple[Verdict, str]:
    if not decide:
        return "unknown", "Neither LoRA nor full fine-tuning was measured, federated, beside the prompt."
    ahead = [contrast for contrast in decide if contrast.verdict(margin) == "not enough"]
    if ahead:
        best = max(ahead, key=lambda contrast: contrast.gain.mean)
        gain = f"{best.title} gains {best.told} over the prompt {best.cost}"
        return "not enough", f"Not enough: {gain}; use it with these {sites} sites (docs/handover.md)."
    told = "; ".join(f"{contrast.title} {contrast.told} {contrast.cost}" for contrast in decide)
    unsure = [contrast for contrast in decide if contrast.verdict(margin) == "open"]
    if not unsure:
        return "enough", f"A prompt is enough here: nothing gains {margin:g} AUC or more over it ({told})."
    mend = "more seeds" if _seeds_matter_most(unsure) else "more test patients"
    said = f"They cannot be told apart ({told}); begin with the prompt, which sends less, and measure again with {mend}."
    return "open", said


def _seeds_matter_most(unsure: Sequence[Contrast]) -> bool:
    gains = [(contrast.gain, contrast.together) for contrast in unsure]
    return any(len(gain.seeds) == 1 or gain.over_seeds(tests) > gain.over_patients(tests) for gain, tests in gains)


def _beside(contrast: Contrast, margin: float) -> str:
    low, high = contrast.interval
    if high < 0:
        word = "is behind the prompt"
    elif high < margin:
        word = f"gains less than {margin:g} AUC"
    else:
        word = "is ahead of the prompt" if low > 0 else "cannot be told from the prompt"
    return f"{contrast.title} {word}: {contrast.told} {contrast.cost}."
