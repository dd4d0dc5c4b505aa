from __future__ import annotations

from typing import Any

import pytest

from thrifty.marl import PartSparsityConfig, QMIXConfig, RESConfig, Spec, WQMIXConfig
from thrifty.marl.ledger import ledger
from thrifty.recipes import mast

# Observation, state, actions, agents of StarCraft maps.
MAPS = {
    "3m": (30, 48, 9, 3),
    "2s3z": (80, 120, 11, 5),
    "3s5z": (128, 216, 14, 8),
    "2c_vs_64zg": (332, 342, 70, 2),
}


def spec(name: str) -> Spec:
    observation, state, actions, agents = MAPS[name]
    return Spec(name, agents, actions, observation, state, 100)


def costs(kind: Any, name: str, sparsity: float, **fields: Any) -> dict[str, Any]:
    part = PartSparsityConfig(sparsity=sparsity)
    return ledger(kind(agents=part, mixing=part, **fields).build(spec(name), seed=0))


# Computed by hand from these dimensions: weights at the sparsity, biases dense, shared agents,
# target copies. For QMIX on 3m: agents 42-64, GRU 64-64, 64-9 and hypernetworks 48-64-96, 48-32,
# 48-64-32, 48-32-1.
@pytest.mark.parametrize(
    ("kind", "name", "sparsity", "size"),
    [
        (QMIXConfig, "3m", 0.95, 0.0660),
        (QMIXConfig, "2s3z", 0.95, 0.0619),
        (QMIXConfig, "3s5z", 0.90, 0.1088),
        (QMIXConfig, "2c_vs_64zg", 0.90, 0.1057),
        (WQMIXConfig, "3m", 0.90, 0.1081),
        (WQMIXConfig, "2s3z", 0.90, 0.1066),
        (WQMIXConfig, "3s5z", 0.90, 0.1054),
        (WQMIXConfig, "2c_vs_64zg", 0.90, 0.1041),
        (RESConfig, "3m", 0.95, 0.0660),
        (RESConfig, "2s3z", 0.90, 0.1112),
        (RESConfig, "3s5z", 0.85, 0.1584),
        (RESConfig, "2c_vs_64zg", 0.85, 0.1554),
    ],
)
def test_the_published_sizes(kind: Any, name: str, sparsity: float, size: float) -> None:
    found = costs(kind, name, sparsity)["published"]["parameters"]["ratio"]
    assert found == pytest.approx(size, abs=0.0005)


@pytest.mark.parametrize(
    ("name", "sparsity", "train"),
    [
        ("3m", 0.95, 0.0511),
        ("2s3z", 0.95, 0.0509),
        ("3s5z", 0.9, 0.1007),
        ("2c_vs_64zg", 0.9, 0.1004),
    ],
)
def test_the_published_training_flops(name: str, sparsity: float, train: float) -> None:
    part = PartSparsityConfig(sparsity=sparsity, allocate="uniform")
    learner = QMIXConfig(agents=part, mixing=part).build(spec(name), seed=0)
    found = ledger(learner)["published"]["training_flops"]["ratio"]
    assert found == pytest.approx(train, abs=0.0002)


def test_counts_by_hand() -> None:
    """2 agents, 1 observation, 2 actions, 3 states; every width small."""
    one = QMIXConfig(hidden=4, mixer_embed=2, hypernet_hidden=3, hypernet_layers=2)
    found = ledger(one.build(Spec("x", 2, 2, 1, 3, 5), seed=0))
    # Agent: 5 -> 4, GRU 4 -> 4, 4 -> 2. Mixer: W1 3 -> 3 -> 4, b1 3 -> 2, w2 3 -> 3 -> 2,
    # V 3 -> 2 -> 1.
    agent = 5 * 4 + 3 * 4 * (4 + 4) + 4 * 2
    mixer = (9 + 12) + 6 + (9 + 6) + (6 + 2)
    biases = (4 + 24 + 2) + (3 + 4) + 2 + (3 + 2) + (2 + 1)
    assert found["parameters"]["dense"] == 2 * (agent + mixer)
    assert found["published"]["parameters"]["dense"] == 2 * (agent + mixer + biases)
    # Forward, published: linear (2 I - 1) O, GRU 3 h (2 (h + I) - 1).
    forward = 9 * 4 + 12 * (2 * 8 - 1) + 7 * 2
    assert found["published"]["inference_flops"]["dense"] == forward
    assert found["inference_flops"]["dense"] == forward - 12  # two sums of 4 in place of one of 8
    hyper = 5 * 3 + 5 * 4 + 5 * 2 + 5 * 3 + 5 * 2 + 5 * 2 + 3 * 1
    mixing = 3 * 2 + 3  # (2 n - 1) E + (2 E - 1)
    assert found["published"]["training_flops"]["dense"] == 4 * (2 * forward + hyper + mixing)
    assert found["parameters"]["ratio"] == found["training_flops"]["ratio"] == 1.0


def test_the_training_formulas_of_the_three() -> None:
    dims = Spec("x", 2, 2, 1, 3, 5)
    qmix = ledger(QMIXConfig().build(dims, seed=0))["training_flops"]["dense"]
    res = ledger(RESConfig().build(dims, seed=0))["training_flops"]["dense"]
    weighted = ledger(WQMIXConfig().build(dims, seed=0))["training_flops"]["dense"]
    agent = 2 * ledger(QMIXConfig().build(dims, seed=0))["inference_flops"]["dense"]
    mixer = qmix / 4 - agent
    assert res == pytest.approx(4 * agent + (3 + 2 * 2 * 2) * mixer)
    # The unrestricted mixer: 5 -> 256 -> 256 -> 256 -> 1 and V 3 -> 256 -> 1.
    central = 9 * 256 + 2 * 511 * 256 + 511 + 5 * 256 + 511
    assert weighted == pytest.approx(3 * (agent + mixer) + 4 * (agent + central))


@pytest.mark.parametrize("learner", ["qmix", "ow_qmix", "vdn"])
def test_a_tiny_network_has_as_many_weights_as_the_sparse_one(learner: Any) -> None:
    tiny = mast.tiny("skirmish", learner=learner, sparsity=0.9)
    experiment = tiny.build(0)
    kept = ledger(experiment.learner)["parameters"]
    assert kept["ratio"] == pytest.approx(0.1, abs=0.02)
    sparse = ledger(mast.rigl("skirmish", learner=learner, sparsity=0.9).build(0).learner)
    assert sparse["parameters"]["dense"] == kept["dense"]
