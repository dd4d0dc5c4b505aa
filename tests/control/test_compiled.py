"""A learner on the engine is the reference: links that move, moments, state, both ways."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.control.test_fused import BATCH, OBS, A, filled, rows_drawn
from torch import Tensor

from thrifty.control import SAC, TD3, SACConfig, SparsityConfig, TD3Config
from thrifty.control.backend import unsupported
from thrifty.control.compiled import CompiledLearner
from thrifty.engine import noise
from thrifty.sparse import LayerState, magnitude, top
from thrifty.sparse.scores import gradient

SEED = 4
TIE = 1e-5  # relative difference of scores below which rounding may choose
KEPT = {"initial": "largest", "moments": "keep", "regrown": "keep", "on_update": "skip"}
"""What the published code does with links that move."""
LAYER_NORM = {"critic_layer_norm": True}
DENSE_TARGETS = {"targets_at_start": "dense"}
STALE = {"critic_score": "with_stale_actor_gradient"}
PRE_TANH = {"action_scale": "pre_tanh", "pre_tanh_scale": 2.5}
CLAMP = {"log_std_squash": "clamp", "log_std_bounds": (-0.05, 0.02)}  # values lie beyond both
SHIFT = {"squash_epsilon": 1e-3}
FEATURES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # learner, its options, options of the links
    "TD3 layer norm": ("TD3", LAYER_NORM, {}),
    "TD3 kept": ("TD3", {}, KEPT),
    "TD3 kept, steps taken": ("TD3", {}, {**KEPT, "on_update": "step"}),
    "TD3 dense targets": ("TD3", {**DENSE_TARGETS, "policy_delay": 3}, {"initial": "largest"}),
    "TD3 published": ("TD3", DENSE_TARGETS, KEPT),
    "TD3 all": ("TD3", {**LAYER_NORM, **DENSE_TARGETS}, KEPT),
    "SAC layer norm": ("SAC", LAYER_NORM, {}),
    "SAC kept": ("SAC", {}, KEPT),
    "SAC kept, steps taken": ("SAC", {}, {**KEPT, "on_update": "step"}),
    "SAC dense targets": ("SAC", DENSE_TARGETS, {"initial": "largest"}),
    "SAC stale": ("SAC", STALE, {}),
    "SAC clamp": ("SAC", CLAMP, {}),
    "SAC shift": ("SAC", SHIFT, {}),
    "SAC pre-tanh": ("SAC", PRE_TANH, {}),
    "SAC published": (
        "SAC",
        {**DENSE_TARGETS, **STALE, **PRE_TANH, "initialisation": "orthogonal"},
        KEPT,
    ),
    "SAC all": ("SAC", {**LAYER_NORM, **DENSE_TARGETS, **STALE, **CLAMP, **SHIFT}, KEPT),
}


def settings(sparsity: float, n_step: int, every: int, **of_links: Any) -> dict[str, Any]:
    moving = {"sparsity": sparsity, "update_every": every, "update_until": 100, **of_links}
    return {
        "actor": SparsityConfig(**moving),
        "critic": SparsityConfig(**{"grow": "gradient*3 + random*1", **moving}),
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


def agree(kind: str, changes: dict[str, Any], every: int, threads: int = 1) -> None:
    """Twenty updates on the engine and in the reference, over evolution steps."""
    replay, n_step = filled(), changes["n_step"]
    learner, twin = pair(kind, **changes)
    compiled = CompiledLearner(twin, replay.columns, seed=SEED, threads=threads)
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
    assert 20 % every  # updates follow the last evolution step
    # Masks, counters and random state are equal, all other numbers to 1e-5.
    close(compiled.state_dict(), learner.state_dict(), 1e-5)
    observation = np.linspace(-1, 1, 2 * OBS, dtype=np.float32).reshape(2, OBS)
    ours, _ = compiled.act(observation, explore=False)
    theirs, _ = learner.act(observation, explore=False)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize(("n_step", "every"), [(1, 6), (3, 7)])
def test_links_move_as_in_the_reference(
    kind: str, sparsity: float, n_step: int, every: int
) -> None:
    agree(kind, settings(sparsity, n_step, every), every)


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
def test_two_threads_that_share_updates_are_the_reference(kind: str) -> None:
    agree(kind, settings(0.9, 3, 7), 7, threads=2)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize(("n_step", "every"), [(1, 6), (3, 7)])
def test_every_option_is_the_reference(feature: str, n_step: int, every: int) -> None:
    kind, options, of_links = FEATURES[feature]
    agree(kind, {**settings(0.9, n_step, every, **of_links), **options}, every)


@pytest.mark.parametrize("feature", ["TD3", "SAC", *FEATURES])
def test_state_goes_both_ways_without_loss(feature: str) -> None:
    replay = filled()
    kind, options, of_links = FEATURES.get(feature, (feature, {}, {}))
    changes = {**settings(0.9, 1, 4, **of_links), **options}
    first, second = pair(kind, **changes)
    on = CompiledLearner(first, replay.columns, seed=SEED)
    later = CompiledLearner(second, replay.columns, seed=SEED)
    plain, _ = pair(kind, **changes)
    stops = {0, 1, 2, 3, 9, 14}  # among them before, in and behind the first evolution step
    for number in range(18):
        if number in stops:
            state = copy.deepcopy(later.state_dict())
            plain.load_state_dict(copy.deepcopy(state))  # a plain reference takes it
            close(plain.state_dict(), state, 0.0)
            _, fresh = pair(kind, **changes)
            later = CompiledLearner(fresh, replay.columns, seed=SEED)
            later.load_state_dict(state)
        on.learn(replay)  # never stops
        later.learn(replay)
    close(later.state_dict(), on.state_dict(), 0.0)  # bit-equal


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
def test_what_was_lent_is_taken_back_before_an_update(kind: str) -> None:
    replay = filled()
    first, second = pair(kind, **settings(0.9, 1, 4))
    lending, other = (CompiledLearner(x, replay.columns, seed=SEED) for x in (first, second))
    for _ in range(3):
        lending.learn(replay)
    lent = lending.lend()
    with torch.no_grad():
        lent.actor.module.net[0].bias.add_(0.1)
    other.load_state_dict(copy.deepcopy(lent.state_dict()))
    for _ in range(3):
        lending.learn(replay)
        other.learn(replay)
    close(lending.state_dict(), other.state_dict(), 0.0)
    assert lending.updates == 6


def test_links_move_on_one_thread_and_the_others_are_given_back() -> None:
    replay = filled()
    learner, _ = pair("TD3", **settings(0.9, 1, 2))
    compiled = CompiledLearner(learner, replay.columns, seed=SEED)
    seen: list[int] = []

    def dropping(state: LayerState) -> Tensor:
        seen.append(torch.get_num_threads())
        if len(seen) > 4:
            raise RuntimeError("stop")
        return magnitude(state)

    learner.critic.evolution.drop = dropping
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compiled.learn(replay)
        compiled.learn(replay)
        assert (set(seen), torch.get_num_threads()) == ({1}, 2)
        compiled.learn(replay)
        with pytest.raises(RuntimeError, match="stop"):
            compiled.learn(replay)
        assert (set(seen), torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(threads)


# ---------------------------------------------------------------- ties


class Scores:
    """The scores behind the latest decision of a network, by layer, as float64 sees them."""

    def __init__(self, learner: Any, network: str) -> None:
        self.drop: dict[str, Tensor] = {}
        self.grow: dict[str, Tensor] = {}
        evolution = learner.networks()[network].evolution
        evolution.drop, evolution.grow = self.dropping, top(self.growing)

    def dropping(self, state: LayerState) -> Tensor:
        self.drop[state.name] = magnitude(state)
        return self.drop[state.name]

    def growing(self, state: LayerState) -> Tensor:
        self.grow[state.name] = gradient(state)
        return self.grow[state.name]


def ties(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], scores: list[NDArray[np.float64]]
) -> list[tuple[int, int]]:
    """Pair the links that only one of two masks has with one of the other's of the same score.

    Args:
        ours: flat mask.
        theirs: flat mask with as many links.
        scores: what drops and what grows, flat, in float64.

    Returns:
        (a link of ours only, the link of theirs in its place) for every difference.

    Raises:
        AssertionError: a link differs whose score does not.
    """
    mine, other = np.flatnonzero(ours & ~theirs), np.flatnonzero(theirs & ~ours)
    assert len(mine) == len(other)
    pairs = []
    for link in mine:
        apart = np.min(
            [
                np.abs(score[other] - score[link]) / np.maximum(np.abs(score[link]), 1e-300)
                for score in scores
            ],
            axis=0,
        )
        assert apart.min() < TIE, f"link {link} differs, and its score by {apart.min():.1e}"
        pairs.append((int(link), int(other[apart.argmin()])))
    return pairs


def test_ties_by_hand() -> None:
    drop = np.array([1.0, 2.0, 3.0, 4.0])
    grow = np.array([5.0, 5.00001, 7.0, 7.1])
    ours, theirs = np.array([1, 0, 1, 0], np.bool_), np.array([0, 1, 1, 0], np.bool_)
    assert ties(ours, theirs, [drop, grow]) == [(0, 1)]  # 2e-6 apart as growth scores
    assert ties(ours, ours, [drop, grow]) == []
    with pytest.raises(AssertionError, match="link 0 differs"):
        ties(ours, theirs, [drop])
    with pytest.raises(AssertionError, match="link 2 differs, and its score by 1"):
        ties(ours, np.array([1, 0, 0, 1], np.bool_), [grow])


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_the_same_links_but_for_ties(kind: str, sparsity: float) -> None:
    # A float64 reference makes every decision of the float32 one again, from the same numbers;
    # where engine and float32 choose otherwise, its scores must be equal to 1e-5.
    replay = filled()
    changes = settings(sparsity, 1, 4, grow="gradient")
    learner, twin = pair(kind, **changes)
    exact, _ = pair(kind, **changes, dtype="float64")
    scores = {network: Scores(exact, network) for network in ("actor", "critic")}
    compiled = CompiledLearner(twin, replay.columns, seed=SEED)
    decisions, listed = 0, []
    for number in range(1, 21):
        exact.load_state_dict(copy.deepcopy(learner.state_dict()))
        reference_update(exact, replay, number, 1)
        _, moved = compiled.learn(replay)
        reference_update(learner, replay, number, 1)
        apart = False
        for network in moved:
            ours, theirs = (x.networks()[network].topology for x in (compiled, learner))
            drop, grow = scores[network].drop, scores[network].grow
            for name in grow:  # not the layers that are full
                mine, other = (t.mask(name).numpy().ravel() for t in (ours, theirs))
                found = ties(mine, other, [s[name].numpy().ravel() for s in (drop, grow)])
                decisions += 1
                apart |= bool(found)
                listed += [(number, network, name, *links) for links in found]
        if apart:  # on from one of the two
            learner.load_state_dict(copy.deepcopy(compiled.state_dict()))
    print(f"{decisions} decisions, links chosen otherwise: {listed}")
    assert decisions > 20
    assert len(listed) <= 2  # rounding seldom decides


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_from_the_same_numbers_the_same_links(kind: str, sparsity: float) -> None:
    # Links that move at every second update: left alone, engine and reference part after some
    # updates. A new link whose gradient is almost 0 still moves by the learning rate (Adam), by
    # rounding alone in one direction or the other, and is soon compared by magnitude. So here the
    # engine takes over the reference's numbers before each update, and must decide as it does.
    replay = filled()
    changes = settings(sparsity, 1, 2, grow="gradient")
    learner, twin = pair(kind, **changes)
    compiled = CompiledLearner(twin, replay.columns, seed=SEED)
    moves = 0
    for number in range(1, 21):
        compiled.load_state_dict(copy.deepcopy(learner.state_dict()))
        _, moved = compiled.learn(replay)
        reference_update(learner, replay, number, 1)
        for network, update in moved.items():
            ours, theirs = (x.networks()[network].topology for x in (compiled, learner))
            for name in ours.names:
                mine, other = (t.mask(name).numpy().ravel() for t in (ours, theirs))
                assert (mine != other).sum() <= 2, (number, network, name)  # at most one tie
            moves += sum(change.dropped for change in update.layers.values())
    assert moves > 100


def test_what_the_engine_lacks_is_named() -> None:
    replay = filled()
    for config in (TD3Config(), SACConfig()):
        assert unsupported(config) is None
    for kind, options, of_links in FEATURES.values():
        changes = {**settings(0.5, 1, 4, **of_links), **options}
        assert unsupported((TD3Config if kind == "TD3" else SACConfig)(**changes)) is None
    for config, words in (
        (TD3Config(dtype="float64"), "float64"),
        (TD3Config(activation="tanh"), "activation tanh"),
        (SACConfig(device="meta"), "device meta"),
    ):
        assert words in (unsupported(config) or "")
        if config.device == "cpu":
            with pytest.raises(ValueError, match="backend=reference"):
                CompiledLearner(config.build(OBS, A, seed=0), replay.columns, seed=0)
