from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from thrifty.sparse import Topology, erk, layer_shapes, sparsify, subset


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


class Tied(nn.Module):
    """An output layer that shares its weight with a hidden one, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight


class LanguageModel(nn.Module):
    """An output layer tied to the embedding, which is the first owner."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.hidden = nn.Linear(4, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight


def assert_projected(topology: Topology) -> None:
    for name in topology.names:
        weight, mask = topology.weight(name), topology.mask(name)
        assert mask.dtype == torch.bool
        assert torch.equal(weight != 0, mask)


def test_layers_of_every_kind() -> None:
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(3, 4),
            "conv1": nn.Conv1d(3, 4, 2),
            "conv2": nn.Conv2d(3, 4, (2, 5)),
            "conv3": nn.Conv3d(3, 4, 2),
            "gru": nn.GRU(3, 4, num_layers=2),
            "lstm": nn.LSTMCell(3, 4),
            "rnn": nn.RNNCell(3, 4),
            "embedding": nn.Embedding(5, 3),
            "norm": nn.LayerNorm(4),
            "batch": nn.BatchNorm1d(4),
        }
    )
    assert layer_shapes(model) == {
        "linear.weight": (4, 3),
        "conv1.weight": (4, 3, 2),
        "conv2.weight": (4, 3, 2, 5),
        "conv3.weight": (4, 3, 2, 2, 2),
        "gru.weight_ih_l0": (12, 3),
        "gru.weight_hh_l0": (12, 4),
        "gru.weight_ih_l1": (12, 4),
        "gru.weight_hh_l1": (12, 4),
        "lstm.weight_ih": (16, 3),
        "lstm.weight_hh": (16, 4),
        "rnn.weight_ih": (4, 3),
        "rnn.weight_hh": (4, 4),
    }
    topology = sparsify(model, sparsity=0.5)
    assert topology.shapes == layer_shapes(model)
    assert_projected(topology)


def test_split_gates_are_layers_over_the_same_rows() -> None:
    model = nn.ModuleDict({"gru": nn.GRU(3, 4), "cell": nn.LSTMCell(3, 4), "out": nn.Linear(4, 1)})
    topology = sparsify(model, sparsity=0.5, split_gates=True, initial=subset)
    assert topology.names == (
        *(f"gru.weight_ih_l0[{i}]" for i in range(3)),
        *(f"gru.weight_hh_l0[{i}]" for i in range(3)),
        *(f"cell.weight_ih[{i}]" for i in range(4)),
        *(f"cell.weight_hh[{i}]" for i in range(4)),
        "out.weight",
    )
    gru = model["gru"]
    assert topology.shapes["gru.weight_hh_l0[2]"] == (4, 4)
    assert torch.equal(topology.weight("gru.weight_ih_l0[1]"), gru.weight_ih_l0[4:8])
    assert torch.equal(topology.mask("gru.weight_ih_l0[1]"), gru.weight_ih_l0_mask[4:8])
    # Live views, not copies: writing through them reaches the parameter, and so does projecting.
    topology.mask("gru.weight_ih_l0[1]").fill_(False)
    topology.project()
    assert not bool(gru.weight_ih_l0[4:8].any())
    assert topology.nnz["gru.weight_ih_l0[1]"] == 0
    assert_projected(topology)


def test_tied_weights_have_one_mask_and_one_owner() -> None:
    model = Tied()
    topology = sparsify(model, sparsity=0.5)
    assert topology.names == ("first.weight",)
    assert [name for name, _ in model.named_buffers()] == ["first.weight_mask"]
    assert model.second.weight is model.first.weight
    assert int((model.second.weight != 0).sum()) == 8


def test_a_head_tied_to_an_embedding_stays_dense() -> None:
    assert list(layer_shapes(LanguageModel())) == ["hidden.weight"]


def test_where_is_a_predicate_of_name_module_and_parameter() -> None:
    seen = []

    def where(name: str, module: nn.Module, parameter: nn.Parameter) -> bool:
        seen.append((name, type(module), tuple(parameter.shape)))
        return name == "2.weight"

    assert list(layer_shapes(mlp(), where=where)) == ["2.weight"]
    assert seen[:2] == [("0.weight", nn.Linear, (8, 6)), ("0.bias", nn.Linear, (8,))]


def test_groups_follow_the_scope() -> None:
    names = ("0.weight", "2.weight", "4.weight")
    assert sparsify(mlp(), sparsity=0.5).groups == tuple((name,) for name in names)
    assert sparsify(mlp(), sparsity=0.5, scope="group").groups == (names,)
    ends = sparsify(mlp(), sparsity=0.5, scope=lambda name: name == "2.weight")
    assert ends.groups == (("0.weight", "4.weight"), ("2.weight",))
    with pytest.raises(ValueError, match="scope must be"):
        sparsify(mlp(), sparsity=0.5, scope="everything")  # type: ignore[arg-type]


def test_sparsity_and_nnz_count_links() -> None:
    topology = sparsify(mlp(), sparsity=0.75)  # of 48 + 64 + 16 = 128 links 32 stay
    assert sum(topology.nnz.values()) == 32
    assert topology.sparsity == 0.75
    assert topology.survival == 1.0
    assert repr(topology) == "Topology(3 layers, sparsity 0.7500)"


def test_survival_is_the_share_of_the_first_links() -> None:
    topology = sparsify(nn.Linear(4, 2), sparsity=0.5)
    mask = topology.mask("weight")
    links = mask.flatten().nonzero().squeeze(1)
    holes = (~mask).flatten().nonzero().squeeze(1)
    mask.view(-1)[links[0]] = False
    mask.view(-1)[holes[0]] = True
    assert topology.survival == 3 / 4


def test_the_models_own_state_is_unchanged() -> None:
    dense = mlp()
    before = set(dense.state_dict())
    topology = sparsify(dense, sparsity=0.5)
    assert set(dense.state_dict()) == before
    mlp().load_state_dict(dense.state_dict(), strict=True)
    dense.load_state_dict(mlp(seed=1).state_dict(), strict=True)
    topology.project()
    assert_projected(topology)


def test_masks_follow_to_and_dtype() -> None:
    model = mlp()
    topology = sparsify(model, sparsity=0.5)
    topology.project()  # fills the cache with float32 masks
    masks = {name: topology.mask(name).clone() for name in topology.names}
    model.to(torch.float64)
    with torch.no_grad():
        for name in topology.names:
            topology.parameter(name).fill_(1.0)
    topology.project()
    assert topology.weight("0.weight").dtype == torch.float64
    assert topology._live().cut_masks[0].dtype == torch.float64  # no slow mixed product
    for name in topology.names:
        assert topology.mask(name).dtype == torch.bool
        assert torch.equal(topology.mask(name), masks[name])
    assert_projected(topology)


def test_masks_follow_to_another_device() -> None:
    model = mlp()
    topology = sparsify(model, sparsity=0.5)
    model.to("meta")  # the only second device that every machine has
    assert topology.mask("0.weight").device.type == "meta"
    assert topology.weight("0.weight").device.type == "meta"


def test_masks_written_to_reach_the_weights() -> None:
    model = mlp()
    topology = sparsify(model, sparsity=0.5)
    topology.project()
    topology.mask("2.weight").fill_(False)
    topology.project()
    assert not bool(model[2].weight.any())


def test_a_deep_copy_carries_its_masks() -> None:
    model = mlp()
    topology = sparsify(model, sparsity=0.5, scope="group")
    twin_model = copy.deepcopy(model)
    twin = topology.on(twin_model)
    assert (twin.names, twin.groups, twin.nnz) == (topology.names, topology.groups, topology.nnz)
    assert twin.weight("0.weight") is twin_model[0].weight
    twin.mask("0.weight").fill_(False)
    twin.project()
    assert_projected(topology)
    assert not bool(twin_model[0].weight.any())
    with pytest.raises(ValueError, match="carries no mask"):
        topology.on(mlp())


def test_model_and_topology_copy_and_pickle_together() -> None:
    model = mlp()
    topology = sparsify(model, sparsity=0.5)
    topology.impose(mlp())
    for twin_model, twin in (
        copy.deepcopy((model, topology)),
        pickle.loads(pickle.dumps((model, topology))),
    ):
        assert twin.weight("0.weight") is twin_model[0].weight
        assert twin.nnz == topology.nnz


def test_impose_masks_a_dense_target() -> None:
    model, target = mlp(), mlp(seed=1)
    topology = sparsify(model, sparsity=0.5)
    old = [parameter.clone() for parameter in target.parameters()]
    topology.impose(target)
    for module, twin, weight, bias in zip(
        model[::2], target[::2], old[::2], old[1::2], strict=True
    ):
        assert torch.equal(module.weight_mask, twin.weight_mask)
        assert module.weight_mask is not twin.weight_mask
        assert torch.equal(twin.weight, weight * module.weight_mask)
        assert torch.equal(twin.bias, bias)
    assert set(target.state_dict()) == set(mlp().state_dict())


def test_impose_follows_every_change_on_either_side() -> None:
    model, target = mlp(), mlp(seed=1)
    topology = sparsify(model, sparsity=0.5)
    topology.impose(target)
    for disturb in (
        lambda: topology.mask("0.weight").copy_(~topology.mask("0.weight")),
        lambda: target[2].weight_mask.fill_(True),
        lambda: target.double(),
        lambda: topology.load_state_dict(sparsify(mlp(), sparsity=0.7).state_dict()),
    ):
        disturb()
        with torch.no_grad():
            for parameter in target.parameters():
                parameter.fill_(1.0)
        topology.impose(target)
        for name in topology.names:
            index = int(name[0])
            assert torch.equal(target[index].weight_mask, topology.mask(name))
            assert torch.equal(target[index].weight != 0, topology.mask(name))


def test_impose_on_several_targets_and_copies() -> None:
    model = mlp()
    targets = [copy.deepcopy(model), mlp(1), mlp(2)]
    topology = sparsify(model, sparsity=0.5)
    for target in [*targets, copy.deepcopy(model)] * 2:
        topology.impose(target)
        assert torch.equal(target[2].weight != 0, topology.mask("2.weight"))


def test_impose_knows_a_new_target_at_an_old_address() -> None:
    topology = sparsify(mlp(), sparsity=0.5)
    old = mlp(seed=1)
    topology.impose(old)
    entry = topology._twins.pop(id(old))
    del old
    new = mlp(seed=2)
    topology._twins[id(new)] = entry  # as if the memory of the old one had been used again
    topology.impose(new)
    assert torch.equal(new[2].weight != 0, topology.mask("2.weight"))


def test_impose_refuses_another_layout() -> None:
    topology = sparsify(mlp(), sparsity=0.5)
    with pytest.raises(ValueError, match=r"no parameter 2\.weight"):
        topology.impose(nn.Sequential(nn.Linear(6, 8)))
    with pytest.raises(ValueError, match=r"0\.weight has shape \(9, 6\) here"):
        topology.impose(nn.Sequential(nn.Linear(6, 9)))


def test_state_goes_around() -> None:
    model = mlp()
    topology = sparsify(model, sparsity=0.5)
    topology.mask("0.weight").fill_(False)  # no first link of this layer survives
    topology.project()
    state = topology.state_dict()
    fresh_model = mlp()
    fresh = sparsify(fresh_model, sparsity=0.25, generator=torch.Generator().manual_seed(7))
    fresh_model.load_state_dict(model.state_dict())
    fresh.load_state_dict(state)
    for name in topology.names:
        assert torch.equal(fresh.mask(name), topology.mask(name))
        assert torch.equal(fresh.weight(name), topology.weight(name))
    assert fresh.target_sparsity == 0.5
    assert fresh.survival == topology.survival < 1.0
    topology.mask("2.weight").fill_(False)
    assert bool(state["masks"]["2.weight"].any())  # a state is a copy


def test_loading_projects_the_weights() -> None:
    state = sparsify(mlp(), sparsity=0.9).state_dict()
    topology = sparsify(mlp(), sparsity=0.1)
    topology.load_state_dict(state)
    assert topology.sparsity == pytest.approx(0.9, abs=0.005)
    for name in topology.names:
        assert not bool(topology.weight(name)[~topology.mask(name)].any())


def test_a_foreign_state_is_refused() -> None:
    topology = sparsify(mlp(), sparsity=0.5)
    state = topology.state_dict()
    masks = dict(state["masks"])
    with pytest.raises(ValueError, match="no topology state"):
        topology.load_state_dict({"masks": masks})
    wrong = {**masks, "2.weight": torch.ones(8, 9, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"mask of 2\.weight has shape \(8, 9\)"):
        topology.load_state_dict({**state, "masks": wrong})
    del masks["2.weight"]
    with pytest.raises(ValueError, match=r"missing \['2\.weight'\], unknown \['9\.weight'\]"):
        topology.load_state_dict({**state, "masks": {**masks, "9.weight": torch.ones(1)}})
    assert topology.nnz == sparsify(mlp(), sparsity=0.5).nnz  # refused whole


def test_from_zeros_reads_a_sparse_model() -> None:
    model = mlp()
    topology = sparsify(model, sparsity=0.5)
    loaded = mlp(seed=1)
    loaded.load_state_dict(model.state_dict())
    read = Topology.from_zeros(loaded, scope="group")
    assert read.names == topology.names
    assert len(read.groups) == 1
    for name in read.names:
        assert torch.equal(read.mask(name), topology.mask(name))
    assert read.target_sparsity == read.sparsity == 0.5
    with pytest.raises(ValueError, match="chooses no layer"):
        Topology.from_zeros(nn.ReLU())


def test_a_topology_without_names_does_nothing() -> None:
    model = mlp()
    topology = sparsify(model, sparsity=0)
    target = mlp(seed=1)
    weights = [parameter.clone() for parameter in [*model.parameters(), *target.parameters()]]
    topology.project()
    topology.project_gradients()
    topology.impose(target)
    topology.load_state_dict(topology.state_dict())
    assert topology.names == topology.groups == ()
    assert (topology.nnz, topology.sparsity, topology.survival) == ({}, 0.0, 1.0)
    assert not list(model.buffers())
    assert not list(target.buffers())
    now = [*model.parameters(), *target.parameters()]
    assert all(torch.equal(old, new) for old, new in zip(weights, now, strict=True))


def test_a_budget_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gave layer 0\.weight 1000 of its 48 links"):
        sparsify(mlp(), sparsity=0.5, allocate=lambda shapes, sparsity: dict.fromkeys(shapes, 1000))
    with pytest.raises(ValueError, match=r"gave layer 0\.weight None"):
        sparsify(mlp(), sparsity=0.5, allocate=lambda shapes, sparsity: {})
    assert sparsify(mlp(), sparsity=0.5).budget(0.25) == erk(layer_shapes(mlp()), 0.25)
