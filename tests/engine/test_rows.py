from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from thrifty.engine.cache import COMPILE
from thrifty.engine.rows import gather_rows
from thrifty.engine.vector import LANES


@njit(**COMPILE)
def gather(tile, row, count, data, column, places):  # type: ignore[no-untyped-def]
    gather_rows(tile, row, count, data, column, places)


@pytest.mark.parametrize("count", [1, 3, 4, 8, 15, 16, 17, 40])
@pytest.mark.parametrize("lanes", [LANES, 50, 16, 7])
def test_a_gather_is_a_transposed_selection_and_zeros(count: int, lanes: int) -> None:
    """Against numpy; rows beside the wanted ones and beyond the capacity's end are not touched."""
    rng = np.random.default_rng(count)
    data = rng.standard_normal((30, 3 + count)).astype(np.float32)  # the last column is the last
    places = rng.integers(0, 300, lanes)
    tile = np.full((count + 4) * LANES, 7.0, np.float32)
    gather(tile, 2, count, data, 3, places)
    rows = tile.reshape(-1, LANES)
    np.testing.assert_array_equal(rows[2 : 2 + count, :lanes], data[places % 30, 3:].T)
    assert (rows[2 : 2 + count, lanes:] == 0).all()
    assert (rows[:2] == 7).all()
    assert (rows[2 + count :] == 7).all()
