"""An experiment that forgets everything but its state, beside one that does not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from states import plain

from thrifty.runs import load_state, save_state


def stops(yields: list[Any], every: int) -> set[int]:
    """Yields to stop after: the first of each kind, the one before it, and every so many."""
    chosen = set(range(0, len(yields), every))
    seen: Counter[tuple[Any, Any]] = Counter()
    for index, record in enumerate(yields):
        if record is not None:
            kind = (record["kind"], record.get("network"))
            seen[kind] += 1
            if seen[kind] <= 1:
                chosen |= {index, max(0, index - 1)}
    return chosen


def check(config: Any, folder: Path, *, every: int, journalled: bool = True) -> list[Any]:
    """Run once, and once with a new process's worth of forgetting at every stop."""
    whole = config.build(3)
    yields = list(whole.records())
    path, journal = folder / "state.npz", folder / "journal" if journalled else None
    experiment = config.build(3)
    stream = experiment.records()
    chosen = stops(yields, every)
    for index, expected in enumerate(yields):
        assert next(stream) == expected, f"yield {index}"
        if index in chosen:
            save_state(path, experiment.state_dict(), journal=journal)
            experiment = config.build(3)
            experiment.load_state_dict(load_state(path, journal=journal))
            stream = experiment.records()
    assert list(stream) == []
    one, two = plain(whole.state_dict()), plain(experiment.state_dict())
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert two[key] == value, key
    return [record for record in yields if record is not None]
