"""What leaves the house: ``thrifty export RUN --out policy.npz`` or ``policy.onnx``.

A language model leaves as a folder in Hugging Face's layout (:mod:`thrifty.lm.weights`).

Both files of a policy hold it without noise and give actions in the environment's own bounds. An
``.onnx`` holds dense weights, zeros included; it takes observations [batch, O] named "observation"
and gives actions [batch, A] named "action". An ``.npz`` holds the non-zero weights alone, for
:mod:`thrifty.sparse_policy`, which needs NumPy only. Its format, "thrifty policy 1", is an ordinary
zip archive without pickle; ``n`` counts the layers from 0:

| member | content |
|---|---|
| policy.json | format, inputs, layers (outputs, activation, links), output (tanh), metadata |
| n.values.npy | the non-zero weights, row by row (a row is an output), float32 |
| n.columns.npy, n.counts.npy | links "columns": the inputs, and how many a row has; uint8 or 16 |
| n.mask.npy | links "mask", where that is smaller: a bit for each weight, packed, row by row |
| n.bias.npy | float32 |
| low.npy, high.npy | bounds of the actions, float32 |

The zip comment, the last bytes of the file, is a mark and the BLAKE2b digest of every byte before
it: a damaged file is refused before it is parsed.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import thrifty
from thrifty.agents import SAC, TD3, Agent, TrainedScheduler, load_run_policy
from thrifty.lm import weights
from thrifty.lm.config import PretrainingConfig
from thrifty.rl.networks import GaussianActor
from thrifty.runs import durable, load_state, read_checkpoint, read_run
from thrifty.sparse_policy import (
    DIGEST_LENGTH,
    FORMAT,
    MARK,
    WIDEST,
    Contents,
    Floats,
    Layer,
    digest_of,
)

_EPOCH = (1980, 1, 1, 0, 0, 0)  # members carry no clock time: equal policies are equal files
_ACTIVATIONS: dict[type[nn.Module], tuple[str, dict[str, object]]] = {
    nn.ReLU: ("relu", {}),
    nn.Tanh: ("tanh", {}),
    nn.ELU: ("elu", {"alpha": 1.0}),
    nn.SiLU: ("silu", {}),
    nn.GELU: ("gelu", {"approximate": "none"}),
    nn.LeakyReLU: ("leaky_relu", {"negative_slope": 0.01}),
}
_PRODUCER = "thrifty"
_OPSET, _IR_VERSION = 17, 8  # of 2022: what any runtime in use can read


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """What was written."""

    path: Path
    size: int
    """Bytes of the file."""
    dense_size: int
    """Bytes of all weights and biases as float32."""
    sparsity: float
    """Fraction of zero weights."""


def export_language_model(source: Path | str, out: Path | str) -> Path:
    """Write a pretrained GPT-2 to a folder that Hugging Face reads, with its vocabulary.

    Args:
        source: a run's folder; its last checkpoint is taken, cut links are zeros.
        out: the folder, new or empty.

    Returns:
        The folder.

    Raises:
        ValueError: no such run, no checkpoint yet, or files in the way.
    """
    run, out = read_run(source, "thrifty.recipes"), Path(out)
    if not isinstance(run.config, PretrainingConfig):
        raise ValueError(f"{source} is no language model: give --out policy.npz or policy.onnx")
    checkpoint = read_checkpoint(source)
    if checkpoint is None:
        raise ValueError(f"{source} has no checkpoint yet: train it first")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not empty: give another --out")
    experiment = run.config.build(run.seed)
    experiment.load_state_dict(checkpoint.experiment)
    return weights.save(experiment.model, out, experiment.tokens.vocabulary)


def export_policy(source: Agent | Path | str, out: Path | str) -> Export:
    """Write the noise-free policy of an agent to one file, as its suffix says.

    Args:
        source: a run's folder, a file that ``agent.save`` wrote, or an agent.
        out: ends in .npz or .onnx; its folder is made if missing. An earlier export there is
            replaced, any other file is not.

    Returns:
        What was written.

    Raises:
        ValueError: nothing to export, a network that cannot be, another suffix, or a file in the
            way; the message names the remedy.
        ImportError: .onnx without the extra.

    Example:
        >>> export_policy(thrifty.TD3("Pendulum-v1"), "policy.npz").size  # doctest: +SKIP
        24813
    """
    out = Path(out)
    if out.suffix not in (".npz", ".onnx"):
        raise ValueError(f"{out} ends in neither .npz (sparse) nor .onnx (dense): name it so")
    exported = _is_export if out.suffix == ".npz" else _is_onnx_export
    if out.exists() and not (out.is_file() and exported(out)):
        raise ValueError(f"{out} exists and is no exported policy: give another --out")
    if out.suffix == ".onnx":
        _onnx()  # refuse before the agent is read
    policy = policy_of(source if isinstance(source, Agent) else _agent(Path(source)))
    data = encode_npz(policy) if out.suffix == ".npz" else encode_onnx(policy)
    out.parent.mkdir(parents=True, exist_ok=True)
    durable.write_bytes(out, data)
    return Export(
        path=out,
        size=len(data),
        dense_size=4 * sum(layer.weight.size + layer.bias.size for layer in policy.layers),
        sparsity=policy.metadata["sparsity"],
    )


def _agent(path: Path) -> Agent:
    if path.is_dir():
        agent = load_run_policy(path)
        if isinstance(agent, TrainedScheduler):
            raise ValueError(
                f"{path} holds a scheduler, which cannot be exported yet: play it with "
                f"`thrifty evaluate {path}`, or in Python by thrifty.agents.load_scheduler"
            )
        if not isinstance(agent, Agent):
            raise ValueError(f"{path} holds a team: recurrent policies cannot be exported yet")
        return agent
    path = path if path.exists() else path.with_suffix(".npz")  # as agent.save names it
    if not path.is_file():
        raise ValueError(f"{path} is neither a run's folder nor an agent's file")
    if _is_export(path):
        raise ValueError(f"{path} is exported already: give a run's folder or an agent's file")
    tree = load_state(path)
    name = tree.get("agent") if isinstance(tree, dict) else None
    return (SAC if name == "SAC" else TD3).load(path)


def policy_of(agent: Agent) -> Contents:
    """Return the noise-free policy of an agent.

    Raises:
        ValueError: a layer that exported policies do not have.
    """
    actor, environments = agent.learner.actor.module, agent._experiment.environments
    layers: list[Layer] = []
    for module in actor.net:
        if isinstance(module, nn.Linear):
            layers.append(Layer(_array(module.weight), _array(module.bias), ""))
        else:
            name, settings = _ACTIVATIONS.get(type(module), ("", {}))
            usual = all(getattr(module, key) == value for key, value in settings.items())
            if not (name and usual and layers and layers[-1].activation == ""):
                raise ValueError(
                    f"the actor's layer {module} cannot be exported; activations are "
                    f"{', '.join(known for known, _ in _ACTIVATIONS.values())} with torch's "
                    "default arguments, one after each linear layer"
                )
            layers[-1] = layers[-1]._replace(activation=name)
    if isinstance(actor, GaussianActor):  # its second half is the log standard deviation
        both, actions = layers[-1], environments.action_dim
        scale = np.float32(actor.pre_tanh_scale)
        layers[-1] = Layer(both.weight[:actions] * scale, both.bias[:actions] * scale, "")
    one = np.ones(environments.action_dim, np.float32)
    scaled = environments.scale_actions  # the published SAC scales before the tanh
    links = sum(int(np.count_nonzero(layer.weight)) for layer in layers)
    return Contents(
        layers=layers,
        low=environments.low if scaled else -one,
        high=environments.high if scaled else one,
        metadata={
            "algorithm": type(agent).__name__,
            "environment": agent.environment,
            "steps": agent.num_timesteps,
            "sparsity": 1.0 - links / sum(layer.weight.size for layer in layers),
            "thrifty": thrifty.__version__,
        },
    )


def _array(tensor: torch.Tensor) -> Floats:
    array: Floats = tensor.detach().to("cpu", torch.float32).numpy().copy()
    if not np.isfinite(array).all():
        raise ValueError("the actor has weights that are not finite: export an earlier checkpoint")
    return array


# ---------------------------------------------------------------------- .npz


def encode_npz(policy: Contents) -> bytes:
    """Return the file that :func:`thrifty.sparse_policy.load` reads.

    Raises:
        ValueError: a layer is wider than the format allows.
    """
    members: dict[str, NDArray[Any]] = {"low": policy.low, "high": policy.high}
    described = []
    for number, (weight, bias, activation) in enumerate(policy.layers):
        if max(weight.shape) > WIDEST:
            raise ValueError(f"layer {number} is {weight.shape}; at most {WIDEST} can be exported")
        rows, columns = np.nonzero(weight)
        counts = np.bincount(rows, minlength=len(bias))
        links: dict[str, NDArray[Any]] = {"columns": _small(columns), "counts": _small(counts)}
        mask: dict[str, NDArray[Any]] = {"mask": np.packbits(weight != 0)}
        by_mask = mask["mask"].nbytes < sum(array.nbytes for array in links.values())
        kept = {"values": weight[rows, columns], "bias": bias} | (mask if by_mask else links)
        members |= {f"{number}.{name}": array for name, array in kept.items()}
        entry = {"outputs": len(bias), "activation": activation}
        described.append({**entry, "links": "mask" if by_mask else "columns"})
    document = {
        "format": FORMAT,
        "inputs": policy.layers[0].weight.shape[1],
        "layers": described,
        "output": "tanh",
        "metadata": policy.metadata,
    }
    return sealed(document, members)


def sealed(document: object, members: dict[str, NDArray[Any]]) -> bytes:
    """Return a file of these members, with its digest."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("policy.json", _EPOCH), json.dumps(document))
        for name, array in members.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        archive.comment = MARK + b"0" * DIGEST_LENGTH
    body = buffer.getvalue()[:-DIGEST_LENGTH]
    return body + digest_of(body)


def _small(numbers: NDArray[np.int64]) -> NDArray[Any]:
    return numbers.astype("<u2" if numbers.max(initial=0) > 255 else "|u1")


def _is_export(path: Path) -> bool:
    tail = DIGEST_LENGTH + len(MARK)
    with path.open("rb") as file:  # an agent's file may hold gigabytes of replay
        file.seek(max(0, path.stat().st_size - tail))
        return file.read().startswith(MARK)


# ---------------------------------------------------------------------- .onnx


def encode_onnx(policy: Contents) -> bytes:
    """Return an ONNX model of standard operators; opset 17.

    Raises:
        ImportError: the package onnx is missing.
    """
    onnx = _onnx()
    helper, from_array = onnx.helper, onnx.numpy_helper.from_array
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(array: NDArray[Any]) -> str:
        name = f"constant{len(constants)}"
        constants.append(from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def apply(operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"value{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def activate(activation: str, x: str) -> str:
        plain = {"relu": "Relu", "tanh": "Tanh", "elu": "Elu"}
        if activation in plain:
            return apply(plain[activation], x)
        if activation == "leaky_relu":
            return apply("LeakyRelu", x, alpha=0.01)
        if activation == "silu":
            return apply("Mul", x, apply("Sigmoid", x))
        assert activation == "gelu"
        half, root, one = (constant(np.array(c)) for c in (0.5, np.sqrt(0.5), 1.0))
        erf = apply("Erf", apply("Mul", x, root))
        return apply("Mul", apply("Mul", x, half), apply("Add", erf, one))

    value = "observation"
    for weight, bias, activation in policy.layers:
        value = apply("Gemm", value, constant(weight), constant(bias), transB=1)
        value = activate(activation, value) if activation else apply("Tanh", value)
    low, high = policy.low, policy.high
    value = apply("Mul", value, constant((high - low) / np.float32(2)))
    value = apply("Add", value, constant((high + low) / np.float32(2)))
    value = apply("Min", apply("Max", value, constant(low)), constant(high))
    nodes[-1].output[0] = "action"
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "policy",
        [tensor("observation", 1, ["batch", policy.layers[0].weight.shape[1]])],  # 1 is float32
        [tensor("action", 1, ["batch", len(low)])],
        constants,
    )
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(
        graph,
        producer_name=_PRODUCER,
        producer_version=thrifty.__version__,
        ir_version=_IR_VERSION,
        opset_imports=opset,
    )
    helper.set_model_props(
        model, {key: json.dumps(entry) for key, entry in policy.metadata.items()}
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _is_onnx_export(path: Path) -> bool:
    try:
        return str(_onnx().load_from_string(path.read_bytes()).producer_name) == _PRODUCER
    except ImportError:
        raise
    except Exception:  # whatever its parser says of a file that is none of its own
        return False


def _onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise ImportError('.onnx files need an extra: pip install "thrifty[onnx]"') from None
