"""What an action costs: a trained policy asked for one observation at a time, and its file.

Actors of 256 x 256 units, ER, at 90 and 95 % sparsity, with the sizes and action bounds of
HalfCheetah-v5 and Humanoid-v5; one thread. Everyone gets the next of 4,096 random observations, as
NumPy arrays, and returns actions in the environment's bounds as NumPy arrays; the Python call is
counted. "numpy dense" is the leanest plain form: buffers made beforehand, nothing checked.

Marks at 95 %: ours with Numba at least 3 times faster than dense NumPy and 10 times faster than
torch's eager mode (``ratio`` at most 1/3 and 1/10), ours with NumPy alone not slower than dense
NumPy (``ratio`` at most 1), the file at most 15 % of the dense weights as ``numpy.savez``.
"""

from __future__ import annotations

import importlib
import io
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thrifty import sparse_policy
from thrifty.bench.schema import NOT_MEASURED, Row, compare
from thrifty.bench.timing import interleave, summarise
from thrifty.export import encode_npz, encode_onnx
from thrifty.rl.networks import DeterministicActor
from thrifty.sparse import sparsify
from thrifty.sparse_policy import Contents, Layer

Floats = NDArray[np.float32]
Acts = Callable[[Floats], Floats]

TIME, SIZE = "time per action", "file size"
NUMPY, TORCH, SAVEZ = "numpy dense", "torch eager dense", "numpy.savez dense"
OURS, OURS_NUMPY, OURS_FILE = "thrifty, numba", "thrifty, numpy alone", "thrifty .npz"
ONNXRUNTIME = "onnxruntime dense"
MARK_NUMPY, MARK_TORCH, MARK_FILE = 1 / 3, 1 / 10, 0.15
"""Largest ratios of ours with Numba to dense NumPy and to torch, and of the file."""
_CASES = {"HalfCheetah-v5": (17, 6, 1.0), "Humanoid-v5": (348, 17, 0.4)}
"""Observation size, action size, largest action; stated here so that no simulator is needed."""
_POOL = 4096


def measure(
    *, rounds: int = 200, calls: int = 64, sparsities: tuple[float, ...] = (0.9, 0.95)
) -> list[Row]:
    """Measure all cases; takes about half a minute.

    Args:
        rounds: samples of each.
        calls: actions per sample.
        sparsities: of the actors.

    Returns:
        Rows in microseconds per action and in bytes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows: list[Row] = []
        for case, sparsity in itertools.product(_CASES, sparsities):
            rows += _measure(case, sparsity, rounds, calls)
        return rows
    finally:
        torch.set_num_threads(threads)


def _measure(environment: str, sparsity: float, rounds: int, calls: int) -> list[Row]:
    observation_dim, action_dim, largest = _CASES[environment]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        actor = DeterministicActor(observation_dim, action_dim)
    sparsify(actor, sparsity=sparsity, generator=torch.Generator().manual_seed(0))
    high = np.full(action_dim, largest, np.float32)
    policy = Contents(layers=_layers(actor), low=-high, high=high, metadata={})
    pool = np.random.default_rng(0).normal(size=(_POOL, observation_dim)).astype(np.float32)
    case = f"{environment}, one observation, {sparsity:.0%} sparse"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.npz"
        file.write_bytes(encode_npz(policy))
        contestants: dict[str, Acts | None] = {
            NUMPY: _numpy_dense(policy),
            TORCH: _torch_eager(actor, largest),
            OURS_NUMPY: sparse_policy.load(file, compiled=False),
            OURS: sparse_policy.load(file, compiled=True),
            ONNXRUNTIME: _onnxruntime(policy),
        }
        sizes = {SAVEZ: _savez_size(policy), OURS_FILE: file.stat().st_size}
    present = {name: acts for name, acts in contestants.items() if acts is not None}
    expected = actor(torch.from_numpy(pool[:1])).detach().numpy()[0] * largest
    for acts in present.values():
        assert np.abs(acts(pool[0]) - expected).max() < 1e-5
    samples = {name: _sample(acts, pool, calls) for name, acts in present.items()}
    for name, seconds in interleave(samples, rounds=rounds, warm_up=3).items():
        for statistic, value in summarise(seconds / calls * 1e6).items():
            rows.append(_row(case, name, sparsity, TIME, statistic, value, "us"))
    for name in sorted(contestants.keys() - present.keys()):
        rows.append(_row(case, name, sparsity, TIME, NOT_MEASURED, None, "us"))
    for name, size in sizes.items():
        rows.append(_row(case, name, sparsity, SIZE, "exact", float(size), "bytes"))
    rows = compare(rows, implementation=OURS_FILE, ratio_to=SAVEZ)
    rows = compare(rows, implementation=OURS_NUMPY, ratio_to=NUMPY)
    rows = compare(rows, implementation=OURS, ratio_to=NUMPY)
    # A row states one ratio; the one to torch stands in a second row of the same values.
    ours = [row for row in rows if row.implementation == OURS]
    return rows + compare([*ours, *rows], implementation=OURS, ratio_to=TORCH)[: len(ours)]


def _layers(actor: DeterministicActor) -> list[Layer]:
    linears = [module for module in actor.net if isinstance(module, nn.Linear)]
    hidden = ["relu"] * (len(linears) - 1)
    return [
        Layer(linear.weight.detach().numpy(), linear.bias.detach().numpy(), activation)
        for linear, activation in zip(linears, [*hidden, ""], strict=True)
    ]


def _sample(acts: Acts, pool: Floats, calls: int) -> Callable[[], None]:
    """So many actions for the next observations of the pool."""
    observations = itertools.cycle(list(pool))

    def sample() -> None:
        for observation in itertools.islice(observations, calls):
            acts(observation)

    return sample


def _numpy_dense(policy: Contents) -> Acts:
    """What one would write by hand for three layers and bounds around 0."""
    (w1, b1, _), (w2, b2, _), (w3, b3, _) = policy.layers
    h1, h2, h3 = (np.empty(len(layer.bias), np.float32) for layer in policy.layers)
    zeros1, zeros2 = np.zeros_like(h1), np.zeros_like(h2)  # quicker than the number 0
    dot, add, maximum, high = np.dot, np.add, np.maximum, policy.high
    scaled = bool((high != 1).any())

    def acts(observation: Floats) -> Floats:
        dot(w1, observation, out=h1)
        add(h1, b1, out=h1)
        maximum(h1, zeros1, out=h1)
        dot(w2, h1, out=h2)
        add(h2, b2, out=h2)
        maximum(h2, zeros2, out=h2)
        dot(w3, h2, out=h3)
        add(h3, b3, out=h3)
        action: Floats = np.tanh(h3)
        if scaled:
            action *= high
        return action

    return acts


def _torch_eager(actor: DeterministicActor, largest: float) -> Acts:
    network = nn.Sequential(*actor.net, nn.Tanh())

    @torch.no_grad()
    def acts(observation: Floats) -> Floats:
        action: Floats = network(torch.from_numpy(observation)).numpy()
        return action if largest == 1 else action * np.float32(largest)

    return acts


def _onnxruntime(policy: Contents) -> Acts | None:
    try:
        runtime: Any = importlib.import_module("onnxruntime")
        model = encode_onnx(policy)
    except ImportError:
        print('onnxruntime is not measured: pip install "thrifty[onnx]"')
        return None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def acts(observation: Floats) -> Floats:
        action: Floats = session.run(None, {"observation": observation[None]})[0][0]
        return action

    return acts


def _savez_size(policy: Contents) -> int:
    buffer = io.BytesIO()
    np.savez(buffer, *(array for layer in policy.layers for array in (layer.weight, layer.bias)))
    return len(buffer.getvalue())


def _row(
    case: str,
    implementation: str,
    sparsity: float,
    metric: str,
    statistic: str,
    value: float | None,
    unit: str,
) -> Row:
    dense = not implementation.startswith("thrifty")
    return Row(
        case=case,
        implementation=implementation,
        sparsity=0.0 if dense else sparsity,
        metric=metric,
        statistic=statistic,
        value=value,
        unit=unit,
    )
