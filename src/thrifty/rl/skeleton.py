"""The body of a MuJoCo agent as round limbs, read from the simulation: drawn without any graphics.

A limb is a capsule: two end points in the plane of the picture and a radius. MuJoCo keeps the
centre and the orientation of every geom (``geom_xpos``, ``geom_xmat``); a capsule's axis is its own
z axis, and its half length the second number of its size. Spheres are limbs of length 0; boxes and
meshes are left out. The view is from the side (x, z), or from above (x, y) where the agent lies
flat, as a swimmer does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.rl.environments import Environments
from thrifty.rl.evaluate import Policy, run_episode

Floats = NDArray[np.float32]

FRAMES = 8
SECONDS_BETWEEN = 0.05
# MuJoCo's numbers of geom types (mjtGeom).
_PLANE, _SPHERE, _CAPSULE, _CYLINDER = 0, 2, 3, 5


class Skeleton:
    """The limbs of one MuJoCo environment, as they are now.

    Args:
        env: the environment, with all its wrappers.

    Raises:
        ValueError: it is not simulated by MuJoCo, or has no round limbs; see :func:`skeleton_of`.
    """

    def __init__(self, env: Any) -> None:
        model: Any = getattr(env.unwrapped, "model", None)
        if not hasattr(model, "geom_bodyid"):
            raise ValueError("only environments that MuJoCo simulates have a skeleton")
        self._data = env.unwrapped.data
        kinds, bodies = model.geom_type, model.geom_bodyid
        moves = model.body_weldid[bodies] != 0  # body 0 is the world
        seen = model.geom_rgba[:, 3] > 0
        self._geoms = np.flatnonzero(moves & seen & np.isin(kinds, (_SPHERE, _CAPSULE, _CYLINDER)))
        if not self._geoms.size:
            raise ValueError("the environment has no round limbs that move")
        straight = kinds[self._geoms] != _SPHERE
        self._half = np.where(straight, model.geom_size[self._geoms, 1], 0.0)
        self.radius = model.geom_size[self._geoms, 0].copy()  # [L], metres
        self.limb = _chains(model.body_parentid)[bodies[self._geoms]]  # [L], equal along a limb
        self._root = int(model.body_rootid[bodies[self._geoms[0]]])
        centres = self._data.geom_xpos[self._geoms]
        height, breadth = np.ptp(centres[:, 2]), np.ptp(centres[:, 1])
        self._axes = [0, 1] if height < 0.1 * breadth else [0, 2]
        self.view = "above" if self._axes[1] == 1 else "side"
        planes = np.flatnonzero((kinds == _PLANE) & ~moves)
        self.ground: float | None = None  # its height in the picture, metres
        if planes.size and self.view == "side":
            self.ground = float(self._data.geom_xpos[planes[0], 2])

    @property
    def time(self) -> float:
        """Return the simulated seconds since the episode began."""
        return float(self._data.time)

    @property
    def position(self) -> float:
        """Return where the trunk is along the direction of travel, in metres."""
        return float(self._data.xpos[self._root, 0])

    def pose(self) -> NDArray[np.float64]:
        """Return the end points (x0, y0, x1, y1) of the limbs in the picture, [L, 4], metres."""
        centres = self._data.geom_xpos[self._geoms]
        axes = self._data.geom_xmat[self._geoms].reshape(-1, 3, 3)[:, :, 2] * self._half[:, None]
        ends = np.concatenate([(centres - axes)[:, self._axes], (centres + axes)[:, self._axes]], 1)
        return np.asarray(ends, np.float64)


def skeleton_of(env: Any) -> Skeleton | None:
    """Return the skeleton of an environment, None where it has none."""
    try:
        return Skeleton(env)
    except ValueError:
        return None


def _chains(parents: NDArray[np.int32]) -> NDArray[np.int64]:
    """Number the limbs of a tree of bodies: a new one begins where its parent branches.

    Args:
        parents: of each body; the world, body 0, is its own.

    Returns:
        the limb of each body, [B], in the order of the bodies.

    Example:
        >>> _chains(np.array([0, 0, 1, 2, 1, 4]))  # a trunk with two legs of two bones
        array([0, 1, 2, 2, 3, 3])
    """
    children = np.bincount(parents[1:], minlength=len(parents))
    limbs = np.zeros(len(parents), np.int64)
    for body in range(1, len(parents)):
        parent = parents[body]
        continues = parent != 0 and children[parent] == 1
        limbs[body] = limbs[parent] if continues else limbs[:body].max() + 1
    return limbs


def film(environments: Environments, policy: Policy, number: int) -> dict[str, Any] | None:
    """Play an episode and return its middle as a few poses, ready for a record.

    Args:
        environments: holding one environment; left in a new episode.
        policy: maps observations [1, O] to normalised actions [1, A].
        number: of the episode; decides its seed.

    Returns:
        ``frames``: up to 8, about 0.05 s apart, with ``time`` (seconds), ``position`` (metres along
        x since the episode began) and ``limbs`` (end points x0, y0, x1, y1 in metres, x from where
        the trunk is); ``radius`` and ``limb`` of each; ``view``, ``ground``, and the episode's
        ``return``, ``length``, ``seconds`` and ``distance``. None where there is no skeleton.
    """
    skeleton = None if environments.simulation is None else skeleton_of(environments.simulation)
    if skeleton is None:
        return None
    seen: list[tuple[float, float, NDArray[np.float64]]] = []
    total, length = run_episode(environments, _watched(policy, skeleton, seen), number)
    times = [time for time, _, _ in seen]
    spacing = SECONDS_BETWEEN / ((times[-1] - times[0]) / (length - 1)) if length > 1 else 1.0
    every = max(1, min(round(spacing), length // FRAMES))
    first = max(0, (length - every * FRAMES) // 2)
    start = seen[0][1]
    return {
        "view": skeleton.view,
        "ground": skeleton.ground,
        "radius": _short(skeleton.radius),
        "limb": skeleton.limb.tolist(),
        "frames": [
            {
                "time": _short(time),
                "position": _short(position - start),
                "limbs": _short(pose - np.array([position, 0.0, position, 0.0])),
            }
            for time, position, pose in seen[first : first + every * FRAMES : every]
        ],
        "return": total,
        "length": length,
        "seconds": _short(times[-1]),
        "distance": _short(seen[-1][1] - start),
    }


def _watched(
    policy: Policy, skeleton: Skeleton, seen: list[tuple[float, float, NDArray[np.float64]]]
) -> Callable[[Floats], Floats]:
    def act(observation: Floats) -> Floats:
        seen.append((skeleton.time, skeleton.position, skeleton.pose()))
        return policy(observation)

    return act


def _short(values: Any) -> Any:
    """Numbers of a tenth of a millimetre: four digits after the point."""
    return np.round(values, 4).tolist()
