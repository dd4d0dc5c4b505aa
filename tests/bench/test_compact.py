from __future__ import annotations

from pathlib import Path

import pytest
import torch

from thrifty.bench import compact, schema
from thrifty.bench.cases import HALFCHEETAH, random_replay
from thrifty.engine.modules import SparseMLP


def test_every_sparsity_is_measured_in_the_schema(tmp_path: Path) -> None:
    rows = compact.measure(rounds=1)
    schema.write(tmp_path / "compact.json", rows, command="thrifty bench compact")
    assert schema.read(tmp_path / "compact.json") == rows
    compared = {row.sparsity for row in rows if row.ratio_to == compact.DENSE}
    assert compared == set(compact.SPARSITIES) >= set(compact.MARKS)


def test_both_sides_learn_and_only_one_is_compact() -> None:
    replay = random_replay(HALFCHEETAH, 1000)
    for sparsity in (0.0, 0.9):
        learner = compact.LeanTD3(HALFCHEETAH, replay, sparsity)
        kinds = {type(module) for module in learner.critic.modules()}
        assert (SparseMLP in kinds) == bool(sparsity)
        networks = (learner.actor, learner.critic, learner.actor_target, learner.critic_target)
        before = [[p.detach().clone() for p in network.parameters()] for network in networks]
        for update, moved in ((1, {1}), (2, {0, 1, 2, 3})):  # the actor waits for the second
            learner.update()
            assert learner.updates == update
            assert moved == {
                number
                for number, (network, old) in enumerate(zip(networks, before, strict=True))
                if any(
                    not torch.equal(p, q) for p, q in zip(network.parameters(), old, strict=True)
                )
            }


@pytest.mark.slow
def test_fewer_links_take_less_time() -> None:
    """By the low quantiles, which a busy machine disturbs least; whether the marks are met depends
    on the machine's dense products, and stands in benchmarks/README.md.
    """
    rows = [row for row in compact.measure(rounds=30) if row.statistic == "low"]
    ratios = [row.ratio for row in rows if row.ratio_to is not None]
    assert len(ratios) == len(compact.SPARSITIES)
    assert ratios == sorted(ratios)  # sparsities rise
    assert ratios[0] is not None
    assert ratios[0] > 1.5
