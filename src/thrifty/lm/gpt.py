"""GPT-2: a decoder-only transformer with pre-normalisation, learned positions and a tied head.

    x = wte[ids] + wpe[0..T)
    x = x + attention(norm(x));  x = x + down(gelu(up(norm(x))))       in every block
    logits = norm(x) wte^T

Shapes: B windows, T positions, C width, V tokens. Initial weights as GPT-2's: N(0, 0.02), the two
projections into the residual stream N(0, 0.02 / sqrt(2 L)), biases 0.

Reference: Radford et al. 2019. Where we differ: no dropout, and biases are a choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thrifty.lm.attention import Pattern, attend
from thrifty.lm.compact import CompactMatrix, SparseLinear

__all__ = ["GPT", "GPTConfig", "linear_matrices"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GPTConfig:
    """The shape of a GPT-2."""

    layers: int = 12
    """L, transformer blocks."""
    heads: int = 12
    """Attention heads of a block; they divide the width."""
    width: int = 768
    """C, numbers per position."""
    context: int = 1024
    """T, positions that the model sees."""
    biases: bool = True
    """Whether linear layers and norms have biases (GPT-2's have)."""
    padding: int = 1
    """Rows of the token matrix are rounded up to a multiple of this; padded rows are never
    tokens."""

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "width", "context", "padding"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(
                f"heads must divide the width: {self.heads} heads do not divide {self.width}"
            )


class GPT(nn.Module):
    """A GPT-2.

    Args:
        config: its shape.
        vocabulary: V, tokens.
        generator: draws the initial weights; CPU.

    Attributes:
        config: as given.
        vocabulary: as given.
        pattern: who sees whom in attention, in every head of every block.
        window: of the pattern, in positions.
        head: the token matrix as its links alone; None takes it whole.
    """

    def __init__(self, config: GPTConfig, vocabulary: int, generator: torch.Generator) -> None:
        super().__init__()
        if vocabulary < 1:
            raise ValueError(f"a vocabulary needs at least one token, got {vocabulary}")
        self.config, self.vocabulary = config, vocabulary
        self.pattern: Pattern = "dense"
        self.window = 0
        self.head: CompactMatrix | None = None
        rows = -(-vocabulary // config.padding) * config.padding
        self.wte = nn.Embedding(rows, config.width)
        self.wpe = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=config.biases)
        self._draw(generator)

    def _draw(self, generator: torch.Generator) -> None:
        into_stream = 0.02 / math.sqrt(2 * self.config.layers)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith(("out.weight", "down.weight")):
                    parameter.normal_(0.0, into_stream, generator=generator)
                elif parameter.dim() == 2:
                    parameter.normal_(0.0, 0.02, generator=generator)
                elif name.endswith("bias"):
                    parameter.zero_()

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Return logits of the next token [B, T, V] at every position.

        Args:
            ids_BT: token ids, int64, at most `context` positions.

        Raises:
            ValueError: more positions than the context.
        """
        return self._head(self._stream(ids_BT))

    def loss(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the mean cross-entropy of the targets, in nats.

        Args:
            ids_BT: token ids.
            targets_BT: what follows each of them.
        """
        logits_BTV = self(ids_BT)
        return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())

    def next(self, ids_BT: Tensor) -> Tensor:
        """Return logits of the token after the last one [B, V]."""
        return self._head(self._stream(ids_BT)[:, -1])

    def _stream(self, ids_BT: Tensor) -> Tensor:
        length = ids_BT.shape[1]
        if length > self.config.context:
            raise ValueError(f"{length} positions are more than the context {self.config.context}")
        tokens = self.wte.weight if self.head is None else self.head.dense()
        x_BTC = F.embedding(ids_BT, tokens) + self.wpe.weight[:length]
        for block in self.blocks:
            x_BTC = block(x_BTC, self.pattern, self.window)
        normed: Tensor = self.norm(x_BTC)
        return normed

    def _head(self, x: Tensor) -> Tensor:
        logits = F.linear(x, self.wte.weight) if self.head is None else self.head.product(x)
        return logits[..., : self.vocabulary]

    def hold(self, matrices: Mapping[str, CompactMatrix]) -> None:
        """Use matrices as their links alone.

        Args:
            matrices: by the weight's name; one that is not there is used whole.
        """
        self.head = matrices.get("wte.weight")
        for name, module in self.named_modules():
            if isinstance(module, SparseLinear):
                module.compact = matrices.get(f"{name}.weight")


class Block(nn.Module):
    """One transformer block: attention and a two-layer perceptron, each added to the stream.

    Args:
        config: the shape of the model.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width, biases = config.width, config.biases
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(width, bias=biases)
        self.qkv = SparseLinear(width, 3 * width, bias=biases)
        self.out = SparseLinear(width, width, bias=biases)
        self.norm2 = nn.LayerNorm(width, bias=biases)
        self.up = SparseLinear(width, 4 * width, bias=biases)
        self.down = SparseLinear(4 * width, width, bias=biases)

    def forward(self, x_BTC: Tensor, pattern: Pattern, window: int) -> Tensor:
        """Return the stream after this block, [B, T, C]."""
        q, k, v = self.qkv(self.norm1(x_BTC)).chunk(3, dim=-1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        attended = attend(q, k, v, pattern, window).transpose(1, 2).flatten(2)
        x_BTC = x_BTC + self.out(attended)
        stream: Tensor = x_BTC + self.down(F.gelu(self.up(self.norm2(x_BTC)), approximate="tanh"))
        return stream


def linear_matrices(name: str, module: nn.Module, parameter: nn.Parameter) -> bool:
    """Choose what MST makes sparse: the weights of all linear layers and of the tied head.

    The head is the token embedding, so that is masked with it; positions and norms stay dense.

    Args:
        name: full name of the parameter.
        module: the module that owns it.
        parameter: the parameter.
    """
    return name.endswith("wte.weight") or (
        isinstance(module, nn.Linear) and name.endswith("weight")
    )
