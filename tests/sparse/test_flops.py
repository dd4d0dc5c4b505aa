from __future__ import annotations

import pytest
import torch
from torch import nn

from thrifty.sparse import (
    Ledger,
    er,
    forward_flops,
    layer_costs,
    layer_shapes,
    sac_training_flops,
    sparsify,
    td3_training_flops,
)

# rlx2.md 4 and 6: algorithm, widths, actor and critic sparsity, total size, training and test
# FLOPs as published, relative to dense.
ROWS = [
    ("td3", "HalfCheetah", 17, 6, 0.90, 0.85, 0.133, 0.138, 0.100),
    ("td3", "Hopper", 11, 3, 0.98, 0.95, 0.040, 0.043, 0.020),
    ("td3", "Walker2d", 17, 6, 0.97, 0.95, 0.043, 0.045, 0.030),
    ("td3", "Ant", 111, 8, 0.96, 0.88, 0.093, 0.100, 0.040),
    ("sac", "HalfCheetah", 17, 6, 0.90, 0.80, 0.180, 0.197, 0.100),
    ("sac", "Hopper", 11, 3, 0.98, 0.95, 0.044, 0.048, 0.020),
    ("sac", "Walker2d", 17, 6, 0.90, 0.90, 0.100, 0.113, 0.100),
    ("sac", "Ant", 111, 8, 0.90, 0.75, 0.220, 0.239, 0.100),
]


def ledger(row: tuple) -> Ledger:
    algorithm, _, obs, act, actor_sparsity, critic_sparsity, *_ = row
    out = act if algorithm == "td3" else 2 * act
    actor = {"0": (256, obs), "1": (256, 256), "2": (out, 256)}
    critic = {
        f"{head}.{i}": shape
        for head in "ab"
        for i, shape in enumerate([(256, obs + act), (256, 256), (1, 256)])
    }
    rows = []
    for name, shapes, sparsity in [
        ("actor", actor, actor_sparsity),
        ("critic", critic, critic_sparsity),
    ]:
        sizes = {layer: torch.Size(shape) for layer, shape in shapes.items()}
        rows += layer_costs(name, sizes, er(sizes, sparsity))
    return Ledger(rows, copies={"actor": 2 if algorithm == "td3" else 1, "critic": 2})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_size_ratios_are_the_published_ones(row: tuple) -> None:
    assert f"{ledger(row).parameters()['ratio']:.3f}" == f"{row[6]:.3f}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_flops_ratios_are_near_the_published_ones(row: tuple) -> None:
    book = ledger(row)
    actor, critic = book.forward_flops("actor"), book.forward_flops("critic")
    # The published inference ratio is 1 - S exactly; ours weighs layers by 2 I - 1, not 2 I.
    assert actor["ratio"] == pytest.approx(row[8], abs=0.0016)
    if row[0] == "td3":
        sparse = td3_training_flops(actor["sparse"], critic["sparse"] / 2)
        dense = td3_training_flops(actor["dense"], critic["dense"] / 2)
        assert sparse / dense == pytest.approx(row[7], abs=0.006)


def test_forward_flops_by_hand() -> None:
    # A layer 3 -> 2 takes 3 products and 2 sums per output: 2 (2 * 3 - 1) = 10.
    assert forward_flops((2, 3)) == 10
    assert forward_flops((2, 3), sparsity=0.5) == 5
    # Kernel 3 x 3 over 4 channels: fan-in 36, 71 operations per output and position.
    assert forward_flops((5, 4, 3, 3), positions=100) == 71 * 5 * 100


def test_training_flops_by_hand() -> None:
    # rlx2.md 6. TD3 with d = 2: 2.5 A + 9.5 C; with d = 1: (A + 8 C) + (3 A + 3 C) = 4 A + 11 C.
    assert td3_training_flops(10, 1, batch=3) == 3 * (25 + 9.5)
    assert td3_training_flops(10, 1, batch=3, policy_delay=1) == 3 * (40 + 11)
    # SAC: (n + 3) A + 14 C.
    assert sac_training_flops(10, 1, batch=3) == 3 * (40 + 14)
    assert sac_training_flops(10, 1, batch=3, n_step=3) == 3 * (60 + 14)


def test_a_ledger_by_hand() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    topology = sparsify(model, sparsity=0.5, allocate=er)
    # ER: raw 12 and 10 of 22 parts, budget 24: 13.1 and 10.9 -> 13 and 11.
    rows = layer_costs("net", layer_shapes(model), topology.nnz)
    assert [(r.layer, r.dense_parameters, r.sparse_parameters) for r in rows] == [
        ("0.weight", 32, 13),
        ("2.weight", 16, 11),
    ]
    assert [r.dense_forward_flops for r in rows] == [7 * 8, 15 * 2]
    assert [r.sparse_forward_flops for r in rows] == pytest.approx([56 * 13 / 32, 30 * 11 / 16])
    book = Ledger([*rows, *layer_costs("other", {"w": (2, 3)})], copies={"net": 3})
    assert book.parameters() == {"dense": 150, "sparse": 78, "ratio": 78 / 150}  # 3 * 48 + 6 ...
    assert book.forward_flops("other") == {"dense": 10, "sparse": 10, "ratio": 1.0}


def test_unknown_networks_are_refused() -> None:
    rows = layer_costs("net", {"w": (2, 3)})
    with pytest.raises(ValueError, match="without rows"):
        Ledger(rows, copies={"nett": 2})
    with pytest.raises(ValueError, match="no network 'nett'"):
        Ledger(rows).forward_flops("nett")
