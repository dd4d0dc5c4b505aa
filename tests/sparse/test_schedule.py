from __future__ import annotations

import pytest

from thrifty.sparse import Cosine, Static


def test_cosine_by_hand() -> None:
    schedule = Cosine(0.9, 0.5, update_every=25, update_until=100)
    assert [step for step in range(-25, 130) if schedule.is_due(step)] == [25, 50, 75]
    # 0.25 (1 + cos(pi t / 100)): cos 0 = 1, cos(pi/3) = 1/2, cos(pi/2) = 0, cos(2 pi/3) = -1/2
    schedule = Cosine(0.9, 0.5, update_every=1, update_until=300)
    fractions = [schedule.drop_fraction(step) for step in (0, 100, 150, 200, 300, 450)]
    assert fractions == pytest.approx([0.5, 0.375, 0.25, 0.125, 0.0, 0.0], abs=1e-15)
    assert {schedule.sparsity(step) for step in (0, 7, 1000)} == {0.9}


def test_the_first_drop_fraction_is_a_parameter() -> None:
    assert Cosine(0.5, 1.0, update_every=1, update_until=2).drop_fraction(1) == pytest.approx(0.5)
    assert Cosine(0.5, 0.0, update_every=1, update_until=2).drop_fraction(1) == 0.0


def test_static_is_never_due() -> None:
    schedule = Static(0.8)
    assert not any(schedule.is_due(step) for step in range(100))
    assert schedule.drop_fraction(10) == 0.0
    assert schedule.sparsity(10) == 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_sparsity": 1.0}, "sparsity must lie"),
        ({"initial_drop_fraction": 1.1}, "initial_drop_fraction must lie"),
        ({"initial_drop_fraction": -0.1}, "initial_drop_fraction must lie"),
        ({"update_every": 0}, "at least 1"),
        ({"update_until": 0}, "use Static"),
    ],
)
def test_bad_arguments_are_refused(arguments, message) -> None:
    good = {"target_sparsity": 0.9, "update_every": 10, "update_until": 100}
    with pytest.raises(ValueError, match=message):
        Cosine(**{**good, **arguments})
    if "target_sparsity" in arguments:
        with pytest.raises(ValueError, match=message):
            Static(1.0)
