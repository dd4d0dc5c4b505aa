from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from thrifty import sparse
from thrifty.sparse import ingredients


def state(grad: list[float], weight: list[float] | None = None) -> sparse.LayerState:
    links = torch.tensor(weight or [0.0] * len(grad))
    return sparse.LayerState(
        "layer", links, torch.tensor(grad), links != 0, generator=torch.Generator().manual_seed(0)
    )


def test_every_kind_has_its_own_names() -> None:
    assert ingredients.allocation("er") is sparse.er
    assert ingredients.initial("largest") is sparse.largest
    assert ingredients.score("random") is sparse.random
    assert ingredients.score("math:floor") is math.floor


def test_mest_takes_its_number() -> None:
    # |w| + 0.5 |g| by hand.
    scores = ingredients.score("mest(0.5)")(state([2.0, -4.0], weight=[1.0, -3.0]))
    assert scores.tolist() == [2.0, 5.0]


def test_a_growth_rule_is_a_score_or_shares_of_several() -> None:
    gradients = state([1.0, 5.0, 3.0, 4.0, 2.0, 0.5, 0.2, 0.1])
    candidates = torch.ones(8, dtype=torch.bool)
    top = ingredients.growth("gradient")(gradients, candidates, 4)
    assert top.nonzero().flatten().tolist() == [1, 2, 3, 4]
    mixed = ingredients.growth("gradient*3 + random*1")(gradients, candidates, 4)
    assert mixed[[1, 2, 3]].all()  # three of four by gradient, the fourth anywhere
    assert int(mixed.sum()) == 4


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (ingredients.allocation, "gradient", "no allocation 'gradient'; choose er, erk, uniform"),
        (ingredients.initial, "random", "no first mask 'random'; choose largest, redrawn"),
        (ingredients.score, "top", r"no score 'top'; choose gradient, .*mest"),
        (ingredients.score, "mest", "no score 'mest'"),
        (ingredients.score, "mest(a)", "'a' in 'mest.a.' is no number"),
        (ingredients.growth, "gradient*x + random", "'x' in 'gradient.x' is no number"),
        (ingredients.growth, "gradeint", "no score 'gradeint'"),
        (ingredients.score, "nowhere:what", "cannot import the score 'nowhere:what'"),
        (ingredients.score, "math:what", "cannot import the score 'math:what'"),
        (ingredients.score, "math:pi", "'math:pi' is no function"),
    ],
)
def test_a_name_of_another_kind_is_refused(
    kind: Callable[[str], Any], name: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(name)
