from __future__ import annotations

import pytest
import torch
from batches import SPEC, batch

from thrifty.marl.episodes import EpisodeBatch
from thrifty.marl.joint_value import JointValue, PartSparsityConfig
from thrifty.marl.wqmix import WQMIX, WQMIXConfig, central_weights, optimistic_weights


def test_central_weights_by_hand() -> None:
    # greedy: full; above the value of the greedy action: full; neither: the small weight.
    y = torch.tensor([0.0, 3.0, 1.0, 2.0])
    at_greedy = torch.full((4,), 2.0)
    greedy = torch.tensor([True, False, False, False])
    assert central_weights(y, at_greedy, greedy, 0.25).tolist() == [1.0, 1.0, 0.25, 0.25]


def test_optimistic_weights_by_hand() -> None:
    y, total = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.5, 1.5, 1.0])
    assert optimistic_weights(y, total, 0.25).tolist() == [1.0, 0.25, 0.25]


class Loops:
    """What an update needs, one step of one episode at a time."""

    def __init__(self, learner: WQMIX, one: EpisodeBatch) -> None:
        self.learner, self.one = learner, one
        inputs = learner.batch_inputs(one)
        with torch.no_grad():
            self.q = learner.value.module.individual(inputs)
            self.central = learner.central.module.individual(inputs)
            self.target = learner.central_target.individual(inputs)

    def greedy(self, t: int, b: int) -> list[int]:
        offered = self.one.available[t, b]
        return [
            max(
                (u for u in range(SPEC.actions) if offered[n, u]),
                key=lambda u, n=n: float(self.q[t, b, n, u]),  # type: ignore[misc]
            )
            for n in range(SPEC.agents)
        ]

    def joint(
        self, module: JointValue, values: torch.Tensor, t: int, b: int, actions: list[int]
    ) -> float:
        chosen = torch.stack([values[t, b, n, u] for n, u in enumerate(actions)])
        with torch.no_grad():
            return float(module(chosen[None, None], self.one.state[t, b][None, None]))

    def step(self, t: int, b: int) -> tuple[float, float, float, float, bool]:
        """Target, Q_tot, Q*, Q*_target at the greedy action, and whether it was taken."""
        learner, one = self.learner, self.one
        taken, best = [int(a) for a in one.action[t, b]], self.greedy(t, b)
        after = self.joint(learner.central_target, self.target, t + 1, b, self.greedy(t + 1, b))
        return (
            float(one.reward[t, b]) + 0.99 * (1 - float(one.terminated[t, b])) * after,
            self.joint(learner.value.module, self.q, t, b, taken),
            self.joint(learner.central.module, self.central, t, b, taken),
            self.joint(learner.central_target, self.target, t, b, best),
            taken == best,
        )


@pytest.mark.parametrize("weighting", ["central", "optimistic"])
def test_both_losses_by_a_plain_loop(weighting: str) -> None:
    config = WQMIXConfig(weighting=weighting, weight=0.3, last_scale=1.0, hidden=8)  # type: ignore[arg-type]
    learner = WQMIX(config, SPEC, seed=1)
    one = batch(4)
    loops = Loops(learner, one)
    rows = [loops.step(int(t), int(b)) for t, b in torch.nonzero(one.filled)]
    weights = [
        1.0 if (greedy or y > at if weighting == "central" else total < y) else 0.3
        for y, total, _, at, greedy in rows
    ]
    assert set(weights) == {1.0, 0.3}
    loss = sum(w * (r[1] - r[0]) ** 2 for w, r in zip(weights, rows, strict=True)) / len(rows)
    central = sum((star - y) ** 2 for y, _, star, _, _ in rows) / len(rows)  # not weighted
    numbers, _ = learner.update(one)
    assert numbers["loss"] == pytest.approx(loss, rel=1e-4)
    assert numbers["central_loss"] == pytest.approx(central, rel=1e-4)
    assert numbers["weight_mean"] == pytest.approx(sum(weights) / len(weights), rel=1e-5)


def test_all_networks_are_sparse_and_stay_so() -> None:
    part = PartSparsityConfig(sparsity=0.9, update_every=2, update_until=20)
    learner = WQMIX(WQMIXConfig(agents=part, mixing=part, target_every=3), SPEC, seed=0)
    moved = set()
    for seed in range(6):
        moved |= set(learner.update(batch(seed))[1])
    assert moved == {"value.agents", "value.mixer", "central.agents", "central.mixer"}
    for value, target in learner.pairs().values():
        for name, part_ in value.parts.items():
            assert part_.topology.sparsity == pytest.approx(0.9, abs=0.01)
            for layer in part_.topology.names:
                online = part_.topology.weight(layer)
                # Update 6 copied: the target holds the online links and no other.
                copied = target.get_parameter(f"{name}.{layer}")
                assert torch.equal(copied, online)
                assert not copied[~part_.topology.mask(layer)].any()


def test_a_target_keeps_its_links_until_the_next_copy() -> None:
    part = PartSparsityConfig(sparsity=0.9, update_every=1, update_until=20)
    learner = WQMIX(WQMIXConfig(agents=part, mixing=part, target_every=4), SPEC, seed=0)
    before = learner.target.agents.nets[0].fc1.weight.clone()
    for seed in range(3):
        learner.update(batch(seed))
        assert torch.equal(learner.target.agents.nets[0].fc1.weight, before)
    learner.update(batch(3))
    assert not torch.equal(learner.target.agents.nets[0].fc1.weight, before)


def test_a_weight_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weight must lie in \(0, 1\], got 0"):
        WQMIX(WQMIXConfig(weight=0.0), SPEC)
