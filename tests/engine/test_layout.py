from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from thrifty.engine.layout import Arena, LayerIndex

MASKS = npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=2, max_side=9))
MASK = np.array([[True, False, True], [False, False, True]])


def test_indices_by_hand() -> None:
    index = LayerIndex.of(MASK)
    assert index.starts.tolist() == [0, 2, 3]
    assert index.cols.tolist() == [0, 2, 2]
    assert index.col_starts.tolist() == [0, 1, 1, 3]
    assert index.rows.tolist() == [0, 0, 1]
    assert index.perm.tolist() == [0, 1, 2]


@given(MASKS)
def test_a_mask_survives(mask) -> None:
    index = LayerIndex.of(mask)
    index.validate()
    assert np.array_equal(index.mask(), mask)
    # The permutation leads from the order by input to the order by output.
    rows, cols = np.nonzero(mask)
    assert np.array_equal(rows[index.perm], index.rows)
    assert (np.diff(cols[index.perm]) >= 0).all()


@given(st.sampled_from(["starts", "cols", "col_starts", "rows", "perm"]), st.data())
def test_a_changed_index_is_refused(name: str, data) -> None:
    index = LayerIndex.of(np.ones((3, 4), np.bool_))
    wrong = getattr(index, name).copy()
    place = data.draw(st.integers(0, len(wrong) - 1))
    wrong[place] += data.draw(st.integers(-20, 20).filter(bool))
    with pytest.raises(ValueError, match="index"):
        dataclasses.replace(index, **{name: wrong}).validate()


def test_a_mask_is_a_bool_matrix() -> None:
    for wrong in (np.ones((2, 2)), np.ones(3, np.bool_)):
        with pytest.raises(ValueError, match="a mask is a bool matrix"):
            LayerIndex.of(wrong)


def test_an_arena_by_hand() -> None:
    index, full = LayerIndex.of(MASK), LayerIndex.of(np.ones((1, 2), np.bool_))
    arena = Arena({"a": (index, full), "b": (full,)}, targets=("a",))
    # a: 3 links + 2 biases, 2 links + 1 bias; b: 2 + 1; a's target like a.
    assert arena.span == {"a": (0, 8), "b": (8, 11), "a_target": (11, 19)}
    assert (arena.size, arena.trained) == (19, 11)
    assert arena.layers["a_target"][0].index_at == arena.layers["a"][0].index_at
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    arena.write(arena.params, "a", 0, weight, np.float32([7, 8]))
    assert arena.params[:5].tolist() == [0, 2, 5, 7, 8]
    read, bias = arena.read(arena.params, "a", 0)
    assert np.array_equal(read, weight * MASK)
    assert bias.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cols", np.array([0, 1, 2], np.int64)),  # compiled code would read halves of them
        ("starts", np.array([0, 2**31 - 1, -5, 3], np.int32)),  # int32 differences wrap to rises
        ("starts", np.array([0, 4, 2, 3], np.int32)),
    ],
)
def test_indices_that_compiled_code_must_not_see(name: str, values: np.ndarray) -> None:
    index = LayerIndex.of(np.eye(3, dtype=np.bool_))
    index.validate()
    with pytest.raises(ValueError, match=f"index array {name} must"):
        dataclasses.replace(index, **{name: values}).validate()


def test_a_layer_norm_has_its_place_behind_the_biases() -> None:
    index, full = LayerIndex.of(MASK), LayerIndex.of(np.ones((1, 2), np.bool_))
    arena = Arena({"a": (full,), "b": (index, full)}, targets=("b",), normed=("b",))
    # a: 2 links, 1 bias. b: 3 links, 2 biases, 2 gains, 2 offsets; 2 links, 1 bias; then its copy.
    assert [layer.norm for layer in arena.layers["a"]] == [-1]
    assert [layer.norm for layer in arena.layers["b"]] == [8, -1]
    assert [layer.values for layer in arena.layers["b"]] == [3, 12]
    assert [layer.norm for layer in arena.layers["b_target"]] == [20, -1]
    assert arena.span == {"a": (0, 3), "b": (3, 15), "b_target": (15, 27)}
    assert (arena.trained, arena.size) == (15, 27)


@given(st.data())
def test_new_links_take_the_place_of_old_ones(data) -> None:
    masks = data.draw(npst.arrays(np.bool_, (2, 5, 4)))
    masks[1] = data.draw(st.permutations(masks[0].ravel().tolist()).map(np.array)).reshape(5, 4)
    arena = Arena({"a": [LayerIndex.of(masks[0])], "b": [LayerIndex.of(masks[0])]}, targets=["a"])
    fresh = Arena({"a": [LayerIndex.of(masks[1])], "b": [LayerIndex.of(masks[0])]}, targets=["a"])
    assert arena.layers["a"][0].index.flat.tolist() == np.flatnonzero(masks[0]).tolist()
    weight = np.arange(1, 21, dtype=np.float32).reshape(5, 4)
    arena.write(arena.params, "a_target", 0, weight, np.ones(5, np.float32))
    assert arena.relink("a", 0, masks[1])
    assert np.array_equal(arena.index, fresh.index)
    for network in ("a", "a_target"):
        index = arena.layers[network][0].index
        index.validate()
        assert np.array_equal(index.mask(), masks[1])
    # A target keeps the values of the links that stay; new ones start at 0.
    values, bias = arena.read(arena.params, "a_target", 0)
    assert np.array_equal(values, np.where(masks[0] & masks[1], weight, 0.0))
    assert bias.tolist() == [1.0] * 5


def test_another_number_of_links_needs_another_arena() -> None:
    arena = Arena({"a": [LayerIndex.of(MASK)]}, targets=())
    before = arena.index.copy()
    assert not arena.relink("a", 0, np.ones((2, 3), np.bool_))
    assert np.array_equal(arena.index, before)
