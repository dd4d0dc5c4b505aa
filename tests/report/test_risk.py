"""Pages about runs for the iterated CVaR: the policy, its return, and several risk levels."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thrifty.recipes import icvar
from thrifty.report import load_run, risk, write_report
from thrifty.report.figures import legend, panel
from thrifty.runs import Run, execute

Trained = Callable[..., Path]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def make(recipe: str, **arguments: Any) -> Path:
        directory = tmp_path / "-".join([recipe, *map(str, arguments.values())])
        config = getattr(icvar, recipe)(**arguments)
        execute(
            Run(
                recipe=f"icvar.{recipe}",
                arguments=arguments,
                config=config,
                seed=0,
                directory=directory,
            )
        )
        return directory

    return make


def page(*directories: Path, out: Path | None = None) -> str:
    text = write_report(directories, out).read_text(encoding="utf-8")
    assert not re.search(
        r"\bnan\b|\bNone\b", re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    )
    return text


def captions(text: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", text)


def test_one_run_shows_its_policy_and_the_distribution_of_its_return(trained: Trained) -> None:
    text = page(trained("l_lava", steps=3000, risk_level=0.1))
    assert "The policy found" in text
    assert "iterated CVaR at risk level 0.1" in text
    # The dry path, two steps longer: 20 - 9 stages at the goal, for sure.
    assert "o o o o o o\no ~ ~ ~ ~ o\nS # # # # G" in text
    assert "Distribution of the return" in captions(text)
    # This learner reports no bonus, so no empty figure of one is shown.
    assert "Bonus and variance at visited pairs" not in captions(text)


def test_several_risk_levels_side_by_side(trained: Trained, tmp_path: Path) -> None:
    folders = [trained("l_lava", steps=3000, risk_level=level) for level in (0.1, 1.0)]
    text = page(*folders, out=tmp_path / "page.html")
    found = captions(text)
    for caption in (
        "lava_grid: V_1 beside the optimum",
        "lava_grid: distribution of the return",
        "risk level 1",
        "risk level 0.1",
    ):
        assert caption in found
    assert "o o o o o o\no ~ ~ ~ ~ o\nS # # # # G" in text  # away from the rim
    assert ". . . . . .\no o o o o o\nS # # # # G" in text  # along it
    # The regret curves are told apart by the level alone.
    for level in (0.1, 1.0):
        assert f"icvar_l (risk_level={level})" in text


def test_instances_of_one_name_are_told_apart(trained: Trained, tmp_path: Path) -> None:
    """`--set slip=0.01,0.2`: two problems with optima of their own, in figures of their own."""
    folders = [
        trained("l_lava", steps=20, risk_level=level, slip=slip)
        for slip in (0.01, 0.2)
        for level in (0.1, 1.0)
    ]
    text = page(*folders, out=tmp_path / "page.html")
    for slip in (0.01, 0.2):
        assert f"lava_grid (slip={slip}): V_1 beside the optimum" in captions(text)
        assert f"lava_grid (slip={slip}), risk level 0.1" in captions(text)
        assert text.count(f">lava_grid (slip={slip})</td>") == 4  # two tables of two runs
        assert f"icvar.l_lava, lava_grid (slip={slip}), icvar_l (risk_level=1.0)" in text
    # Exact in the table of risk, optimistic in that of the runs: two things of one name.
    assert re.search(r">optimistic V_1</th>", text)
    assert re.search(r">V_1</th>", text)


def test_one_level_has_no_figure_over_levels(trained: Trained, tmp_path: Path) -> None:
    folders = [trained("wp_inventory", steps=200), trained("bpi_two_door", steps=200)]
    text = page(*folders, out=tmp_path / "page.html")
    assert not [caption for caption in captions(text) if "beside the optimum" in caption]
    assert "inventory: distribution of the return" in captions(text)


def test_comparisons_show_labels_and_no_optimistic_value(trained: Trained) -> None:
    folder = trained("hf_features", steps=60)
    assert risk.has_risk(load_run(folder))
    text = page(folder)
    for caption in ("Labels", "Labels predicted before they came", "Mean return beside V*"):
        assert caption in captions(text)
    assert "optimistic V_1" not in re.sub(r"<p class=.note.>.*?</p>", "", text, flags=re.S)


def test_a_run_that_has_not_ended_has_no_policy_yet(trained: Trained) -> None:
    folder = trained("l_lava", steps=50)
    records = (folder / "records.jsonl").read_text().splitlines()
    (folder / "records.jsonl").write_text("\n".join(records[:-1]) + "\n")
    assert "The policy found" not in page(folder)


def test_points_without_a_line_keep_their_marks_in_the_legend() -> None:
    figure, axes = panel(2.9)
    axes.plot([1, 2], [1, 2], "o", label="points")
    axes.plot([1, 2], [1, 2], marker="_", label="line")
    legend(figure, axes)
    marks = [handle.get_marker() for handle in figure.legends[0].legend_handles]  # type: ignore[union-attr]
    assert marks == ["o", ""]
