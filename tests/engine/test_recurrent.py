"""Sparse GRU and LSTM layers against nn.GRU and nn.LSTM with masked weights."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from thrifty.engine.modules import SparseGRU, SparseLSTM, SparseMLP, compact, expand
from thrifty.engine.sparse_recurrent import WEIGHTS
from thrifty.sparse import Topology, er, sparsify

CLOSE = {"rtol": 1e-5, "atol": 3e-5}
KINDS = [(nn.GRU, SparseGRU), (nn.LSTM, SparseLSTM)]
Layer = nn.GRU | nn.LSTM


def masked(
    kind: type[Layer], inputs: int, hidden: int, density: float, **more: bool
) -> tuple[Layer, tuple[Tensor, Tensor]]:
    """Return a masked layer; a sparse one has an empty row and an empty column."""
    layer = kind(inputs, hidden, **more)  # type: ignore[arg-type]
    masks = []
    for name in WEIGHTS:
        weight = getattr(layer, name)
        mask = torch.rand(weight.shape) < density
        if density < 1:
            mask[-1] = mask[:, 0] = False
        with torch.no_grad():
            weight.mul_(mask)
        masks.append(mask)
    return layer, (masks[0], masks[1])


def first_states(kind: type[Layer], batch: int, hidden: int) -> list[Tensor]:
    return [torch.randn(1, batch, hidden) for _ in range(1 if kind is nn.GRU else 2)]


def as_argument(states: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    return states[0] if len(states) == 1 else tuple(states)


def as_list(states: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [states] if isinstance(states, Tensor) else list(states)


@given(
    st.sampled_from(KINDS),
    st.integers(1, 6),
    st.sampled_from([1, 63, 64, 65, 130]),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
)
@settings(max_examples=60)
def test_outputs_and_gradients_are_those_of_the_masked_layer(
    kinds: tuple[type[Layer], type[SparseGRU] | type[SparseLSTM]],
    steps: int,
    batch: int,
    inputs: int,
    hidden: int,
    density: float,
    bias: bool,
    batch_first: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layer, masks = masked(kinds[0], inputs, hidden, density, bias=bias, batch_first=batch_first)
    sparse = kinds[1](layer, masks)
    x = torch.randn(steps, batch, inputs)
    x = x.transpose(0, 1).contiguous() if batch_first else x
    states = first_states(kinds[0], batch, hidden)
    found = []
    for module in (layer, sparse):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, *states)]
        y, last = module(leaves[0], as_argument(leaves[1:]))
        outputs = [y, *as_list(last)]
        torch.manual_seed(seed + 1)
        total = sum((output * torch.randn(output.shape)).sum() for output in outputs) / batch
        total.backward()  # type: ignore[union-attr]
        found.append((outputs, [leaf.grad for leaf in leaves]))
    for ours, theirs in zip(found[1], found[0], strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, **CLOSE)
    values = [getattr(layer, n).grad[m] for n, m in zip(WEIGHTS, masks, strict=True)]
    assert sparse.values.grad is not None
    torch.testing.assert_close(sparse.values.grad, torch.cat(values), **CLOSE)
    if bias:
        assert sparse.biases.grad is not None
        biases = torch.cat([layer.bias_ih_l0.grad, layer.bias_hh_l0.grad])
        torch.testing.assert_close(sparse.biases.grad, biases, **CLOSE)
    # Without gradients, and from zeros.
    with torch.no_grad():
        assert torch.equal(sparse(x, as_argument(states))[0], found[1][0][0])
        torch.testing.assert_close(sparse(x)[0], layer(x)[0], **CLOSE)


def test_a_gru_step_by_hand() -> None:
    layer = nn.GRU(1, 1)
    with torch.no_grad():
        # W_ih = (0, 0, 1), W_hh = (0, 0, 2), b_ih = (0, 0, 0), b_hh = (0, 0, 1): r = z = 1/2.
        layer.weight_ih_l0.copy_(torch.tensor([[0.0], [0.0], [1.0]]))
        layer.weight_hh_l0.copy_(torch.tensor([[0.0], [0.0], [2.0]]))
        layer.bias_ih_l0.zero_()
        layer.bias_hh_l0.copy_(torch.tensor([0.0, 0.0, 1.0]))
    masks = (layer.weight_ih_l0 != 0, layer.weight_hh_l0 != 0)
    sparse = SparseGRU(layer, masks)
    assert sparse.values.tolist() == [1.0, 2.0]
    y, last = sparse(torch.tensor([[[0.5]]]), torch.tensor([[[1.0]]]))
    # n = tanh(0.5 + 1/2 (2 * 1 + 1)) = tanh(2), h' = (n + 1) / 2.
    assert y.item() == pytest.approx((0.9640275801 + 1.0) / 2.0, abs=1e-6)
    assert last.shape == (1, 1, 1)
    assert last.item() == y.item()


@pytest.mark.parametrize("part", ["last", "first step"])
def test_a_loss_may_look_at_a_part_of_the_outputs(part: str) -> None:
    torch.manual_seed(0)
    for kind, sparse_kind in KINDS:
        layer, masks = masked(kind, 3, 5, 0.5)
        sparse = sparse_kind(layer, masks)
        x = torch.randn(4, 2, 3)
        for module in (layer, sparse):
            y, last = module(x)
            (as_list(last)[-1] if part == "last" else y[0]).sum().backward()
        want = [getattr(layer, n).grad[m] for n, m in zip(WEIGHTS, masks, strict=True)]
        assert sparse.values.grad is not None
        torch.testing.assert_close(sparse.values.grad, torch.cat(want), **CLOSE)


def test_only_what_is_asked_for_is_computed() -> None:
    layer, masks = masked(nn.GRU, 3, 5, 0.5)
    sparse = SparseGRU(layer, masks)
    x = torch.randn(4, 2, 3, requires_grad=True)
    sparse(x)[0].sum().backward(inputs=[x])
    assert x.grad is not None
    assert sparse.values.grad is None


class Agent(nn.Module):
    """A recurrent agent: two perceptrons around a layer of memory."""

    def __init__(self, kind: type[Layer]) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.memory = kind(8, 8)
        self.leave = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.memory(self.enter(x))
        out: Tensor = self.leave(y)
        return out


@pytest.mark.parametrize("split_gates", [False, True])
@pytest.mark.parametrize(("kind", "sparse_kind"), KINDS)
def test_a_model_becomes_compact_and_comes_back(
    kind: type[Layer], sparse_kind: type[nn.Module], split_gates: bool
) -> None:
    torch.manual_seed(0)
    model = Agent(kind)
    topology = sparsify(model, sparsity=0.6, allocate=er, split_gates=split_gates)
    small = compact(model, topology)
    assert type(small.memory) is sparse_kind
    assert type(small.leave) is SparseMLP
    x = torch.randn(3, 4, 6)
    torch.testing.assert_close(small(x), model(x), **CLOSE)
    # Copies, state_dict, an optimizer.
    twin = copy.deepcopy(small)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.1)
    twin(x).square().mean().backward()
    optimizer.step()
    assert not torch.equal(twin(x), small(x))
    stored = io.BytesIO()
    torch.save(twin.state_dict(), stored)
    stored.seek(0)
    small.load_state_dict(torch.load(stored, weights_only=True))
    assert torch.equal(twin(x), small(x))
    dense, back = expand(small, topology)
    assert type(dense.memory) is kind
    assert back.names == topology.names
    for name in back.names:
        assert torch.equal(back.mask(name), topology.mask(name))
        assert not back.weight(name)[~back.mask(name)].any()
    torch.testing.assert_close(dense(x), small(x), **CLOSE)


def test_one_masked_weight_is_enough_and_the_other_counts_as_full() -> None:
    model = nn.Sequential(nn.GRU(4, 6))
    mask = torch.rand(18, 6) < 0.3
    topology = Topology(
        model, {"0.weight_hh_l0": mask}, where=lambda name, *_: name.endswith("weight_hh_l0")
    )
    small = compact(model, topology)
    assert small[0].links.values == 18 * 4 + int(mask.sum())
    dense, _ = expand(small, topology)
    assert torch.equal(dense[0].weight_hh_l0, model[0].weight_hh_l0)
    assert not hasattr(dense[0], "weight_ih_l0_mask")


@pytest.mark.parametrize(
    ("layer", "lacking"),
    [
        (nn.GRU(3, 4, num_layers=2), "several layers"),
        (nn.LSTM(3, 4, bidirectional=True), "two directions"),
        (nn.LSTM(3, 4, proj_size=2), "projections"),
    ],
)
def test_layers_that_are_not_built_are_refused(layer: Layer, lacking: str) -> None:
    topology = sparsify(layer, sparsity=0.5)
    with pytest.raises(ValueError, match=f"{lacking}|one layer in one direction"):
        compact(layer, topology)
    masks = [torch.ones_like(getattr(layer, name), dtype=torch.bool) for name in WEIGHTS]
    with pytest.raises(ValueError, match=f"has no {lacking}"):
        (SparseGRU if type(layer) is nn.GRU else SparseLSTM)(layer, (masks[0], masks[1]))


def test_other_inputs_are_refused() -> None:
    sparse = SparseGRU(*masked(nn.GRU, 3, 4, 0.5))
    for wrong in (
        torch.randn(2, 5, 4),
        torch.randn(5, 3),
        torch.randn(2, 5, 3).double(),
        torch.randn(2, 3, 5).transpose(1, 2),
        torch.randn(0, 5, 3),
    ):
        with pytest.raises(ValueError, match="a SparseGRU takes contiguous float32"):
            sparse(wrong)
    for state in (torch.randn(5, 4), torch.randn(1, 4, 4), torch.randn(1, 5, 4).double()):
        with pytest.raises(ValueError, match="the first states of a SparseGRU"):
            sparse(torch.randn(2, 5, 3), state)
    x = torch.randn(2, 5, 3, requires_grad=True)
    with pytest.raises(ValueError, match="second derivatives"):
        torch.autograd.grad(sparse(x)[0].sum(), x, create_graph=True)
    with pytest.raises(ValueError, match="must stay contiguous float32"):
        copy.deepcopy(sparse).double()(torch.randn(2, 5, 3))


def test_corrupted_indices_are_refused() -> None:
    sparse = SparseLSTM(*masked(nn.LSTM, 3, 4, 0.5))
    state = sparse.state_dict()
    index = state["_extra_state"]
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        place = int(torch.randint(len(index), (), generator=generator))
        broken = index.clone()
        broken[place] = int(torch.randint(-3, 40, (), generator=generator))
        if not torch.equal(broken, index):
            with pytest.raises(ValueError, match=r"index|link"):
                sparse.load_state_dict({**state, "_extra_state": broken})
