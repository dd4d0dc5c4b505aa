from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import thrifty
from thrifty.control import ControlConfig, SACConfig, SparsityConfig, TD3Config
from thrifty.control.backend import ENGINE_FROM, Backend, choose
from thrifty.runs import load_state, save_state

SMALL: dict[str, Any] = {"actor_hidden": (8, 8), "critic_hidden": (8, 8), "batch_size": 4}


def chosen(
    asked: Any = "auto", sparsity: float = 0.8, kind: Any = TD3Config, **options: Any
) -> Any:
    part = SparsityConfig(sparsity=sparsity)
    config = kind(**{**SMALL, "actor": part, "critic": part, **options})
    return choose(asked, config.build(3, 1, seed=0))


@pytest.mark.parametrize("kind", [TD3Config, SACConfig])
def test_the_engine_is_chosen_where_enough_is_cut(kind: Any) -> None:
    backend, reason = chosen(kind=kind)
    assert backend == "engine"
    assert reason.endswith("of the weights are cut, above the 50 % from which the engine is faster")
    backend, reason = chosen(kind=kind, sparsity=0.3)
    assert backend == "reference"
    assert reason.endswith("cut, below the 50 % from which the engine is taken")
    assert chosen(kind=kind, sparsity=0.0) == ("reference", "dense: no weight is cut")


def test_actor_and_critics_count_together() -> None:
    # Actor 3-8-8-1: 24 + 64 + 8 = 96 weights; two critics 4-8-8-1: 2 (32 + 64 + 8) = 208.
    # Critics at 0.75 keep 52 of 208, the dense actor keeps 96: 1 - 148 / 304 = 51.3 % are cut.
    dense, sparse = SparsityConfig(), SparsityConfig(sparsity=0.75)
    expected = "51.3 % of the weights are cut, above the 50 % from which the engine is faster"
    assert chosen(actor=dense, critic=sparse) == ("engine", expected)
    # The other way round 24 + 208 of 304 are left.
    backend, reason = chosen(actor=sparse, critic=dense)
    assert backend == "reference"
    assert reason.startswith("23.7 % of the weights are cut")
    assert ENGINE_FROM == 0.5


def test_a_narrow_dense_network_is_dense_whatever_its_twin() -> None:
    narrow = chosen(sparsity=0.0, dense_twin_hidden=(256, 256))
    assert narrow == ("reference", "dense: no weight is cut")


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({"dtype": "float64"}, "float64"),
        ({"activation": "elu"}, "activation elu"),
        ({"activation": "tanh"}, "activation tanh"),
    ],
)
def test_what_the_engine_lacks_runs_on_the_reference(options: Any, lacking: str) -> None:
    assert chosen(**options) == ("reference", f"the engine has no {lacking}")


@pytest.mark.parametrize("asked", ["reference", "engine"])
def test_what_is_asked_for_is_taken(asked: Backend) -> None:
    assert chosen(asked, 0.0, dtype="float64") == (asked, "as configured")


@pytest.mark.parametrize("module", ["numba", "thrifty.control.compiled"])
def test_without_compiled_code_the_reference_goes_on(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # importing it is an ImportError
    backend, reason = chosen()
    assert backend == "reference"
    assert reason.startswith("the engine cannot be loaded (")
    assert module in reason


def test_compilation_that_is_switched_off_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert chosen() == ("reference", "the engine cannot be loaded (NUMBA_DISABLE_JIT is set)")


def test_compilation_that_is_switched_off_from_the_start_is_named() -> None:
    """In a process of its own, where no module of the engine has been loaded before."""
    program = """
from thrifty.control import ControlConfig, SparsityConfig, TD3Config
half = SparsityConfig(sparsity=0.8)
algorithm = TD3Config(actor_hidden=(8, 8), critic_hidden=(8, 8), actor=half, critic=half)
for backend in ("auto", "engine"):
    config = ControlConfig(environment="Pendulum-v1", algorithm=algorithm, backend=backend)
    try:
        experiment = config.build(0)
        print(experiment.backend, experiment._backend_reason)
    except ImportError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "reference the engine cannot be loaded (NUMBA_DISABLE_JIT is set)",
        "the engine cannot be loaded (NUMBA_DISABLE_JIT is set): use backend=reference",
    ]


def config(sparsity: float, **changes: Any) -> ControlConfig:
    part = SparsityConfig(sparsity=sparsity, update_every=5, update_until=1000)
    return ControlConfig(
        environment="Pendulum-v1",
        steps=40,
        learning_starts=10,
        evaluate_every=0,
        random_episodes=0,
        record_every=10,
        algorithm=TD3Config(**{**SMALL, "actor": part, "critic": part, **changes}),
    )


@pytest.mark.parametrize(("sparsity", "backend"), [(0.8, "engine"), (0.2, "reference")])
def test_a_run_records_it_and_keeps_it_when_resumed(
    sparsity: float, backend: str, tmp_path: Path
) -> None:
    whole = [r for r in config(sparsity).build(1).records() if r is not None]
    assert whole[0]["backend"] == backend
    assert "of the weights are cut" in whole[0]["backend_reason"]
    first = config(sparsity).build(1)
    records = []
    for record in first.records():
        records += [record] if record is not None else []
        if first.step == 25:
            break
    save_state(tmp_path / "state.npz", first.state_dict())
    second = config(sparsity).build(1)
    second.load_state_dict(load_state(tmp_path / "state.npz"))
    assert second.backend == backend
    assert records + [r for r in second.records() if r is not None] == whole


def test_the_engine_asked_for_where_it_cannot_be_is_an_error() -> None:
    asked = dataclasses.replace(config(0.8, dtype="float64"), backend="engine")
    with pytest.raises(ValueError, match="the engine has no float64: use backend=reference"):
        asked.build(0)


@pytest.mark.parametrize("kind", [thrifty.TD3, thrifty.SAC])
def test_agents_take_a_backend(kind: Any, tmp_path: Path) -> None:
    policies = {}
    for backend in ("auto", "engine", "reference"):
        starts: list[dict[str, Any]] = []
        agent = kind("Pendulum-v1", backend=backend, learning_starts=20, batch_size=8)
        agent.learn(30, callback=starts.append)
        assert starts[0]["backend"] == ("reference" if backend == "reference" else "engine")
        again = kind.load(agent.save(tmp_path / backend))
        policies[backend] = again.predict(np.ones((3, 3)))[0]
        np.testing.assert_array_equal(policies[backend], agent.predict(np.ones((3, 3)))[0])
    np.testing.assert_array_equal(policies["auto"], policies["engine"])
    with pytest.raises(ValueError, match="choose auto, reference or engine"):
        kind("Pendulum-v1", backend="gpu")
