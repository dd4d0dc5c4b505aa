from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from thrifty import playback
from thrifty.playback import draw_team, record_episode

FPS = 10
SIZE = 640, 48


class Corridor(gym.Env[Any, Any]):
    """Pays the action at each step; its picture is as bright as the step number."""

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": FPS}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    failure: Exception | None = None

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.zeros(1, np.float32), float(action[0]), False, False, {}

    def render(self) -> Any:
        if self.failure is not None:
            raise self.failure
        return np.full((SIZE[1], SIZE[0], 3), self.steps % 256, np.uint8)


class Blind(Corridor):
    """As a first environment of one's own is: nothing in it is about drawing."""

    metadata = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()


class Half:
    """A policy that answers 0.5, in a tuple as Stable-Baselines3 does if asked to."""

    def __init__(self, *, in_tuple: bool) -> None:
        self.in_tuple = in_tuple

    def predict(self, observation: Any, deterministic: bool = True) -> Any:
        assert deterministic
        action = np.array([0.5], np.float32)
        return (action, None) if self.in_tuple else action


def register(steps: int) -> str:
    name = f"thrifty-tests/Corridor{steps}-v0"
    if name not in gym.registry:
        gym.register(name, entry_point=Corridor, max_episode_steps=steps)
    return name


@pytest.mark.parametrize("in_tuple", [True, False])
def test_an_episode_becomes_an_animated_picture(tmp_path: Path, in_tuple: bool) -> None:
    path = tmp_path / "new" / "episode.gif"
    total = record_episode(Half(in_tuple=in_tuple), register(8), path)
    assert total == 4.0  # eight steps of 0.5
    with Image.open(path) as picture:
        assert picture.format == "GIF"
        assert picture.size == (320, 24)  # half of 640 x 48
        assert picture.n_frames == 8  # type: ignore[attr-defined]
        assert picture.info["duration"] == 1000 // FPS
        assert picture.info["loop"] == 0  # for ever


def test_a_long_episode_keeps_every_nth_picture_and_its_speed(tmp_path: Path) -> None:
    path = tmp_path / "episode.gif"
    assert record_episode(Half(in_tuple=False), register(500), path) == 250.0
    with Image.open(path) as picture:
        # 500 steps and at most 250 pictures: every second one, shown twice as long. Brightness is
        # the step number mod 256, so no two neighbours are equal (equal ones would be merged).
        assert picture.n_frames == 250  # type: ignore[attr-defined]
        assert picture.info["duration"] == 2 * 1000 // FPS


class Zero:
    def predict(self, observation: Any, deterministic: bool = True) -> Any:
        return np.zeros(6, np.float32)


def test_without_opengl_a_mujoco_agent_is_drawn_by_its_limbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "thrifty-tests/ShortCheetah-v0"
    if name not in gym.registry:
        entry = "gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv"
        gym.register(name, entry_point=entry, max_episode_steps=12)
    tried = []

    def fail(self: Any) -> None:
        tried.append(self)
        raise RuntimeError("no context")

    monkeypatch.setattr("gymnasium.envs.mujoco.MujocoEnv.render", fail)
    monkeypatch.setattr(playback, "_FAILED", set())
    path = tmp_path / "episode.gif"
    record_episode(Zero(), name, path)
    with Image.open(path) as picture:
        assert picture.n_frames == 12  # type: ignore[attr-defined]
        assert picture.size == (320, 200)
        assert picture.info["duration"] == 50  # 20 pictures a second
        dots = np.asarray(picture.convert("RGB"), int)
    # It shows paper, a grey trunk, a blue and an orange leg, the leg in front on the right.
    red, green, blue = dots[..., 0], dots[..., 1], dots[..., 2]
    (_, hind), (_, front) = ((blue > red + 90).nonzero(), (red > blue + 120).nonzero())
    assert min(len(hind), len(front)) > 300
    assert hind.mean() < 160 < front.mean()
    assert (dots.min(-1) > 250).mean() > 0.7
    assert (abs(red - green) < 25)[dots.min(-1) < 180].sum() > 300
    record_episode(Zero(), name, path)
    assert len(tried) == 1  # MuJoCo aborts where a backend that failed is tried again


def test_what_cannot_be_drawn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = register(8)
    path = tmp_path / "episode.gif"
    monkeypatch.setattr(Corridor, "failure", AttributeError("no glGetError\nmore"))
    with pytest.raises(ValueError, match=r"Corridor8-v0 cannot be drawn: no glGetError$"):
        record_episode(Half(in_tuple=False), name, path)
    monkeypatch.setattr(Corridor, "failure", None)
    monkeypatch.setattr(Corridor, "__module__", "some.mujoco.module")
    monkeypatch.setattr(Corridor, "failure", RuntimeError("no context"))
    with pytest.raises(ValueError, match="no context; on a machine without a screen set MUJOCO_GL"):
        record_episode(Half(in_tuple=False), name, path)
    monkeypatch.setattr(Corridor, "failure", None)
    monkeypatch.setattr(Corridor, "render", lambda self: None)
    with pytest.raises(ValueError, match="no render mode 'rgb_array'"):
        record_episode(Half(in_tuple=False), name, path)
    assert not path.exists()


def test_an_environment_that_takes_no_render_mode_is_told_what_it_lacks(tmp_path: Path) -> None:
    name = "thrifty-tests/Blind-v0"
    gym.register(name, entry_point=Blind, max_episode_steps=8)
    path = tmp_path / "episode.gif"
    with pytest.raises(ValueError, match="Blind-v0 cannot be drawn: it takes no render_mode; an"):
        record_episode(Half(in_tuple=False), name, path)
    assert not path.exists()


def test_a_team_is_drawn_as_discs(tmp_path: Path) -> None:
    """A unit of the team at the left, a half-dead opponent at the right, which then is gone."""
    left, right = [0.0, 0.0, 0, 1.0], [4.0, 0.0, 1, 0.25]
    frames = [{"step": 0, "marks": [left, right]}, {"step": 7, "marks": [left]}]
    path = tmp_path / "new" / "team.gif"
    draw_team({"frames": frames}, path)
    with Image.open(path) as video:
        assert video.n_frames == 2  # type: ignore[attr-defined]
        first = np.asarray(video.convert("RGB")).astype(int)
        assert video.info["duration"] == 160
        video.seek(1)
        second = np.asarray(video.convert("RGB")).astype(int)
        assert video.info["duration"] == 8 * 160

    def pixels(picture: Any, colour: tuple[int, int, int]) -> Any:
        return np.argwhere(np.abs(picture - colour).sum(-1) < 40)

    blue, orange = (0, 114, 178), (213, 94, 0)
    whole, half = pixels(first, blue), pixels(first, orange)
    assert whole[:, 1].max() < 160 < half[:, 1].min()
    # A quarter is left: half the radius, and the ring around it.
    assert 0.2 < len(half) / len(whole) < 0.6
    assert len(pixels(second, orange)) == 0
    assert len(pixels(second, blue)) == pytest.approx(len(whole), rel=0.05)
