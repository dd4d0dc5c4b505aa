"""Synthetic run directories by the record schema, so that reports are tested without training."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MakeRun = Callable[..., Path]

ACTOR = {"layers.0": [256, 17], "layers.1": [256, 256], "layers.2": [6, 256]}
CRITIC = {
    f"q{q}.layers.{i}": shape
    for q in (1, 2)
    for i, shape in enumerate(([256, 23], [256, 256], [1, 256]))
}
DENSITY = {  # by layer index, roughly what ER gives
    "actor": (0.40, 0.077, 0.42),
    "critic": (0.43, 0.115, 0.98),
}


def synthetic_records(
    *,
    steps: int = 20_000,
    until: int | None = None,
    seed: int = 0,
    environment: str = "HalfCheetah-v5",
    sparse: bool = True,
    final: float = 2400.0,
    seconds: float = 150.0,
    evaluations: int = 20,
) -> list[dict[str, Any]]:
    """Records of a run that learns a saturating curve; cut after `until` steps if given."""
    draw = random.Random(seed)
    layers = []
    for network, shapes in (("actor", ACTOR), ("critic", CRITIC)):
        for layer, shape in shapes.items():
            size = shape[0] * shape[1]
            density = DENSITY[network][int(layer[-1])] if sparse else 1.0
            nnz = round(density * size)
            layers.append(
                {
                    "network": network,
                    "layer": layer,
                    "shape": shape,
                    "nnz": nnz,
                    "sparsity": 1 - nnz / size,
                }
            )
    size = {n: sum(math.prod(x["shape"]) for x in layers if x["network"] == n) for n in DENSITY}
    nnz = {n: sum(x["nnz"] for x in layers if x["network"] == n) for n in DENSITY}
    dense, left = 2 * sum(size.values()), 2 * sum(nnz.values())
    ledger = {
        "parameters": {"dense": dense, "sparse": left, "ratio": left / dense},
        "training_flops": {"dense": 3.1e9, "sparse": 3.1e9 * left / dense, "ratio": left / dense},
        "inference_flops": {
            "dense": 2.0 * size["actor"],
            "sparse": 2.0 * nnz["actor"],
            "ratio": nnz["actor"] / size["actor"],
        },
        "rows": [
            {
                "network": x["network"],
                "layer": x["layer"],
                "dense_parameters": math.prod(x["shape"]),
                "sparse_parameters": x["nnz"],
                "dense_forward_flops": 2 * math.prod(x["shape"]),
                "sparse_forward_flops": 2 * x["nnz"],
            }
            for x in layers
        ],
    }
    sparsity = {n: 1 - nnz[n] / size[n] for n in size}
    records: list[dict[str, Any]] = [
        {
            "kind": "start",
            "step": 0,
            "algorithm": "TD3",
            "environment": environment,
            "steps": steps,
            "layers": layers,
            "ledger": ledger,
            "device": "cpu",
            "backend": "reference",
            "backend_reason": "the engine is not installed",
        },
        {"kind": "random_policy", "step": 0, "returns": [-290.0, -260.0], "return_mean": -275.0},
    ]
    interval = steps // evaluations
    survival = {"actor": 1.0, "critic": 1.0}
    for step in range(interval // 5, steps + 1, interval // 5):
        progress = step / steps
        level = -275 + (final + 275) * (1 - math.exp(-2.5 * progress)) + draw.gauss(0, 60)
        episode = 1000 if step % 1000 == 0 else None
        n_step = 1 if progress <= 0.1 or not sparse else 3
        size_now = step if progress < 0.6 else int(steps * (0.6 + 0.3 * math.sin(9 * progress)))
        records.append(
            {
                "kind": "train",
                "step": step,
                "updates": step,
                "episodes": step // 1000,
                "return": level - 150 if episode else None,
                "sparsity": 1 - left / dense,
                "actor_sparsity": sparsity["actor"],
                "critic_sparsity": sparsity["critic"],
                "critic_loss": 3.0 * progress + 1,
                "actor_loss": -40 * progress,
                "n_step": n_step,
                "buffer_size": size_now,
            }
        )
        if sparse and progress > 0.1 and step % (interval // 5 * 2) == 0:
            for network in ("actor", "critic"):
                zeta = 0.25 * (1 + math.cos(math.pi * progress))
                zeta *= 0.8 if network == "actor" else 1.0
                survival[network] *= 1 - 0.15 * zeta
                changed = {
                    x["layer"]: {
                        "nnz": x["nnz"],
                        "dropped": int(zeta * x["nnz"]),
                        "grown": int(zeta * x["nnz"]),
                        "regrown": int(0.4 * zeta * x["nnz"]),
                    }
                    for x in layers
                    if x["network"] == network
                }
                records.append(
                    {
                        "kind": "topology",
                        "step": step,
                        "network": network,
                        "update": step // 2,
                        "drop_fraction": zeta,
                        "layers": changed,
                        "survival": survival[network],
                    }
                )
            records.append(
                {
                    "kind": "buffer",
                    "step": step,
                    "distance": 0.05 + 0.2 * progress,
                    "size_before": step,
                    "size": size_now,
                    "cuts": 0,
                }
            )
        if step % interval == 0:
            returns = [level + draw.gauss(0, 90) for _ in range(5)]
            records.append(
                {
                    "kind": "evaluation",
                    "step": step,
                    "returns": returns,
                    "lengths": [1000] * 5,
                    "return_mean": sum(returns) / 5,
                    "return_std": 90.0,
                }
            )
    if sparse:
        records.append({"kind": "n_step", "step": int(0.1 * steps) + 1, "n_step": 3})
        records.sort(key=lambda record: record["step"])
    records.append({"kind": "end", "step": steps, "return_mean": level, "return_std": 90.0})
    for record in records:
        record["wall_seconds"] = seconds * record["step"] / steps
        record["wall_time"] = 1.8e9 + record["wall_seconds"]
    return [r for r in records if until is None or (r["step"] <= until and r["kind"] != "end")]


def write_run(
    directory: Path,
    *,
    recipe: str = "rlx2.td3",
    seed: int = 0,
    config: dict[str, Any] | None = None,
    records: list[dict[str, Any]] | None = None,
    cpu: str = "Some CPU @ 2.80GHz",
    **options: Any,
) -> Path:
    """Write a run directory; options go to `synthetic_records`."""
    directory.mkdir(parents=True)
    environment = options.get("environment", "HalfCheetah-v5")
    steps = options.get("steps", 20_000)
    content = {
        "recipe": recipe,
        "arguments": {"environment": environment, "steps": steps},
        "seed": seed,
        "threads": 1,
        "config": config
        or {
            "environment": environment,
            "steps": steps,
            "actor_sparsity": 0.9,
            "critic_sparsity": 0.85,
            "net_arch": [256, 256],
            "evolution": {"update_every": 500, "initial_drop_fraction": 0.5},
            "buffer": {"threshold": 0.2, "minimum": 10_000},
        },
    }
    (directory / "config.json").write_text(json.dumps(content))
    versions = {"python": "3.11.2", "numpy": "2.4.6", "torch": "2.13.0", "gymnasium": "1.4.0"}
    session = {
        "start": 1.8e9,
        "end": 1.8e9 + 151.0,
        "first_step": 0,
        "last_step": steps,
        "threads": 1,
        "status": "done",
    }
    description = {
        "versions": versions,
        "platform": "Linux-6.1-x86_64",
        "hardware": {"cpu": cpu, "cores": 2},
        "sessions": [session],
    }
    (directory / "environment.json").write_text(json.dumps(description))
    if records is None:
        records = synthetic_records(seed=seed, **options)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (directory / "records.jsonl").write_text(lines)
    return directory


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a synthetic run below the test's folder: make_run("name", recipe=..., seed=...)."""

    def make(name: str, **options: Any) -> Path:
        return write_run(tmp_path / name, **options)

    return make


@pytest.fixture
def write_run_at() -> MakeRun:
    """Writes a run to any folder: write_run_at(path, recipe=..., records=...)."""
    return write_run


@pytest.fixture
def records_of() -> Callable[..., list[dict[str, Any]]]:
    """Synthetic records: records_of(steps=..., seed=..., final=...)."""
    return synthetic_records
