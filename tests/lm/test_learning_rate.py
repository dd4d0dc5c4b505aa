from __future__ import annotations

from itertools import pairwise

import pytest

from thrifty.lm.learning_rate import cosine, rewarmed


def test_the_cosine_by_hand() -> None:
    # Warm-up 10 of 110 steps, end .1: step 5 is half way up; 60 half way down; 85 at 3/4.
    values = [cosine(s, steps=110, warm_up=10, least=0.1) for s in (5, 10, 60, 85, 110)]
    assert values == pytest.approx([0.5, 1.0, 0.55, 0.1 + 0.45 * (1 - 0.5**0.5), 0.1])
    assert cosine(1, steps=1, warm_up=0, least=0.0) == 0.0
    assert cosine(1, steps=1, warm_up=1, least=0.5) == 1.0


def test_a_second_rise_begins_where_the_cosine_is_and_ends_at_its_end() -> None:
    plan = {"steps": 200, "warm_up": 20, "least": 0.1}
    again = [rewarmed(s, **plan, since=120, peak=0.8) for s in range(1, 201)]
    once = [cosine(s, **plan) for s in range(1, 201)]
    assert again[:120] == once[:120]
    assert again[129] == pytest.approx((once[119] + 0.8) / 2)  # half of the rise
    assert again[139] == pytest.approx(0.8)
    assert again[169] == pytest.approx(0.45)  # half way from .8 to .1
    assert again[199] == pytest.approx(0.1)
    steps = [b - a for a, b in pairwise(again)]
    assert max(steps[140:]) < 0 < min(steps[119:138])
