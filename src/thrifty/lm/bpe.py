"""Byte-level byte-pair encoding: learn a vocabulary, encode, decode; GPT-2's own exactly.

A text is cut into words (letters, digits or signs, each with the space before it; contractions
apart; white space), a word into its UTF-8 bytes, and pairs of neighbours are merged, the pair
learned first before all others. Token ids: 256 bytes in GPT-2's order, then the merges in the
order they were learned, last the end of a text. Any bytes can be encoded, and decoding gives them
back.

The file of a vocabulary is GPT-2's `merges.txt`: one merge a line, bytes written as visible
characters, so that other tokenizers read it too.

Reference: Sennrich et al. 2016; Radford et al. 2019 (GPT-2). Where we differ: ties between equally
frequent pairs go to the pair of lower bytes, so that learning is a function of the text.
"""

from __future__ import annotations

import heapq
import lzma
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

__all__ = ["Vocabulary", "embedded", "gpt2", "learn"]

Pair = tuple[bytes, bytes]
Ids = NDArray[np.uint16]

_FIRST_LINE = "#version: 0.2"
_WORDS_KEPT = 200_000  # encoded words that a vocabulary remembers


class Vocabulary:
    """What tokens there are, and how a text becomes tokens.

    Args:
        merges: pairs of tokens, in the order in which they were learned.

    Attributes:
        merges: as given.
        tokens: the bytes of each token, by id; those of the end of a text are empty.
        size: how many tokens there are, the end of a text included.
        end_of_text: the id that separates texts.

    Raises:
        ValueError: a merge is made of no earlier tokens, or the ids do not fit 16 bits.

    Example:
        >>> vocabulary = Vocabulary([(b"t", b"h"), (b"th", b"e")])
        >>> vocabulary.encode("the").tolist(), vocabulary.decode([257])
        ([257], 'the')
    """

    def __init__(self, merges: Sequence[Pair]) -> None:
        self.merges = tuple(merges)
        self.tokens: list[bytes] = [bytes([value]) for value in _byte_order()]
        known = set(self.tokens)
        for left, right in self.merges:
            if left not in known or right not in known:
                raise ValueError(f"the merge {left!r} {right!r} is made of tokens not known yet")
            known.add(left + right)
            self.tokens.append(left + right)
        self.end_of_text = len(self.tokens)
        self.tokens.append(b"")
        if self.size > 2**16:
            raise ValueError(f"{self.size} tokens do not fit 16 bits: give at most 65,279 merges")
        self._ids = {token: i for i, token in reversed(list(enumerate(self.tokens)))}
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._encoded: dict[str, tuple[int, ...]] = {}

    @property
    def size(self) -> int:
        """How many tokens there are, the end of a text included."""
        return len(self.tokens)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each token, by id [size]; 0 for the end of a text."""
        return np.array([len(token) for token in self.tokens], dtype=np.int64)

    @property
    def spelled(self) -> list[str]:
        """The tokens as GPT-2's files spell them, by id: bytes as visible characters."""
        shown = _shown()
        words = ["".join(shown[byte] for byte in token) for token in self.tokens]
        return [*words[:-1], "<|endoftext|>"]

    def encode(self, text: str) -> Ids:
        """Return the token ids of a text.

        Args:
            text: any; an end-of-text token is not made from it, whatever it holds.

        Returns:
            Token ids, uint16.
        """
        ids: list[int] = []
        encoded = self._encoded
        for word in _words().findall(text):
            found = encoded.get(word)
            if found is None:
                found = tuple(self._ids[token] for token in self._merge(word.encode()))
                if len(encoded) < _WORDS_KEPT:
                    encoded[word] = found
            ids += found
        return np.array(ids, dtype=np.uint16)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; an end of a text is nothing, broken UTF-8 a mark.

        Args:
            ids: each at least 0 and below `size`.

        Raises:
            ValueError: an id beyond the vocabulary.
        """
        listed = [int(i) for i in ids]
        wrong = [i for i in listed if not 0 <= i < self.size]
        if wrong:
            raise ValueError(f"token {wrong[0]} is none of this vocabulary's {self.size}")
        return b"".join(self.tokens[i] for i in listed).decode(errors="replace")

    def write(self, path: Path | str) -> None:
        """Write the merges to a file in GPT-2's format."""
        shown = _shown()
        lines = [
            " ".join("".join(shown[byte] for byte in token) for token in pair)
            for pair in self.merges
        ]
        Path(path).write_text("\n".join([_FIRST_LINE, *lines]) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path | str) -> Vocabulary:
        """Read a file of merges.

        Raises:
            ValueError: it is no such file; names the line.
        """
        try:
            return cls(_parse(Path(path).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as problem:
            raise ValueError(f"{path} cannot be read as merges: {problem}") from None
        except ValueError as problem:
            raise ValueError(f"{path} holds no merges: {problem}") from None

    def _merge(self, word: bytes) -> list[bytes]:
        parts = [word[i : i + 1] for i in range(len(word))]
        while len(parts) > 1:
            unknown = len(self._ranks)
            rank, pair = min((self._ranks.get(pair, unknown), pair) for pair in pairwise(parts))
            if rank == unknown:
                break
            parts = _merged(parts, pair)
        return parts


def learn(texts: Iterable[str], *, size: int, progress: bool = False) -> Vocabulary:
    """Learn a vocabulary: merge the most frequent pair of neighbours again and again.

    Args:
        texts: what to learn from.
        size: tokens wanted, the 256 bytes and the end of a text included, 257 to 65,536. Fewer
            come out where every word has become one token.
        progress: show a progress bar.

    Returns:
        The vocabulary, a function of the texts.

    Raises:
        ValueError: the size is out of range.

    Example:
        >>> learn(["abab abab"], size=258).merges
        ((b'a', b'b'),)
    """
    if not 257 <= size <= 2**16:
        raise ValueError(f"a vocabulary has 257 to 65,536 tokens, not {size}")
    counted = Counter(word for text in texts for word in _words().findall(text))
    words = [[bytes([byte]) for byte in word.encode()] for word in counted]
    counts = list(counted.values())
    pairs: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, word in enumerate(words):
        for pair in pairwise(word):
            pairs[pair] += counts[i]
            places[pair].add(i)
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    with Progress(disable=not progress) as bar:
        task = bar.add_task("learning the vocabulary", total=size - 257)
        while heap and len(merges) < size - 257:
            count, pair = heapq.heappop(heap)
            if -count != pairs[pair] or not count:
                continue  # it has changed since; its present count is in the heap as well
            merges.append(pair)
            bar.advance(task)
            changed: set[Pair] = set()
            for i in places.pop(pair):
                before, after = words[i], _merged(words[i], pair)
                words[i] = after
                for one in pairwise(before):
                    pairs[one] -= counts[i]
                    changed.add(one)
                for one in pairwise(after):
                    pairs[one] += counts[i]
                    places[one].add(i)
                    changed.add(one)
            for one in changed:
                if pairs[one] > 0 and one != pair:
                    heapq.heappush(heap, (-pairs[one], one))
    return Vocabulary(merges)


@cache
def embedded() -> Vocabulary:
    """Return the vocabulary of the embedded corpus: 2,048 tokens, learned on its training side."""
    return Vocabulary(_parse((_data() / "merges.txt").read_text(encoding="utf-8")))


@cache
def gpt2() -> Vocabulary:
    """Return GPT-2's vocabulary of 50,257 tokens (Radford et al. 2019, MIT licence)."""
    packed = (_data() / "gpt2_merges.txt.xz").read_bytes()
    return Vocabulary(_parse(lzma.decompress(packed).decode()))


def _data() -> resources.abc.Traversable:
    return resources.files("thrifty.lm") / "data"


def _merged(parts: list[bytes], pair: Pair) -> list[bytes]:
    """Join every occurrence of a pair, from the left."""
    left, right = pair
    joined: list[bytes] = []
    i = 0
    while i < len(parts):
        if parts[i] == left and i + 1 < len(parts) and parts[i + 1] == right:
            joined.append(left + right)
            i += 2
        else:
            joined.append(parts[i])
            i += 1
    return joined


def _parse(content: str) -> list[Pair]:
    hidden = {character: byte for byte, character in _shown().items()}
    merges = []
    for number, line in enumerate(content.split("\n"), 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts) or not set(line) - {" "} <= hidden.keys():
            raise ValueError(f"line {number} is not two tokens: {line[:40]!r}")
        left, right = (bytes(hidden[character] for character in part) for part in parts)
        merges.append((left, right))
    return merges


def _byte_order() -> list[int]:
    """All bytes, the visible Latin-1 ones first: the order of GPT-2's token ids."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return visible + [byte for byte in range(256) if byte not in visible]


@cache
def _shown() -> dict[int, str]:
    """A visible character for every byte: its own, or the next one from 256 on."""
    order = _byte_order()
    invisible = [byte for byte in order if not chr(byte).isprintable() or byte in (32, 160, 173)]
    others = {byte: chr(256 + i) for i, byte in enumerate(sorted(invisible))}
    return {byte: others.get(byte, chr(byte)) for byte in order}


@cache
def _words() -> re.Pattern[str]:
    """GPT-2's way to cut a text; letters, digits and white space as Unicode has them."""
    letter, digit = _class("L"), _class("N")
    space = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    return re.compile(
        "'s|'t|'re|'ve|'m|'ll|'d"
        f"| ?[{letter}]+| ?[{digit}]+| ?[^{space}{letter}{digit}]+"
        f"|[{space}]+(?![^{space}])|[{space}]+"
    )


def _class(category: str) -> str:
    """The ranges of all characters whose category begins with a letter, for a regular expression.

    ASCII first, where most matches end.
    """
    inside = [unicodedata.category(chr(point))[0] == category for point in range(0x110000)]
    edges = np.flatnonzero(np.diff(np.array([False, *inside, False])))
    pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return "".join(f"{re.escape(chr(a))}-{re.escape(chr(b - 1))}" for a, b in pairs)
