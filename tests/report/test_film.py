from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from thrifty.report.film import film_strip, speed

SVG = "{http://www.w3.org/2000/svg}"


def gait(**changes: Any) -> dict[str, Any]:
    """Two frames of a bar of 2 m that stands upright, then lies on the ground."""
    frames = [
        {"time": 1.0, "position": -0.004, "limbs": [[0.0, 0.5, 0.0, 2.5]]},
        {"time": 1.05, "position": 0.25, "limbs": [[-1.0, 0.5, 1.0, 0.5]]},
    ]
    gait = {"ground": 0.0, "radius": [0.5], "limb": [2], "frames": frames, "view": "side"}
    return gait | {"step": 9, "return": 12.0, "seconds": 4.0, "distance": 10.0} | changes


def paths(svg: str, colour: str) -> list[ElementTree.Element]:
    return [p for p in ElementTree.fromstring(svg).iter(f"{SVG}path") if colour in p.get("stroke")]


def points(path: ElementTree.Element) -> list[tuple[float, float]]:
    found = re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.get("d", ""))
    return [(float(x), float(y)) for x, y in found]


def test_limbs_stand_where_they_are() -> None:
    upright, lying = paths(film_strip(gait()), "--c0")
    (x0, y0), (x1, y1) = points(upright)
    # Limbs reach 1 + 0.5 m to both sides: 3 m in the 118 - 20 units between a frame's margins.
    scale = 98 / 3
    assert x0 == x1 == 59.0  # the middle of the first frame
    assert y0 - y1 == pytest.approx(2 * scale, abs=0.11)  # rounded to tenths
    assert float(upright.get("stroke-width", "")) == pytest.approx(scale, abs=0.06)
    (x0, y0), (x1, y1) = points(lying)
    assert (x0 + x1) / 2 == pytest.approx(118 + 6 + 59)  # the middle of the second
    assert x1 - x0 == pytest.approx(2 * scale, abs=0.11)
    assert y0 == y1


def test_the_ground_passes_by() -> None:
    svg = film_strip(gait())
    lines = [points(path) for path in paths(svg, "--muted")]
    assert len(lines) == 2
    scale = 98 / 3
    # A frame shows 58 / scale = 1.776 m to both sides: -1.780 to 1.772 m, then -1.526 to 2.026 m.
    worlds = ((-0.004, 59, 7), (0.25, 183, 8))
    for (start, *marks), (position, middle, count) in zip(lines, worlds, strict=True):
        assert start[0] == middle - 58
        for x, y in marks:
            # Every mark is at a multiple of half a metre in the world.
            halves = ((x - middle) / scale + position) / 0.5
            assert halves == pytest.approx(round(halves), abs=0.01)
            assert y == start[1]
        assert len(marks) == count
    lowest = max(y for path in paths(svg, "--c0") for _, y in points(path))
    assert lines[0][0][1] - lowest == pytest.approx(0.5 * scale, abs=0.11)  # the limb's radius
    assert not paths(film_strip(gait(ground=None)), "--muted")


def test_labels_say_where_and_when() -> None:
    texts = [text.text for text in ElementTree.fromstring(film_strip(gait())).iter(f"{SVG}text")]
    assert texts == ["0.00 m", "1.00 s", "0.25 m", "1.05 s"]  # no minus before zero


def test_a_files_text_cannot_become_markup() -> None:
    frames = [{"time": "<b>", "position": 0.0, "limbs": [[0.0, 0.0, 0.0, 1.0]]}]
    with pytest.raises(ValueError, match="could not convert"):
        film_strip(gait(frames=frames))


def test_how_far_and_how_fast() -> None:
    assert speed(gait()) == "10 m in 4 s, 2.5 m/s; the return of this episode is 12"
    assert speed(gait(seconds=0.0)).startswith("10 m in 0 s; the return")
