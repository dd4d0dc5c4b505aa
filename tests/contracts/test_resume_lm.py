"""Every recipe that pretrains can be stopped anywhere and goes on exactly."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from states import plain
from stopping import check

from thrifty.lm import bpe, tokens
from thrifty.lm.config import PretrainingConfig
from thrifty.lm.gpt import GPTConfig
from thrifty.runs import load_state, save_state
from thrifty.runs.naming import names, resolve

STEPS = 12
TEXT = "to be, or not to be: that is the question. " * 30


def made(name: str) -> Any:
    return resolve(name, "thrifty.recipes")(steps=STEPS)


ALL = [name for name in names("thrifty.recipes") if name.startswith("mst.")]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokens")
    vocabulary = bpe.learn([TEXT], size=262)
    for side in ("train", "val"):
        tokens.write(folder / f"{side}.bin", [TEXT], vocabulary)
    vocabulary.write(folder / "merges.txt")
    return str(folder)


def toy(name: str, data: str) -> PretrainingConfig:
    config = made(name)
    assert isinstance(config, PretrainingConfig)
    sparsity = config.sparsity
    if sparsity.kind != "dense":
        sparsity = dataclasses.replace(sparsity, update_every=3)
    if sparsity.kind == "phases":
        sparsity = dataclasses.replace(sparsity, flops=0.6, density_every=2)
    return dataclasses.replace(
        config,
        data=data,
        batch_size=1,
        micro_batches=2 if config.micro_batches > 1 else 1,
        device="cpu",
        evaluate_every=6,
        evaluation_tokens=64,
        record_every=4,
        sample_tokens=3,
        model=GPTConfig(layers=1, heads=2, width=8, context=16, biases=config.model.biases),
        sparsity=sparsity,
    )


@pytest.mark.parametrize("name", ALL)
def test_after_every_single_yield(name: str, data: str, tmp_path: Path) -> None:
    records = check(toy(name, data), tmp_path, every=1, journalled=False)
    kinds = Counter(record["kind"] for record in records)
    assert kinds["start"] == kinds["end"] == 1
    assert kinds["train"] == kinds["evaluation"] == kinds["sample"] == 3
    config = made(name).sparsity
    evolves = getattr(config, "drop_fraction", 0.0) > 0.0
    assert (kinds["topology"] > 0) == evolves
    assert kinds["phase"] == (3 if config.kind == "phases" else 1)


@pytest.mark.parametrize(
    ("name", "block"), [("mst.mst", 1), ("mst.rigl", 1), ("mst.set", 16), ("mst.static", 1)]
)
def test_after_every_single_yield_on_links_alone(
    name: str, block: int, data: str, tmp_path: Path
) -> None:
    # Stops between two evolution steps leave and enter the compact form again.
    config = toy(name, data)
    assert config.sparsity.kind != "dense"
    config = dataclasses.replace(
        config,
        backend="engine",
        model=dataclasses.replace(config.model, width=64, padding=16),
        sparsity=dataclasses.replace(config.sparsity, block=block),
    )
    changes = {"flops": 0.45} if config.sparsity.kind == "phases" else {"sparsity": 0.75}
    config = dataclasses.replace(config, sparsity=dataclasses.replace(config.sparsity, **changes))
    check(config, tmp_path, every=1, journalled=False)


def test_every_argument_of_a_recipe_has_a_default() -> None:
    assert len(ALL) == 11
    for name in ALL:
        for parameter in inspect.signature(resolve(name, "thrifty.recipes")).parameters.values():
            assert parameter.default is not inspect.Parameter.empty


def test_a_lost_mask_does_not_pass_unnoticed(data: str, tmp_path: Path) -> None:
    config = toy("mst.rigl", data)
    experiment = config.build(3)
    stream = experiment.records()
    while experiment.step < 5:
        next(stream)
    save_state(tmp_path / "a.npz", experiment.state_dict())
    one, two = (config.build(3) for _ in range(2))
    for again in (one, two):
        again.load_state_dict(load_state(tmp_path / "a.npz"))
    name = two.topology.names[0]
    two.topology.mask(name)[0] = ~two.topology.mask(name)[0]
    assert list(one.records()) != list(two.records())
    assert plain(one.state_dict()) != plain(two.state_dict())
