from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from thrifty.rl import Environments, run_episode
from thrifty.rl.skeleton import FRAMES, Skeleton, _chains, film, skeleton_of
from toy_environments import Count


def still(environments: Environments) -> Any:
    return lambda observation: np.zeros((1, environments.action_dim), np.float32)


def simulation(**changes: Any) -> Any:
    """A plane, a bar that lies along x, a ball on it, a box and an unseen ball, as MuJoCo tells."""
    eye = np.eye(3)
    lying = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # its z axis is x
    model = {
        "geom_type": np.array([0, 3, 2, 6, 2]),
        "geom_bodyid": np.array([0, 1, 2, 2, 2]),
        "geom_size": np.array([[9.0, 9, 1], [0.1, 0.5, 0], [0.2, 0, 0], [1, 1, 1], [1, 0, 0]]),
        "geom_rgba": np.array([[1.0] * 4] * 4 + [[1.0, 1.0, 1.0, 0.0]]),
        "body_weldid": np.array([0, 1, 2]),
        "body_parentid": np.array([0, 0, 1]),
        "body_rootid": np.array([0, 1, 1]),
    }
    data = {
        "geom_xpos": np.array([[0.0, 0, -0.1], [3, 0, 1], [3.5, 2, 1.5], [0, 0, 0], [0, 0, 0]]),
        "geom_xmat": np.array([eye, lying, eye, eye, eye]).reshape(5, 9),
        "xpos": np.array([[0.0, 0, 0], [3, 0, 1], [3.5, 2, 1.5]]),
        "time": 0.25,
    }
    for name, value in changes.items():
        (model if name in model else data)[name] = value
    return SimpleNamespace(
        unwrapped=SimpleNamespace(model=SimpleNamespace(**model), data=SimpleNamespace(**data))
    )


def test_limbs_by_hand() -> None:
    skeleton = Skeleton(simulation())
    # The bar from x = 2.5 to 3.5 at height 1; the ball is a limb of length 0. Box, plane and what
    # is invisible are no limbs.
    np.testing.assert_allclose(skeleton.pose(), [[2.5, 1, 3.5, 1], [3.5, 1.5, 3.5, 1.5]])
    assert skeleton.radius.tolist() == [0.1, 0.2]
    assert skeleton.limb.tolist() == [1, 1]
    assert (skeleton.view, skeleton.ground) == ("side", -0.1)
    assert (skeleton.time, skeleton.position) == (0.25, 3.0)


def test_what_lies_flat_is_seen_from_above() -> None:
    flat = np.array([[0.0, 0, -0.1], [3, 0, 1], [3.5, 2, 1.1], [0, 0, 0], [0, 0, 0]])
    skeleton = Skeleton(simulation(geom_xpos=flat))  # 0.1 high, 2 broad
    np.testing.assert_allclose(skeleton.pose(), [[2.5, 0, 3.5, 0], [3.5, 2, 3.5, 2]])
    assert (skeleton.view, skeleton.ground) == ("above", None)


def test_what_has_no_skeleton() -> None:
    assert skeleton_of(gym.make("Pendulum-v1")) is None
    assert skeleton_of(simulation(body_weldid=np.zeros(3, int))) is None  # nothing moves
    with pytest.raises(ValueError, match="MuJoCo"):
        Skeleton(Count(3))
    environments = Environments(lambda: Count(3))
    assert film(environments, still(environments), 0) is None
    assert film(Environments(lambda: Count(3), count=2), still(environments), 0) is None


def test_limbs_of_a_tree() -> None:
    # A trunk (1) with two legs of two bones (2, 3 and 4, 5); the world is body 0.
    assert _chains(np.array([0, 0, 1, 2, 1, 4])).tolist() == [0, 1, 2, 2, 3, 3]
    assert _chains(np.array([0, 0, 1, 2])).tolist() == [0, 1, 1, 1]  # a snake
    assert _chains(np.array([0, 0, 0])).tolist() == [0, 1, 2]  # two things


def test_a_film_of_the_half_cheetah() -> None:
    environments = Environments("HalfCheetah-v5", seed=3)
    gait = film(environments, still(environments), 4)
    assert gait is not None
    assert (gait["view"], gait["ground"], gait["length"]) == ("side", 0.0, 1000)
    assert gait["limb"] == [1, 1, 2, 2, 2, 3, 3, 3]  # trunk with head, hind leg, front leg
    times = [frame["time"] for frame in gait["frames"]]
    # A step is 0.05 s: eight in a row around the middle of 1,000 steps.
    np.testing.assert_allclose(times, 24.8 + 0.05 * np.arange(FRAMES), atol=1e-9)
    limbs = np.array([frame["limbs"] for frame in gait["frames"]])  # [frames, limbs, 4]
    lengths = np.hypot(limbs[..., 2] - limbs[..., 0], limbs[..., 3] - limbs[..., 1])
    np.testing.assert_allclose(lengths - lengths[0], 0.0, atol=3e-4)  # bones do not stretch
    np.testing.assert_allclose(lengths[0, 0], 1.0, atol=3e-4)  # the trunk, as the model says
    np.testing.assert_allclose(limbs[..., 0, [0, 2]].mean(-1), 0.0, atol=3e-4)  # in the middle
    # It fell on the ground and lies: no limb is below it.
    assert (limbs[..., [1, 3]].min(-1) - gait["radius"]).min() > -0.03
    assert gait["return"] == run_episode(environments, still(environments), 4)[0]
    assert len(json.dumps(gait)) < 4000


def test_a_short_episode_shows_what_there_is() -> None:
    def three() -> Any:
        return gym.make("Hopper-v5", max_episode_steps=3)

    environments = Environments(three)
    gait = film(environments, still(environments), 0)
    assert gait is not None
    assert [frame["time"] for frame in gait["frames"]] == [0.0, 0.008, 0.016]
    assert gait["frames"][0]["position"] == 0.0
