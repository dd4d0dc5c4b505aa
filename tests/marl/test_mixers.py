from __future__ import annotations

import numpy as np
import pytest
import torch
from batches import SPEC, batch

from thrifty.marl.joint_value import PartSparsityConfig
from thrifty.marl.mixers import AdditiveMixer, CentralMixer, MonotonicMixer, hypernetwork
from thrifty.marl.qmix import QMIXConfig

N, S = 3, 7


def plain_qmix(mixer: MonotonicMixer, q: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The mixer in NumPy, one row at a time."""

    def run(net: torch.nn.Sequential, x: np.ndarray) -> np.ndarray:
        for layer in net:
            if isinstance(layer, torch.nn.Linear):
                x = layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()
            else:
                x = np.maximum(x, 0.0)
        return x

    out = []
    for row, state in zip(q, s, strict=True):
        w1 = np.abs(run(mixer.hyper_w1, state)).reshape(N, -1)
        hidden = row @ w1 + run(mixer.hyper_b1, state)
        hidden = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0.0)))
        w2 = np.abs(run(mixer.hyper_w2, state))
        out.append(hidden @ w2 + run(mixer.value, state)[0])
    return np.array(out)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_mixer_is_a_plain_one(layers: int) -> None:
    torch.manual_seed(0)
    mixer = MonotonicMixer(N, S, embed=5, layers=layers, hidden=6).double()
    rng = np.random.default_rng(0)
    q, s = rng.normal(size=(20, N)), rng.normal(size=(20, S))
    found = mixer(torch.from_numpy(q), torch.from_numpy(s)).detach().numpy()
    np.testing.assert_allclose(found, plain_qmix(mixer, q, s), rtol=1e-12)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_joint_value_never_falls_in_an_individual_one(layers: int) -> None:
    torch.manual_seed(1)
    mixer = MonotonicMixer(N, S, layers=layers).double()
    q, s = torch.randn(200, N).double(), 3 * torch.randn(200, S).double()
    for n in range(N):
        higher = q.clone()
        higher[:, n] += 1e-3
        assert bool((mixer(higher, s) >= mixer(q, s)).all())
    assert bool((mixer(q + 1e-3, s) > mixer(q, s)).any())


def test_the_central_mixer_may_fall() -> None:
    torch.manual_seed(2)
    mixer = CentralMixer(N, S, embed=16).double()
    q, s = torch.randn(200, N).double(), torch.randn(200, S).double()
    change = mixer(q + 1e-3, s) - mixer(q, s)
    assert bool((change < 0).any())
    assert bool((change > 0).any())
    assert mixer(q, s).shape == (200,)


def test_the_sum() -> None:
    q = torch.tensor([[1.0, 2.0, -5.0]])
    assert AdditiveMixer()(q, torch.zeros(1, S)).tolist() == [-2.0]


def test_hypernetworks_have_one_or_two_layers() -> None:
    with pytest.raises(ValueError, match="hypernet_layers must be 1 or 2, got 3"):
        hypernetwork(2, 3, 4, 3)


def test_the_mixer_is_torchrls_with_the_weights_copied() -> None:
    modules = pytest.importorskip("torchrl.modules")
    torch.manual_seed(3)
    ours = MonotonicMixer(N, S, embed=32, layers=1)
    theirs = modules.QMixer(state_shape=(S,), mixing_embed_dim=32, n_agents=N, device="cpu")
    pairs = (
        (ours.hyper_w1[0], theirs.hyper_w_1),
        (ours.hyper_b1[0], theirs.hyper_b_1),
        (ours.hyper_w2[0], theirs.hyper_w_final),
        (ours.value[0], theirs.V[0]),
        (ours.value[2], theirs.V[2]),
    )
    for mine, other in pairs:
        other.load_state_dict(mine.state_dict())
    q, s = torch.randn(40, N, requires_grad=True), torch.randn(40, S)
    again = q.detach().clone().requires_grad_()
    one, two = ours(q, s), theirs(again.unsqueeze(-1), s)
    torch.testing.assert_close(one, two.squeeze(-1), rtol=1e-6, atol=1e-6)
    weights = torch.randn(40)
    (one * weights).sum().backward()
    (two.squeeze(-1) * weights).sum().backward()
    torch.testing.assert_close(q.grad, again.grad, rtol=1e-5, atol=1e-6)
    for mine, other in pairs:
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mine.bias.grad, other.bias.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_a_raw_state_does_not_start_with_large_values(sparsity: float) -> None:
    """The state times 30, as coordinates of 32 are: |Q_tot| stays small, and so do gradients."""
    part = PartSparsityConfig(sparsity=sparsity)
    one = batch()
    raw = one._replace(state=30.0 * one.state)

    def first(last_scale: float) -> tuple[float, float]:
        learner = QMIXConfig(last_scale=last_scale, agents=part, mixing=part).build(SPEC, seed=0)
        numbers, _ = learner.update(raw)
        learner = QMIXConfig(last_scale=last_scale, agents=part, mixing=part).build(SPEC, seed=0)
        q = learner.value.module.individual(learner.batch_inputs(raw))
        taken = q[:-1].gather(-1, raw.action.unsqueeze(-1)).squeeze(-1)
        total = learner.value.module(taken, learner.state_of(raw)[:-1])
        return float(total.detach().abs().max()), numbers["gradient_norm"]

    largest, norm = first(0.001)
    assert largest < 0.2  # rewards are standard normal: a value of 1 is ordinary
    assert norm < 100
    wild, wild_norm = first(1.0)  # what PyTorch's default would do
    assert wild > 20 * largest
    assert wild_norm > 2 * norm


def test_dividing_the_state_undoes_its_scale() -> None:
    one = batch()
    plain = QMIXConfig().build(SPEC, seed=0)
    scaled = QMIXConfig(state_scale=30.0).build(SPEC, seed=0)
    numbers, _ = plain.update(one)
    again, _ = scaled.update(one._replace(state=30.0 * one.state))
    assert again["loss"] == pytest.approx(numbers["loss"], rel=1e-5)
    assert again["gradient_norm"] == pytest.approx(numbers["gradient_norm"], rel=1e-4)
