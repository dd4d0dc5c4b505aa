"""Token streams: the embedded corpus or memory-mapped files, and which windows make a batch.

Files are those of nanoGPT (`train.bin`, `val.bin`: uint16 token ids and nothing else) and of
llm.c and FineWeb (256 int32 words in front: 20240520, version 1, number of ids). Several files of
one side are one stream, in the order of their names.

A batch is a function of (seed, step): windows drawn uniformly with replacement, as nanoGPT does.
So the sampler has no state, and runs with the same batch size see the same tokens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from thrifty.lm import bpe, corpus

__all__ = ["Stream", "Tokens", "load", "write"]

Ids = NDArray[np.uint16]

_MAGIC, _VERSION, _HEADER = 20240520, 1, 256
_CHECKED = 1 << 24  # ids looked at a time
_LONG = 1 << 28  # ids from which reading them all takes seconds: half a gigabyte


class Stream:
    """A sequence of token ids in one or several pieces, of which windows are taken.

    Args:
        pieces: uint16 arrays, for example memory-mapped; windows do not cross their borders.
        name: for messages.

    Attributes:
        name: as given.
        size: how many tokens.
    """

    def __init__(self, pieces: Sequence[Ids], name: str) -> None:
        self._pieces = [piece for piece in pieces if len(piece)]
        self.name = name
        self.size = sum(len(piece) for piece in self._pieces)

    def __len__(self) -> int:
        return self.size

    def check(self, *, vocabulary: int, context: int) -> None:
        """Make sure that windows can be taken and that a model can look up every token.

        Reads every id once; on a terminal a long stream shows how far that is.

        Args:
            vocabulary: how many tokens the model knows.
            context: T, tokens that it sees.

        Raises:
            ValueError: there is no window of T + 1 tokens, or an id beyond the vocabulary.
        """
        if not self._windows(context).any():
            raise ValueError(
                f"{self.name} has {self.size} tokens, and a window needs {context + 1} in one "
                "piece: give more text, or a shorter context"
            )
        parts = [
            piece[start : start + _CHECKED]
            for piece in self._pieces
            for start in range(0, len(piece), _CHECKED)
        ]
        shown = self.size >= _LONG and sys.stderr.isatty()
        with Progress(console=Console(stderr=True), transient=True, disable=not shown) as bar:
            task = bar.add_task(f"looking through {self.name}", total=len(parts))
            for part in parts:
                highest = int(part.max())
                if highest >= vocabulary:
                    raise ValueError(
                        f"{self.name} holds token {highest}, beyond the vocabulary of "
                        f"{vocabulary}: give the vocabulary it was encoded with"
                    )
                bar.advance(task)

    def batch(self, size: int, context: int, *, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Draw windows: inputs, and the same moved on by one as targets.

        Args:
            size: B, windows.
            context: T, tokens of a window.
            seed: of the run.
            step: number of the batch.

        Returns:
            inputs_BT and targets_BT, int64; a function of the arguments.
        """
        rng = np.random.default_rng([seed, step])
        windows = self._windows(context)
        ends = np.cumsum(windows)
        drawn = rng.integers(0, ends[-1], size)
        rows = []
        for place in drawn.tolist():
            piece = int(np.searchsorted(ends, place, side="right"))
            start = place - int(ends[piece] - windows[piece])
            rows.append(self._pieces[piece][start : start + context + 1])
        return _pair(np.stack(rows))

    def strips(self, size: int, context: int, most: int) -> Strips:
        """Cut the stream into windows that share no target, evenly thinned to `most` tokens.

        Args:
            size: B, windows of a batch; the last may have fewer.
            context: T.
            most: tokens wanted at most; at least one window is taken.

        Returns:
            Batches of (inputs_BT, targets_BT), int64, each made when it is asked for.
        """
        return Strips(self._pieces, size, context, most)

    def _windows(self, context: int) -> NDArray[np.int64]:
        """How many windows start in each piece."""
        return np.array([max(0, len(p) - context) for p in self._pieces] or [0], dtype=np.int64)


class Strips:
    """Batches of windows that share no target, made when they are asked for.

    Args:
        pieces: of the stream; at least one holds a window.
        size: B, windows of a batch.
        context: T.
        most: tokens wanted at most.
    """

    def __init__(self, pieces: Sequence[Ids], size: int, context: int, most: int) -> None:
        self._pieces, self._size, self._context = pieces, size, context
        self._ends = np.cumsum([(len(piece) - 1) // context for piece in pieces])
        self._windows = max(1, min(int(self._ends[-1]), most // context))

    def __len__(self) -> int:
        return -(-self._windows // self._size)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} batches, not number {number}")
        first = number * self._size
        rows = []
        for i in range(first, min(first + self._size, self._windows)):
            place = i * int(self._ends[-1]) // self._windows
            piece = int(np.searchsorted(self._ends, place, side="right"))
            start = (place - int(self._ends[piece - 1] if piece else 0)) * self._context
            rows.append(self._pieces[piece][start : start + self._context + 1])
        return _pair(np.stack(rows))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[number] for number in range(len(self)))


class Tokens:
    """What a model learns from: a training and a held-out stream, and what their ids mean.

    Attributes:
        training: the stream that batches are drawn from.
        held_out: the stream that is only evaluated on.
        vocabulary: what an id stands for.
    """

    def __init__(self, training: Stream, held_out: Stream, vocabulary: bpe.Vocabulary) -> None:
        self.training, self.held_out, self.vocabulary = training, held_out, vocabulary


def load(source: str) -> Tokens:
    """Open what a configuration names.

    Args:
        source: "shakespeare", the embedded corpus; or a folder with `*train*.bin` and `*val*.bin`
            files. Its ids are those of its `merges.txt`, or GPT-2's without one.

    Raises:
        ValueError: no such folder or files, files that hold no tokens, or one that could be of
            either side.
    """
    if source == "shakespeare":
        return _embedded()
    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(
            f"{source!r} is no corpus: say shakespeare, or name a folder with train.bin and val.bin"
        )
    streams: list[Stream] = []
    for side in ("train", "val"):
        paths = sorted(folder.glob(f"*{side}*.bin"))
        if not paths:
            raise ValueError(
                f"{folder} has no *{side}*.bin: write token files with thrifty.lm.tokens.write"
            )
        both = [path.name for path in paths if "train" in path.name and "val" in path.name]
        if both:
            raise ValueError(
                f"{folder} has {both[0]}, which could be of either side: name it by one of them"
            )
        streams.append(Stream([_map(path) for path in paths], f"{folder}/{side}"))
    own = folder / "merges.txt"
    vocabulary = bpe.Vocabulary.read(own) if own.exists() else bpe.gpt2()
    return Tokens(streams[0], streams[1], vocabulary)


def write(path: Path | str, texts: Sequence[str], vocabulary: bpe.Vocabulary) -> int:
    """Write texts as a token file, an end-of-text token before each; whole or not at all.

    Args:
        path: for example `train.bin`; without a header, as nanoGPT's.
        texts: in order.
        vocabulary: encodes them; keep it beside the file with `vocabulary.write`.

    Returns:
        How many tokens were written.
    """
    ids = _encoded(texts, vocabulary)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        ids.astype("<u2").tofile(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return len(ids)


@cache
def _embedded() -> Tokens:
    vocabulary = bpe.embedded()
    training, held_out = (
        _encoded([text.text for text in texts], vocabulary)
        for texts in corpus.sides(corpus.embedded())
    )
    return Tokens(
        Stream([training], "the training side of shakespeare"),
        Stream([held_out], "the held-out side of shakespeare"),
        vocabulary,
    )


def _encoded(texts: Sequence[str], vocabulary: bpe.Vocabulary) -> Ids:
    end = np.array([vocabulary.end_of_text], dtype=np.uint16)
    return np.concatenate([part for text in texts for part in (end, vocabulary.encode(text))])


def _map(path: Path) -> Ids:
    """Map a token file into memory, with or without the header of llm.c."""
    size = path.stat().st_size
    if not size or size % 2:
        raise ValueError(f"{path} holds no tokens: its {size} bytes are no row of 16-bit ids")
    ids: Ids = np.memmap(path, dtype="<u2", mode="r")
    if size < 4 * _HEADER:
        return ids
    header = np.frombuffer(ids[: 2 * _HEADER].tobytes(), dtype="<i4")
    if header[0] != _MAGIC:
        return ids
    if header[1] != _VERSION or size != 4 * _HEADER + 2 * int(header[2]):
        raise ValueError(
            f"{path} says version {header[1]} and {header[2]} tokens in {size} bytes: it is cut "
            "off, or of another version"
        )
    return ids[2 * _HEADER :]


def _pair(rows: Ids) -> tuple[Tensor, Tensor]:
    ids = torch.from_numpy(rows.astype(np.int64))
    return ids[:, :-1], ids[:, 1:]
