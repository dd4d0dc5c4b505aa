"""The film strip of a gait as SVG: a capsule is a line with round caps, as wide as its limb.

Every frame shows the agent where its trunk is; the marks on the ground, half a metre apart, stay in
the world, so that they pass by from frame to frame. A picture needs neither MuJoCo nor OpenGL: it
is drawn from the end points in a run's ``gait`` record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from thrifty.report import numbers

_CELL, _GAP, _TALLEST = 170.0, 6.0, 190.0  # of one frame, in the picture's units (pixels)
_MARGIN, _LABEL = 10.0, 44.0
_PER_ROW = 4
_OUTLINE = 2.0  # around a limb, so that crossing limbs stay apart
_MARK = 0.5  # metres between the marks on the ground
_COLOURS = ("--muted", "--c0", "--c1", "--c2", "--c3", "--c4", "--c5")


def film_strip(gait: Mapping[str, Any]) -> str:
    """The frames of a ``gait`` record in rows of four, as one `<svg>` element.

    Args:
        gait: with ``frames`` (``time``, ``position``, ``limbs``), ``radius``, ``limb``, ``ground``.

    Returns:
        The element; it needs the page's colour variables.
    """
    frames = gait["frames"]
    radii = [float(radius) for radius in gait["radius"]]
    limbs = [int(limb) for limb in gait["limb"]]
    ground = None if gait["ground"] is None else float(gait["ground"])
    poses = [[[float(value) for value in limb] for limb in frame["limbs"]] for frame in frames]
    reach, low, high = _extent(poses, radii, ground)
    scale = min((_CELL - 2 * _MARGIN) / (2 * reach), (_TALLEST - 2 * _MARGIN) / (high - low))
    height = (high - low) * scale + 2 * _MARGIN
    parts = []
    for number, (frame, pose) in enumerate(zip(frames, poses, strict=True)):
        row, column = divmod(number, _PER_ROW)
        left, top = column * (_CELL + _GAP), row * (height + _LABEL + _GAP)
        middle, bottom = left + _CELL / 2, top + height - _MARGIN
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{_CELL}" height="{height:.1f}" rx="6" '
            'fill="var(--card)"/>'
        )
        if ground is not None:
            level = bottom - (ground - low) * scale
            marks = _marks(float(frame["position"]), (_CELL / 2 - 1) / scale)
            path = f"M{left + 1:.1f} {level:.1f}h{_CELL - 2}" + "".join(
                f"M{middle + mark * scale:.1f} {level:.1f}v5" for mark in marks
            )
            parts.append(f'<path d="{path}" fill="none" stroke="var(--muted)"/>')
        for (x0, y0, x1, y1), radius, limb in zip(pose, radii, limbs, strict=True):
            path = (
                f"M{middle + x0 * scale:.1f} {bottom - (y0 - low) * scale:.1f}"
                f"L{middle + x1 * scale:.1f} {bottom - (y1 - low) * scale:.1f}"
            )
            width = max(2.0, 2 * radius * scale)
            colour = _COLOURS[(limb - 1) % len(_COLOURS)]
            for name, stroke in (("--card", width + _OUTLINE), (colour, width)):
                parts.append(f'<path d="{path}" stroke="var({name})" stroke-width="{stroke:.1f}"/>')
        labels = (f"{_fixed(frame['position'])} m", f"{_fixed(frame['time'])} s")
        for line, label in enumerate(labels):
            parts.append(
                f'<text x="{middle:.1f}" y="{top + height + 18 + 18 * line:.1f}" '
                f'fill="var({("--ink", "--muted")[line]})">{label}</text>'
            )
    width = min(len(frames), _PER_ROW) * (_CELL + _GAP) - _GAP
    rows = -(-len(frames) // _PER_ROW)
    tall = rows * (height + _LABEL + _GAP) - _GAP
    return (
        f'<svg role="img" aria-label="{len(frames)} frames of the gait" '
        f'viewBox="0 0 {width:.1f} {tall:.1f}" xmlns="http://www.w3.org/2000/svg" '
        f'style="min-width:{0.6 * width:.0f}px;max-width:{1.1 * width:.0f}px" '
        'stroke-linecap="round"><g font-size="14" text-anchor="middle" '
        'style="font-family:var(--font)">' + "\n".join(parts) + "</g></svg>"
    )


def speed(gait: Mapping[str, Any]) -> str:
    """In words how far the agent came in the filmed episode, and how fast.

    Example:
        >>> speed({"distance": 250.0, "seconds": 50.0, "return": 4800.0})
        '250 m in 50 s, 5 m/s; the return of this episode is 4,800'
    """
    distance, seconds = float(gait["distance"]), float(gait["seconds"])
    pace = f", {numbers.significant(distance / seconds)} m/s" if seconds else ""
    way = f"{numbers.significant(distance)} m in {numbers.significant(seconds)} s{pace}"
    return f"{way}; the return of this episode is {numbers.significant(float(gait['return']), 4)}"


def _fixed(value: object) -> str:
    """Two digits after the point; never a minus before zero."""
    return f"{round(float(str(value)), 2) + 0.0:.2f}".replace("-", numbers.MINUS)


def _extent(
    poses: list[list[list[float]]], radii: list[float], ground: float | None
) -> tuple[float, float, float]:
    """How far limbs reach sideways, and their lowest and highest point over all frames."""
    reach, lows, highs = 0.01, [], []
    for pose in poses:
        for (x0, y0, x1, y1), radius in zip(pose, radii, strict=True):
            reach = max(reach, abs(x0) + radius, abs(x1) + radius)
            lows.append(min(y0, y1) - radius)
            highs.append(max(y0, y1) + radius)
    low = min(lows) if ground is None else min(*lows, ground - 0.05)
    return reach, low, max(highs)


def _marks(position: float, reach: float) -> list[float]:
    """Where the marks of the ground lie around a position, within reach to both sides."""
    first, last = math.ceil((position - reach) / _MARK), math.floor((position + reach) / _MARK)
    return [number * _MARK - position for number in range(first, last + 1)]
