from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thrifty.episodic import LSVIUCBPlus, tabular
from thrifty.episodic.instances import river_swim
from thrifty.recipes import lsvi_ucb_plus
from thrifty.report import load_run, write_report
from thrifty.report.episodic import _MEANINGS, _regret, is_episodic
from thrifty.runs import Run, execute

MakeEpisodic = Callable[..., Path]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeEpisodic:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def make(recipe: str = "river_swim", *, stop: int | None = None, **arguments: Any) -> Path:
        arguments = {"steps": 100, **arguments}
        config = getattr(lsvi_ucb_plus, recipe)(**arguments)
        words = [recipe, *map(str, arguments.values())]
        directory = tmp_path / "-".join(words)
        run = Run(
            recipe=f"lsvi_ucb_plus.{recipe}",
            arguments=arguments,
            config=dataclasses.replace(config, record_every=10),
            seed=0,
            directory=directory,
        )
        execute(run, callbacks=[lambda record: stop is None or record["step"] < stop])
        return directory

    return make


def page(*directories: Path, out: Path | None = None) -> str:
    return write_report(directories, out).read_text(encoding="utf-8")


def test_a_run_with_a_model(trained: MakeEpisodic) -> None:
    folder = trained()
    run = load_run(folder)
    assert is_episodic(run)
    text = page(folder)
    for caption in ("Regret", "Regret, both axes logarithmic", "Optimistic V_1 beside V*"):
        assert f"<figcaption>{caption}</figcaption>" in text
    assert text.count("<figure>") == 6
    assert "environment steps" not in text
    assert "river_swim(S=6, H=20)" in text
    assert "3.397" in text  # V*
    assert not re.search(
        r"\bnan\b|\bNone\b", re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    )
    # 100 episodes of the uniform policy cost 100 (3.3973 - 0.0438)
    assert "335.3" in text
    assert page(folder) == text


def test_a_run_without_a_model_has_no_regret(trained: MakeEpisodic) -> None:
    text = page(trained("latent", steps=20))
    shown = re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    assert "so neither is regret" in shown
    assert shown.lower().count("regret") == 1
    assert text.count("<figure>") == 3


def test_a_run_that_stopped_early(trained: MakeEpisodic) -> None:
    assert "not finished" in page(trained(stop=40))
    assert "not finished" in page(trained(steps=101, stop=1))


def test_several_runs(trained: MakeEpisodic, tmp_path: Path) -> None:
    folders = [trained(), trained(learner="lsvi_ucb"), trained(learner="ucbvi")]
    text = page(*folders, out=tmp_path / "all.html")
    assert text.count("<figure>") == 2
    assert "lsvi_ucb_plus.river_swim, ucbvi" in text
    text = page(folders[0], trained("latent", steps=20), out=tmp_path / "mixed.html")
    assert "No run knew its model" not in text
    assert "Without a curve: 1 of 2 runs" in text


def test_runs_that_differ_in_a_setting_or_the_instance_are_told_apart(
    trained: MakeEpisodic, tmp_path: Path
) -> None:
    # The original form has the same learner's name as the corrected one.
    text = page(trained(), trained(learner="icml"), out=tmp_path / "forms.html")
    one = "lsvi_ucb_plus (monotone=True, switch=determinant, gap=pessimistic)"
    two = "lsvi_ucb_plus (monotone=False, switch=episode, gap=over)"
    for learner in (one, two):
        assert f">{learner}</td>" in text
    lines = re.findall(r">([^<>]*)</text>", text)  # of the legends: broken before they are too long
    assert max(map(len, lines)) <= 66
    assert sum(line.startswith("lsvi_ucb_plus.river_swim, lsvi_ucb_plus") for line in lines) == 4
    text = page(trained(), trained(S=4), out=tmp_path / "sizes.html")
    assert "lsvi_ucb_plus.river_swim, river_swim(S=4, H=20), lsvi_ucb_plus</text>" in text


def test_constants_are_explained(trained: MakeEpisodic) -> None:
    text = page(trained())
    for name in LSVIUCBPlus(tabular(river_swim())).weighting._asdict():
        assert f'<td class="k">{_MEANINGS[name]}</td>' in text


def test_episodes_without_regret_do_not_stretch_a_logarithmic_axis() -> None:
    # A first episode that happens to be right has regret 0, or what rounding leaves of it.
    steps = np.array([1.0, 2.0, 4.0, 8.0])
    figure = _regret({"one": [(steps, np.array([0.0, 2e-16, 3.0, 5.0]))]}, scale="log")
    assert figure is not None
    (axes,) = figure.axes
    assert np.isnan(axes.lines[0].get_ydata()).tolist() == [True, True, False, False]
    assert axes.get_ylim()[0] > 0.5
    nothing = _regret({"one": [(steps, np.zeros(4))]}, scale="log")
    assert nothing is not None
    nothing.canvas.draw_idle()
