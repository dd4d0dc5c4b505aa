from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thrifty.rl.returns import n_step_return, path_discount, windows_inside


def column(*values: object) -> np.ndarray:
    return np.array(values)[:, None]


def test_a_window_goes_on_until_an_end_or_the_newest_transition() -> None:
    ended = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], bool)
    inside = windows_inside(ended, np.array([3, 3, 2, 9]))
    # Window 0 ends in its second, window 1 in its first transition, window 2 is all there is.
    assert inside.astype(int).tolist() == [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 1]]


def test_return_by_hand() -> None:
    reward = np.float32([[1, 1], [2, 2], [4, 1e30]])
    inside = np.array([[1, 1], [1, 1], [1, 0]], bool)
    # 1 + 2/2 + 4/4 = 3; what lies beyond the window does not count, whatever it is: 1 + 2/2 = 2.
    assert n_step_return(reward, inside, 0.5).tolist() == [3.0, 2.0]
    assert n_step_return(reward, inside, 0.0).tolist() == [1.0, 1.0]


def test_path_discount_by_hand() -> None:
    inside = column(True, True, False)
    # A time limit in the second transition: gamma and gamma^2 there, nothing beyond.
    assert path_discount(column(False, False, False), inside, 0.5)[:, 0].tolist() == [0.5, 0.25, 0]
    # A termination there: the reached state is worth nothing.
    assert path_discount(column(False, True, False), inside, 0.5)[:, 0].tolist() == [0.5, 0, 0]


@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0, 1))
def test_arrays_do_what_a_loop_does(seed: int, n: int, discount: float) -> None:
    rng = np.random.default_rng(seed)
    batch = 5
    terminated, truncated = rng.random((2, n, batch)) < 0.3
    reward = rng.normal(size=(n, batch)).astype(np.float32)
    remaining = rng.integers(1, n + 2, batch)
    inside = windows_inside(terminated | truncated, remaining)
    total = n_step_return(reward, inside, discount)
    weights = path_discount(terminated, inside, discount)
    for b in range(batch):
        expected, going = 0.0, True
        for k in range(n):
            going = going and k < remaining[b]
            assert inside[k, b] == going
            alive = going and not terminated[k, b]
            assert np.isclose(weights[k, b], discount ** (k + 1) if alive else 0.0, atol=1e-7)
            if going:
                expected += discount**k * float(reward[k, b])
                going = not (terminated[k, b] or truncated[k, b])
        assert np.isclose(total[b], expected, rtol=1e-5, atol=1e-5)
