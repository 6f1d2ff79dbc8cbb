"""From differences to words, by a stated rule.

The card's prompt, federated, is held against each conventional method, federated, by the difference of their pooled AUC, the other
minus the prompt, with its 95 % interval [low, high]:

| verdict | when |
|---|---|
| enough | high < margin: the other is not ahead by the margin or more |
| not enough | otherwise, and low > 0: the other is ahead |
| open | otherwise: the interval holds both 0 and the margin |

The whole is "not enough" if one method says so, "enough" if all say so, and "open" otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
    """

    title: str
    gain: Score
    bytes: tuple[int, int]
    conventional: bool = True

    def verdict(self, margin: float) -> Verdict:
        """Return the verdict by the rule above."""
        low, high = self.gain.interval
        if high < margin:
            return "enough"
        return "not enough" if low > 0 else "open"

    @property
    def told(self) -> str:
        """The difference in words."""
        low, high = self.gain.interval
        return f"{self.gain.mean:+.3f} AUC [{low:+.3f}, {high:+.3f}]"

    @property
    def cost(self) -> str:
        """What the other sends, as a multiple or a part of what the prompt sends."""
        prompt, other = self.bytes
        if not prompt or not other:
            return "for no bytes"
        return f"for {other / prompt:,.0f} times the bytes" if other >= 2 * prompt else f"for {other / prompt:.2f} of the bytes"


@dataclass(frozen=True)
class Recommendation:
    """The verdict, a sentence that says what to use, and sentences on everything else that was compared."""

    verdict: Verdict
    sentence: str
    beside: tuple[str, ...]


def recommend(contrasts: Sequence[Contrast], margin: float, sites: int) -> Recommendation:
    """Return what follows from the contrasts; `sites` is said in the sentence, for which alone it holds."""
    judged = [(contrast, contrast.verdict(margin)) for contrast in contrasts if contrast.conventional]
    beside = tuple(_beside(contrast, margin) for contrast in contrasts if not contrast.conventional)
    ahead = [contrast for contrast, verdict in judged if verdict == "not enough"]
    if not judged:
        return Recommendation("unknown", "Neither LoRA nor full fine-tuning was measured, federated, beside the prompt.", beside)
    if ahead:
        best = max(ahead, key=lambda contrast: contrast.gain.mean)
        gain = f"{best.title} gains {best.told} over the prompt {best.cost}"
        said = f"Not enough: {gain}; use it with these {sites} sites (docs/handover.md)."
        return Recommendation("not enough", said, beside)
    told = "; ".join(f"{contrast.title} {contrast.told} {contrast.cost}" for contrast, _ in judged)
    if all(verdict == "enough" for _, verdict in judged):
        return Recommendation("enough", f"A prompt is enough here: nothing gains {margin:g} AUC or more over it ({told}).", beside)
    mend = "more seeds" if _seeds_matter_most(judged) else "more test patients"
    said = f"They cannot be told apart ({told}); begin with the prompt, which sends less, and measure again with {mend}."
    return Recommendation("open", said, beside)


def _seeds_matter_most(judged: Sequence[tuple[Contrast, Verdict]]) -> bool:
    unsure = [contrast.gain for contrast, verdict in judged if verdict == "open"]
    return any(len(gain.seeds) == 1 or gain.over_seeds > gain.over_patients for gain in unsure)


def _beside(contrast: Contrast, margin: float) -> str:
    low, high = contrast.gain.interval
    if high < 0:
        word = "is behind the prompt"
    elif high < margin:
        word = f"gains less than {margin:g} AUC"
    else:
        word = "is ahead of the prompt" if low > 0 else "cannot be told from the prompt"
    return f"{contrast.title} {word}: {contrast.told} {contrast.cost}."
