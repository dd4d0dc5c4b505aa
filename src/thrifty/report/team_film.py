"""An episode of a team as pictures: an animation, and the same as a film strip, both SVG.

Both are drawn from a run's ``film`` record: discs where units stand, as full as what is left of
them. The animation is one group of discs a step, shown in turn by a style sheet, so it needs no
script; it stops under the pointer, and stands still where the system asks for less motion. Axes
are those of the game, fixed over the episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from thrifty.report import numbers

SIDES = ("the team", "opponents", "other things")
COLOURS = ("blue", "orange", "grey")
_VARIABLES = ("--c0", "--c1", "--muted")
_CELL, _GAP, _LABEL, _PER_ROW, _IN_STRIP = 170.0, 8.0, 26.0, 4, 8
_STAGE = 360.0  # side of the animation
_PER_SECOND, _HELD = 6, 8  # pictures, and how many more the last one stays for
Frame = Mapping[str, Any]


class _View(NamedTuple):
    """From the game's places to a square picture."""

    x: float
    y: float
    reach: float

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> _View:
        places = np.array([mark[:2] for frame in frames for mark in frame["marks"]] or [[0.0, 0.0]])
        low, high = places.min(0), places.max(0)
        middle = (low + high) / 2
        return cls(float(middle[0]), float(middle[1]), max(float((high - low).max()), 1.0))


def _discs(frame: Frame, view: _View, side: float, left: float, top: float) -> str:
    """The units of a frame in a square whose upper left corner is given."""
    radius = 0.041 * side
    scale = (side - 4 * radius) / view.reach
    parts = []
    for x, y, owner, share in frame["marks"]:
        at = (
            left + side / 2 + (float(x) - view.x) * scale,
            top + side / 2 - (float(y) - view.y) * scale,
        )
        colour = f"var({_VARIABLES[int(owner)]})"
        inner = radius * max(0.0, min(1.0, float(share))) ** 0.5
        place = f'cx="{at[0]:.1f}" cy="{at[1]:.1f}"'
        parts.append(
            f'<circle {place} r="{radius:.1f}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            f'<circle {place} r="{inner:.1f}" fill="{colour}" fill-opacity="0.75"/>'
        )
    return "".join(parts)


def _label(frame: Frame, x: float, y: float) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="var(--ink)">{numbers.count(frame["step"])}</text>'


def _card(left: float, top: float, side: float) -> str:
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{side:.0f}" height="{side:.0f}" rx="6" '
        'fill="var(--card)"/>'
    )


def _svg(width: float, height: float, about: str, name: str, style: str, content: str) -> str:
    return (
        f'<svg role="img" class="{name}" aria-label="{about}" '
        f'viewBox="0 0 {width:.1f} {height:.1f}" xmlns="http://www.w3.org/2000/svg" '
        f'style="{style}"><g font-size="14" text-anchor="middle" '
        f'style="font-family:var(--font)">{content}</g></svg>'
    )


def animation(frames: Sequence[Frame]) -> str:
    """All frames, one after the other and again, as one `<svg>` element.

    Args:
        frames: at least one, with ``step`` and ``marks``: x, y, side, share.
    """
    view, ticks = _View.of(frames), len(frames) + _HELD
    seconds, last = ticks / _PER_SECOND, len(frames) - 1
    groups = []
    for number, frame in enumerate(frames):
        # Minus a whole round: all groups are in step from the beginning on.
        delay = (number - ticks) / _PER_SECOND
        kind = "film-last" if number == last else "film-frame"
        groups.append(
            f'<g class="{kind}" style="animation-delay:{delay:.3f}s">'
            f"{_discs(frame, view, _STAGE, 0.0, 0.0)}{_label(frame, _STAGE / 2, _STAGE + 18)}</g>"
        )
    style = (
        "<style>.film g g{visibility:hidden;animation:film-frame "
        f"{seconds:.3f}s step-end infinite}}.film g .film-last{{animation-name:film-last}}"
        ".film:hover g g{animation-play-state:paused}"
        f"@keyframes film-frame{{0%{{visibility:visible}}{100 / ticks:.4f}%{{visibility:hidden}}}}"
        f"@keyframes film-last{{0%{{visibility:visible}}{100 * (_HELD + 1) / ticks:.4f}%"
        "{visibility:hidden}}@media(prefers-reduced-motion:reduce){.film g g{animation:none}"
        ".film g .film-last{visibility:visible}}</style>"
    )
    about = f"an episode of {numbers.count(frames[-1]['step'])} steps, animated"
    return _svg(
        _STAGE,
        _STAGE + _LABEL,
        about,
        "film",
        f"max-width:{_STAGE:.0f}px",
        style + _card(0.0, 0.0, _STAGE) + "\n".join(groups),
    )


def film_strip(frames: Sequence[Frame]) -> str:
    """Eight pictures, evenly spread, the first and the last among them, as one `<svg>` element.

    Args:
        frames: at least one, with ``step`` and ``marks``: x, y, side, share.
    """
    view, last = _View.of(frames), len(frames) - 1
    chosen = sorted({round(last * k / (_IN_STRIP - 1)) for k in range(_IN_STRIP)})
    parts = []
    for number, index in enumerate(chosen):
        row, column = divmod(number, _PER_ROW)
        left, top = column * (_CELL + _GAP), row * (_CELL + _LABEL + _GAP)
        parts.append(
            _card(left, top, _CELL)
            + _discs(frames[index], view, _CELL, left, top)
            + _label(frames[index], left + _CELL / 2, top + _CELL + 18)
        )
    rows = -(-len(chosen) // _PER_ROW)
    width = min(len(chosen), _PER_ROW) * (_CELL + _GAP) - _GAP
    height = rows * (_CELL + _LABEL + _GAP) - _GAP
    about = f"{len(chosen)} pictures of an episode"
    style = f"min-width:{0.6 * width:.0f}px;max-width:{1.1 * width:.0f}px"
    return _svg(width, height, about, "film-strip", style, "\n".join(parts))
