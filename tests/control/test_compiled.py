"""A learner on the engine is the reference: links that move, moments, state, both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.control.test_fused import BATCH, OBS, A, filled, rows_drawn

from thrifty.control import SAC, TD3, SACConfig, SparsityConfig, TD3Config
from thrifty.control.backend import unsupported
from thrifty.control.compiled import CompiledLearner
from thrifty.engine import noise

SEED = 4


def settings(sparsity: float, n_step: int, every: int) -> dict[str, Any]:
    moving = {"sparsity": sparsity, "update_every": every, "update_until": 100}
    return {
        "actor": SparsityConfig(**moving),
        "critic": SparsityConfig(**moving, grow="gradient*3 + random*1"),
        "actor_hidden": (64, 48),
        "critic_hidden": (64, 48),
        "batch_size": BATCH,
        "n_step": n_step,
    }


def pair(kind: str, **changes: Any) -> tuple[Any, Any]:
    if kind == "TD3":
        return tuple(TD3(TD3Config(**changes), OBS, A) for _ in range(2))  # type: ignore[return-value]
    return tuple(SAC(SACConfig(**changes), OBS, A) for _ in range(2))  # type: ignore[return-value]


def reference_update(learner: Any, replay: Any, number: int, n_step: int) -> Any:
    """The update with the engine's draws."""
    keys = [noise.key_of(SEED, stream) for stream in range(3)]
    batch = replay.windows(rows_drawn(replay, keys[0], number), n_step=n_step, discount=0.99)
    first = noise.normals(keys[1], number, n_step * BATCH * A)
    if isinstance(learner, TD3):
        return learner.update(batch, torch.from_numpy(first[: BATCH * A].reshape(BATCH, A)))
    second = noise.normals(keys[2], number, BATCH * A)
    return learner.update(
        batch,
        torch.from_numpy(second.reshape(BATCH, A)),
        torch.from_numpy(first.reshape(n_step, BATCH, A)),
    )


def leaves(tree: Any, at: str = "") -> Any:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{at}/{key}")
    elif isinstance(tree, (list, tuple)):
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


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize(("n_step", "every"), [(1, 5), (3, 7)])
def test_links_move_as_in_the_reference(
    kind: str, sparsity: float, n_step: int, every: int
) -> None:
    replay = filled()
    learner, twin = pair(kind, **settings(sparsity, n_step, every))
    compiled = CompiledLearner(twin, replay.columns, seed=SEED)
    moves = 0
    for number in range(1, 21):
        losses, moved = compiled.learn(replay)
        expected, expected_moved = reference_update(learner, replay, number, n_step)
        assert moved.keys() == expected_moved.keys()
        for network, update in moved.items():
            assert update.layers == expected_moved[network].layers
            moves += sum(change.dropped for change in update.layers.values())
        assert losses == pytest.approx(expected, rel=2e-3, abs=1e-4)
    assert moves > 0
    # Masks, counters and random state are equal, all other numbers to 1e-5.
    close(compiled.state_dict(), learner.state_dict(), 1e-5)
    observation = np.linspace(-1, 1, 2 * OBS, dtype=np.float32).reshape(2, OBS)
    ours, _ = compiled.act(observation, explore=False)
    theirs, _ = learner.act(observation, explore=False)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
def test_state_goes_both_ways_without_loss(kind: str) -> None:
    replay = filled()
    first, second = pair(kind, **settings(0.9, 1, 4))
    on = CompiledLearner(first, replay.columns, seed=SEED)
    for _ in range(9):
        on.learn(replay)
    state = on.state_dict()
    second.load_state_dict(state)  # a plain reference takes it
    close(second.state_dict(), state, 0.0)
    later = CompiledLearner(second, replay.columns, seed=SEED)
    for _ in range(9):
        on.learn(replay)
        later.learn(replay)
    close(later.state_dict(), on.state_dict(), 0.0)  # bit-equal


def test_what_the_engine_lacks_is_named() -> None:
    assert unsupported(TD3Config()) is None
    assert unsupported(SACConfig()) is None
    kept = SparsityConfig(sparsity=0.5, moments="keep")
    for config, words in (
        (TD3Config(critic_layer_norm=True), "LayerNorm"),
        (TD3Config(dtype="float64"), "float64"),
        (TD3Config(critic=kept), "kept moments"),
        (SACConfig(log_std_squash="clamp"), "clamped"),
        (TD3Config(activation="tanh"), "activation tanh"),
    ):
        assert words in (unsupported(config) or "")
        with pytest.raises(ValueError, match="backend=reference"):
            CompiledLearner(config.build(OBS, A, seed=0), filled().columns, seed=0)
