"""Models made compact and expanded again."""

from __future__ import annotations

import copy

import pytest
import torch
from masked_chains import CLOSE, mlp_of, small
from torch import Tensor, nn

from thrifty.engine.modules import SparseMLP, compact, expand
from thrifty.rl.networks import mlp
from thrifty.sparse import Topology, sparsify


class Odd(nn.Module):
    """Named chains, a bare Linear, a trailing ReLU, a dense layer, other modules."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential()
        for name, module in (
            ("in", nn.Linear(5, 8)),
            ("act", nn.ReLU()),
            ("mid", nn.Linear(8, 8, bias=False)),
            ("next", nn.Linear(8, 6)),
            ("end", nn.ReLU()),
            ("drop", nn.Dropout(0.5)),
            ("out", nn.Linear(6, 4)),
        ):
            self.body.add_module(name, module)
        self.alone = nn.Linear(4, 3)
        self.head = mlp(3, (4,), 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.tanh(self.alone(self.body(x))))
        return result


def test_all_kinds_of_places_and_back_without_loss() -> None:
    model = Odd().eval()
    topology = sparsify(
        model,
        sparsity=0.5,
        scope="group",
        where=lambda name, module, parameter: (
            parameter.ndim == 2 and "head" not in name and name != "body.mid.weight"
        ),
    )
    sparse = compact(model, topology)
    assert [name for name, _ in sparse.body.named_children()] == ["in", "end", "drop", "out"]
    assert type(sparse.alone) is SparseMLP
    assert type(sparse.head[0]) is nn.Linear  # holds no masked layer
    x = torch.randn(3, 5)
    torch.testing.assert_close(sparse(x), model(x), **CLOSE)
    dense, twin = expand(sparse, topology)
    assert repr(dense) == repr(model)
    assert dense.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(dense.state_dict()[name], value)
    assert all(torch.equal(twin.mask(name), topology.mask(name)) for name in topology.names)
    assert dict(dense.named_buffers()).keys() == dict(model.named_buffers()).keys()
    assert (twin.names, twin.groups) == (topology.names, topology.groups)
    assert twin.target_sparsity == 0.5
    assert not any(module.training for module in (*sparse.modules(), *dense.modules()))
    assert torch.equal(dense(x), model(x))


def test_a_model_that_is_one_layer() -> None:
    model = nn.Linear(4, 3)
    topology = sparsify(model, sparsity=0.5)
    sparse = compact(model, topology)
    assert isinstance(sparse, SparseMLP)
    dense, _ = expand(sparse, topology)
    assert torch.equal(dense.weight, model.weight)


def test_frozen_layers_stay_frozen() -> None:
    model, topology = small()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.ndim == 1)
    sparse = mlp_of(compact(model, topology))
    assert (sparse.values.requires_grad, sparse.biases.requires_grad) == (False, True)
    model[0].weight.requires_grad_(True)
    with pytest.raises(ValueError, match="freeze all of its weights or none"):
        compact(model, topology)


def test_models_that_cannot_be_compact_are_refused() -> None:
    model, topology = small()
    with pytest.raises(ValueError, match="has no names"):
        compact(model, sparsify(nn.Linear(3, 2), sparsity=0.0))
    with pytest.raises(ValueError, match=r"pass topology\.on\(copy\)"):
        compact(copy.deepcopy(model), topology)
    convolution = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Linear(4, 4))
    with pytest.raises(ValueError, match="not the weight of a plain"):
        compact(convolution, sparsify(convolution, sparsity=0.5))
    layer = nn.Linear(4, 4)
    shared = nn.Sequential(layer, nn.ReLU(), layer)
    with pytest.raises(ValueError, match="used in two places"):
        compact(shared, sparsify(shared, sparsity=0.5))
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    with pytest.raises(ValueError, match="used in two places"):
        compact(tied, sparsify(tied, sparsity=0.5))
    double = nn.Linear(4, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="float32 on the CPU"):
        compact(double, sparsify(double, sparsity=0.5))
    unfit = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="must fit"):
        compact(unfit, sparsify(unfit, sparsity=0.5))
    hooked, hooked_topology = small()
    hooked[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="carries hooks"):
        compact(hooked, hooked_topology)
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    with pytest.raises(ValueError, match=r"call topology.project\(\)"):
        compact(model, topology)


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.GRU(4, 3)], ids=["Linear", "GRU"])
def test_a_model_on_another_device_is_refused(layer: nn.Module) -> None:
    """As one on a GPU, whose masks NumPy cannot read."""
    topology = sparsify(layer, sparsity=0.5)
    with pytest.raises(ValueError, match=r"float32 on meta: call model\.to\(\"cpu\", torch\.flo"):
        compact(layer.to("meta"), topology)


def test_expanding_with_another_topology_is_refused() -> None:
    model, topology = small()
    sparse = compact(model, topology)
    with pytest.raises(ValueError, match=r"no sparse layer 1\.weight"):
        expand(
            sparse,
            sparsify(nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 3)), sparsity=0.5),
        )
    only_first = Topology(
        model, {"0.weight": topology.mask("0.weight")}, where=lambda name, *_: name == "0.weight"
    )
    with pytest.raises(ValueError, match=r"2\.weight is sparse here and unknown"):
        expand(sparse, only_first)
