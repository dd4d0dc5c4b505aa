"""What a configuration means for every step: the schedule, the attention, and the FLOPs.

The schedule is made once, from the length of the run; the density of the ultra phase is solved for
where a FLOPs ratio is asked for.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from thrifty.lm.attention import Pattern, kept
from thrifty.lm.config import ConstantConfig, DenseConfig, PhasesConfig, PretrainingConfig
from thrifty.lm.ledger import Costs, Stretch, solve, training_flops
from thrifty.sparse import Cosine, Phase, Phases, SparsitySchedule, Static

__all__ = ["PHASE_NAMES", "Plan", "make_plan"]

PHASE_NAMES = ("warm-up", "ultra", "restoration", "tail")


class Plan(NamedTuple):
    """The schedule of a run and what follows from it.

    Attributes:
        schedule: when links are exchanged, how many, how sparse.
        phases: the schedule again where it has phases.
        patterns: attention of each phase, or of the whole run where it has none.
        window: of all that are not dense.
        by_gradient: whether links grow by their gradient.
    """

    schedule: SparsitySchedule
    phases: Phases | None
    patterns: tuple[Pattern, ...]
    window: int
    by_gradient: bool

    def phase(self, step: int) -> str:
        """Return the name of the phase that a step (from 1) lies in."""
        return "all" if self.phases is None else PHASE_NAMES[self.phases.phase(step)]

    def attention(self, step: int) -> tuple[Pattern, int]:
        """Return pattern and window of attention at a step (from 1)."""
        pattern = self.patterns[0 if self.phases is None else self.phases.phase(step)]
        return ("dense", 0) if pattern == "dense" else (pattern, self.window)

    def takes_dense_gradient(self, step: int) -> bool:
        """Whether links grow by their gradient at a step (from 1): all links' is needed then."""
        schedule = self.schedule
        return (
            self.by_gradient
            and schedule.is_due(step)
            and (
                schedule.drop_fraction(step) > 0.0
                or schedule.sparsity(step) < schedule.sparsity(step - 1)
            )
        )

    def stretches(self, steps: int, context: int) -> list[Stretch]:
        """Divide a run into stretches of one density and one attention.

        A step works with the links that earlier steps have left, so a density that moves at a step
        counts from the next one on.

        Args:
            steps: of the run.
            context: T.
        """
        found: list[Stretch] = []
        shares = {pattern: kept(pattern, context, self.window) for pattern in self.patterns}
        density, done = 1.0 - self.schedule.sparsity(0), 0
        for mark in self._marks(steps):  # up to each of these nothing changes
            sees = shares[self.attention(mark)[0]]
            grows = int(self.takes_dense_gradient(mark))
            last = found[-1] if found else None
            if last is not None and (last.density, last.kept) == (density, sees):
                found[-1] = last._replace(
                    steps=last.steps + mark - done, evolves=last.evolves + grows
                )
            else:
                found.append(Stretch(mark - done, density, sees, grows))
            if self.schedule.is_due(mark):
                density = 1.0 - self.schedule.sparsity(mark)
            done = mark
        return found

    def _marks(self, steps: int) -> list[int]:
        """All evolution steps, the last step of every phase, and that of the run, ascending."""
        marks = {steps}
        if self.phases is not None:
            marks |= {*self.phases.due(), *self.phases.ends}
        elif isinstance(self.schedule, Cosine):
            every, until = self.schedule.update_every, self.schedule.update_until
            marks |= set(range(every, until, every))
        return sorted(mark for mark in marks if 0 < mark <= steps)


def make_plan(config: PretrainingConfig, vocabulary: int) -> Plan:
    """Make the plan of a resolved configuration.

    Args:
        config: resolved.
        vocabulary: V, which decides what the head costs.

    Raises:
        ValueError: no density gives the FLOPs ratio asked for.
    """
    sparsity = config.sparsity
    if isinstance(sparsity, DenseConfig):
        return Plan(Static(0.0), None, ("dense",), 0, False)
    assert sparsity.update_every is not None, "a resolved configuration has every number"
    if isinstance(sparsity, ConstantConfig):
        if not sparsity.drop_fraction:
            return Plan(Static(sparsity.sparsity), None, ("dense",), 0, False)
        cosine = Cosine(
            sparsity.sparsity,
            sparsity.drop_fraction,
            update_every=sparsity.update_every,
            update_until=config.steps,
        )
        return Plan(cosine, None, ("dense",), 0, sparsity.grow != "random")
    density = sparsity.density
    if density is None:
        costs = Costs.of(config.model, vocabulary, "square")

        def ratio(density: float) -> float:
            plan = _phased(sparsity, config.steps, density)
            return training_flops(costs, plan.stretches(config.steps, config.model.context))

        # Links grow, by their gradient, only in phases that end with more of them.
        breaks = (sparsity.initial_density, sparsity.final_density)
        density = solve(ratio, sparsity.flops, breaks)
    return _phased(sparsity, config.steps, density)


def _phased(config: PhasesConfig, steps: int, density: float) -> Plan:
    assert config.update_every is not None, "a resolved configuration has every number"
    assert config.density_every is not None, "a resolved configuration has every number"
    assert config.window is not None, "a resolved configuration has every number"
    # Whole steps, the borders rounded so that the phases fill the run.
    ends = [config.warm_up, config.warm_up + config.ultra, 1.0 - config.tail, 1.0]
    borders = [0, *(round(end * steps) for end in ends)]
    lengths = [b - a for a, b in pairwise(borders)]
    final = config.final_density
    phases = Phases(
        (
            Phase(lengths[0], config.initial_density, density, 3.0),
            Phase(lengths[1], density, density),
            Phase(lengths[2], density, final),
            Phase(lengths[3], final, final),
        ),
        config.drop_fraction,
        update_every=config.update_every,
        density_every=config.density_every,
    )
    later = config.restoration_attention
    patterns = (config.warm_up_attention, config.attention, later, later)
    return Plan(phases, phases, patterns, config.window, config.grow != "random")
