"""ROUGE (Lin 2004): how much of a text's wording another one holds, as F1. The standard package needs nltk for thirty lines."""

from collections import Counter
from collections.abc import Sequence


def rouge_n(truth: str, guess: str, n: int) -> float:
    """Return the F1 of common runs of `n` words.

    >>> rouge_n("a b c d", "a b d c", 1), round(rouge_n("a b c d", "a b d c", 2), 3)
    (1.0, 0.333)
    """
    there, here = _runs(truth.split(), n), _runs(guess.split(), n)
    return _f1((there & here).total(), there.total(), here.total())


def rouge_l(truth: str, guess: str) -> float:
    """Return the F1 of the longest common subsequence of words.

    >>> rouge_l("a b c d", "a b d c")
    0.75
    """
    there, here = truth.split(), guess.split()
    longest = [0] * (len(here) + 1)
    for word in there:
        before = longest.copy()
        for i, other in enumerate(here):
            longest[i + 1] = before[i] + 1 if word == other else max(before[i + 1], longest[i])
    return _f1(longest[-1], len(there), len(here))


def _runs(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _f1(common: int, there: int, here: int) -> float:
    return 2 * common / (there + here) if there + here else 0.0
