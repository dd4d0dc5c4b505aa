"""What of the channel is seen, in a word: full, hidden, delayed:3, noisy:0.1."""

from __future__ import annotations

import numpy as np

from thrifty.scheduling.queueing import Sight
from thrifty.scheduling.scenarios import Scenario


def sight_of(word: str, of: Scenario) -> Sight:
    """Return the sight that a word stands for.

    Args:
        word: "own" (what the scenario means), "full", "hidden", "delayed:SLOTS", "noisy:EPS" (any
            other state with probability EPS in all) or "noisy:" with the rows of a confusion
            matrix, such as "noisy:0.9,0.1/0.2,0.8": entry j of row i is the chance that the state
            i is seen as j.
        of: whose channel is seen.

    Raises:
        ValueError: no such sight, or a matrix that is not stochastic or of another size.
    """
    kind, colon, told = word.partition(":")
    try:
        if kind == "delayed":
            return Sight(kind=kind, delay=int(told))
        if kind == "noisy":
            rows = [[float(entry) for entry in row.split(",")] for row in told.split("/")]
            confusion = np.array(rows if len(rows) > 1 or len(rows[0]) > 1 else rows[0][0])
            sight = Sight(kind=kind, confusion=confusion)
        elif kind == "own" and not colon:
            return Sight(kind="hidden" if of.hidden else "full")
        else:
            return Sight(kind=word)
    except ValueError:
        raise ValueError(
            "sight is own, full, hidden, delayed:SLOTS, noisy:EPS or noisy: with the rows of a "
            f"confusion matrix, such as noisy:0.9,0.1/0.2,0.8; got {word!r}"
        ) from None
    sight.matrix(of.channel.states)  # refuses what is not stochastic
    return sight
