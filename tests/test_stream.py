from __future__ import annotations

import doctest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import thrifty.stream
from thrifty.stream import Record, add, means, passed, stream


class Pieces:
    """Work in pieces, of each of which so many records come."""

    def __init__(self, news: list[int]) -> None:
        self.news, self.done = news, 0
        self.pending: list[Record] = []

    def work(self) -> bool:
        if self.done == len(self.news):
            return False
        for number in range(self.news[self.done]):
            self.pending.append({"kind": "news", "step": self.done, "number": number})
        self.done += 1
        return True


def news(step: int, number: int) -> Record:
    return {"kind": "news", "step": step, "number": number}


def test_a_piece_without_news_is_a_yield_too() -> None:
    pieces = Pieces([2, 0, 1])
    told = list(stream(pieces.pending, pieces.work))
    assert told == [news(0, 0), news(0, 1), None, news(2, 0)]


def test_nothing_happens_before_it_is_asked_for() -> None:
    pieces = Pieces([1])
    stream(pieces.pending, pieces.work)
    assert pieces.done == 0


@given(st.lists(st.integers(0, 3), max_size=6), st.data())
def test_stopped_anywhere_it_goes_on_with_what_came_next(counts: list[int], data: Any) -> None:
    whole = Pieces(counts)
    expected = list(stream(whole.pending, whole.work))
    stop = data.draw(st.integers(0, len(expected)))
    pieces = Pieces(counts)
    running = stream(pieces.pending, pieces.work)
    told = [next(running) for _ in range(stop)]
    fresh = Pieces(counts)
    fresh.done, fresh.pending = pieces.done, list(pieces.pending)
    assert told + list(stream(fresh.pending, fresh.work)) == expected


@given(st.integers(0, 30), st.integers(0, 100), st.integers(0, 20))
def test_multiples_are_counted(every: int, before: int, taken: int) -> None:
    step = before + taken
    counted = sum(1 for one in range(before + 1, step + 1) if every and one % every == 0)
    assert passed(every, step, before) == counted
    assert passed(None, step, before) == 0


def test_means_are_of_the_numbers_that_came() -> None:
    sums: dict[str, tuple[float, int]] = {}
    assert means(sums) == {}
    for numbers in ({"a": 1.0, "b": 4.0}, {"a": 2.0}, {"a": 6.0}):
        add(sums, numbers)
    # (1 + 2 + 6) / 3 and 4 / 1
    assert means(sums) == pytest.approx({"a": 3.0, "b": 4.0})


def test_docstring_examples() -> None:
    assert doctest.testmod(thrifty.stream).failed == 0
