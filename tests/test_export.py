from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import thrifty
from thrifty import sparse_policy
from thrifty.export import encode_onnx, export_policy, policy_of
from thrifty.recipes import rlx2
from thrifty.runs import Run, execute
from toy_environments import Count

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
}
KINDS = pytest.mark.parametrize("kind", [thrifty.TD3, thrifty.SAC])
ONNX = 'needs pip install "thrifty[onnx]"'


def make(kind: Any = thrifty.TD3, env: Any = "Pendulum-v1", **options: Any) -> Any:
    options.setdefault("policy_kwargs", {"net_arch": [32, 24]})
    agent = kind(env, learning_starts=20, batch_size=8, **options)
    with torch.no_grad():  # biases begin at 0 in places: give every number a part
        for name, parameter in agent.learner.actor.module.named_parameters():
            if name.endswith("bias"):
                parameter.add_(torch.linspace(-0.5, 0.5, len(parameter)))
    return agent


def observations(agent: Any, count: int = 20) -> Any:
    size = agent.learner.actor.module.net[0].in_features
    return np.random.default_rng(0).normal(size=(count, size)).astype(np.float32) * 2


def agree(agent: Any, policy: Any) -> None:
    seen = observations(agent)
    expected = np.array([agent.predict(one, deterministic=True)[0] for one in seen])
    assert np.ptp(expected) > 0.1  # it does not all end at a bound
    np.testing.assert_allclose([policy(one) for one in seen], expected, atol=1e-5)
    np.testing.assert_allclose(policy(seen), expected, atol=1e-5)


@KINDS
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
@pytest.mark.parametrize("compiled", [True, False])
def test_the_exported_policy_is_the_agents(
    kind: Any, sparsity: float, compiled: bool, tmp_path: Path
) -> None:
    agent = make(kind, actor_sparsity=sparsity)  # Pendulum's actions reach from -2 to 2
    done = export_policy(agent, tmp_path / "policy.npz")
    policy = sparse_policy.load(done.path, compiled=compiled)
    assert policy.compiled is compiled
    assert policy.low.tolist() == [-2]
    assert policy.high.tolist() == [2]
    assert policy.metadata["algorithm"] == kind.__name__
    assert policy.metadata["environment"] == "Pendulum-v1"
    assert policy.metadata["thrifty"] == thrifty.__version__
    assert policy.sparsity == pytest.approx(done.sparsity)
    assert done.sparsity == pytest.approx(sparsity, abs=0.06)  # SAC loses half of its last layer
    agree(agent, policy)


@KINDS
def test_bounds_that_are_not_symmetric(kind: Any, tmp_path: Path) -> None:
    agent = make(kind, Count(low=(-0.5, 10.0, 0.0), high=(2.0, 11.0, 0.1)))
    export_policy(agent, tmp_path / "policy.npz")
    agree(agent, sparse_policy.load(tmp_path / "policy.npz", compiled=True))
    agree(agent, sparse_policy.load(tmp_path / "policy.npz", compiled=False))


def test_the_published_sac_which_scales_before_the_tanh(tmp_path: Path) -> None:
    config = rlx2.sac_published("Pendulum-v1")
    agent = thrifty.SAC.over("Pendulum-v1", config, 0)
    assert agent.learner.actor.module.pre_tanh_scale == 2
    export_policy(agent, tmp_path / "policy.npz")
    policy = sparse_policy.load(tmp_path / "policy.npz")
    assert policy.high.tolist() == [1]  # it cannot reach what lies beyond
    agree(agent, policy)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_an_actor(activation: str, tmp_path: Path) -> None:
    kwargs = {"net_arch": [32, 24], "activation_fn": ACTIVATIONS[activation]}
    agent = make(policy_kwargs=kwargs, actor_sparsity=0.5)
    export_policy(agent, tmp_path / "policy.npz")
    agree(agent, sparse_policy.load(tmp_path / "policy.npz"))


@pytest.mark.parametrize("layer", [nn.LayerNorm(24), nn.Softplus(), nn.ELU(alpha=2.0)])
def test_other_layers_are_refused(layer: nn.Module, tmp_path: Path) -> None:
    agent = make()
    agent.learner.actor.module.net[3] = layer
    with pytest.raises(ValueError, match=r"layer .* cannot be exported; activations are relu, "):
        export_policy(agent, tmp_path / "policy.npz")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    agent = make()
    with torch.no_grad():
        agent.learner.actor.module.net[0].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite: export an earlier checkpoint"):
        export_policy(agent, tmp_path / "policy.npz")


@pytest.mark.parametrize("sizes", [(17, 6), (348, 17)], ids=["HalfCheetah", "Humanoid"])
def test_the_file_is_small(sizes: tuple[int, int], tmp_path: Path) -> None:
    """At most 15 % of the dense weights at 95 % sparsity: links cost 5 bytes instead of 80."""
    inputs, outputs = sizes

    class Sized(Count):
        def __init__(self) -> None:
            super().__init__(low=(-1.0,) * outputs)
            self.observation_space = type(self.observation_space)(-1, 1, (inputs,))

        def seen(self) -> Any:
            return np.zeros(inputs, np.float32)

    agent = thrifty.TD3(Sized(), actor_sparsity=0.95, critic_sparsity=0.9)
    done = export_policy(agent, tmp_path / "policy.npz")
    dense = io.BytesIO()
    np.savez(dense, *(p.detach().numpy() for p in agent.learner.actor.module.parameters()))
    assert done.size == (tmp_path / "policy.npz").stat().st_size
    assert done.size <= 0.15 * len(dense.getvalue())
    assert done.dense_size == 4 * (256 * (inputs + 256 + outputs) + 512 + outputs)


def test_a_run_and_an_agents_file_are_exported_alike(tmp_path: Path) -> None:
    run = Run(
        recipe="rlx2.sac",
        arguments={"environment": "Pendulum-v1", "steps": 1_010},
        config=rlx2.sac("Pendulum-v1", 1_010),
        seed=0,
        directory=tmp_path / "run",
    )
    execute(run, callbacks=[lambda record: record["kind"] != "train"])
    from_run = export_policy(tmp_path / "run", tmp_path / "deep" / "run.npz")
    agent = thrifty.agents.load_run_policy(tmp_path / "run")
    exported = sparse_policy.load(from_run.path)
    agree(agent, exported)
    assert exported.metadata["steps"] == agent.num_timesteps > 0
    saved = make(thrifty.SAC).save(tmp_path / "agent")
    from_file = export_policy(tmp_path / "agent", tmp_path / "agent_policy.npz")
    direct = export_policy(thrifty.SAC.load(saved), tmp_path / "direct.npz")
    assert from_file.path.read_bytes() == direct.path.read_bytes()


def test_only_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    agent, out = make(), tmp_path / "policy.npz"
    export_policy(agent, out)
    export_policy(agent, out)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.npz"]  # nothing temporary stays
    saved = agent.save(tmp_path / "agent.npz")
    before = saved.read_bytes()
    with pytest.raises(ValueError, match=r"agent\.npz exists and is no exported policy"):
        export_policy(agent, saved)
    assert saved.read_bytes() == before
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ValueError, match="exists and is no exported policy"):
        export_policy(agent, tmp_path / "folder.npz")


def test_mistakes_are_named(tmp_path: Path) -> None:
    agent = make()
    with pytest.raises(ValueError, match=r"ends in neither \.npz .* nor \.onnx"):
        export_policy(agent, tmp_path / "policy.pt")
    export_policy(agent, tmp_path / "policy.npz")
    with pytest.raises(ValueError, match="is exported already: give a run's folder"):
        export_policy(tmp_path / "policy.npz", tmp_path / "again.npz")
    with pytest.raises(
        ValueError, match=r"nothing\.npz is neither a run's folder nor an agent's file"
    ):
        export_policy(tmp_path / "nothing", tmp_path / "again.npz")


@KINDS
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx_acts_alike(kind: Any, activation: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason=ONNX)
    runtime = pytest.importorskip("onnxruntime", reason=ONNX)
    kwargs = {"net_arch": [32, 24], "activation_fn": ACTIVATIONS[activation]}
    agent = make(kind, Count(low=(-0.5, 10.0), high=(2.0, 11.0)), policy_kwargs=kwargs)
    done = export_policy(agent, tmp_path / "policy.onnx")
    session = runtime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    (described,) = session.get_inputs()
    assert described.shape == ["batch", 2]
    seen = observations(agent)
    (actions,) = session.run(["action"], {"observation": seen})
    np.testing.assert_allclose(actions, agent.predict(seen)[0], atol=1e-5)


def test_an_onnx_file_of_somebody_else_stays(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason=ONNX)
    agent, out = make(), tmp_path / "policy.onnx"
    export_policy(agent, out)
    export_policy(agent, out)
    model = onnx.load(out)
    assert {entry.key for entry in model.metadata_props} >= {"algorithm", "environment"}
    model.producer_name = "another"
    onnx.save(model, out)
    for foreign in (out.read_bytes(), b"text", b""):
        out.write_bytes(foreign)
        with pytest.raises(ValueError, match="exists and is no exported policy"):
            export_policy(agent, out)


def test_without_the_extra_its_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    agent = make()
    with pytest.raises(ImportError, match=r'pip install "thrifty\[onnx\]"'):
        export_policy(agent, tmp_path / "policy.onnx")
    with pytest.raises(ImportError, match=r'pip install "thrifty\[onnx\]"'):
        encode_onnx(policy_of(agent))
