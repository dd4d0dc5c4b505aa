"""Causal attention, dense or in one of four sparse patterns, none of which makes a T x T mask.

With w the window and q >= k the positions of a query and a key:

| pattern | a query sees | how |
|---|---|---|
| dense | every earlier position and itself | PyTorch's causal attention |
| local | the last w: q - k < w | chunks of w queries against their own and the chunk before |
| strided | q - k a multiple of w | one causal attention for each residue class |
| union | local or strided | both, the second without q = k, merged by log-sum-exp |
| fixed | its own block of w, and the last position of every earlier block | both, merged alike |

Two attentions over disjoint keys with outputs a, b and log-sum-exps l_a, l_b make the attention
over all of them: s a + (1 - s) b with s = sigmoid(l_a - l_b).

PyTorch's FlexAttention is not used: it refuses backward on the CPU (torch 2.13), so no gradient of
it could be held to the masks here.

Reference: Child et al. 2019, "Generating long sequences with sparse transformers". Where we differ
from the released code of MST (Hu et al. 2025): it passes a T x T boolean mask, which is slower
than dense attention.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Pattern", "attend", "kept", "mask"]

Pattern = Literal["dense", "local", "strided", "union", "fixed"]

_NOWHERE = -1e30  # a score that no other is below; finite, so that an empty row has no NaN


def attend(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern = "dense", window: int = 0) -> Tensor:
    """Attend causally in a pattern.

    Args:
        q: queries [B, heads, T, D].
        k: keys, same shape.
        v: values, same shape.
        pattern: who sees whom.
        window: w in positions, at least 1; not read where the pattern is dense.

    Returns:
        [B, heads, T, D].

    Raises:
        ValueError: an unknown pattern, or a window below 1.
    """
    length = q.shape[2]
    _check(pattern, window)
    if pattern == "dense" or length == 1:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    window = min(window, length)  # a wider one sees the same
    # Positions added at the end are seen by none that was there before.
    missing = -length % window
    q, k, v = (F.pad(x, (0, 0, 0, missing)) if missing else x for x in (q, k, v))
    if pattern == "local":
        return _local(q, k, v, window)[0][:, :, :length]
    if pattern == "strided":
        q, k, v = (_classes(x, window) for x in (q, k, v))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return _positions(seen)[:, :, :length]
    if pattern == "union":
        near = _local(q, k, v, window)
        far = _strided_before(q, k, v, window)
    else:
        near = _own_block(q, k, v, window)
        far = _summaries(q, k, v, window)
    return _merge(near, far)[:, :, :length]


def mask(pattern: Pattern, length: int, window: int = 0) -> Tensor:
    """Write a pattern out: what `attend` is tested against, and what `kept` counts.

    Args:
        pattern: who sees whom.
        length: T.
        window: w.

    Returns:
        Bool [T, T], True where the query of the row sees the key of the column.

    Example:
        >>> mask("strided", 4, 2).int().tolist()
        [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]]
    """
    _check(pattern, window)
    q, k = torch.arange(length)[:, None], torch.arange(length)[None, :]
    causal = q >= k
    if pattern == "dense":
        return causal
    local, strided = q - k < window, (q - k) % window == 0
    own, last = q // window == k // window, k % window == window - 1
    seen = {"local": local, "strided": strided, "union": local | strided, "fixed": own | last}
    return causal & seen[pattern]


def kept(pattern: Pattern, length: int, window: int = 0) -> float:
    """Return the share of all causal pairs (q, k) that a pattern keeps.

    Args:
        pattern: who sees whom.
        length: T.
        window: w.

    Example:
        >>> round(kept("union", 1024, 128), 3)
        0.241
    """
    _check(pattern, window)
    T, w = length, window
    pairs = T * (T + 1) // 2
    if pattern == "dense":
        return 1.0
    counts = {  # of query q: local, strided beyond the local, its own block, earlier blocks
        "local": sum(min(q + 1, w) for q in range(T)),
        "strided": sum(q // w + 1 for q in range(T)),
        "union": sum(min(q + 1, w) + q // w for q in range(T)),
        "fixed": sum(q % w + 1 + q // w for q in range(T)),
    }
    return counts[pattern] / pairs


def _check(pattern: str, window: int) -> None:
    if pattern not in get_args(Pattern):
        raise ValueError(f"attention is one of {', '.join(get_args(Pattern))}, not {pattern!r}")
    if pattern != "dense" and window < 1:
        raise ValueError(f"the window of {pattern} attention must be at least 1, got {window}")


def _local(q: Tensor, k: Tensor, v: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Chunks of w queries against 2 w keys: their own chunk and the one before."""
    q = q.unflatten(2, (-1, window))
    k, v = (_with_previous(x.unflatten(2, (-1, window))) for x in (k, v))
    i = torch.arange(window, device=q.device)[:, None] + window
    j = torch.arange(2 * window, device=q.device)[None, :]
    band = (j <= i) & (i - j < window)
    first = torch.arange(q.shape[2], device=q.device)[:, None, None] == 0
    seen = band & ~(first & (j < window))  # before the first chunk there is nothing
    out, level = _attention(q, k, v, seen)
    return out.flatten(2, 3), level.flatten(2, 3)


def _with_previous(chunks: Tensor) -> Tensor:
    """Put before each chunk the one before it, zeros before the first."""
    before = F.pad(chunks, (0, 0, 0, 0, 1, 0))[:, :, :-1]
    return torch.cat([before, chunks], dim=3)


def _strided_before(q: Tensor, k: Tensor, v: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Positions a multiple of w before the query, the query itself left out."""
    q, k, v = (_classes(x, window) for x in (q, k, v))
    size = q.shape[3]
    earlier = torch.ones(size, size, dtype=torch.bool, device=q.device).tril(-1)
    out, level = _attention(q, k, v, earlier)
    return _positions(out), level.transpose(2, 3).flatten(2, 3)


def _own_block(q: Tensor, k: Tensor, v: Tensor, window: int) -> tuple[Tensor, Tensor]:
    q, k, v = (x.unflatten(2, (-1, window)) for x in (q, k, v))
    causal = torch.ones(window, window, dtype=torch.bool, device=q.device).tril()
    out, level = _attention(q, k, v, causal)
    return out.flatten(2, 3), level.flatten(2, 3)


def _summaries(q: Tensor, k: Tensor, v: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """The last position of every earlier block."""
    q = q.unflatten(2, (-1, window))
    blocks = q.shape[2]
    last = (x[:, :, None, window - 1 :: window] for x in (k, v))
    k, v = (x.expand(-1, -1, blocks, -1, -1) for x in last)
    earlier = torch.ones(blocks, blocks, dtype=torch.bool, device=q.device).tril(-1)
    out, level = _attention(q, k, v, earlier[:, None, :])
    return out.flatten(2, 3), level.flatten(2, 3)


def _attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Attend where `seen`; return the outputs and the log-sum-exp of the scores [..., 1].

    q, k and v have equal leading dimensions; `seen` is broadcast to the scores.
    """
    out, level = _attended(q, k, v, ~seen)
    return out, level


class _Attention(torch.autograd.Function):
    """Attention with its log-sum-exp, whose gradient counts: what is merged depends on both.

    With P the weights, dS = P (dO V' - sum(dO O) + dL).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        scores = (q @ k.transpose(-1, -2)).float().mul_(1.0 / math.sqrt(q.shape[-1]))
        scores.masked_fill_(hidden, _NOWHERE)
        weights = scores.softmax(-1)
        # The greatest score over its weight: exp(max - level) = max weight.
        level = scores.amax(-1, keepdim=True).sub_(weights.amax(-1, keepdim=True).log_())
        weights = weights.to(v.dtype)
        out = weights @ v
        ctx.save_for_backward(q, k, v, weights, out)
        return out, level

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights, out = ctx.saved_tensors
        d_out, d_level = gradients
        d_scores = (d_out @ v.transpose(-1, -2)).float()
        d_scores -= (d_out * out).float().sum(-1, keepdim=True) - d_level
        d_scores.mul_(weights).mul_(1.0 / math.sqrt(q.shape[-1]))
        d_scores = d_scores.to(v.dtype)
        return (
            d_scores @ k,
            d_scores.transpose(-1, -2) @ q,
            weights.transpose(-1, -2) @ d_out,
            None,
        )


_attended: Any = _Attention.apply


def _merge(near: tuple[Tensor, Tensor], far: tuple[Tensor, Tensor]) -> Tensor:
    share = torch.sigmoid(near[1] - far[1]).to(near[0].dtype)
    merged: Tensor = far[0] + share * (near[0] - far[0])
    return merged


def _classes(x: Tensor, window: int) -> Tensor:
    """[B, H, T, D] -> [B, H, w, T/w, D]: positions with the same remainder together."""
    classes: Tensor = x.unflatten(2, (-1, window)).transpose(2, 3)
    return classes


def _positions(x: Tensor) -> Tensor:
    """Undo `_classes`."""
    return x.transpose(2, 3).flatten(2, 3)
