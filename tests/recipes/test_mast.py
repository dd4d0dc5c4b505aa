from __future__ import annotations

from typing import Any

import pytest

from thrifty.marl import QMIXConfig, RESConfig, WQMIXConfig
from thrifty.recipes import mast

ENV = "skirmish"


@pytest.mark.parametrize(
    ("learner", "kind", "fields"),
    [
        ("qmix", QMIXConfig, {"mixer": "qmix"}),
        ("vdn", QMIXConfig, {"mixer": "vdn"}),
        ("cw_qmix", WQMIXConfig, {"weighting": "central"}),
        ("ow_qmix", WQMIXConfig, {"weighting": "optimistic"}),
        ("res", RESConfig, {"beta": 0.05, "regulariser": 0.05}),
    ],
)
def test_learners(learner: Any, kind: type, fields: dict[str, Any]) -> None:
    algorithm = mast.mast(ENV, learner=learner).algorithm
    assert type(algorithm) is kind
    assert {name: getattr(algorithm, name) for name in fields} == fields
    with pytest.raises(ValueError, match="unknown learner 'mappo'"):
        mast.mast(ENV, learner="mappo")  # type: ignore[arg-type]


def test_mast_is_its_three_tricks() -> None:
    def tricks(config: Any) -> dict[str, Any]:
        names = ("td_lambda", "n_step", "next_value", "batch_episodes", "recent_batch")
        return {name: getattr(config.algorithm, name) for name in names}

    plain = tricks(mast.rigl(ENV))
    assert plain == {
        "td_lambda": 0.0,
        "n_step": 1,
        "next_value": "double",
        "batch_episodes": 32,
        "recent_batch": 0,
    }
    alone: dict[str, Any] = {
        "td_lambda": {"td_lambda": 0.6},
        "soft_mellowmax": {"next_value": "soft_mellowmax"},
        "dual_buffers": {"batch_episodes": 24, "recent_batch": 8},
    }
    together = dict(plain)
    for name, change in alone.items():
        assert tricks(mast.rigl(ENV, tricks=name)) == plain | change  # type: ignore[arg-type]
        together |= change
    assert tricks(mast.mast(ENV)) == tricks(mast.dense(ENV, tricks="mast")) == together
    assert tricks(mast.rlx2(ENV)) == plain | {"n_step": 3}
    # RES keeps its own softmax.
    assert tricks(mast.mast(ENV, learner="res")) == together | {"next_value": "double"}
    with pytest.raises(ValueError, match='softmax of their own, tricks="soft_mellowmax" would do'):
        mast.static(ENV, learner="res", tricks="soft_mellowmax")
    with pytest.raises(ValueError, match="unknown tricks 'luck'; choose none, rlx2, mast"):
        mast.rigl(ENV, tricks="luck")  # type: ignore[arg-type]


def test_topologies() -> None:
    config = mast.mast(ENV, sparsity=0.9)
    assert config.algorithm.agents == config.algorithm.mixing
    assert config.algorithm.agents.sparsity == 0.9
    assert config.algorithm.agents.grow == "gradient"
    assert config.resolved().algorithm.agents.update_until == config.updates
    assert mast.set(ENV).algorithm.agents.grow == "random"
    assert mast.static(ENV).resolved().algorithm.mixing.update_until == 0
    for config in (mast.dense(ENV), mast.tiny(ENV)):
        assert config.algorithm.agents.sparsity == config.algorithm.mixing.sparsity == 0.0
    own = mast.mast(ENV, parameters="own").algorithm
    assert (own.agents.scope, own.mixing.scope) == ("agents", "layer")


def test_times_of_a_whole_run() -> None:
    resolved = mast.mast(ENV, 2_000_000).resolved()
    # 31,250 updates: lambda from 3/8 of them on, an evolution step every 1/200.
    assert resolved.algorithm.long_after == 11_718
    assert resolved.algorithm.agents.update_every == 156
    assert mast.rlx2(ENV, 2_000_000).resolved().algorithm.long_after == 3125
