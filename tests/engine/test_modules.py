"""Compact modules against the dense masked model in torch, which is exact up to rounding."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_chains import CLOSE, chain, mlp_of, small
from torch import Tensor, nn

from thrifty.engine import perceptron
from thrifty.engine.links import Links
from thrifty.engine.modules import SparseMLP, compact, expand
from thrifty.rl.networks import DeterministicActor, GaussianActor, TwinCritic
from thrifty.rl.targets import polyak_update
from thrifty.sparse import Topology, sparsify

BATCHES = (1, 63, 64, 65, 200)


def gradients(model: nn.Module, topology: Topology) -> tuple[Tensor, Tensor]:
    """Return the gradients of a dense model's links and biases in the compact order."""
    values = [
        topology.parameter(name).grad[topology.mask(name)]  # type: ignore[index]
        for name in topology.names
    ]
    biases = [p.grad for p in model.parameters() if p.ndim == 1 and p.grad is not None]
    return torch.cat(values), torch.cat([torch.empty(0), *biases])


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=4),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from(BATCHES),
    st.booleans(),
    st.integers(0, 1000),
)
@settings(max_examples=60)
def test_outputs_and_gradients_are_those_of_the_masked_model(
    widths: list[int], density: float, batch: int, bias: bool, seed: int
) -> None:
    model, topology = chain(widths, density, seed, bias)
    sparse = mlp_of(compact(model, topology))
    x, upstream = torch.randn(batch, widths[0]), torch.randn(batch, widths[-1]) / batch
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = sparse(ours), model(theirs)
    torch.testing.assert_close(y, expected, **CLOSE)
    with torch.no_grad():
        assert torch.equal(sparse(x), y)
    y.backward(upstream)
    expected.backward(upstream)
    values, biases = gradients(model, topology)
    assert sparse.values.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, **CLOSE)
    torch.testing.assert_close(sparse.values.grad, values, **CLOSE)
    if bias:
        assert sparse.biases.grad is not None
        torch.testing.assert_close(sparse.biases.grad, biases, **CLOSE)


def test_a_chain_by_hand() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, -1.0]]))
        first.bias.copy_(torch.tensor([1.0, 0.5]))
        second.weight.copy_(torch.tensor([[3.0, 5.0]]))
        second.bias.zero_()
    sparse = SparseMLP(
        [first, second], [first.weight != 0, second.weight != 0], [True, False], ["a", "b", "c"]
    )
    assert sparse.values.tolist() == [2.0, -1.0, 3.0, 5.0]
    assert sparse.biases.tolist() == [1.0, 0.5, 0.0]
    # h = relu([2 * 1 + 1, -1 * 2 + 0.5]) = [3, 0]; y = 3 * 3 + 5 * 0 = 9.
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    y = sparse(x)
    y.backward()
    assert y.tolist() == [[9.0]]
    # The second hidden unit is closed: dh = [3, 0], dw1 = [3 * x_0, 0], dw2 = h.
    assert sparse.values.grad is not None
    assert sparse.values.grad.tolist() == [3.0, 0.0, 3.0, 0.0]
    assert x.grad is not None
    assert x.grad.tolist() == [[6.0, 0.0]]


@pytest.mark.parametrize("width", [3, 16, 17, 40, 376])
def test_rows_become_tiles_and_rows_again(width: int) -> None:
    rows = np.random.default_rng(0).standard_normal((64, width)).astype(np.float32)
    for lanes in (1, 15, 16, 33, 64):
        tile = np.full((width, 64), np.nan, np.float32)
        perceptron.to_tile(rows.ctypes.data, tile.ctypes.data, width, lanes)
        assert np.array_equal(tile[:, :lanes], rows[:lanes].T)
        assert not tile[:, lanes:].any()
        back = np.full((65, width), np.nan, np.float32)
        perceptron.from_tile(tile.ctypes.data, back.ctypes.data, width, lanes)
        assert np.array_equal(back[:lanes], rows[:lanes])
        assert np.isnan(back[lanes:]).all()


def test_leading_dimensions_and_empty_batches() -> None:
    model, topology = small()
    sparse = compact(model, topology)
    for shape in ((5,), (2, 3, 5), (0, 5), (2, 0, 5)):
        x = torch.randn(shape)
        torch.testing.assert_close(sparse(x), model(x), **CLOSE)
    x = torch.randn(0, 5, requires_grad=True)
    sparse(x).sum().backward()
    values = mlp_of(sparse).values.grad
    assert values is not None
    assert not values.any()


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_networks_of_td3_and_sac(layer_norm: bool) -> None:
    observation, action = torch.randn(70, 4), torch.randn(70, 2)
    critic = TwinCritic(4, 2, hidden=(16, 16), layer_norm=layer_norm)
    topology = sparsify(critic, sparsity=0.7)
    sparse = compact(critic, topology)
    for ours, theirs in zip(sparse(observation, action), critic(observation, action), strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)
    kinds = [type(module) for module in sparse.q1]
    assert kinds == ([SparseMLP, nn.LayerNorm, nn.ReLU] * 2 if layer_norm else []) + [SparseMLP]
    for actor in (DeterministicActor(4, 2, hidden=(16,)), GaussianActor(4, 2, hidden=(16,))):
        small_actor = compact(actor, sparsify(actor, sparsity=0.7))
        torch.testing.assert_close(small_actor(observation), actor(observation), **CLOSE)


def test_the_gradient_flows_through_the_critic_into_the_actor() -> None:
    actor, critic = DeterministicActor(4, 2, hidden=(16,)), TwinCritic(4, 2, hidden=(16,))
    topologies = [sparsify(net, sparsity=0.6) for net in (actor, critic)]
    sparse_actor, sparse_critic = compact(actor, topologies[0]), compact(critic, topologies[1])
    observation = torch.randn(65, 4)
    for pi, q in ((actor, critic), (sparse_actor, sparse_critic)):
        (-q.first(observation, pi(observation)).mean()).backward(inputs=list(pi.parameters()))
    values, _ = gradients(actor, topologies[0])
    torch.testing.assert_close(mlp_of(sparse_actor.net).values.grad, values, **CLOSE)
    assert all(parameter.grad is None for parameter in sparse_critic.parameters())


class Recorder:
    """Stands in for the compiled backward pass and notes which gradients it is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[bool, bool]] = []
        self._real = perceptron.backward
        monkeypatch.setattr(perceptron, "backward", self)

    def __call__(self, *arguments) -> None:
        self.asked.append((arguments[8], arguments[11] != 0))
        self._real(*arguments)


def test_no_gradient_is_computed_that_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    sparse = compact(*small())
    mlp = mlp_of(sparse)
    x = torch.randn(3, 5, requires_grad=True)
    sparse(x.detach()).sum().backward()
    sparse(x * 2).sum().backward(inputs=[x])
    sparse(x * 2).sum().backward(inputs=[mlp.values])
    torch.autograd.grad(sparse(x * 2).sum(), [x])
    mlp.requires_grad_(False)
    sparse(x).sum().backward()
    weights, inputs = (True, False), (False, True)
    assert recorder.asked == [weights, inputs, weights, inputs, inputs]
    with torch.no_grad():
        assert not sparse(x).requires_grad
    assert not sparse(x.detach()).requires_grad


def test_leaves_named_in_autograd_grad() -> None:
    model, topology = small()
    sparse = compact(model, topology)
    mlp = mlp_of(sparse)
    x = torch.randn(3, 5, requires_grad=True)
    ours = torch.autograd.grad(sparse(x).sum(), [x, mlp.values, mlp.biases])
    sparse(x).sum().backward()
    for one, other in zip(ours, (x.grad, mlp.values.grad, mlp.biases.grad), strict=True):
        assert torch.equal(one, other)


def test_a_nan_is_seen_at_the_outputs_as_in_torch() -> None:
    model, topology = chain([5, 8, 8, 3], 1.0, seed=0)
    sparse = compact(model, topology)
    x = torch.randn(70, 5)
    x[[1, 66], 2] = torch.nan
    assert torch.equal(sparse(x).isnan(), model(x).isnan())
    assert sparse(x).isnan().sum() == 2 * 3
    sparse(x).sum().backward()
    values = mlp_of(sparse).values.grad
    assert values is not None
    assert values.isnan().any()


def test_gradients_accumulate_and_graphs_can_be_kept() -> None:
    sparse = compact(*small())
    mlp, x = mlp_of(sparse), torch.randn(3, 5)
    y = sparse(x).sum()
    y.backward(retain_graph=True)
    assert mlp.values.grad is not None
    once = mlp.values.grad.clone()
    y.backward()
    assert torch.equal(mlp.values.grad, 2 * once)


def test_what_torch_refuses_is_refused() -> None:
    sparse = compact(*small())
    x = torch.randn(3, 5, requires_grad=True)
    with pytest.raises(ValueError, match="no second derivatives"):
        torch.autograd.grad(sparse(x).sum(), [x], create_graph=True)
    y = sparse(x).sum()
    with torch.no_grad():
        mlp_of(sparse).values.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(3, 5, dtype=torch.float64),
        torch.ones(3, 5, dtype=torch.int64),
        torch.randn(5, 3).T,
        torch.randn(3, 10)[:, :5],
        torch.randn(1, 5).expand(3, 5),
        torch.randn(3, 4),
        torch.tensor(1.0),
        torch.empty(3, 5, device="meta"),
    ],
)
def test_other_inputs_are_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"takes contiguous float32 \[\.\.\., 5\] on the CPU"):
        compact(*small())(x)


def test_converted_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="must stay contiguous float32 on the CPU"):
        compact(*small()).double()(torch.randn(3, 5))


def test_copies_are_independent_and_share_their_indices() -> None:
    sparse = compact(*small())
    target = copy.deepcopy(sparse)
    x = torch.randn(3, 5)
    before = sparse(x)
    assert torch.equal(target(x), before)
    with torch.no_grad():
        mlp_of(sparse).values.mul_(2.0)
    assert torch.equal(target(x), before)
    assert not torch.equal(sparse(x), before)
    assert mlp_of(target).links is mlp_of(sparse).links
    polyak_update(sparse, target, 1.0)
    assert torch.equal(target(x), sparse(x))
    again = pickle.loads(pickle.dumps(sparse))
    assert torch.equal(again(x), sparse(x))


def test_a_state_dict_round_trip_moves_values_and_topology() -> None:
    (model, topology), (other, other_topology) = small(), small()
    masks = {name: topology.mask(name).flip(1) for name in topology.names}
    for name, mask in masks.items():
        other_topology.mask(name).copy_(mask)
        with torch.no_grad():
            other_topology.weight(name).copy_(mask * torch.randn(mask.shape))
    ours, theirs = compact(model, topology), compact(other, other_topology)
    x = torch.randn(3, 5)
    file = io.BytesIO()
    torch.save(theirs.state_dict(), file)
    file.seek(0)
    ours.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(ours(x), theirs(x))
    dense, moved = expand(ours, topology)
    assert all(torch.equal(moved.mask(name), mask) for name, mask in masks.items())
    torch.testing.assert_close(dense(x), other(x), **CLOSE)


@given(st.data())
def test_a_corrupted_index_is_a_message(data: st.DataObject) -> None:
    sparse = compact(*small())
    state = {name: tensor.clone() for name, tensor in sparse.state_dict().items()}
    index = state["0._extra_state"]
    place = data.draw(st.integers(0, len(index) - 1))
    limits = torch.iinfo(torch.int32)
    value = data.draw(
        st.one_of(st.integers(-3, 12), st.integers(limits.min, limits.max)).filter(
            lambda value: value != index[place]
        )
    )
    index[place] = value
    state["0.values"] += 1.0
    x = torch.randn(3, 5)
    before = sparse(x)
    with pytest.raises(ValueError, match="index"):
        sparse.load_state_dict(state)
    assert torch.equal(sparse(x), before)  # the old indices stay, and their values


def test_other_states_are_refused() -> None:
    sparse = compact(*small())
    state = sparse.state_dict()
    index = state["0._extra_state"]
    for wrong in (index[:-1], torch.cat((index, index[:1])), index.long(), index[:0], [1, 2]):
        with pytest.raises(ValueError, match=r"the index array of a (SparseMLP|sparse module)"):
            sparse.load_state_dict({**state, "0._extra_state": wrong})
    fuller = Links.of(
        [np.ones((8, 5), np.bool_), np.ones((3, 8), np.bool_)], [True] * 2, [True, False]
    )
    with pytest.raises(ValueError, match="the state has 64 links"):
        sparse.load_state_dict({**state, "0._extra_state": torch.tensor(fuller.index)})
    del state["0._extra_state"]
    with pytest.raises(RuntimeError, match="Missing key"):
        sparse.load_state_dict(state)


@pytest.mark.parametrize("fused", [False, True])
def test_adam_moves_a_compact_model_as_the_masked_one(fused: bool) -> None:
    model, topology = chain([6, 32, 32, 2], 0.3, seed=1)
    sparse = compact(model, topology)
    optimizers = [
        torch.optim.Adam(net.parameters(), lr=1e-2, fused=fused) for net in (model, sparse)
    ]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x, goal = torch.randn(65, 6, generator=generator), torch.randn(65, 2, generator=generator)
        for net, optimizer in zip((model, sparse), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(net(x), goal).backward()
            if net is model:
                topology.project_gradients()
            optimizer.step()
    dense, _ = expand(sparse, topology)
    for ours, theirs in zip(dense.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def test_it_says_what_it_is() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    sparse = compact(model, sparsify(model, sparsity=0.5))
    assert repr(mlp_of(sparse)) == "SparseMLP(8 -> 16 -> 4, 96 of 192 links)"


def test_global_defaults_and_global_random_numbers_are_left_alone() -> None:
    model, topology = small()
    x = torch.randn(3, 5, requires_grad=True)
    before = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        sparse = compact(model, topology)
        sparse(x).sum().backward()
        dense, _ = expand(sparse, topology)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.dtype for p in (*sparse.parameters(), *dense.parameters())} == {torch.float32}
