"""Pages of scheduling agents."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thrifty.recipes import rsd4
from thrifty.report import load_run, write_report
from thrifty.report.scheduling import is_scheduling
from thrifty.runs import Run, execute

Make = Callable[..., Path]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def make(
        recipe: str,
        *,
        stop: int | None = None,
        seed: int = 0,
        mode: Any = "conditioned",
        **changes: Any,
    ) -> Path:
        config = getattr(rsd4, recipe)(steps=60, mode=mode)
        learner = dataclasses.replace(config.algorithm, width=6, sequences=2, samples=2, rows=32)
        small: dict[str, Any] = {
            "environments": 2, "episode": 20, "warm_up": 1, "update_every": 10,
            "evaluate_every": 20, "record_every": 20, "calibration_episodes": 10,
            "test_episodes": 10, "curve_points": 2,
        }  # fmt: skip
        config = dataclasses.replace(config, algorithm=learner, **(small | changes))
        directory = tmp_path / f"{recipe}-{seed}"
        run = Run(
            recipe=f"rsd4.{recipe}", arguments={"steps": 60}, config=config, seed=seed,
            directory=directory,
        )  # fmt: skip
        execute(run, callbacks=[lambda record: stop is None or record["step"] < stop])
        return directory

    return make


def page(*directories: Path, out: Path | None = None) -> str:
    return write_report(directories, out).read_text(encoding="utf-8")


CAPTIONS = (
    "Throughput over energy, exact and learned",
    "Packets that missed their deadline",
    "Slots that deliveries took",
    "Energy over time",
    "Part of the optimum at the energy spent",
    "Price of energy",
    "Energy at the present price",
)


def test_a_run_too_short_for_records_of_training_has_no_empty_section(trained: Make) -> None:
    assert "<h2>Training</h2>" not in page(trained("sd3", evaluate_every=0, record_every=1000))
    assert "<h2>Training</h2>" in page(trained("sd3", seed=1))


@pytest.mark.parametrize("recipe", ["s1", "s2", "s5"])
def test_a_page_of_one_run(recipe: str, trained: Make) -> None:
    folder = trained(recipe)
    assert is_scheduling(load_run(folder))
    text = page(folder)
    for caption in CAPTIONS:
        assert text.count(f"<figcaption>{caption}</figcaption>") == 1
    assert "environment steps" not in text
    assert "nan" not in text
    optimum = {"s1": "14.301", "s2": "33.239", "s5": "12.074"}[recipe]  # tabulated
    assert f"optimum at the budget: {optimum}" in text
    assert ("no agent can reach it" in text) == (recipe == "s2")
    assert "reference: dense: no weight is cut" in text


def test_a_page_without_evaluations_has_prices_and_energies(trained: Make) -> None:
    text = page(trained("s1", evaluate_every=0, mode="ascent"))
    assert "<figcaption>Price of energy</figcaption>" in text
    assert "<figcaption>Energy while training</figcaption>" in text
    assert "Part of the optimum" not in text
    assert "Evaluations" not in text


@pytest.mark.parametrize(
    ("recipe", "sight", "said"),
    [
        ("s1", "full", "brings more."),
        ("s5", "full", "brings more, however it shares it among the nodes."),
        ("s1", "delayed:2", "seen late, so that no agent can reach it."),
        ("s1", "noisy:0.1", "seen with errors, so that no agent can reach it."),
    ],
)
def test_what_the_line_means(recipe: str, sight: str, said: str, trained: Make) -> None:
    assert said in page(trained(recipe, stop=1, sight=sight))


def test_an_unfinished_run(trained: Make) -> None:
    text = page(trained("s1", stop=40))
    assert "This run is not finished: its records end at slot 40." in text
    assert "The test" not in text


def test_several_runs_share_a_curve_and_a_table(trained: Make, tmp_path: Path) -> None:
    folders = [trained("s1"), trained("s1", seed=1), trained("s2")]
    document = json.loads((folders[1] / "config.json").read_text())
    document["overrides"] = ["--algorithm.discount", "0.9"]
    (folders[1] / "config.json").write_text(json.dumps(document))
    text = page(*folders, out=tmp_path / "all.html")
    assert text.count("<figcaption>Throughput over energy, exact and learned</figcaption>") == 2
    for value in ("0.9", "default"):  # runs of one recipe are told apart by their settings
        assert f"rsd4.s1 (algorithm.discount={value})</td>" in text
    assert "(algorithm.discount=0.9), seed 1" in text
    assert "seed 1" in text
