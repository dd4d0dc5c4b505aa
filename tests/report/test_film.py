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
    # Limbs reach 1 + 0.5 m to both sides: 3 m in the 170 - 20 units between a frame's margins.
    scale = 50
    assert x0 == x1 == 85.0  # the middle of the first frame
    assert y0 - y1 == pytest.approx(2 * scale, abs=0.11)  # rounded to tenths
    assert float(upright.get("stroke-width", "")) == pytest.approx(scale, abs=0.06)
    (x0, y0), (x1, y1) = points(lying)
    assert (x0 + x1) / 2 == pytest.approx(170 + 6 + 85)  # the middle of the second
    assert x1 - x0 == pytest.approx(2 * scale, abs=0.11)
    assert y0 == y1


def test_the_ground_passes_by() -> None:
    svg = film_strip(gait())
    lines = [points(path) for path in paths(svg, "--muted")]
    assert len(lines) == 2
    scale = 50
    # A frame shows 84 / 50 = 1.68 m to both sides: -1.684 to 1.676 m, then -1.43 to 1.93 m.
    worlds = ((-0.004, 85, 7), (0.25, 261, 6))
    for (start, *marks), (position, middle, count) in zip(lines, worlds, strict=True):
        assert start[0] == middle - 84
        for x, y in marks:
            # Every mark is at a multiple of half a metre in the world.
            halves = ((x - middle) / scale + position) / 0.5
            assert halves == pytest.approx(round(halves), abs=0.01)
            assert y == start[1]
        assert len(marks) == count
    lowest = max(y for path in paths(svg, "--c0") for _, y in points(path))
    assert lines[0][0][1] - lowest == pytest.approx(0.5 * scale, abs=0.11)  # the limb's radius
    assert not paths(film_strip(gait(ground=None)), "--muted")


def test_the_fifth_frame_begins_a_second_row() -> None:
    frames = gait()["frames"] * 3
    svg = ElementTree.fromstring(film_strip(gait(frames=frames)))
    corners = [(float(r.get("x", "")), float(r.get("y", ""))) for r in svg.iter(f"{SVG}rect")]
    # A frame is 170 wide and shows 2.5 + 0.5 + 0.05 m at 50 units a metre between margins of 10;
    # below it are 44 units for its labels and a gap of 6, as to the right.
    down = 50 * 3.05 + 20 + 44 + 6
    first = [(176.0 * column, 0.0) for column in range(4)]
    assert corners == [*first, (0.0, pytest.approx(down)), (176.0, pytest.approx(down))]
    width, height = map(float, svg.get("viewBox", "").split()[2:])
    assert (width, height) == (4 * 176 - 6, pytest.approx(2 * down - 6))
    limbs = [points(path) for path in paths(film_strip(gait(frames=frames)), "--c0")]
    for (x0, y0), (x1, y1) in zip(limbs[0], limbs[4], strict=True):
        assert (x1, y1) == (x0, pytest.approx(y0 + down, abs=0.11))


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
