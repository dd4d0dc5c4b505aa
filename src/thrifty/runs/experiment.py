"""What the runner asks of an experiment: three methods. It knows no algorithm.

An experiment is a generator of records together with everything that decides its future. At every
yield its `state_dict` is complete: a fresh experiment, built from the same configuration and seed,
that loads this state goes on with exactly the record that would have come next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Record = dict[str, Any]
"""JSON values by name, at least `kind` (str) and `step` (int); the runner adds `wall_` fields."""

Callback = Callable[[Record], "bool | None"]
"""Called with every record; `False` stops the run, anything else lets it go on."""


class Experiment(Protocol):
    """A computation that can be stopped at every yield and continued elsewhere."""

    def records(self) -> Iterator[Record | None]:
        """Yield what happened; `None` is a safe point without news (about one yield per step)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything the future depends on; an int under `"step"` names the checkpoint.

        The tree may hold dict (str or int keys), list, tuple, str, int, float, bool, None, bytes,
        NumPy arrays and scalars, torch tensors, and row logs (see `thrifty.runs.rows.RowLog`).
        """
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state_dict` returned; row logs come back as `StoredRows`."""
        ...


@runtime_checkable
class Placed(Protocol):
    """An experiment that has files of its own in the run's folder."""

    def place(self, folder: Path) -> None:
        """Name the run's folder, before the first record and before a state is loaded."""
        ...


class Config(Protocol):
    """A frozen dataclass (nested frozen dataclasses, scalars, tuples, dicts) that builds itself.

    It may also have `resolved()`, see `thrifty.runs.configuration.resolved`.
    """

    @property
    def steps(self) -> int:
        """Length of the whole run in steps."""
        ...

    def build(self, seed: int) -> Experiment:
        """Return the experiment at its beginning; raise ValueError for what cannot work."""
        ...
