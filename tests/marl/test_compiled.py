"""Teams on the engine are the reference: values, gradients, links that move, state both ways."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from batches import batch, episode

from thrifty.marl import PartSparsityConfig, QMIXConfig, RESConfig, Spec, WQMIXConfig
from thrifty.marl.backend import choose, unsupported
from thrifty.marl.episodes import EpisodeBatch, Rows

WIDE = Spec("wide", agents=3, actions=5, observation_dim=19, state_dim=23, limit=9)
MAST: dict[str, Any] = {"td_lambda": 0.6, "next_value": "soft_mellowmax", "long_after": 5}


def part(sparsity: float, **changes: Any) -> PartSparsityConfig:
    return PartSparsityConfig(sparsity=sparsity, update_every=6, update_until=100, **changes)


def configured(kind: type[Any], sparsity: float, **changes: Any) -> Any:
    scope = "agents" if changes.get("parameters") == "own" else "layer"
    return kind(
        agents=part(sparsity, scope=scope),
        mixing=part(sparsity),
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
