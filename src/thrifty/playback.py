"""Watch a trained policy: play one episode and keep it as an animated picture (GIF).

Needs no extra package: the environment draws itself, Pillow (which comes with matplotlib) writes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from thrifty.rl.environments import make_environment

_MOST_PICTURES = 250
_WIDTH = 320  # pixels; a GIF of this size and length has a few megabytes
_REMEDY = (
    "on a machine without a screen set MUJOCO_GL=egl (graphics driver) or MUJOCO_GL=osmesa "
    "(software; the system's package libosmesa6) before the command"
)


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
    env = make_environment(environment, render_mode="rgb_array")
    # Drawing is far slower than stepping, so only the pictures that are kept are drawn.
    longest = (env.spec and env.spec.max_episode_steps) or 1000
    every = -(-longest // _MOST_PICTURES)
    try:
        pictures: list[Image.Image] = []
        observation, _ = env.reset(seed=seed)
        total, steps, over = 0.0, 0, False
        while not over:
            if steps % every == 0:
                pictures.append(_draw(env, environment))
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
