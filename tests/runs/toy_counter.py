"""A toy experiment whose every step depends on all that a checkpoint has to hold.

It draws random numbers, appends them to a ring, and adds a random row of the ring to its value: a
lost row, a repeated draw or a wrong counter changes every later record.
As a script it runs itself: `toy_counter.py DIRECTORY STEPS DELAY CHECKPOINT_SECONDS`, and prints
the first step that it executes, then the outcome.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from thrifty.runs import Outcome, Run, execute, read_checkpoint, read_records
from thrifty.runs.experiment import Record


class Ring:
    """The last `capacity` rows of two numbers."""

    def __init__(self, capacity: int) -> None:
        self.table = np.zeros((capacity, 2))
        self.total = 0

    @property
    def first(self) -> int:
        return max(0, self.total - len(self.table))

    def append(self, row: Any) -> None:
        self.table[self.total % len(self.table)] = row
        self.total += 1

    def rows(self, start: int, stop: int) -> np.ndarray:
        assert self.first <= start <= stop <= self.total
        return self.table[np.arange(start, stop) % len(self.table)]

    def restore(self, stored: Any) -> None:
        self.total = stored.first
        for row in stored.rows(stored.first, stored.total):
            self.append(row)
        assert self.total == stored.total


@dataclass(frozen=True, kw_only=True)
class Counter:
    """Configuration of the toy."""

    steps: int = 50
    capacity: int = 20
    record_every: int = 3
    delay: float = 0.0
    fail_at: int | None = None

    def build(self, seed: int) -> Counting:
        if self.capacity < 1:
            raise ValueError(f"capacity {self.capacity} is not positive: give 1 or more")
        return Counting(self, seed)


class Counting:
    """The toy."""

    def __init__(self, config: Counter, seed: int) -> None:
        self.config = config
        self.rng = np.random.default_rng(seed)
        self.ring = Ring(config.capacity)
        self.step = 0
        self.value = 0.0

    def records(self) -> Iterator[Record | None]:
        config = self.config
        while self.step < config.steps:
            if config.delay:
                time.sleep(config.delay)
            self.ring.append(self.rng.normal(size=2))
            row = self.rng.integers(self.ring.first, self.ring.total)
            self.value += float(self.ring.rows(row, row + 1).sum())
            self.step += 1
            if self.step == config.fail_at:
                raise RuntimeError("the toy broke")
            if self.step % config.record_every == 0:
                yield {"kind": "train", "step": self.step, "return": self.value, "sparsity": 0.5}
            else:
                yield None

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "value": self.value,
            "rng": self.rng.bit_generator.state,
            "replay": {"rows": self.ring},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step, self.value = state["step"], state["value"]
        self.rng.bit_generator.state = state["rng"]
        self.ring.restore(state["replay"]["rows"])


class Telling(Counter):
    """Prints the first step that is executed, as the experiment counts it."""

    def build(self, seed: int) -> Counting:
        return TellingCounting(self, seed)


class TellingCounting(Counting):
    def records(self) -> Iterator[Record | None]:
        for number, record in enumerate(super().records()):
            if number == 0:
                print(f"executes step {self.step}", flush=True)
            yield record


def counter(steps: int = 50) -> Counter:
    """The toy's recipe."""
    return Counter(steps=steps)


def make_run(directory: Path, *, seed: int = 0, **fields: Any) -> Run:
    """A run of the toy."""
    return Run(
        recipe="toy_counter:counter",
        arguments={},
        config=Counter(**fields),
        seed=seed,
        directory=directory,
    )


def result(directory: Path) -> tuple[list[Record], dict[str, Any]]:
    """All that must be equal at the end: records without the clock, and the final state."""
    records = [
        {key: value for key, value in record.items() if not key.startswith("wall_")}
        for record in read_records(directory)
    ]
    checkpoint = read_checkpoint(directory)
    assert checkpoint is not None
    state = dict(checkpoint.experiment)
    log = state["replay"]["rows"]
    state["replay"] = [log.first, log.total, log.rows(log.first, log.total).tobytes()]
    return records, state


def main() -> Outcome:
    directory, steps, delay, checkpoint_seconds = sys.argv[1:]
    run = make_run(Path(directory))
    run = replace(run, config=Telling(steps=int(steps), delay=float(delay)))
    return execute(run, checkpoint_seconds=float(checkpoint_seconds))


if __name__ == "__main__":
    print(main())
