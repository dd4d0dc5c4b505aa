"""The engine's updates, held to the reference; what chooses between the two."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thrifty.engine import loading
from thrifty.recipes import rsd4
from thrifty.runs import load_state, save_state
from thrifty.scheduling.backend import choose
from thrifty.scheduling.features import Features
from thrifty.scheduling.queueing import Queues, Sight
from thrifty.scheduling.rsd4 import RSD4, RSD4Config
from thrifty.scheduling.scenarios import scenario
from thrifty.scheduling.sequences import Episodes, Sequences

SPARSE = RSD4Config(
    width=12, sequences=6, samples=3, rows=64, critic_first=2, sparsity=0.7, evolve_every=4,
)  # fmt: skip


def pair(name: str, **changes: Any) -> tuple[RSD4, RSD4]:
    """The same learner on the reference and on the engine."""
    of = scenario(name)
    features = Features(of, sight(name), queue=of.hidden)
    reference, engine = (
        RSD4(dataclasses.replace(SPARSE, backend=one, **changes), features, seed=0, updates=40)
        for one in ("reference", "engine")
    )
    return reference, engine


def sight(name: str) -> Sight:
    return Sight(kind="hidden" if scenario(name).hidden else "full")


def batch_of(name: str) -> Sequences:
    of, slots = scenario(name), 10
    queues = Queues(of, 3, sight=sight(name))
    queues.reset(1)
    episodes = Episodes(3, 3, slots, of.flows, of.hops, of.hops * of.most_attempts)
    generator = np.random.default_rng(0)
    episodes.see(0, queues.view())
    for slot in range(slots):
        energy = generator.random(queues.queue.shape, dtype=np.float32).astype(np.float64)
        episodes.did(slot, energy, queues.step(energy).success)
        episodes.see(slot + 1, queues.view())
    episodes.close()
    return episodes.draw(6, torch.Generator().manual_seed(0))


def weights(learner: RSD4) -> dict[str, torch.Tensor]:
    return {
        f"{name} {part} {key}": value
        for name, network in learner.networks.items()
        for part in ("module", "target")
        for key, value in network.state_dict()[part].items()
    }


def masks(learner: RSD4) -> list[torch.Tensor]:
    return [
        network.topology.mask(name).clone()
        for network in learner.networks.values()
        for name in network.topology.names
    ]


@pytest.mark.parametrize(
    ("name", "changes"),
    [("S1", {}), ("S2", {"prediction": 1.0}), ("S5", {"recurrent": False})],
)
def test_twenty_updates_are_those_of_the_reference(name: str, changes: dict[str, Any]) -> None:
    reference, engine = pair(name, **changes)
    batch, prices = batch_of(name), torch.full((6, scenario(name).hops), 0.4)
    first = masks(reference)
    for _ in range(20):
        losses = reference.update(batch, prices)
        found = engine.update(batch, prices)
        assert found == pytest.approx(losses, rel=1e-4, abs=1e-5)
    ours, theirs = weights(engine), weights(reference)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.allclose(ours[key], value, rtol=0, atol=1e-5), key
    assert all(torch.equal(a, b) for a, b in zip(masks(engine), masks(reference), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, masks(reference), strict=True))


@pytest.mark.parametrize("stop", [3, 7, 8])
def test_a_stored_state_goes_on_bit_for_bit(stop: int, tmp_path: Path) -> None:
    """Stopped before, at and after a step that exchanges links (the fourth of each network)."""
    batch, prices = batch_of("S2"), torch.full((6, 1), 0.4)
    (_, whole), (_, stopped), (_, again) = (pair("S2", prediction=1.0) for _ in range(3))
    for _ in range(stop):
        whole.update(batch, prices)
        stopped.update(batch, prices)
    save_state(tmp_path / "state.npz", stopped.state_dict())
    again.load_state_dict(load_state(tmp_path / "state.npz"))
    for _ in range(9):
        whole.update(batch, prices)
        again.update(batch, prices)
    ours, theirs = weights(again), weights(whole)
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_looking_does_not_change_what_comes() -> None:
    (_, one), (_, two) = (pair("S1") for _ in range(2))
    batch, prices = batch_of("S1"), torch.full((6, 1), 0.4)
    for _ in range(9):
        one.update(batch, prices)
        two.update(batch, prices)
        two.decision()
        two.state_dict()
    ours, theirs = weights(one), weights(two)
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_what_auto_takes_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = RSD4Config(sparsity=0.95, width=256, sequences=64)
    assert choose("auto", RSD4Config())[1] == "dense: no weight is cut"
    assert choose("auto", dataclasses.replace(wide, critic="users"))[0] == "reference"
    small = choose("auto", dataclasses.replace(wide, sequences=8))
    assert small[0] == "reference"
    assert "8 sequences" in small[1]
    assert choose("auto", wide)[0] == "engine"
    assert choose("reference", wide) == ("reference", "as configured")
    monkeypatch.setattr(loading, "problem", lambda module: "no Numba")
    assert choose("auto", wide) == ("reference", "the engine cannot be loaded (no Numba)")
    with pytest.raises(ValueError, match=r"backend=engine: dense.*use backend=auto"):
        choose("engine", RSD4Config())


def test_the_choice_stands_in_the_record() -> None:
    config = rsd4.sparse("S1", steps=30)
    start = next(one for one in config.build(0).records() if one is not None)
    assert start["backend"] == "reference"
    assert "sequences" in start["backend_reason"]
