"""The queues of M environments at once, in NumPy; the inner loops also compiled.

One slot, in this order:

1. every packet present is sent with the energy e in [0, 1] of its cell (flow, hop, slots left);
2. that energy is charged, whether the packet gets through or not;
3. each packet gets through independently with probability ``law(e, d^3 c)``; at the last hop it is
   delivered and earns its flow's weight, elsewhere it appears at the next hop in the next slot;
4. all packets lose one slot; what had none left is lost;
5. new packets arrive with their full number of attempts, to be sent from the next slot on;
6. channels move.

Random numbers are drawn in equal amount whatever is decided, from four streams of one seed
(arrivals, channels, successes, sight), so that two schedulers with one seed meet the same packets,
channels and uniforms.

Legend: M environments, F flows, H hops, K most attempts, C channel states; index k of a queue is
"slots left after this one".

Reference:
    The slot of the published environment (arXiv 2208.14074), widened to several hops.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from thrifty.scheduling import compiled_queues
from thrifty.scheduling.channels import MarkovChannel
from thrifty.scheduling.scenarios import Scenario

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SIGHTS = ("full", "hidden", "delayed", "noisy")
STARTS = ("stationary", "uniform")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Sight:
    """What of the channel is seen.

    Args:
        kind: "full", "hidden", "delayed" (the state ``delay`` slots ago) or "noisy" (a state drawn
            from the true one's row of ``confusion``).
        delay: slots, at least 1, for "delayed".
        confusion: [C, C], or one number eps: the true state with probability 1 - eps, else any
            other alike. For "noisy".
        phase: whether the slot of the channel's cycle is seen.

    Raises:
        ValueError: an unknown kind, or numbers that do not fit it.
    """

    kind: str = "full"
    delay: int = 0
    confusion: Any = None
    phase: bool = True

    def __post_init__(self) -> None:
        if self.kind not in SIGHTS:
            raise ValueError(f"sight is {', '.join(SIGHTS)}; got {self.kind!r}")
        if (self.kind == "delayed") != (self.delay > 0):
            raise ValueError(f"delay {self.delay}: give a delay >= 1 slots with sight 'delayed'")
        if (self.kind == "noisy") != (self.confusion is not None):
            raise ValueError("a confusion matrix or eps belongs to sight 'noisy', and only there")

    def matrix(self, states: int) -> Floats:
        """Return the confusion matrix for so many states [C, C].

        Raises:
            ValueError: it is not stochastic or of another size.
        """
        given = np.asarray(self.confusion, dtype=np.float64)
        if given.ndim == 0:
            if not 0 <= given <= 1:
                raise ValueError(f"eps must lie in [0, 1], got {given:g}")
            others = given / max(1, states - 1)
            return np.full((states, states), others) + np.eye(states) * (1 - given - others)
        if (
            given.shape != (states, states)
            or given.min() < 0
            or not np.allclose(given.sum(axis=1), 1)
        ):
            raise ValueError(f"the confusion matrix must be stochastic, {states} x {states}")
        return given


class View(NamedTuple):
    """What a scheduler sees at the beginning of a slot.

    The arrays are the simulator's own and change with the next slot; only to be read.
    """

    queue: Ints
    """Packets [M, F, H, K]."""
    channel: Ints | None
    """Channel states as seen [M, F, H], None if hidden."""
    phase: Ints | None
    """Slot of the channel's cycle [M], None if hidden."""


class Slot(NamedTuple):
    """What a slot brought. The arrays are the simulator's own and change with the next slot."""

    throughput: Floats
    """Weighted deliveries [M]."""
    energy: Floats
    """Charged at each node [M, H]."""
    delivered: Ints
    """Packets [M, F]."""
    missed: Ints
    """Packets lost at the deadline [M, F]."""
    arrived: Ints
    """New packets [M, F]."""
    spent: Floats
    """Energy of each flow at each hop [M, F, H]."""
    success: Ints
    """Packets of each cell that got through [M, F, H, K]."""


class Advance(NamedTuple):
    """What :func:`advance` returns, see :class:`Slot`; ``delays`` counts deliveries [M, F, K]."""

    queue: Ints
    success: Ints
    delivered: Ints
    missed: Ints
    spent: Floats
    delays: Ints


def binomial(uniforms: Floats, count: Ints, chance: Floats) -> Ints:
    """Return binomial numbers by inversion: the smallest s with P(S <= s) > u, elementwise."""
    number = np.zeros(count.shape, dtype=np.int64)
    for s in range(int(count.max(initial=0))):
        number += (s < count) & (bdtr(float(s), count, chance) <= uniforms)
    return number


def advance(
    queue: Ints, energy: Floats, chance: Floats, uniforms: Floats, arrivals: Ints, attempts: Ints
) -> Advance:
    """Play steps 1 to 5 of a slot: the reference of ``compiled_queues.advance``.

    Args:
        queue: packets [M, F, H, K].
        energy: of an attempt in each cell [M, F, H, K].
        chance: of success at that energy [M, F, H, K].
        uniforms: that decide it [M, F, H, K].
        arrivals: [M, F].
        attempts: K of each flow [F].
    """
    most = queue.shape[-1]
    spent = (energy * queue).sum(axis=-1)
    success = binomial(uniforms, queue, chance)
    failed = queue - success
    delivered = success[:, :, -1].sum(axis=-1)
    missed = failed[..., 0].sum(axis=-1) + success[:, :, :-1, 0].sum(axis=-1)
    after = np.zeros_like(queue)
    after[..., :-1] = failed[..., 1:]
    after[:, :, 1:, :-1] += success[:, :, :-1, 1:]
    after[:, np.arange(len(attempts)), 0, attempts - 1] = arrivals
    taken = attempts[:, None] - 1 - np.arange(most)  # slots taken minus 1, by slots left
    delays = np.zeros_like(success[:, :, -1])
    for flow, row in enumerate(taken):
        present = row >= 0
        delays[:, flow, row[present]] = success[:, flow, -1, present]
    return Advance(after, success, delivered, missed, spent, delays)


class Queues:
    """M copies of a scenario, played slot by slot.

    Args:
        scenario: the problem.
        environments: M.
        sight: what :meth:`view` shows of the channel; all of it if left out.
        start: "stationary" (long-run channel, a random slot of its cycle) or "uniform" (any state
            alike, first slot of the cycle: the published episodes). Queues start empty.
        clock: slot of the cycle, or of the record, to start in; overrides ``start``'s choice.
        compiled: use the compiled inner loops.

    Example:
        >>> from thrifty.scheduling.scenarios import scenario
        >>> queues = Queues(scenario("S1"), 2)
        >>> queues.reset(0)
        >>> queues.step(np.ones(queues.queue.shape)).delivered.shape
        (2, 4)
    """

    def __init__(
        self,
        scenario: Scenario,
        environments: int,
        *,
        sight: Sight | None = None,
        start: str = "stationary",
        clock: int | None = None,
        compiled: bool = True,
    ) -> None:
        if environments < 1:
            raise ValueError(f"at least one environment is needed, got {environments}")
        if start not in STARTS:
            raise ValueError(f"a start is {' or '.join(STARTS)}; got {start!r}")
        self.scenario = scenario
        self.environments = environments
        self.sight = sight or Sight()
        self._start, self._clock, self._compiled = start, clock, compiled
        channel = scenario.channel
        links = (environments, scenario.flows, scenario.hops)
        self._cells = (*links, scenario.most_attempts)
        self._links = links
        self._attenuation = scenario.attenuation
        self._link_index = (np.arange(links[1])[:, None], np.arange(links[2]))
        if isinstance(channel, MarkovChannel):
            self._cumulative = np.cumsum(channel.kernels, axis=-1)
            self._cycle = np.array(channel.cycle)
            self._stationary = np.cumsum(channel.stationary(), axis=-1)
        if self.sight.kind == "noisy":
            self._confusion = np.cumsum(self.sight.matrix(channel.states), axis=-1)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start again with empty queues; the same seed gives the same random numbers."""
        arrivals, channels, successes, sight = (
            np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(4)
        )
        self._arrivals, self._channels, self._successes = arrivals, channels, successes
        self._sight_noise = sight
        self.queue = np.zeros(self._cells, dtype=np.int64)
        self._uniforms = np.empty(self._cells)
        self._success = np.zeros(self._cells, dtype=np.int64)
        self._result = np.zeros((2, *self._links[:2]), dtype=np.int64)
        self._spent = np.zeros(self._links)
        self.clear_tally()
        self._begin_channel()

    def clear_tally(self) -> None:
        """Forget what has been counted so far (after warm-up slots)."""
        flows = self._links[:2]
        self.slots = 0
        self.delays = np.zeros((*flows, self._cells[-1]), dtype=np.int64)
        """Deliveries by slots taken minus 1 [M, F, K]."""
        self.missed = np.zeros(flows, dtype=np.int64)
        """Packets lost [M, F]."""
        self.arrived = np.zeros(flows, dtype=np.int64)
        """Packets that came [M, F]."""
        self.spent = np.zeros(self._links)
        """Energy [M, F, H]."""

    @property
    def delivered(self) -> Ints:
        """Packets delivered since the tally was cleared [M, F]."""
        return np.asarray(self.delays.sum(axis=-1))

    def view(self) -> View:
        """Return what a scheduler sees now."""
        return View(self.queue, self._seen, self.phase if self.sight.phase else None)

    @property
    def phase(self) -> Ints:
        """Slot of the channel's cycle, or of its record [M]."""
        return np.asarray(self._now % self.scenario.channel.period)

    def step(self, energy: ArrayLike) -> Slot:
        """Play one slot.

        Args:
            energy: of an attempt in each cell [M, F, H, K], in [0, 1] (not checked here).

        Raises:
            ValueError: another shape.
        """
        scenario = self.scenario
        energy = np.asarray(energy, dtype=np.float64)
        if energy.shape != self._cells:
            raise ValueError(
                f"energies have the shape {self._cells} [M, F, H, K]; got {energy.shape}"
            )
        chance = scenario.law.probability(energy, self._state_attenuation[..., None])
        self._successes.random(out=self._uniforms)
        arrived = scenario.arrivals.draw(self._now, self._arrivals)
        if self._compiled:
            compiled_queues.advance(
                self.queue, energy, chance, self._uniforms, arrived, scenario.attempts,
                self._success, self._result, self._spent, self.delays,
            )  # fmt: skip
        else:
            found = advance(self.queue, energy, chance, self._uniforms, arrived, scenario.attempts)
            self.queue[...] = found.queue
            self._success[...] = found.success
            self._result[:] = found.delivered, found.missed
            self._spent[...] = found.spent
            self.delays += found.delays
        delivered, missed = self._result
        self.slots += 1
        self.missed += missed
        self.arrived += arrived
        self.spent += self._spent
        self._move_channel()
        return Slot(
            delivered @ scenario.weights,
            self._spent.sum(axis=1),
            delivered,
            missed,
            arrived,
            self._spent,
            self._success,
        )

    # The channel.

    def _begin_channel(self) -> None:
        channel, links = self.scenario.channel, self._links
        both = channel.period * self.scenario.arrivals.period
        draws = self._channels.integers(both, size=links[0])
        fixed = self._clock if self._clock is not None else 0
        free = self._start == "stationary" and self._clock is None
        self._now = draws if free else np.full(links[0], fixed)
        if isinstance(channel, MarkovChannel):
            uniforms = self._draw_links()
            if self._start == "uniform":
                self.channel = (uniforms * channel.states).astype(np.int64)
            else:
                law = np.broadcast_to(self._stationary[self.phase], (*links, channel.states))
                state = (law <= uniforms[..., None]).sum(axis=-1)
                self.channel = np.minimum(state, channel.states - 1)
        else:
            self.channel = channel.states_at[self._now % channel.period]
        self._past = [self.channel.copy()]
        for back in range(1, self.sight.delay + 1):  # what a delayed sight shows at first
            self._past.insert(0, self._before(self._past[0], self._now - back))
        self._look()

    def _before(self, after: Ints, slot: Ints) -> Ints:
        """Draw the states in a slot [M] from those in the next one: the long-run chain backwards.

        Draws come from the sight's own stream, so that all sights meet the same channel.
        """
        channel = self.scenario.channel
        at = slot % channel.period
        if not isinstance(channel, MarkovChannel):
            return np.asarray(channel.states_at[at])
        joint = channel.stationary()[at][..., None] * channel.by_slot()[at]
        size = (*self._links, channel.states, channel.states)
        into = np.swapaxes(np.broadcast_to(joint, size), -1, -2)  # [M, F, H, after, before]
        law = np.take_along_axis(into, after[..., None, None], axis=-2)[..., 0, :].cumsum(axis=-1)
        draws = self._sight_noise.random((self._links[0], 1, 1) if channel.common else self._links)
        state = (law[..., :-1] <= draws[..., None] * law[..., -1:]).sum(axis=-1)
        # A state that the long run never enters (a uniform start may be in one) was there before.
        return np.where(law[..., -1] > 0, state, after)

    def _draw_links(self) -> Floats:
        channel = self.scenario.channel
        if isinstance(channel, MarkovChannel) and channel.common:
            draws = self._channels.random(self._links[0])[:, None, None]
            return np.ascontiguousarray(np.broadcast_to(draws, self._links))
        return self._channels.random(self._links)

    def _move_channel(self) -> None:
        channel = self.scenario.channel
        if isinstance(channel, MarkovChannel):
            uniforms = self._draw_links()
            matrix = self._cycle[self._now % channel.period]
            if self._compiled:
                compiled_queues.move(self.channel, uniforms, self._cumulative, matrix)
            else:
                flow, hop = self._link_index
                shape = self._cumulative.shape
                rows = self._cumulative[
                    matrix[:, None, None], flow % shape[1], hop % shape[2], self.channel
                ]
                state = (rows[..., :-1] <= uniforms[..., None]).sum(axis=-1)
                self.channel[...] = state
        self._now = self._now + 1
        if not isinstance(channel, MarkovChannel):
            self.channel = channel.states_at[self._now % channel.period]
        if self.sight.delay:
            self._past = [*self._past[-self.sight.delay :], self.channel.copy()]
        self._look()

    def _look(self) -> None:
        """Note the attenuation of the present states, and what is seen of them."""
        flow, hop = self._link_index
        self._state_attenuation = self._attenuation[flow, hop, self.channel]
        kind = self.sight.kind
        self._seen: Ints | None = None
        if kind == "full":
            self._seen = self.channel
        elif kind == "delayed":
            self._seen = self._past[0]
        elif kind == "noisy":
            draws = self._sight_noise.random(self._links)[..., None]
            self._seen = (self._confusion[self.channel][..., :-1] <= draws).sum(axis=-1)
