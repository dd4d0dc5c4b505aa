"""Many independent random streams from one seed, each named for what it feeds.

A stream depends on the run's seed and its own name only, so adding a stream moves no other. Names
are hashed with BLAKE2b (Python's `hash` changes from process to process) and mixed with the seed by
NumPy's SeedSequence, whose children are independent for all practical purposes.

Reference: O'Neill, "Developing a seed_seq alternative" (2015), the algorithm behind SeedSequence.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np


def seed_sequence(seed: int, *names: str | int) -> np.random.SeedSequence:
    """Return the seed sequence of the stream `names` under `seed`.

    Args:
        seed: the run's seed, >= 0.
        names: path of the stream, such as ("critic", 1, "growth").

    Raises:
        ValueError: a negative seed.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: give an integer >= 0")
    digest = hashlib.blake2b(json.dumps(names).encode(), digest_size=16).digest()
    words = np.frombuffer(digest, dtype="<u4")  # fixed byte order: the same on every machine
    return np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in words))


def integer_seed(seed: int, *names: str | int) -> int:
    """Return an integer in [0, 2**63) for libraries that take one (torch, gymnasium).

    Example:
        >>> integer_seed(0, "environment") == integer_seed(0, "environment")
        True
        >>> integer_seed(0, "environment") == integer_seed(0, "exploration")
        False
    """
    return int(seed_sequence(seed, *names).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator (PCG64) for the stream `names` under `seed`."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, *names)))
