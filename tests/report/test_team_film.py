"""Pictures of a team's episode: what each of them holds, when it is shown."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from thrifty.report.team_film import animation, film_strip

SVG = "{http://www.w3.org/2000/svg}"


def frames(count: int) -> list[dict[str, Any]]:
    """A unit of the team walks to the right; an opponent stands and loses health."""
    return [
        {"step": 3 * k, "marks": [[k, 0.0, 0, 1.0], [10.0, 5.0, 1, 1.0 - k / count]]}
        for k in range(count)
    ]


def circles(element: ElementTree.Element) -> list[tuple[float, float, float]]:
    found = element.iter(f"{SVG}circle")
    return [tuple(float(c.attrib[name]) for name in ("cx", "cy", "r")) for c in found]  # type: ignore[misc]


def test_every_frame_is_shown_in_its_turn() -> None:
    root = ElementTree.fromstring(animation(frames(10)))
    groups = [g for g in root.iter(f"{SVG}g") if g.attrib.get("class", "").startswith("film-")]
    assert [g.attrib["class"] for g in groups] == ["film-frame"] * 9 + ["film-last"]
    # Ten pictures and eight more of the last one, six a second: a round takes three seconds.
    delays = [float(re.findall(r"delay:(-?[.0-9]+)s", g.attrib["style"])[0]) for g in groups]
    assert delays == pytest.approx([(k - 18) / 6 for k in range(10)], abs=1e-3)
    style = "".join(element.text or "" for element in root.iter(f"{SVG}style"))
    assert "3.000s step-end infinite" in style
    assert "5.5556%" in style  # 1 of 18
    assert "50.0000%" in style  # 9 of 18
    assert [next(g.iter(f"{SVG}text")).text for g in groups] == [str(3 * k) for k in range(10)]


def test_places_are_fixed_over_the_episode_and_discs_lose_what_units_do() -> None:
    root = ElementTree.fromstring(animation(frames(5)))
    groups = [g for g in root.iter(f"{SVG}g") if g.attrib.get("class", "").startswith("film-")]
    walker = [circles(g)[0] for g in groups]
    stander = [circles(g)[2:] for g in groups]
    assert all(a[0] < b[0] and a[1] == b[1] for a, b in pairwise(walker))
    ring, filled = stander[2]
    # 3 of 5 are left: the area of the disc.
    assert (filled[2] / ring[2]) ** 2 == pytest.approx(0.6, abs=0.02)
    assert {ring[:2] for ring, _ in stander} == {stander[0][0][:2]}
    # Up in the game is up in the picture.
    assert stander[0][0][1] < walker[0][1]


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (5, 5), (60, 8)])
def test_the_strip_has_eight_pictures_at_most(count: int, shown: int) -> None:
    root = ElementTree.fromstring(film_strip(frames(count)))
    labels = [text.text for text in root.iter(f"{SVG}text")]
    assert len(labels) == shown
    assert labels[0] == "0"
    assert labels[-1] == str(3 * (count - 1))


def test_nobody_is_left() -> None:
    empty = [{"step": 0, "marks": []}]
    for svg in (animation(empty), film_strip(empty)):
        assert not circles(ElementTree.fromstring(svg))
