from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thrifty.sparse.masks import count, keep_only, positions


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=9))
def test_counted_and_found_as_torch_does(rows: list[list[bool]]) -> None:
    mask = torch.tensor(rows)
    for view in (mask, mask.T, mask[:, ::2]):
        assert count(view) == int(view.sum())
        assert torch.equal(positions(view), view.flatten().nonzero().squeeze(1))


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8]
)
def test_only_the_mask_is_kept(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[3, -4], [5, -6]]).to(dtype)
    keep_only(torch.tensor([[True, False], [False, True]]), tensor)
    assert tensor.tolist() == [[3, 0], [0, -6]]


def test_what_is_not_finite_or_negative_becomes_plus_zero() -> None:
    tensor = torch.tensor([float("nan"), float("inf"), -2.0, -3.0])
    keep_only(torch.tensor([False, False, False, True]), tensor)
    assert tensor.tolist() == [0.0, 0.0, 0.0, -3.0]
    assert not torch.signbit(tensor[:3]).any()


def test_a_parameter_and_a_part_of_it_are_changed_in_place() -> None:
    parameter = torch.nn.Parameter(torch.ones(4, 2))
    with torch.no_grad():
        keep_only(torch.tensor([[True, False], [False, True]]), parameter.detach().narrow(0, 2, 2))
    assert parameter.tolist() == [[1, 1], [1, 1], [1, 0], [0, 1]]
