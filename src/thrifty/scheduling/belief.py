"""The Bayes filter: schedules under a hidden channel by an exact belief about its state.

The belief is updated by what got through (each cell's successes are binomial given the state) and
moved by the channel's matrix. Energies are the best for the belief, continued with the value of the
delayed problem (``hidden.py``). It does not probe, so its throughput is reached, not optimal: the
optimum of the hidden problem lies between it and the delayed bound.

One hop. Legend: M environments, F flows, C states, K attempts.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling.channels import MarkovChannel
from thrifty.scheduling.hidden import best_under_doubt, delayed, delayed_outcome
from thrifty.scheduling.measurement import Measured, measure
from thrifty.scheduling.optimum import packets
from thrifty.scheduling.queueing import Slot, View
from thrifty.scheduling.scenarios import Scenario, node_budget
from thrifty.scheduling.schedulers import phase_of

Floats = NDArray[np.float64]

_HALVINGS = 14  # energies to 1e-4
_PROBABLE = 1e-12  # successes and failures are taken to be at least this likely


class BeliefScheduler:
    """Acts on the filtered law of each hidden channel.

    Args:
        scenario: one hop, a chain.
        price: of energy; :func:`filtered` finds the one of a budget.

    Raises:
        ValueError: several hops or a recorded channel.
    """

    def __init__(self, scenario: Scenario, price: float) -> None:
        self.name = "Bayes filter"
        self._scenario, self._price = scenario, price
        of = packets(scenario)
        worth = delayed_outcome(of, price).value[..., 0, :]  # [Q, F, C, K], k + 1 attempts left
        # A failure leaves the value of the next slot with one attempt less, by today's state.
        left = np.roll(worth, -1, axis=0)
        left = np.concatenate([np.zeros_like(left[..., :1]), left[..., :-1]], axis=-1)
        gain = scenario.weights[None, :, None, None] - left
        self._gain = np.ascontiguousarray(np.moveaxis(gain, -1, 2))  # [Q, F, K, C]
        self._attenuation = of.attenuation[..., 0]  # [F, C]
        channel = scenario.channel
        assert isinstance(channel, MarkovChannel)
        flows = scenario.flows
        self._kernels = np.broadcast_to(of.kernels, (channel.period, flows, *of.kernels.shape[2:]))
        self._first = np.broadcast_to(
            channel.stationary()[:, :, 0], (channel.period, flows, channel.states)
        )

    def reset(self, environments: int) -> None:
        """Begin with the long-run law of every channel."""
        self._belief: Floats | None = None

    def energies(self, view: View) -> Floats:
        """Return the best energies for the present belief, 0 where there is no packet."""
        phase = phase_of(view, len(self._first), self.name)
        if self._belief is None:
            self._belief = self._first[phase].copy()
        m, f, hop, k = np.nonzero(view.queue)
        found = best_under_doubt(
            self._scenario.law,
            self._belief[m, f],
            self._gain[phase[m], f, k],
            self._price,
            self._attenuation[f],
            halvings=_HALVINGS,
        )
        energies = np.zeros(view.queue.shape)
        energies[m, f, hop, k] = found
        self._sent = (m, f, hop, k), view.queue[m, f, hop, k], found, phase
        return energies

    def observe(self, slot: Slot) -> None:
        """Weigh the states by the likelihood of what got through, and move them."""
        assert self._belief is not None
        cells, count, energy, phase = self._sent
        m, f = cells[:2]
        got = slot.success[cells][:, None]
        chance = self._scenario.law.probability(energy[:, None], self._attenuation[f])
        chance = np.clip(chance, _PROBABLE, 1 - _PROBABLE)
        likelihood = got * np.log(chance) + (count[:, None] - got) * np.log1p(-chance)
        evidence = np.zeros_like(self._belief)
        np.add.at(evidence, (m, f), likelihood)
        belief = self._belief * np.exp(evidence - evidence.max(axis=-1, keepdims=True))
        belief /= belief.sum(axis=-1, keepdims=True)
        self._belief = (belief[:, :, None, :] @ self._kernels[phase])[:, :, 0]


@dataclasses.dataclass(frozen=True, eq=False)
class Filtered:
    """The filter's throughput at a budget, measured.

    Args:
        throughput: weighted, moved along the multiplier to the budget exactly.
        error: standard error of it.
        multiplier: price at which it runs.
        measured: the run behind it.
    """

    throughput: float
    error: float
    multiplier: float
    measured: Measured


def filtered(
    scenario: Scenario,
    budget: float,
    *,
    environments: int = 64,
    slots: int = 1000,
    searches: int = 4,
    seed: int = 0,
) -> Filtered:
    """Return what the Bayes filter reaches at a budget.

    The price is searched on its logarithm by secants on short runs of other seeds, then the filter
    is measured once.

    Args:
        scenario: one hop, a chain.
        budget: energy per slot.
        environments: M.
        slots: of the measurement in each; a search run has a quarter of them.
        searches: runs to find the price.
        seed: of the measurement.
    """
    target = float(node_budget(budget, 1)[0])
    price = float(delayed(scenario, target).multiplier[0])
    step, last = 0.1, None
    binds = price > 0 and target > 0  # else nothing or everything is sent: no price to search
    for search in range(searches if binds else 0):
        run = measure(
            scenario,
            BeliefScheduler(scenario, price),
            environments=environments,
            slots=max(1, slots // 4),
            seed=seed + 1_000_003,
        )
        gap = math.log(max(float(run.energy[0]), 1e-9) / target)
        here = math.log(price)
        if last is not None and abs(gap - last[1]) > 1e-9:
            step = -gap * (here - last[0]) / (gap - last[1])
        elif search == 0:
            step = 1.5 * gap
        last = here, gap
        price *= math.exp(max(-0.5, min(0.5, step)))
    final = measure(
        scenario,
        BeliefScheduler(scenario, price),
        environments=environments,
        slots=slots,
        seed=seed,
    )
    moved = final.each + price * (target - final.each_energy[:, 0])
    return Filtered(
        throughput=float(moved.mean()),
        error=float(moved.std(ddof=1) / math.sqrt(len(moved))) if len(moved) > 1 else 0.0,
        multiplier=price,
        measured=final,
    )
