from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thrifty.sparse import LayerState, gradient, growth, highest, magnitude, random, split, top


def state_of(weight: list[float], grad: list[float], seed: int = 0) -> LayerState:
    w = torch.tensor(weight)
    generator = torch.Generator().manual_seed(seed)
    return LayerState("a", w, torch.tensor(grad), w != 0, 1, generator)


def positions(mask: torch.Tensor) -> list[int]:
    return mask.flatten().nonzero().squeeze(1).tolist()


def test_highest_breaks_ties_by_the_lower_flat_index() -> None:
    scores = torch.tensor([[1.0, 5.0, 1.0], [5.0, 1.0, 5.0]])
    everything = torch.ones(2, 3, dtype=torch.bool)
    order = [1, 3, 5, 0, 2, 4]  # the fives from the left, then the ones from the left
    for k in range(7):
        assert positions(highest(scores, everything, k)) == sorted(order[:k])
    assert positions(highest(scores, everything, 100)) == [0, 1, 2, 3, 4, 5]


def test_highest_refuses_nan_on_offer_only() -> None:
    scores = torch.tensor([float("nan"), 1.0, 2.0])
    assert positions(highest(scores, torch.tensor([False, True, True]), 1)) == [2]
    with pytest.raises(ValueError, match="NaN"):
        highest(scores, torch.tensor([True, True, True]), 1)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30),
    st.integers(0, 35),
)
@settings(deadline=None, max_examples=200)
def test_highest_equals_a_stable_sort(items, k) -> None:
    # Exact method: sort (score descending, index ascending) the positions on offer.
    scores = torch.tensor([float(score) for score, _ in items])
    among = torch.tensor([offered for _, offered in items])
    order = sorted(positions(among), key=lambda i: (-items[i][0], i))
    assert positions(highest(scores, among, k)) == sorted(order[:k])


SIDE = 200  # 40,000 positions: enough for the guess of a bound


@given(
    st.integers(0, 2**31),
    st.sampled_from(["spread", "few values", "one column", "sorted", "mostly zero", "integers"]),
    st.sampled_from([0.02, 0.6, 0.97, 1.0]),
    st.integers(0, 5_200),
)
@settings(deadline=None, max_examples=120)
def test_highest_of_many_equals_a_stable_sort(seed, kind, offered, k) -> None:
    # Exact method as above. The kinds make the guess good, bad, or full of ties.
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(SIDE, SIDE, generator=generator)
    if kind == "few values":
        scores = (scores * 5).floor()
    elif kind == "one column":
        scores[:, seed % SIDE] += 1.0
    elif kind == "sorted":
        scores = scores.flatten().sort().values.view(SIDE, SIDE)
    elif kind == "mostly zero":
        scores = torch.where(scores < 0.99, 0.0, scores)
    elif kind == "integers":
        scores = (scores * 1000).to(torch.int64)
    among = torch.rand(SIDE, SIDE, generator=generator) < offered
    order = scores.flatten().sort(descending=True, stable=True).indices
    best = order[among.flatten()[order]][:k]
    assert positions(highest(scores, among, k)) == sorted(best.tolist())
    assert positions(growth._highest_anywhere(scores, among, k)) == sorted(best.tolist())


def test_highest_of_bfloat16() -> None:
    # NumPy has no such numbers: 1.01 rounds to 1.0078125, 1.001 to 1.
    scores = torch.tensor([1.0, 1.01, 1.001, -2.0], dtype=torch.bfloat16)
    assert positions(highest(scores, torch.ones(4, dtype=torch.bool), 2)) == [0, 1]


def test_nan_is_seen_among_many() -> None:
    scores = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    scores[3, 5] = float("nan")
    everything = torch.ones(SIDE, SIDE, dtype=torch.bool)
    for choose in (highest, growth._highest_anywhere):
        with pytest.raises(ValueError, match="NaN"):
            choose(scores, everything, 100)
    everything[3, 5] = False
    assert int(highest(scores, everything, 100).sum()) == 100


def test_top_by_hand() -> None:
    state = state_of([0, 0, 0, 0, 2], [0.1, -0.9, 0.5, 0.7, 3.0])
    candidates = torch.tensor([True, True, True, False, False])
    assert positions(top(gradient)(state, candidates, 2)) == [1, 2]


def test_split_by_hand() -> None:
    # k = 3 in parts 2 : 1. By gradient: 4 (.9), 3 (.8). By weight of what is left: 2 (|w| = 5).
    state = state_of([1, 2, 5, 9, 7], [0.1, 0.2, 0.3, 0.8, 0.9])
    everything = torch.ones(5, dtype=torch.bool)
    assert positions(split((gradient, 2), (magnitude, 1))(state, everything, 3)) == [2, 3, 4]
    # k = 1 in equal parts: the tie goes to the earlier score; weight prefers 3.
    assert positions(split((magnitude, 1), (gradient, 1))(state, everything, 1)) == [3]
    assert positions(split((gradient, 1), (magnitude, 1))(state, everything, 1)) == [4]


def test_split_lets_the_first_score_choose_first() -> None:
    # Both want 3. Gradient first: 3, then weight takes 4 (7). Weight first: 3, then 1 (.8).
    state = state_of([1, 2, 5, 9, 7], [0.1, 0.8, 0.1, 0.9, 0.1])
    everything = torch.ones(5, dtype=torch.bool)
    assert positions(split((gradient, 1), (magnitude, 1))(state, everything, 2)) == [3, 4]
    assert positions(split((magnitude, 1), (gradient, 1))(state, everything, 2)) == [1, 3]


def test_split_hands_out_by_largest_remainder() -> None:
    # k = 5 in parts 3 : 1 is 3.75 : 1.25 -> 4 : 1; the four highest gradients, then weight 0.
    state = state_of([9, 1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5, 6])
    chosen = split((gradient, 3), (magnitude, 1))(state, torch.ones(7, dtype=torch.bool), 5)
    assert positions(chosen) == [0, 3, 4, 5, 6]


def test_a_share_of_nothing_is_never_asked() -> None:
    def broken(state: LayerState) -> torch.Tensor:
        raise AssertionError("asked")

    state = state_of([1, 2], [1, 2])
    grow = split((gradient, 1), (broken, 0))
    assert positions(grow(state, torch.tensor([True, True]), 2)) == [0, 1]


@pytest.mark.parametrize("shares", [(), ((gradient, 0),), ((gradient, 2), (random, -1))])
def test_bad_parts_are_refused(shares) -> None:
    with pytest.raises(ValueError, match="split needs parts"):
        split(*shares)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.booleans()), min_size=1),
    st.integers(0, 40),
    st.sampled_from(
        [
            top(gradient),
            top(random),
            top(magnitude),
            split((gradient, 3), (random, 1)),
            split((random, 0.3), (magnitude, 0.3), (gradient, 0.4)),
        ]
    ),
    st.integers(0, 5),
)
@settings(deadline=None, max_examples=200)
def test_a_rule_takes_candidates_only_and_as_many_as_there_are(items, k, grow, seed) -> None:
    state = state_of([float(i[0]) for i in items], [float(i[1]) for i in items], seed)
    candidates = torch.tensor([i[2] for i in items])
    grown = grow(state, candidates, k)
    assert grown.dtype == torch.bool
    assert not bool((grown & ~candidates).any())
    assert int(grown.sum()) == min(k, int(candidates.sum()))
