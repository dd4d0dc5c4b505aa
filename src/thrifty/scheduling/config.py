"""The configuration of a run: which scenario, which learner, how the price is found, how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thrifty.scheduling.multiplier import MultiplierConfig
from thrifty.scheduling.rsd4 import RSD4Config

if TYPE_CHECKING:
    from thrifty.scheduling.experiment import SchedulingExperiment


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulingConfig:
    """A run of a scheduling agent."""

    scenario: str = "S1"
    """S1 to S5, S3xUSERS, csi:SEED:USERS, or a file."""
    budget: float | str | tuple[float, ...] | None = None
    """Energy per slot, one number or one for each node (3,3,3); None is the scenario's own."""
    sight: str = "own"
    """Of the channel: own (the scenario's), full, hidden, delayed:SLOTS, noisy:EPS, or noisy: with
    the rows of a confusion matrix (noisy:0.9,0.1/0.2,0.8)."""
    steps: int = 5_000
    """Slots that every environment plays."""
    environments: int = 8
    """M, played together."""
    episode: int = 60
    """Slots of an episode; its end is no end of the problem."""
    warm_up: int = 3
    """Episodes of uniform energies at the beginning."""
    update_every: int = 1
    """Slots between updates."""
    capacity: int = 4096
    """Episodes of single users that are kept, about."""
    evaluate_every: int = 500
    """Slots between evaluations at the present price, which move it; 0 never."""
    record_every: int = 250
    """Slots between progress records."""
    calibration_episodes: int = 2_000
    """Episodes that each of the last trials of the price is measured on, with training seeds."""
    test_episodes: int = 400
    """Episodes of the one test at the end, with seeds of its own."""
    curve_points: int = 9
    """Prices at which the trade-off curve is measured at the end; 0 leaves it out."""
    algorithm: RSD4Config = field(default_factory=RSD4Config)
    """The learner."""
    multiplier: MultiplierConfig = field(default_factory=MultiplierConfig)
    """How the price of energy is found."""

    def build(self, seed: int) -> SchedulingExperiment:
        """Return the run at its beginning.

        Raises:
            ValueError: something cannot work; the message names it.
        """
        from thrifty.scheduling.experiment import SchedulingExperiment  # it is built on this file

        return SchedulingExperiment(self, seed)


def check_config(config: SchedulingConfig) -> None:
    """Refuse numbers that cannot work.

    Raises:
        ValueError: names the field.
    """
    for name, least in (
        ("steps", 1), ("environments", 1), ("episode", 2), ("warm_up", 1), ("update_every", 1),
        ("capacity", 1), ("evaluate_every", 0), ("record_every", 1), ("calibration_episodes", 0),
        ("test_episodes", 0), ("curve_points", 0),
    ):  # fmt: skip
        value = getattr(config, name)
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
