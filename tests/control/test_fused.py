"""The engine's update is the reference's: parameters, moments and targets after twenty updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from thrifty.control import SAC, TD3, SACConfig, SparsityConfig, TD3Config
from thrifty.control.fused import to_torch, transitions_of
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


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n_step", [1, 3])
def test_td3(sparsity: float, n_step: int) -> None:
    replay = filled()
    learner, twin = (TD3(TD3Config(**config(sparsity, n_step)), OBS, A) for _ in range(2))
    start = [p.detach().clone() for p in learner.critic.module.parameters()]
    update = td3_update(learner, replay.columns, seed=4)
    update.run(UPDATES - 3, transitions_of(replay))
    update.run(3, transitions_of(replay))  # calls join seamlessly
    for number in range(1, UPDATES + 1):
        rows = rows_drawn(replay, int(update.keys[0]), number)
        draws = noise.normals(int(update.keys[1]), number, BATCH * A).reshape(BATCH, A)
        batch = replay.windows(rows, n_step=n_step, discount=0.99)
        learner.update(batch, torch.from_numpy(draws))
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
    for number in range(1, UPDATES + 1):
        rows = rows_drawn(replay, int(update.keys[0]), number)
        path = noise.normals(int(update.keys[1]), number, n_step * BATCH * A)
        draws = noise.normals(int(update.keys[2]), number, BATCH * A)
        learner.update(
            replay.windows(rows, n_step=n_step, discount=0.99),
            torch.from_numpy(draws.reshape(BATCH, A)),
            torch.from_numpy(path.reshape(n_step, BATCH, A)),
        )
    check(learner, twin, update, sac_places)
    assert update.temperature[0] == pytest.approx(learner.log_alpha.item(), abs=1e-6)
    assert abs(learner.log_alpha.item()) > 1e-3


def test_what_the_engine_lacks_is_refused() -> None:
    replay = filled()
    with pytest.raises(ValueError, match="no LayerNorm"):
        td3_update(TD3(TD3Config(critic_layer_norm=True), OBS, A), replay.columns)
    with pytest.raises(ValueError, match="use the reference backend"):
        sac_update(SAC(SACConfig(log_std_squash="clamp"), OBS, A), replay.columns)
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
