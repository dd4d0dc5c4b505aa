"""The embedded corpus: Shakespeare and Milton, split by work into a training and a held-out side.

All of Shakespeare in modern spelling, Milton's poems and Areopagitica, 6 MB: from Project Gutenberg
by way of the package shakespeare 0.6 (Open Knowledge Foundation; the works are in the public
domain, the compilation is CC BY 2.5). `data/ATTRIBUTION.md` says so beside the file.

A text may hold several works (an anthology), and a work may be in several texts (editions,
spellings). Held out are works, not texts: a text is on the training side if none of its works is
held out. None of the held-out works is in a second text, or quoted at length in one
(Areopagitica's motto stands among Milton's poems, which is why it is no held-out work).
"""

from __future__ import annotations

import json
import lzma
from functools import cache
from importlib import resources
from typing import NamedTuple

__all__ = ["HELD_OUT", "Text", "embedded", "sides"]

HELD_OUT = frozenset({"as_you_like_it", "john", "julius_caesar", "macbeth", "twelfth_night"})
"""Works that no training text holds: comedies, tragedies and a history, 9.6 % of all bytes."""


class Text(NamedTuple):
    """One text of the corpus.

    Attributes:
        name: of the text.
        works: what it holds, whole or in part.
        text: its characters.
    """

    name: str
    works: tuple[str, ...]
    text: str


@cache
def embedded() -> tuple[Text, ...]:
    """Return all texts of the embedded corpus, in the order of their names within an author."""
    packed = (resources.files("thrifty.lm") / "data" / "shakespeare_milton.json.xz").read_bytes()
    return tuple(
        Text(entry["name"], tuple(entry["works"]), entry["text"])
        for entry in json.loads(lzma.decompress(packed))
    )


def sides(texts: tuple[Text, ...]) -> tuple[list[Text], list[Text]]:
    """Divide texts into the training and the held-out side.

    Args:
        texts: for example `embedded()`.

    Returns:
        (training, held out); together all texts.

    Example:
        >>> training, held_out = sides(embedded())
        >>> sorted(text.name for text in held_out)[:2]
        ['as_you_like_it', 'john']
    """
    held_out = [text for text in texts if HELD_OUT & set(text.works)]
    return [text for text in texts if not HELD_OUT & set(text.works)], held_out
