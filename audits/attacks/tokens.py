"""Can words be read from an update by gradient matching? Names, dates, numbers and findings of made-up notes."""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import linear_sum_assignment

from audits.attacks import notes, words
from audits.attacks.matching import Dictionary, Guess, learn, match, refine
from audits.attacks.rehearsal import Material, Rows, Updates, predict
from audits.attacks.rouge import rouge_l, rouge_n
from audits.attacks.words import Reading, Sets
from audits.section import Section, Table, section_of
from audits.subject import Subject

TITLE = "Can words be read from an update by gradient matching?"
ATTACK = "gradient matching"
SHOWN = 3  # notes that the report shows as they were read
Score = dict[str, NDArray[np.float64]]  # measure -> one number a note, or an update (U,)


def audit(subject: Subject, material: Material) -> Section:
    """Match the updates' gradients with the broadcast prompt, noised ones and the control alike."""
    mu = 1 / subject.mechanism.noise_multiplier
    dictionary = learn(material.shadows)
    readings, tables, facts = [], [], []
    for updates in material.matched:
        guesses = {which: _attack(subject, dictionary, updates, rows, material) for which, rows in _both(updates)}
        guesses["prior"] = _prior(subject, updates)
        noised, control = (words.tally(updates.choices, distinct(guesses[which])) for which in ("noised", "control"))
        readings.append(Reading(updates.batch, noised, control))
        scores = {which: _scores(updates, guess) for which, guess in guesses.items()}
        facts.append({"notes": updates.batch, **{k: {m: float(v.mean()) for m, v in s.items()} for k, s in scores.items()}})
        tables += [words.table(ATTACK, readings[-1], mu), _wording(updates.batch, scores)]
        if updates.batch == 1:
            tables.append(_examples(updates, guesses))
    return section_of(
        TITLE,
        [words.judge("match of gradients", readings, mu)],
        tables=tuple(tables),
        marks=words.marks(ATTACK, readings, mu),
        facts={"words": words.as_facts(readings, mu), "texts": facts},
    )


def distinct(guess: Guess) -> Sets:
    """Return for each gap exactly B different words an update, (U, B): those guessed, filled up with the list's first others.

    So many words are right by chance with probability B / words, whatever the attack does.
    """
    sets = []
    for gap, size in enumerate(notes.SIZES):
        rows = []
        for row in guess.choices[:, :, gap]:
            rows.append(list(dict.fromkeys([*row.tolist(), *range(size)]))[: len(row)])
        sets.append(np.array(rows))
    return sets


def _both(updates: Updates) -> tuple[tuple[str, Rows], tuple[str, Rows]]:
    return ("noised", updates.noised), ("control", updates.control)


def _attack(subject: Subject, dictionary: Dictionary, updates: Updates, rows: Rows, material: Material) -> Guess:
    guess = match(dictionary, rows, updates.batch)
    return refine(dictionary, rows, guess, functools.partial(predict, subject), material.alternatives)


def _prior(subject: Subject, updates: Updates) -> Guess:
    """Return the baseline's guess: notes as likely as any, made without an update."""
    public = np.random.default_rng(0)
    choices = notes.draw(updates.labels.size, public).reshape(updates.choices.shape)
    return Guess(choices, public.integers(subject.scorer.labels, size=updates.labels.shape))


def _scores(updates: Updates, guess: Guess) -> Score:
    """Return each update's word-set F1 and ROUGE; guessed and true notes are paired as they agree most."""
    scores: dict[str, list[float]] = {"word-set F1": [], "ROUGE-1": [], "ROUGE-2": [], "ROUGE-L": []}
    for truth, guessed in zip(updates.choices, guess.choices, strict=True):
        scores["word-set F1"].append(_set_f1(truth, guessed))
        agree = (truth[:, None] == guessed[None]).sum(2)  # (B, B)
        pairs = [(notes.text(truth[i]), notes.text(guessed[j])) for i, j in zip(*linear_sum_assignment(-agree), strict=True)]
        scores["ROUGE-1"].append(float(np.mean([rouge_n(a, b, 1) for a, b in pairs])))
        scores["ROUGE-2"].append(float(np.mean([rouge_n(a, b, 2) for a, b in pairs])))
        scores["ROUGE-L"].append(float(np.mean([rouge_l(a, b) for a, b in pairs])))
    return {name: np.array(values) for name, values in scores.items()}


def _set_f1(truth: NDArray[np.int64], guessed: NDArray[np.int64]) -> float:
    there = {(gap, int(word)) for note in truth for gap, word in enumerate(note)}
    here = {(gap, int(word)) for note in guessed for gap, word in enumerate(note)}
    return 2 * len(there & here) / (len(there) + len(here))


def _wording(batch: int, scores: dict[str, Score]) -> Table:
    """Return the texts' measures; the sentence itself is public, so that only what is above the prior counts."""
    rows = []
    for measure, prior in scores["prior"].items():
        noised, control = scores["noised"][measure], scores["control"][measure]
        lift = noised - prior
        reach = float(stats.t.ppf(0.975, len(lift) - 1) * stats.sem(lift)) if len(lift) > 1 else float("nan")
        figures = (prior.mean(), control.mean(), noised.mean())
        rows.append([measure, *(f"{figure:.3f}" for figure in figures), f"{lift.mean():+.3f} ± {reach:.3f}"])
    many = "one note" if batch == 1 else f"{batch} notes"
    caption = f"Whole notes, updates of {many}. The sentence is public: only the lift over the prior counts (95 % interval)."
    return Table(caption, ("", "prior alone", "without noise", "as it leaves", "lift"), rows)


def _examples(updates: Updates, guesses: dict[str, Guess]) -> Table:
    rows: list[Sequence[str]] = []
    for number in range(min(SHOWN, len(updates.choices))):
        read = [notes.text(guesses[which].choices[number, 0]) for which in ("control", "noised")]
        rows.append([notes.text(updates.choices[number, 0]), *read])
    return Table("Notes, and what was read from their updates.", ("made-up note", "without noise", "as it leaves"), rows)
