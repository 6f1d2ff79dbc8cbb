import numpy as np
import pytest
import torch

from server.aggregate import Double, Rule, ServerState, apply, init

SGD = Rule("sgd", 0.1, 0.9, 4.0, 3)
ADAM = Rule("adam", 0.05, 0.9, 4.0, 3)


def updates(count: int, seed: int) -> list[Double]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(3, 5)) for _ in range(count)]


def run(rule: Rule, rounds: int) -> ServerState:
    state = init(np.ones((3, 5), np.float32))
    for number in range(rounds):
        state = apply(state, updates(4, number), rule)
    return state


@pytest.mark.parametrize(("rule", "optimizer"), [(SGD, torch.optim.SGD), (ADAM, torch.optim.Adam)])
def test_the_step_is_torchs(rule: Rule, optimizer: type[torch.optim.Optimizer]) -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 5, dtype=torch.float64))
    more = {"momentum": 0.9} if rule.optimizer == "sgd" else {}
    theirs = optimizer([parameter], lr=rule.learning_rate, **more)  # type: ignore[call-arg]
    for number in range(5):
        parameter.grad = torch.from_numpy(np.sum(updates(4, number), 0) / 4.0)
        theirs.step()
    np.testing.assert_allclose(run(rule, 5).prompt, parameter.detach().numpy(), atol=1e-12)


def test_yogis_step_is_the_papers() -> None:
    """Zaheer et al. 2018, algorithm 2, written out for one number; with Adam's correction of the first rounds' bias."""
    rule = Rule("yogi", 0.1, 0.0, 1.0, 9)
    state, first, second, prompt = init(np.ones((1, 1), np.float32)), 0.0, 0.0, 1.0
    for number, gradient in enumerate((2.0, -1.0, 0.25), start=1):
        state = apply(state, [np.full((1, 1), gradient)], rule)
        first = 0.9 * first + 0.1 * gradient
        second -= 0.001 * (1 if second > gradient**2 else -1) * gradient**2
        prompt -= 0.1 * (first / (1 - 0.9**number)) / ((second / (1 - 0.999**number)) ** 0.5 + 1e-8)
        assert float(state.prompt[0, 0]) == pytest.approx(prompt, abs=1e-12)


def test_a_thousand_small_updates_are_summed_exactly() -> None:
    """Float32 accumulation of these would be off by 1e-5 and more (flower.md §2)."""
    ones = [np.full((1, 1), np.float32(0.1), np.float64)] * 1000
    found = apply(init(np.zeros((1, 1), np.float32)), ones, Rule("sgd", 1.0, 0.0, 1000.0, 9)).prompt
    assert abs(float(found[0, 0]) + float(np.float32(0.1))) < 1e-12


def test_the_denominator_is_a_constant_whoever_is_there() -> None:
    start, [one] = init(np.zeros((3, 5), np.float32)), updates(1, 0)
    rule = Rule("sgd", 1.0, 0.0, 4.0, 9)
    np.testing.assert_allclose(apply(start, [one], rule).prompt, -one / 4.0)


def test_the_published_prompt_is_the_mean_of_the_late_rounds() -> None:
    late = [run(SGD, rounds).prompt for rounds in (3, 4, 5)]
    np.testing.assert_allclose(run(SGD, 5).published, np.mean(late, 0), atol=1e-6)
    assert (run(SGD, 2).published == run(SGD, 2).broadcast).all()
