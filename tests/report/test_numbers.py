from __future__ import annotations

import math

import pytest

from thrifty.report import numbers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (7.0, "7"),
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (2107.4, "2,107"),
        (-0.5, "−0.5"),
        (1e-7, "1.00e−07"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_significant(value: float | None, expected: str) -> None:
    assert numbers.significant(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (999, "999"),
        (999.9, "1k"),
        (5230, "5.23k"),
        (65_536, "65.5k"),
        (999_999, "1M"),
        (3_000_000, "3M"),
        (-2500, "−2.5k"),
        (3.1e9, "3.1G"),
        (2e12, "2T"),
        (0.24, "0.24"),
        (None, "–"),
    ],
)
def test_count(value: float | None, expected: str) -> None:
    assert numbers.count(value) == expected


def test_share() -> None:
    assert [numbers.share(x) for x in (0.1063, 1.0, 0.0, None)] == [
        "10.6\xa0%",
        "100\xa0%",
        "0\xa0%",
        "–",
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (4.25, "4.2 s"),
        (59.97, "1 min 0 s"),
        (192, "3 min 12 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (None, "–"),
    ],
)
def test_duration(seconds: float | None, expected: str) -> None:
    assert numbers.duration(seconds) == expected


def test_signed_and_interval() -> None:
    assert [numbers.signed(x) for x in (12.0, -3.0, 0.0, None)] == ["+12", "−3", "0", "–"]
    # 303 wide: whole numbers; 0.033 wide: three places.
    assert numbers.interval(-265.31, 37.82, signs=True) == "[−265, +38]"
    assert numbers.interval(0.1234, 0.1567) == "[0.123, 0.157]"
    assert numbers.interval(2.0, 2.0) == "[2.000, 2.000]"
    assert numbers.interval(math.nan, math.nan) == "one run: none"
