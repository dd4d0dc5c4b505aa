"""Watch a trained policy: play one episode and keep it as an animated picture (GIF).

Needs no extra package: the environment draws itself, Pillow (which comes with matplotlib) writes.
Where MuJoCo finds no OpenGL, its agents are drawn as skeletons (:mod:`thrifty.rl.skeleton`), which
needs none. Teams are drawn as discs, as full as what is left of each unit.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw

from thrifty.rl.environments import make_environment
from thrifty.rl.skeleton import Skeleton, skeleton_of

_MOST_PICTURES = 250
_WIDTH = 320  # pixels; a GIF of this size and length has a few megabytes
_HEIGHT = 200  # of a drawn skeleton
_FINER = 3  # skeletons are drawn so many times larger and shrunk: smooth edges
_REMEDY = (
    "on a machine without a screen set MUJOCO_GL=egl (graphics driver) or MUJOCO_GL=osmesa "
    "(software; the system's package libosmesa6) before the command"
)
# Backends that did not work in this process: MuJoCo aborts it where one is tried again.
_FAILED: set[str] = set()
_PAPER, _LINE = "#ffffff", "#6e7781"
_SIDES = ("#0072b2", "#d55e00", "#6e7781")  # a team, its opponents, other things
_TEAM_MILLISECONDS = 160  # of a picture of a team
_LIMBS = ("#6e7781", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


class Predicts(Protocol):
    """What is played: an agent, or a policy restored from a run."""

    def predict(self, observation: Any, deterministic: bool = True) -> Any:
        """Return the action for one observation, alone or first in a tuple."""


def record_episode(policy: Predicts, environment: str, path: Path, *, seed: int = 0) -> float:
    """Play one episode with deterministic actions and write it to ``path`` as a GIF.

    Args:
        policy: plays.
        environment: gymnasium id.
        path: the file; its folder is made if missing.
        seed: of the episode.

    Returns:
        The episode's return.

    Raises:
        ValueError: the environment cannot be made or drawn, with the remedy.
    """
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        # MuJoCo would open a window, which cannot work here.
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        with warnings.catch_warnings():  # what cannot be drawn is said below, once
            warnings.filterwarnings("ignore", message=".*render_modes")
            env = make_environment(environment, render_mode="rgb_array")
    except TypeError as problem:
        if "render_mode" not in str(problem):
            raise
        raise ValueError(
            f"{environment} cannot be drawn: it takes no render_mode; an environment that is "
            "filmed takes render_mode='rgb_array' and returns pictures from render()"
        ) from None
    # Drawing is far slower than stepping, so only the pictures that are kept are drawn.
    longest = (env.spec and env.spec.max_episode_steps) or 1000
    every = -(-longest // _MOST_PICTURES)
    try:
        pictures: list[Image.Image] = []
        observation, _ = env.reset(seed=seed)
        total, steps, over = 0.0, 0, False
        draw = _painter(env, environment)
        while not over:
            if steps % every == 0:
                pictures.append(draw())
            steps += 1
            action = policy.predict(observation, deterministic=True)
            action = action[0] if isinstance(action, tuple) else action
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            over = terminated or truncated
    finally:
        with _silent_destructors(), contextlib.suppress(Exception):
            env.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = float(env.metadata.get("render_fps", 30))
    milliseconds = max(20, round(1000 * every / rate))  # viewers slow down what is faster
    pictures[0].save(
        path, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0
    )
    return total


def _painter(env: Any, name: str) -> Callable[[], Image.Image]:
    """What draws the environment: itself, or lines for its limbs where MuJoCo has no OpenGL."""
    skeleton = skeleton_of(env)
    if skeleton is not None:
        backend = os.environ.get("MUJOCO_GL", "")
        if backend in _FAILED:
            return Sketch(skeleton).draw
        try:
            _draw(env, name)
        except ValueError:
            _FAILED.add(backend)
            return Sketch(skeleton).draw
    return lambda: _draw(env, name)


def draw_team(film: Mapping[str, Any], path: Path) -> None:
    """Write an episode of a team to ``path`` as a GIF.

    Args:
        film: with ``frames``: ``step`` and ``marks``: x, y, side, share.
        path: the file; its folder is made if missing.
    """
    frames = film["frames"]
    places = np.array([mark[:2] for frame in frames for mark in frame["marks"]] or [[0.0, 0.0]])
    low, high = places.min(0), places.max(0)
    side, radius = _WIDTH * _FINER, 0.04 * _WIDTH * _FINER
    scale = (side - 4 * radius) / max(float((high - low).max()), 1.0)
    pictures = []
    for frame in frames:
        image = Image.new("RGB", (side, side), _PAPER)
        canvas = ImageDraw.Draw(image)
        for x, y, owner, share in frame["marks"]:
            at = (
                side / 2 + (float(x) - (low[0] + high[0]) / 2) * scale,
                side / 2 - (float(y) - (low[1] + high[1]) / 2) * scale,
            )
            colour = _SIDES[int(owner)]
            canvas.circle(at, radius, outline=colour, width=_FINER)
            canvas.circle(at, radius * max(0.0, min(1.0, float(share))) ** 0.5, fill=colour)
        small = image.resize((_WIDTH, _WIDTH), Image.Resampling.LANCZOS)
        ImageDraw.Draw(small).text((6, 4), f"step {frame['step']}", fill=_LINE)
        pictures.append(small.quantize(64))
    path.parent.mkdir(parents=True, exist_ok=True)
    held = [_TEAM_MILLISECONDS] * (len(pictures) - 1) + [8 * _TEAM_MILLISECONDS]
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:], duration=held, loop=0)


class Sketch:
    """Pictures of a skeleton through a camera that moves along with its trunk.

    Args:
        skeleton: in the pose that decides how far away the camera stands.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        pose = skeleton.pose()
        self._middle = float(pose[:, [1, 3]].mean())
        aside = 1.7 * float(np.abs(pose[:, [0, 2]] - skeleton.position).max())
        above = 1.2 * float(np.ptp(pose[:, [1, 3]]))
        self._scale = min(_WIDTH / 2 / max(aside, 0.1), _HEIGHT / max(above, 0.1)) * _FINER

    def draw(self) -> Image.Image:
        """Return the pose as it is now."""
        skeleton = self._skeleton
        image = Image.new("RGB", (_WIDTH * _FINER, _HEIGHT * _FINER), _PAPER)
        canvas = ImageDraw.Draw(image)
        if skeleton.ground is not None:
            reach = image.width / 2 / self._scale
            first, last = np.ceil(2 * (skeleton.position - reach)), 2 * (skeleton.position + reach)
            _, level = self._place(0.0, skeleton.ground)
            canvas.line((0, level, image.width, level), fill=_LINE, width=_FINER)
            for mark in np.arange(first, last) / 2:  # every half metre, fixed in the world
                x, _ = self._place(float(mark), 0.0)
                canvas.line((x, level, x, level + 6 * _FINER), fill=_LINE, width=_FINER)
        for ends, radius, limb in zip(skeleton.pose(), skeleton.radius, skeleton.limb, strict=True):
            colour = _LIMBS[(int(limb) - 1) % len(_LIMBS)]
            thick = max(float(radius) * self._scale, _FINER)
            points = [self._place(*ends[:2]), self._place(*ends[2:])]
            canvas.line(points, fill=colour, width=round(2 * thick))
            for point in points:
                canvas.circle(point, thick, fill=colour)
        return image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS).quantize(64)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        """Metres to the picture's dots."""
        middle = self._middle
        if self._skeleton.view == "above":
            middle = float(self._skeleton.pose()[:, [1, 3]].mean())
        return (
            _WIDTH * _FINER / 2 + (x - self._skeleton.position) * self._scale,
            _HEIGHT * _FINER / 2 - (y - middle) * self._scale,
        )


def _draw(env: Any, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of graphics backends; what fails is said below
            drawn = env.render()
    except Exception as problem:
        # Every backend fails in its own way: ImportError, AttributeError, mujoco.FatalError, ...
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        with _silent_destructors():
            problem.__traceback__ = None  # frees the half-made viewer, whose destructor complains
            problem.__context__ = None
        remedy = f"; {_REMEDY}" if "mujoco" in type(env.unwrapped).__module__ else ""
        raise ValueError(f"{name} cannot be drawn: {reason}{remedy}") from None
    picture = np.asarray(drawn)
    if picture.ndim != 3:
        raise ValueError(f"{name} cannot be drawn: it has no render mode 'rgb_array'")
    image = Image.fromarray(picture)
    shrink = min(1.0, _WIDTH / image.width)
    return image.resize((round(image.width * shrink), round(image.height * shrink))).quantize(64)


@contextlib.contextmanager
def _silent_destructors() -> Iterator[None]:
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
