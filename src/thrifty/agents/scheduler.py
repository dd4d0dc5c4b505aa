"""The policy of a scheduling run: a scheduler like any other, with the problem it was made for.

It acts by the averaged networks and without exploration, at a price of energy that stays.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from thrifty.runs.progress import ProgressBar
from thrifty.scheduling.assessment import Assessment, block
from thrifty.scheduling.experiment import SchedulingExperiment
from thrifty.scheduling.policy import PolicyScheduler

_FRESH = 6  # with a seed, what an evaluation's random numbers derive from


class SchedulerEvaluation(NamedTuple):
    """What a scheduler brought, per slot, and what the exact optimum brings for that energy."""

    episodes: int
    """Of 100 counted slots, 20 before them."""
    throughput: float
    """Weighted."""
    energy: list[float]
    """Of each node [H]."""
    optimum: float
    """Exact, at that energy, for whoever sees the channel."""
    of_optimum: float
    """Part of it that was reached, both on the same arrivals, channels and uniforms."""
    error: float
    """Standard error of that part over episodes; 0 for one episode."""
    miss_ratio: list[float]
    """Part of each user's packets that missed their deadline [F]."""


class TrainedScheduler(PolicyScheduler):
    """What a run of RSD4, or of an ablation, has learned.

    Args:
        experiment: whose networks act.
        multiplier: price of energy, one number or one for each node; None is the calibrated one,
            or, in a run without it so far, the one that it trains at. Only a policy that was
            trained conditioned on the price takes another one.

    Raises:
        ValueError: a price that is none, or for a policy of one price.

    Example:
        >>> scheduler = thrifty.agents.load_scheduler("runs/s1")  # doctest: +SKIP
        >>> measure(scheduler.scenario, scheduler, sight=scheduler.sight)  # doctest: +SKIP
    """

    def __init__(self, experiment: SchedulingExperiment, multiplier: Any = None) -> None:
        self.scenario, self.sight = experiment.scenario, experiment.sight
        self.budget = experiment.budget
        """E_0 that it was trained for [H]."""
        self.calibrated = experiment.calibrated
        """Whether the run has found the price that meets the budget."""
        self.multiplier = experiment.price
        """Price of energy at each node [H]."""
        if multiplier is not None:
            mode = experiment.config.multiplier.mode
            if mode != "conditioned":
                raise ValueError(
                    f"this policy was trained at one price (mode {mode}): leave multiplier out, "
                    "or train with --mode conditioned"
                )
            self.multiplier = _price(multiplier, self.scenario.hops)
        super().__init__(experiment.learner, self.multiplier)

    def __repr__(self) -> str:
        """Name the scenario, the algorithm and the price of energy at each node."""
        price = _listed(self.multiplier, ".4g")
        return f"{type(self).__name__}({self.scenario.name!r}, {self.name}, price {price})"

    def evaluate(
        self, episodes: int = 400, *, seed: int = 0, progress_bar: bool = False
    ) -> SchedulerEvaluation:
        """Play fresh episodes, and the optimal table the same ones.

        Args:
            episodes: 20 slots that do not count, then 100 that do, against the long-run optimum.
            seed: of the episodes; none of them is one of the run's own.
            progress_bar: show progress on standard error, where that is a terminal.

        Raises:
            ValueError: fewer than one episode, or a price at which nothing is sent.
        """
        if episodes < 1:
            raise ValueError(f"an evaluation needs at least one episode, got {episodes}")
        # 64 bits: the run's own seeds have 32.
        fresh = int(np.random.SeedSequence([seed, _FRESH]).generate_state(1, np.uint64)[0])
        assessment = Assessment(self.scenario, self.sight, self.budget, fresh)
        blocks = 2 * -(-episodes // block(self.scenario))  # the policy's and the table's
        found: dict[str, Any] | None = None
        with ExitStack() as stack:
            bar = stack.enter_context(ProgressBar(blocks)) if progress_bar else None
            for done in range(1, blocks + 1):
                found = assessment.test(self, episodes)
                if bar is not None and bar.due < float("inf"):
                    bar.show(done)
        assert found is not None
        if not any(found["energy"]):
            raise ValueError(
                f"at the multiplier {_listed(self.multiplier, '.4g')} no energy is spent, "
                "so there is nothing to compare: give a smaller one"
            )
        return SchedulerEvaluation(
            episodes=found["episodes"],
            throughput=found["throughput"],
            energy=found["energy"],
            optimum=found["optimum_at_energy"],
            of_optimum=found["paired"],
            error=found["paired_error"],
            miss_ratio=found["miss_ratio"],
        )

    def told(self, evaluation: SchedulerEvaluation) -> str:
        """Return an evaluation in words, for the command line."""
        found, nodes = evaluation, " of each node" if self.scenario.hops > 1 else ""
        calibrated = "calibrated" if self.calibrated else "not calibrated: the run is not finished"
        spent = [(one, e_0) for one, e_0 in zip(found.energy, self.budget, strict=True) if e_0 > 0]
        over = max((one / e_0 - 1.0 for one, e_0 in spent), default=0.0)
        exceeded = f", exceeded by {100 * over:.0f} %" if over >= 0.01 else ""
        return "\n".join(
            [
                f"{self.scenario.name}: {self.name}, {found.episodes} episodes of 100 slots",
                f"throughput {found.throughput:.3f} a slot, weighted",
                f"energy{nodes} {_listed(found.energy, '.3f')} a slot, budget "
                f"{_listed(self.budget, 'g')}{exceeded}; "
                f"price of energy {_listed(self.multiplier, '.4g')} "
                f"({calibrated})",
                f"{100 * found.of_optimum:.2f} % of the exact optimum at that energy, "
                f"{found.optimum:.3f} (standard error {100 * found.error:.2f} %)",
                "deadlines missed, % of each user's packets: "
                + _listed(100 * np.array(found.miss_ratio), ".1f"),
            ]
        )


def _price(multiplier: Any, hops: int) -> Any:
    try:
        given = np.atleast_1d(np.asarray(multiplier, dtype=np.float64))
        fits = given.shape in ((1,), (hops,)) and bool(np.all(np.isfinite(given) & (given > 0)))
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise ValueError(
            f"a multiplier is a number > 0, or one for each of {hops} nodes; got {multiplier!r}"
        )
    return np.broadcast_to(given, (hops,)).copy()


def _listed(numbers: Any, form: str) -> str:
    return ", ".join(format(one, form) for one in numbers)
