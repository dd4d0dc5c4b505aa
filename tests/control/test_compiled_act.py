from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.control.test_compiled import SEED, pair, settings
from tests.control.test_fused import OBS, filled

from thrifty.control.compiled import CompiledLearner


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
@pytest.mark.parametrize("explore", [False, True])
def test_acting_is_the_references(kind: str, explore: bool) -> None:
    replay = filled()
    learner, _ = pair(kind, **settings(0.9, 1, 4))
    compiled = CompiledLearner(learner, replay.columns, seed=SEED)
    for _ in range(3):
        compiled.learn(replay)
    rng = np.random.default_rng(0)
    for rows in (1, 3):
        seen = rng.normal(size=(rows, OBS)).astype(np.float32) * 3
        for observation in (seen, np.asfortranarray(seen)):
            first, second = (torch.Generator().manual_seed(7) for _ in range(2))
            ours = compiled.act(observation, explore=explore, generator=first)
            theirs = learner.act(observation, explore=explore, generator=second)
            for mine, other in zip(ours, theirs, strict=True):
                assert mine.dtype == other.dtype == np.float32
                np.testing.assert_allclose(mine, other, rtol=0, atol=5e-7)  # of the engine's tanh
    # Without a generator, the learner's own is used and moves on.
    before = learner.generator.get_state()
    compiled.act(seen, explore=explore)
    assert torch.equal(before, learner.generator.get_state()) is not explore


def test_actions_are_cut_and_a_nan_is_seen() -> None:
    replay = filled()
    learner, _ = pair("TD3", **settings(0.9, 1, 4), exploration_noise=5.0)
    compiled = CompiledLearner(learner, replay.columns, seed=SEED)
    seen = np.zeros((50, OBS), np.float32)
    seen[1] = np.nan
    action, mean = compiled.act(seen, explore=True)
    assert np.isnan(action[1]).all()
    assert np.isnan(mean[1]).all()
    action = np.delete(action, 1, axis=0)
    assert action.max() == 1.0
    assert action.min() == -1.0
