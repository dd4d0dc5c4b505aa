"""What runs the updates of a scheduling learner, and why: the choice that ``backend="auto"`` makes.

It follows from the configuration alone (and from whether the engine can be loaded), so a resumed
run makes it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from thrifty.engine import loading
from thrifty.engine.loading import Backend

if TYPE_CHECKING:
    from thrifty.scheduling.rsd4 import RSD4Config

__all__ = ["Backend", "choose"]

ENGINE_FROM = 0.8
"""Share of cut weights from which ``auto`` takes the engine, in batches of enough sequences.

One update on one core of a busy server (``thrifty bench scheduling`` measures it anew), width 256,
64 sequences: 1.7, 2.0 and 2.7 times as fast as the reference at 80, 90 and 95 %. With 8 sequences,
which our recipes have, the reference is as fast or faster at all of them (width 256: 1.7, 1.2 and
1.0 times; width 96: 1.7, 1.5 and 1.5 times), since the engine works on 64 at a time.
"""
ENGINE_SEQUENCES = 64
"""Sequences of an update from which it does."""


def choose(asked: Literal["auto"] | Backend, config: RSD4Config) -> tuple[Backend, str]:
    """Return what runs the updates, and the reason in words.

    Args:
        asked: the configuration's ``backend``; all but auto is returned as it is.
        config: of the learner.

    Raises:
        ValueError: the engine is asked for where it cannot run.
    """
    lacking = unsupported(config)
    if asked == "engine":
        if lacking:
            raise ValueError(f"backend=engine: {lacking}; use backend=auto")
        return "engine", "as configured"
    if asked == "reference":
        return "reference", "as configured"
    if lacking:
        return "reference", lacking
    share = f"{100.0 * config.sparsity:.3g} % of the weights are cut"
    if config.sparsity < ENGINE_FROM:
        return "reference", f"{share}, below the {100.0 * ENGINE_FROM:.0f} % of the engine"
    if config.sequences < ENGINE_SEQUENCES:
        fewer = f"the engine works on {ENGINE_SEQUENCES} at a time"
        return "reference", f"updates have {config.sequences} sequences, {fewer}"
    missing = loading.problem("thrifty.engine.modules")
    if missing:
        return "reference", f"the engine cannot be loaded ({missing})"
    return "engine", f"{share} and updates have {config.sequences} sequences"


def unsupported(config: RSD4Config) -> str | None:
    """Return why the engine cannot run a configuration, in words, or None."""
    if config.sparsity == 0.0:
        return "dense: no weight is cut"
    if config.critic != "packets":
        return "the engine runs credit per packet alone"
    return None
