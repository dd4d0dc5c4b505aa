"""The engine's update is the reference's: parameters, moments and targets after twenty updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from thrifty.control import SAC, TD3, SACConfig, SparsityConfig, TD3Config
from thrifty.control.fused import norms_of, to_torch, transitions_of
from thrifty.control.sac_fused import sac_places, sac_update
from thrifty.control.td3_fused import td3_places, td3_update
from thrifty.engine import noise
from thrifty.rl import Replay

OBS, A, ROWS, BATCH, UPDATES = 11, 3, 3_000, 200, 20  # 200 samples: the last tile is not full


def filled() -> Replay:
    replay = Replay(ROWS, OBS, A)
    rng = np.random.default_rng(0)
    replay.matrix[:] = rng.normal(size=replay.matrix.shape)
    at = replay.columns
    replay.matrix[:, at.action] = np.tanh(replay.matrix[:, at.action])
    replay.matrix[:, [at.terminated, at.ended]] = 0.0
    replay.matrix[:, at.valid] = 1.0
    ends = rng.integers(0, ROWS, 300)
    replay.matrix[ends, at.ended] = 1.0
    replay.matrix[ends[:150], at.terminated] = 1.0
    replay.matrix[ends[150:200], at.valid] = 0.0
    replay.total = ROWS
    replay._all_valid = False
    return replay


def config(sparsity: float, n_step: int) -> dict[str, Any]:
    sparse = SparsityConfig(sparsity=sparsity)
    return {
        "actor": sparse,
        "critic": sparse,
        "actor_hidden": (64, 48),
        "critic_hidden": (64, 48),
        "batch_size": BATCH,
        "n_step": n_step,
    }


def rows_drawn(replay: Replay, key: int, update: int) -> np.ndarray:
    """The reference of the engine's draw: an invalid row is drawn again, BATCH elements on."""
    far = noise.indices(key, update, 30 * BATCH, ROWS).reshape(30, BATCH)
    valid = replay.matrix[far, replay.columns.valid] > 0
    return far[valid.argmax(axis=0), np.arange(BATCH)]


def check(learner: Any, twin: Any, update: Any, places: Any) -> None:
    to_torch(update.arena, places(twin))
    for network in ("actor", "critic"):
        ours, theirs = twin.networks()[network].module, learner.networks()[network].module
        for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    for one, two in zip(
        twin.critic_target.parameters(), learner.critic_target.parameters(), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    for network, net in (("actor", "net"), ("critic", "q1"), ("critic", "q2")):
        state = learner.networks()[network].optimizer.state
        module = learner.networks()[network].module
        name = "actor" if network == "actor" else net
        weights = [p for n, p in module.named_parameters() if n.startswith(net) and p.ndim == 2]
        for number, weight in enumerate(weights):
            for vector, moment in (
                (update.arena.first_moment, "exp_avg"),
                (update.arena.second_moment, "exp_avg_sq"),
            ):
                read, _ = update.arena.read(vector, name, number)
                np.testing.assert_allclose(read, state[weight][moment].numpy(), rtol=0, atol=1e-5)
        for parameter, place in norms_of(update.arena, name, module, net):
            read = update.arena.second_moment[place]
            expected = state[parameter]["exp_avg_sq"].numpy()
            np.testing.assert_allclose(read, expected, rtol=0, atol=1e-5)
            assert expected.any()


def reference_updates(learner: TD3 | SAC, replay: Replay, update: Any, n_step: int) -> None:
    """The same updates with the engine's draws."""
    for number in range(1, UPDATES + 1):
        rows = rows_drawn(replay, int(update.keys[0]), number)
        batch = replay.windows(rows, n_step=n_step, discount=0.99)
        first = torch.from_numpy(noise.normals(int(update.keys[1]), number, n_step * BATCH * A))
        if isinstance(learner, TD3):
            learner.update(batch, first[: BATCH * A].view(BATCH, A))
        else:
            second = torch.from_numpy(noise.normals(int(update.keys[2]), number, BATCH * A))
            learner.update(batch, second.view(BATCH, A), first.view(n_step, BATCH, A))


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n_step", [1, 3])
def test_td3(sparsity: float, n_step: int) -> None:
    replay = filled()
    learner, twin = (TD3(TD3Config(**config(sparsity, n_step)), OBS, A) for _ in range(2))
    start = [p.detach().clone() for p in learner.critic.module.parameters()]
    update = td3_update(learner, replay.columns, seed=4)
    update.run(UPDATES - 3, transitions_of(replay))
    update.run(3, transitions_of(replay))  # calls join seamlessly
    reference_updates(learner, replay, update, n_step)
    check(learner, twin, update, td3_places)
    for one, two in zip(
        twin.actor_target.parameters(), learner.actor_target.parameters(), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    pairs = zip(learner.critic.module.parameters(), start, strict=True)
    # Far beyond the tolerance, also where 99 % of the links are cut.
    assert max((p - q).abs().max().item() for p, q in pairs) > 2e-4
    assert update.steps[:2].tolist() == [UPDATES, UPDATES // 2]
    assert np.isfinite(update.losses).all()


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n_step", [1, 3])
def test_sac(sparsity: float, n_step: int) -> None:
    replay = filled()
    learner, twin = (SAC(SACConfig(**config(sparsity, n_step)), OBS, A) for _ in range(2))
    update = sac_update(learner, replay.columns, seed=4)
    update.run(UPDATES, transitions_of(replay))
    reference_updates(learner, replay, update, n_step)
    check(learner, twin, update, sac_places)
    assert update.temperature[0] == pytest.approx(learner.log_alpha.item(), abs=1e-6)
    assert abs(learner.log_alpha.item()) > 1e-3


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_layer_norm(kind: str, sparsity: float) -> None:
    replay = filled()
    settings = {**config(sparsity, 1), "critic_layer_norm": True}
    if kind == "TD3":
        learner, twin = (TD3(TD3Config(**settings), OBS, A) for _ in range(2))
        update, places = td3_update(twin, replay.columns, seed=4), td3_places
    else:
        learner, twin = (SAC(SACConfig(**settings), OBS, A) for _ in range(2))
        update, places = sac_update(twin, replay.columns, seed=4), sac_places
    update.run(UPDATES, transitions_of(replay))
    reference_updates(learner, replay, update, 1)
    check(learner, twin, update, places)
    gains = learner.critic.module.q1.get_submodule("1")
    assert (gains.weight - 1.0).abs().max() > 1e-3  # they learn
    assert gains.bias.abs().max() > 1e-3


@pytest.mark.parametrize(
    "reading",
    [
        {"log_std_squash": "clamp", "log_std_bounds": (-0.05, 0.02)},  # some values beyond both
        {"squash_epsilon": 1e-3},
        {"action_scale": "pre_tanh", "pre_tanh_scale": 2.5},
        {
            "log_std_squash": "clamp",
            "squash_epsilon": 1e-6,
            "action_scale": "pre_tanh",
            "pre_tanh_scale": 0.4,
        },
    ],
    ids=["clamp", "epsilon", "pre_tanh", "all"],
)
@pytest.mark.parametrize("n_step", [1, 3])
def test_readings_of_sac(reading: dict[str, Any], n_step: int) -> None:
    replay = filled()
    settings = {**config(0.5, n_step), **reading}
    learner, twin = (SAC(SACConfig(**settings), OBS, A) for _ in range(2))
    plain = SAC(SACConfig(**config(0.5, n_step)), OBS, A)
    update = sac_update(twin, replay.columns, seed=4)
    update.run(UPDATES, transitions_of(replay))
    reference_updates(learner, replay, update, n_step)
    reference_updates(plain, replay, update, n_step)
    check(learner, twin, update, sac_places)
    assert update.temperature[0] == pytest.approx(learner.log_alpha.item(), abs=1e-6)
    pairs = zip(learner.actor.parameters, plain.actor.parameters, strict=True)
    assert max((p - q).abs().max().item() for p, q in pairs) > 1e-4  # the reading matters


def test_what_the_engine_lacks_is_refused() -> None:
    replay = filled()
    with pytest.raises(ValueError, match="no Tanh"):
        td3_update(TD3(TD3Config(activation="tanh"), OBS, A), replay.columns)
    update = td3_update(TD3(TD3Config(**config(0.9, 1)), OBS, A), replay.columns)
    with pytest.raises(ValueError, match="contiguous float32"):
        update.run(1, transitions_of(replay)._replace(data=replay.matrix.astype(np.float64)))
    with pytest.raises(ValueError, match="contiguous float32"):
        update.run(1, transitions_of(replay)._replace(data=replay.matrix[:, ::2]))
    with pytest.raises(ValueError, match="empty replay"):
        update.run(1, transitions_of(Replay(10, OBS, A)))


def test_windows_that_have_not_grown_yet() -> None:
    # The programme has room for three transitions while updates still look one step ahead.
    replay = filled()
    settings = {**config(0.9, 3), "n_step_delay": 12}
    learner, twin = (SAC(SACConfig(**settings), OBS, A) for _ in range(2))
    update = sac_update(learner, replay.columns, seed=4)
    clutter = [np.full((3, BATCH), 7.0, np.float32) for _ in range(50)]  # memory that was used
    del clutter
    update.run(UPDATES, transitions_of(replay))
    for number in range(1, UPDATES + 1):
        n = learner.n_step
        assert n == (3 if number >= 12 else 1)
        path = noise.normals(int(update.keys[1]), number, 3 * BATCH * A).reshape(3, BATCH, A)
        draws = noise.normals(int(update.keys[2]), number, BATCH * A)
        learner.update(
            replay.windows(
                rows_drawn(replay, int(update.keys[0]), number), n_step=n, discount=0.99
            ),
            torch.from_numpy(draws.reshape(BATCH, A)),
            torch.from_numpy(path[:n]),
        )
    check(learner, twin, update, sac_places)
