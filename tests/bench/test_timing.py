from __future__ import annotations

import numpy as np
import pytest

from thrifty.bench.timing import interleave, summarise


class Clock:
    """A clock that only moves when an action moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_samples_are_taken_in_turn_and_belong_to_their_action() -> None:
    clock, order = Clock(), []

    def action(name: str, seconds: float) -> None:
        order.append(name)
        clock.now += seconds

    actions = {"a": lambda: action("a", 1.0), "b": lambda: action("b", 3.0)}
    samples = interleave(actions, rounds=3, warm_up=1, clock=clock)
    assert {name: values.tolist() for name, values in samples.items()} == {
        "a": [1.0, 1.0, 1.0],
        "b": [3.0, 3.0, 3.0],
    }
    # Four rounds (one to warm up), each starting with the next action.
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_the_warm_up_is_not_kept() -> None:
    clock = Clock()
    times = iter([100.0, 2.0, 4.0])

    def action() -> None:
        clock.now += next(times)

    assert interleave({"a": action}, rounds=2, warm_up=1, clock=clock)["a"].tolist() == [2.0, 4.0]


def test_no_round_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one round"):
        interleave({"a": lambda: None}, rounds=0)


def test_summary() -> None:
    # 0..10: the 10 % quantile of eleven equally spaced points is the second, the median the sixth.
    assert summarise(np.arange(11.0)[::-1]) == {"low": 1.0, "median": 5.0}
