"""The compiled loss gives the gradients of the plain one, for batches of any size; torch's own code generation is tried by hand."""

import shutil

import pytest
import torch

from client.round import Pool
from shared.compiled import compiled
from shared.errors import InputError
from shared.prompt import Array
from shared.scoring import Scorer


@pytest.mark.slow
def test_compiled_gradients_are_the_plain_ones(scorer: Scorer, patients: Pool, prompt: Array) -> None:
    here = torch.from_numpy(prompt)
    fast = compiled(scorer, "aot_eager")
    for count in (7, 5):  # the second is compiled for any number
        mine = torch.arange(count)
        plain, quick = (of.record_gradients(patients.hidden[mine], patients.labels[mine], here) for of in (scorer, fast))
        torch.testing.assert_close(quick, plain, atol=1e-4, rtol=1e-4)
        assert plain.abs().max() > 0.01


def test_without_a_compiler_one_sentence_says_so(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler, and there is none here; install g\+\+"):
        compiled(scorer)
