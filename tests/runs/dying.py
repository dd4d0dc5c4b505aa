"""Recipes whose runs come to grief, for tests of sweeps: importable by their workers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toy_counter import Counter, Counting

from thrifty.runs.experiment import Record


@dataclass(frozen=True, kw_only=True)
class Dying(Counter):
    """Dies at a step as if killed: always, or only the first time (a file remembers)."""

    dies_at: int = 0
    once: str = ""
    leaves: bool = False
    """It is not killed, but calls exit with status 0."""

    def build(self, seed: int) -> Counting:
        return DyingCounting(self, seed)


class DyingCounting(Counting):
    def records(self) -> Iterator[Record | None]:
        config = self.config
        assert isinstance(config, Dying)
        for record in super().records():
            if self.step == config.dies_at and not (config.once and Path(config.once).exists()):
                if config.once:
                    Path(config.once).touch()
                if config.leaves:
                    sys.exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
            yield record


def dying(steps: int = 50) -> Dying:
    """Die at a step."""
    return Dying(steps=steps)
