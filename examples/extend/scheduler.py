"""A scheduler of one's own, beside those in use and the exact optimum.

It prices energy like the myopic rule, but a packet that has slots left keeps a part of its worth
where it fails now. That much looking ahead is worth some points on S4.
"""

from __future__ import annotations

import numpy as np

from thrifty.scheduling import Scenario
from thrifty.scheduling.baselines import table
from thrifty.scheduling.measurement import measure
from thrifty.scheduling.queueing import Slot, View
from thrifty.scheduling.scenarios import scenario


class Patient:
    """Gives every cell ``argmax_e beta (1 - kept) p(e) - price e``, kept grows with slots left."""

    name = "patient"

    def __init__(self, of: Scenario, price: float, most_kept: float = 0.5) -> None:
        self.of, self.price = of, price
        left = np.arange(of.most_attempts)  # after this slot; 0 is the last chance
        self.kept = most_kept * left / (left + 1)

    def reset(self, environments: int) -> None:
        """There is nothing to forget."""

    def energies(self, view: View) -> np.ndarray:
        """Return an energy in [0, 1] for every environment, flow, hop and slot left."""
        flow, hop = np.indices(self.of.distances.shape)
        attenuation = self.of.attenuation[flow, hop, view.channel][..., None]
        worth = self.of.weights[:, None, None] * (1 - self.kept)
        return self.of.law.best_energy(worth, self.price, attenuation)

    def observe(self, slot: Slot) -> None:
        """There is nothing to learn."""


def main() -> None:
    s4 = scenario("S4")
    low, high = 0.1, 10.0  # the price that meets the budget, on other seeds than the table's
    for _ in range(12):
        price = float(np.sqrt(low * high))
        spent = measure(s4, Patient(s4, price), slots=400, seed=100).energy
        low, high = (price, high) if spent > s4.budget else (low, price)
    for found, _, part in table(s4, s4.budget, also=[Patient(s4, price)], slots=400):
        missed = 100 * found.missed.sum() / (found.missed + found.delivered).sum()
        print(
            f"{found.name:20} throughput {found.throughput:6.2f}, energy {found.energy[0]:5.2f}: "
            f"{100 * part:5.1f} % of the optimum at that energy, {missed:2.0f} % missed"
        )


if __name__ == "__main__":
    main()
