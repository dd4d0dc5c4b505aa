from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from batches import batch
from hypothesis import given
from hypothesis import strategies as st

from thrifty.marl.returns import masked_mean, n_step, soft_mellowmax, td_lambda

values = st.lists(st.floats(-5, 5), min_size=1, max_size=6)


def everything(q: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(q, dtype=torch.bool)


def test_soft_mellowmax_by_its_definition() -> None:
    # alpha 1, omega 2, Q = (0, 1): weights 1/(1+e), e/(1+e); (1/2) log of their mean of exp(2 Q).
    expected = 0.5 * math.log((1.0 + math.e * math.exp(2.0)) / (1.0 + math.e))
    q = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert soft_mellowmax(q, everything(q), 1.0, 2.0).item() == pytest.approx(expected, abs=1e-12)


@given(q=values, alpha=st.floats(0, 10), omega=st.floats(0.01, 20))
def test_soft_mellowmax_is_its_definition_and_lies_between(
    q: list[float], alpha: float, omega: float
) -> None:
    tensor = torch.tensor(q, dtype=torch.float64)
    found = soft_mellowmax(tensor, everything(tensor), alpha, omega).item()
    array = np.array(q)
    weights = np.exp(alpha * (array - array.max()))
    weights /= weights.sum()
    plain = np.log((weights * np.exp(omega * array)).sum()) / omega
    assert found == pytest.approx(plain, abs=1e-6)
    assert array.mean() - 1e-6 <= found <= array.max() + 1e-6


def test_soft_mellowmax_tends_to_maximum_and_mean() -> None:
    q = torch.tensor([[1.0, 4.0, -2.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    sharp = soft_mellowmax(q, everything(q), 0.0, 5000.0)
    # The distance is log(3) / omega at most, 0.0002.
    torch.testing.assert_close(sharp, q.max(-1).values, rtol=0, atol=0.0003)
    blunt = soft_mellowmax(q, everything(q), 0.0, 1e-6)
    torch.testing.assert_close(blunt, q.mean(-1), rtol=0, atol=1e-5)


def test_soft_mellowmax_never_sees_what_is_not_available() -> None:
    q = torch.tensor([1.0, 900.0, 3.0], dtype=torch.float64)
    available = torch.tensor([True, False, True])
    short = torch.tensor([1.0, 3.0], dtype=torch.float64)
    for alpha in (0.0, 1.0):
        found = soft_mellowmax(q, available, alpha, 10.0)
        assert torch.equal(found, soft_mellowmax(short, everything(short), alpha, 10.0))


def test_soft_mellowmax_is_stable() -> None:
    q = torch.tensor([1e4, 1e4 - 1.0])
    assert torch.isfinite(soft_mellowmax(q, everything(q), 10.0, 10.0))


def lengths_of(filled_TB: torch.Tensor) -> list[int]:
    return [int(n) for n in filled_TB.sum(0)]


def brute_n_step(b: int, t: int, n: int, data: dict[str, np.ndarray], L: int) -> float:
    """Rewards of up to n steps, then the value behind them unless the game was over."""
    total, discount = 0.0, 1.0
    for k in range(t, min(t + n, L)):
        total += discount * data["reward"][k, b]
        discount *= data["discount"]
        if data["terminated"][k, b]:
            return total
        last = k
    return total + discount * data["value"][last, b]


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.8, 1.0])
def test_lambda_returns_are_the_mixture_of_n_step_returns(lam: float) -> None:
    """(1 - lam) sum lam^(n-1) G^n, the rest of the weight on the longest, by a plain loop."""
    one = batch()
    value = torch.from_numpy(np.random.default_rng(1).normal(size=one.reward.shape)).float()
    found = td_lambda(one.reward, one.terminated, one.filled, value, 0.9, lam)
    data = {
        "reward": one.reward.numpy(),
        "terminated": one.terminated.numpy(),
        "value": value.numpy(),
        "discount": 0.9,
    }
    for b, L in enumerate(lengths_of(one.filled)):
        for t in range(L):
            left = L - t
            returns = [brute_n_step(b, t, n, data, L) for n in range(1, left + 1)]  # type: ignore[arg-type]
            weights = [(1 - lam) * lam**k for k in range(left - 1)] + [lam ** (left - 1)]
            expected = float(np.dot(weights, returns))
            assert found[t, b].item() == pytest.approx(expected, abs=1e-5)


def test_traces_cut_the_look_ahead_by_hand() -> None:
    # Rewards 1, 1, 1, values 10, 20, 30 behind them, discount 1/2, lam 1; the action of step 1 is
    # cut: y_2 = 1 + 15 = 16, y_1 = 1 + 16/2 = 9, y_0 = 1 + 10/2 = 6 where 1 + 9/2 = 5.5 is uncut.
    ones, value = torch.ones(3, 1), torch.tensor([[10.0], [20.0], [30.0]])
    steps = (ones, torch.zeros(3, 1), ones, value, 0.5)
    trace = torch.tensor([[1.0], [0.0], [1.0]])
    assert td_lambda(*steps, 1.0, trace).flatten().tolist() == [6.0, 9.0, 16.0]
    assert td_lambda(*steps, 1.0).flatten().tolist() == [5.5, 9.0, 16.0]
    # lam 1/2 and a trace of 1/2: a quarter of y_1 = 1 + (20 + 16) / 4 = 10 beside three of V_1.
    found = td_lambda(*steps, 0.5, torch.tensor([[1.0], [0.5], [1.0]]))
    assert found.flatten().tolist() == [1.0 + 0.5 * (7.5 + 2.5), 10.0, 16.0]
    for trace in (torch.zeros(3, 1), torch.ones(3, 1)):  # one-step targets, and all of them
        lam = 0.7 * float(trace[0])
        torch.testing.assert_close(td_lambda(*steps, 0.7, trace), td_lambda(*steps, lam))


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_n_step_returns_by_a_plain_loop(n: int) -> None:
    one = batch(2)
    value = torch.from_numpy(np.random.default_rng(3).normal(size=one.reward.shape)).float()
    found = n_step(one.reward, one.terminated, one.filled, value, 0.9, n)
    data = {
        "reward": one.reward.numpy(),
        "terminated": one.terminated.numpy(),
        "value": value.numpy(),
        "discount": 0.9,
    }
    for b, L in enumerate(lengths_of(one.filled)):
        for t in range(L):
            expected = brute_n_step(b, t, n, data, L)  # type: ignore[arg-type]
            assert found[t, b].item() == pytest.approx(expected, abs=1e-5)


def test_nothing_flows_over_a_termination_or_out_of_padding() -> None:
    # Two steps, reward 1 each; episode 0 terminated, 1 truncated with value 10 behind it, and
    # rubbish at the padding. By hand: 1 + 0.5; 1 + 0.5 (1 + 0.5 * 10) = 4, and 1 + 5 = 6.
    reward = torch.tensor([[1.0, 1.0], [1.0, 1.0], [99.0, 99.0]])
    terminated = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    filled = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    value = torch.tensor([[7.0, 7.0], [10.0, 10.0], [99.0, 99.0]])
    y = td_lambda(reward, terminated, filled, value, 0.5, 1.0)
    assert y[:2].tolist() == [[1.5, 4.0], [1.0, 6.0]]
    # lam 0.5 at the first step of the truncated one: 1 + 0.5 (0.5 * 7 + 0.5 * 6) = 4.25.
    y = td_lambda(reward, terminated, filled, value, 0.5, 0.5)
    assert y[0, 1].item() == 4.25
    # Two steps for the first row as well: the same as lam 1 here.
    assert n_step(reward, terminated, filled, value, 0.5, 2)[:2].tolist() == [[1.5, 4.0], [1, 6]]


def test_masked_mean_counts_what_took_place() -> None:
    filled = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert masked_mean(torch.tensor([[1.0, 2.0], [6.0, 99.0]]), filled).item() == 3.0
