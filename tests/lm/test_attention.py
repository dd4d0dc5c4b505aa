from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from thrifty.lm.attention import Pattern, attend, kept, mask

SPARSE = [pattern for pattern in get_args(Pattern) if pattern != "dense"]


def masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The definition: softmax over what is seen, in the whole T x T matrix."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ v


@given(
    st.sampled_from(get_args(Pattern)),
    st.integers(1, 40),
    st.integers(1, 13),
    st.integers(0, 10**6),
)
def test_every_pattern_equals_its_dense_mask(
    pattern: Pattern, length: int, window: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    kind = {"dtype": torch.float64, "generator": generator}
    q, k, v, above = (torch.randn(2, 3, length, 4, **kind) for _ in range(4))
    results = []
    for function in (
        lambda q, k, v: attend(q, k, v, pattern, window),
        lambda q, k, v: masked(q, k, v, mask(pattern, length, window)),
    ):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        out = function(*inputs)
        out.backward(above)
        results.append([out, *(x.grad for x in inputs)])
    for ours, theirs in zip(*results, strict=True):
        # Scores of `union` and `fixed` are float32.
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("pattern", SPARSE)
def test_a_window_beyond_the_text_is_that_of_the_text(pattern: Pattern) -> None:
    # Padding 7 positions to a whole window of 10^9 would not fit any memory.
    q, k, v = (torch.randn(1, 2, 7, 4, dtype=torch.float64) for _ in range(3))
    expected = masked(q, k, v, mask(pattern, 7, 10**9))
    torch.testing.assert_close(attend(q, k, v, pattern, 10**9), expected, atol=2e-5, rtol=2e-5)


def test_masks_by_hand() -> None:
    # T = 5, w = 2: rows are queries.
    assert mask("local", 5, 2).int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert mask("union", 5, 2)[4].int().tolist() == [1, 0, 1, 1, 1]
    assert mask("fixed", 5, 2)[4].int().tolist() == [0, 1, 0, 1, 1]
    assert mask("fixed", 5, 2)[3].int().tolist() == [0, 1, 1, 1, 0]


@given(st.sampled_from(get_args(Pattern)), st.integers(1, 50), st.integers(1, 20))
def test_kept_counts_the_mask(pattern: Pattern, length: int, window: int) -> None:
    pairs = length * (length + 1) / 2
    assert kept(pattern, length, window) == pytest.approx(
        int(mask(pattern, length, window).sum()) / pairs
    )


def test_kept_at_the_published_setting() -> None:
    # T = 1024, w = 128: local (128 * 129 / 2 + 896 * 128) / (1024 * 1025 / 2) = 122,944 / 524,800.
    rounded = {pattern: round(kept(pattern, 1024, 128), 3) for pattern in SPARSE}
    assert rounded == {"local": 0.234, "strided": 0.009, "union": 0.241, "fixed": 0.133}


@pytest.mark.parametrize("pattern", SPARSE)
def test_half_precision_stays_near(pattern: Pattern) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 64, 16, generator=generator) for _ in range(3))
    exact = attend(q, k, v, pattern, 8)
    half = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), pattern, 8)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("pattern", SPARSE)
def test_no_matrix_of_all_pairs_is_made(pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    # T = 256, w = 16: nothing of the size T x T per head, whatever it is called.
    length, window = 256, 16
    sizes = []
    original = torch.Tensor.masked_fill_
    monkeypatch.setattr(
        torch.Tensor,
        "masked_fill_",
        lambda self, *rest: sizes.append(self.numel()) or original(self, *rest),
    )
    fast = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda q, k, v, **rest: (
            sizes.append(q.shape[:-1].numel() * k.shape[-2]) or fast(q, k, v, **rest)
        ),
    )
    q, k, v = (torch.randn(1, 1, length, 4) for _ in range(3))
    attend(q, k, v, pattern, window)
    assert sizes
    assert sum(sizes) < length * length / 4  # 2 w T + T T / w = .125 + .0625 of T T


def test_wrong_patterns_are_refused() -> None:
    x = torch.zeros(1, 1, 2, 1)
    with pytest.raises(ValueError, match="not 'global'"):
        attend(x, x, x, "global", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window of local attention must be at least 1, got 0"):
        attend(x, x, x, "local", 0)
