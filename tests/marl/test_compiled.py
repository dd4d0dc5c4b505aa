"""Teams on the engine are the reference: values, gradients, links that move, state both ways."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from batches import episode

from thrifty.engine.modules import compact
from thrifty.marl import PartSparsityConfig, QMIXConfig, RESConfig, Spec, WQMIXConfig
from thrifty.marl.backend import choose
from thrifty.marl.episodes import EpisodeBatch, Rows
from thrifty.marl.mixers import MonotonicMixer
from thrifty.marl.operations import CompiledMixer
from thrifty.sparse import sparsify

WIDE = Spec("wide", agents=3, actions=5, observation_dim=19, state_dim=23, limit=9)
MAST: dict[str, Any] = {"td_lambda": 0.6, "next_value": "soft_mellowmax", "long_after": 5}


def part(sparsity: float, **changes: Any) -> PartSparsityConfig:
    return PartSparsityConfig(sparsity=sparsity, update_every=6, update_until=100, **changes)


def configured(kind: type[Any], sparsity: float, **changes: Any) -> Any:
    scope = "layer" if changes.get("parameters", "shared") == "shared" else "agents"
    moments = changes.pop("moments", "zero")
    return kind(
        agents=part(sparsity, scope=scope, moments=moments),
        mixing=part(sparsity, moments=moments),
        hidden=16,
        mixer_embed=8,
        hypernet_hidden=12,
        last_scale=1.0,
        target_every=4,
        **changes,
    )


def episodes(seed: int) -> EpisodeBatch:
    """Ninety sequences of very different lengths: more than the engine has lanes."""
    rng = np.random.default_rng(seed)
    return Rows(WIDE).batch(
        [
            episode(rng, int(rng.integers(1, 10)), terminated=bool(k % 2), spec=WIDE)
            for k in range(30)
        ]
    )


def leaves(tree: Any, at: str = "") -> Any:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{at}/{key}")
    elif isinstance(tree, list | tuple):
        for key, value in enumerate(tree):
            yield from leaves(value, f"{at}/{key}")
    else:
        yield at, tree


def close(ours: Any, theirs: Any, tolerance: float) -> None:
    mine, other = dict(leaves(ours)), dict(leaves(theirs))
    assert mine.keys() == other.keys()
    for at, value in mine.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            torch.testing.assert_close(value, other[at], rtol=0, atol=tolerance, msg=at)
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, other[at]), at
        else:
            assert value == other[at], at


CASES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "QMIX": (QMIXConfig, {}),
    "QMIX, MAST": (QMIXConfig, MAST),
    "QMIX, rmsprop": (QMIXConfig, {"optimizer": "rmsprop"}),
    "QMIX, one layer": (QMIXConfig, {"hypernet_layers": 1}),
    "QMIX, own": (QMIXConfig, {"parameters": "own"}),
    "QMIX, masked": (QMIXConfig, {"parameters": "masked"}),
    "QMIX, kept moments": (QMIXConfig, {"moments": "keep"}),
    "QMIX, rmsprop, kept moments": (QMIXConfig, {"optimizer": "rmsprop", "moments": "keep"}),
    "QMIX, masked, kept moments": (QMIXConfig, {"parameters": "masked", "moments": "keep"}),
    "VDN": (QMIXConfig, {"mixer": "vdn"}),
    "CW-QMIX": (WQMIXConfig, {"weighting": "central", "central_embed": 24}),
    "OW-QMIX": (WQMIXConfig, {"weighting": "optimistic", "central_embed": 24, **MAST}),
    "RES": (RESConfig, {}),
}


def agree(config: Any, updates: int = 20) -> None:
    """Twenty updates on the engine and in the reference, over evolution steps."""
    reference, compiled = config.build(WIDE, seed=3), config.build(WIDE, seed=3)
    compiled.compile()
    moves = 0
    for number in range(updates):
        one = episodes(number)
        numbers, moved = compiled.update(one)
        expected, expected_moved = reference.update(one)
        assert moved == expected_moved
        moves += sum(c.dropped for update in moved.values() for c in update.layers.values())
        assert numbers == pytest.approx(expected, rel=2e-3, abs=1e-4)
    assert moves > 0
    # Masks and counters are equal, all other numbers to 1e-5.
    close(compiled.state_dict(), reference.state_dict(), 1e-5)
    one = episodes(99)
    memory = compiled.memory(30)
    for t in range(3):  # acting remembers
        seen, available = one.observation[t].numpy(), one.available[t].numpy()
        ours, after = compiled.act(seen, available, memory)
        theirs, expected_after = reference.act(seen, available, memory)
        assert np.array_equal(ours, theirs)
        torch.testing.assert_close(after.hidden, expected_after.hidden, rtol=0, atol=1e-5)
        memory = after


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95])
def test_links_move_as_in_the_reference(sparsity: float) -> None:
    agree(configured(QMIXConfig, sparsity))


@pytest.mark.parametrize("case", list(CASES)[1:])
def test_every_learner_is_the_reference(case: str) -> None:
    kind, changes = CASES[case]
    agree(configured(kind, 0.8, **changes))


@pytest.mark.parametrize("parameters", ["shared", "masked"])
@pytest.mark.parametrize(("agents", "mixing"), [(0.8, 0.0), (0.0, 0.8)])
def test_one_part_may_be_dense(agents: float, mixing: float, parameters: str) -> None:
    config = configured(QMIXConfig, 0.8, parameters=parameters)
    agree(replace(config, agents=part(agents), mixing=part(mixing)))


@pytest.mark.parametrize("case", CASES)
def test_state_goes_both_ways_without_loss(case: str) -> None:
    """After any update: what is resumed ends bit by bit where the other one does."""
    kind, changes = CASES[case]
    config = configured(kind, 0.8, **changes)
    learner, plain = config.build(WIDE, seed=1), config.build(WIDE, seed=2)
    learner.compile()
    for number in range(9):  # over copies to the targets at 4 and 8 and links that move at 6
        state = copy.deepcopy(learner.state_dict())
        again = config.build(WIDE, seed=2)
        again.compile()
        again.load_state_dict(copy.deepcopy(state))  # torch's optimizers go on in what they load
        close(again.state_dict(), state, 0.0)
        learner.update(episodes(number))
        again.update(episodes(number))
        close(again.state_dict(), learner.state_dict(), 0.0)
        plain.load_state_dict(state)
        close(plain.state_dict(), state, 0.0)
        plain.update(episodes(number))
        close(plain.state_dict(), learner.state_dict(), 1e-4)


def test_a_target_keeps_its_links_until_it_is_copied() -> None:
    config = replace(configured(QMIXConfig, 0.8), target_every=1000)
    learner = config.build(WIDE, seed=0)
    learner.compile()
    before = copy.deepcopy(learner.target.state_dict())
    for number in range(7):
        learner.update(episodes(number))
    close(learner.target.state_dict(), before, 0.0)
    again = config.build(WIDE, seed=5)
    again.compile()
    again.load_state_dict(learner.state_dict())
    inputs = learner.batch_inputs(episodes(8))
    with torch.no_grad():
        ours, theirs = learner.target.individual(inputs), again.target.individual(inputs)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("samples", [1, 64, 150])
def test_the_mixer_is_that_of_torch(layers: int, samples: int) -> None:
    torch.manual_seed(samples)
    mixer = MonotonicMixer(3, 23, embed=8, layers=layers, hidden=12)
    with torch.no_grad():
        mixer.hyper_w2[-1].bias.sub_(0.1)  # both signs
        mixer.hyper_w1[-1].weight[:8] = 0.0  # |0| has slope 0
        mixer.hyper_w1[-1].bias[:8] = 0.0
    topology = sparsify(mixer, sparsity=0.7)
    compiled = CompiledMixer(compact(mixer, topology))
    value, state = torch.randn(samples, 3), torch.randn(samples, 23)
    ours, theirs = (value.clone().requires_grad_() for _ in range(2))
    slope = torch.randn(samples)
    total, expected = compiled(ours, state), mixer(theirs, state)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-6)
    expected.backward(slope)
    total.backward(slope)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    networks = {"hyper_w1": layers, "hyper_b1": 1, "hyper_w2": layers, "value": 2}
    for part, (name, depth) in zip(compiled.parts, networks.items(), strict=True):
        linears = [getattr(mixer, name)[2 * k] for k in range(depth)]
        masks = [topology.mask(f"{name}.{2 * k}.weight") for k in range(depth)]
        links = torch.cat([one.weight.grad[m] for one, m in zip(linears, masks, strict=True)])
        torch.testing.assert_close(part.values.grad, links, rtol=1e-4, atol=1e-5)
        biases = torch.cat([one.bias.grad for one in linears])
        torch.testing.assert_close(part.biases.grad, biases, rtol=1e-4, atol=1e-5)
    # Values alone: the weights stand still.
    for part in compiled.parts:
        part.requires_grad_(False)
    again = value.clone().requires_grad_()
    compiled(again, state).backward(slope)
    assert torch.equal(again.grad, ours.grad)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the choice


def test_what_runs_the_updates_and_why() -> None:
    def asked(config: Any, backend: Any = "auto") -> tuple[str, str]:
        return choose(backend, config.build(WIDE, seed=0))

    sparse = configured(QMIXConfig, 0.9)
    assert asked(sparse)[0] == "engine"
    assert "90 % of the weights are cut, above the 50 %" in asked(sparse)[1]
    assert asked(sparse, "reference") == ("reference", "as configured")
    assert asked(QMIXConfig()) == ("reference", "dense: no weight is cut")
    assert asked(configured(QMIXConfig, 0.3)) == (
        "reference",
        "30 % of the weights are cut, below the 50 % from which the engine is taken",
    )
    assert asked(replace(sparse, parameters="masked"))[0] == "engine"
    assert asked(QMIXConfig(), "engine") == ("engine", "as configured")


def test_a_processor_without_numba_runs_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thrifty.engine.loading.problem", lambda module: "no library")
    choice = choose("auto", configured(QMIXConfig, 0.9).build(WIDE, seed=0))
    assert choice == ("reference", "the engine cannot be loaded (no library)")
