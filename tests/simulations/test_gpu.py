"""The script of the GPU's floors runs where there is none, as far as that can be."""

import json

import pytest

from simulations.benchmarks.gpu import TINY, main, measure


@pytest.mark.parametrize("model", ["BERT", "ViT"])
def test_both_rounds_give_the_same_and_every_ratio_is_printed(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    measure(model, "float32", "cpu", TINY, 2)
    facts, *ratios = capsys.readouterr().out.splitlines()
    assert json.loads(facts)["grid_steps_off"] <= 40  # a last digit of a gradient may turn a grid step over
    assert [float(said.split(": ")[1].split()[0]) > 0 for said in ratios] == [True, True]
    assert [said.split(",")[0] for said in ratios] == ["RATIO 3 sites together", "RATIO share of peak"]


def test_without_a_gpu_it_says_that_nothing_was_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("NOT MEASURED: device 'cuda'")
