"""What the scripts in results/mst rest on: tasks, rows, the summary and claims that agree."""

from __future__ import annotations

import csv
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from thrifty.report.claims import read_claims

SCRIPTS = Path(__file__).resolve().parents[1] / "results" / "mst"
Script = Callable[[str], ModuleType]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """A script as a module; like Python, with its folder first on the path."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("measure", "controls", "parts", "tuning", "summarise"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def load(name: str) -> ModuleType:
        module = importlib.import_module(name)
        assert Path(str(module.__file__)).parent == SCRIPTS
        return module

    yield load
    for name in ("measure", "controls", "parts", "tuning", "summarise"):
        sys.modules.pop(name, None)  # other results have scripts of these names


def study(script: Script, folder: Path) -> Any:
    return script("measure").Study(folder, folder / "runs", 2500, 1, False)


def test_a_stop_leaves_a_balanced_table(script: Script, tmp_path: Path) -> None:
    wanted = script("controls").wanted(study(script, tmp_path))
    seven = [(one["recipe"], one["arguments"]) for one in wanted[:7]]
    for seed in range(3):
        part = wanted[7 * seed : 7 * seed + 7]
        assert {one["seed"] for one in part} == {seed}
        assert [(one["recipe"], one["arguments"]) for one in part] == seven
    assert {one["seed"] for one in wanted[21:]} == {0}
    steps = {one["recipe"]: one["steps"] for one in wanted}
    assert steps["dense_steps"] == 625
    assert Counter(steps.values())[2500] == len(steps) - 1


def test_every_recipe_has_as_many_trials_on_another_seed(script: Script) -> None:
    tuning, controls = script("tuning"), script("controls")
    assert {len(tuning.trials(recipe)) for recipe in tuning.RECIPES} == {6}
    assert tuning.SEED not in controls.SEEDS
    assert {recipe for recipe, _ in controls.SEVERAL} <= set(tuning.RECIPES)


def test_what_was_tuned_is_used(script: Script, tmp_path: Path) -> None:
    measure = script("measure")
    (tmp_path / "tuning.toml").write_text(
        '[mst]\n"optimizer.learning_rate" = 0.003\n"sparsity.interval" = 0.04\n'
    )
    of = study(script, tmp_path)
    first = next(one for one in script("controls").wanted(of) if one["recipe"] == "mst")
    config = measure.configuration(first, toy=False)
    assert config.optimizer.learning_rate == 0.003
    assert config.sparsity.update_every == 100  # 4 % of 2,500


def test_every_part_is_another_configuration(script: Script) -> None:
    measure, parts = script("measure"), script("parts")
    made = [
        measure.configuration(measure.task("mst", 0, 2500, None, changes), toy=False)
        for changes in ({}, *parts.PARTS.values())
    ]
    assert len({repr(config) for config in made}) == len(parts.PARTS) + 1
    for config in made:
        config.resolved()  # none is refused


def test_a_row_of_a_run(script: Script, tmp_path: Path) -> None:
    measure = script("measure")
    one = measure.task("mst", 3, 8)
    found = measure.work(one, runs=tmp_path / "runs", toy=True)
    assert found["backend"] == "dense" or found["ultra_density"] < 0.3
    assert found["flops_ratio"] == pytest.approx(0.7, abs=1e-4)
    assert found["loss"] < 8.0
    assert found["seconds"] > 0.0
    # A finished run is read, not made again.
    assert measure.work(one, runs=tmp_path / "runs", toy=True) == found


def row(script: Script, recipe: str, seed: int, loss: float, **arguments: Any) -> dict[str, Any]:
    task = script("measure").task(recipe, seed, 2500, arguments)
    flops = {"dense": 4.0, "rigl": 1.2}.get(recipe, 1.0)
    return task | {
        "loss": loss, "bits_per_byte": loss / 2, "rise": 0.0, "parameters": 1000,
        "ultra_density": 0.1, "backend": "engine", "flops": flops, "flops_causal": flops,
        "flops_ratio": 0.25, "seconds": 60.0,
    }  # fmt: skip


def written(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_claims_agree_with_their_rows(script: Script, tmp_path: Path) -> None:
    rows = []
    for seed, noise in ((0, 0.0), (1, 0.1), (2, 0.2)):
        for recipe, loss in (
            ("dense", 3.0), ("mst", 3.2), ("dense_steps", 3.5), ("dense_batch", 3.4), ("tiny", 3.1)
        ):  # fmt: skip
            rows.append(row(script, recipe, seed, loss + noise))
    written(tmp_path / "controls.csv", rows)
    script("summarise").main(tmp_path)
    found = {
        claim.claim.split(" is ")[1]: claim for claim in read_claims(tmp_path / "claims.toml")[:4]
    }
    better = found["better than dense with a quarter of them"]
    assert better.status == "holds"
    assert better.measured == pytest.approx(-0.2)  # beside the better of the two: 3.2 - 3.4
    # The difference is .1 at every seed, so its interval is a point.
    assert found["not worse than a dense model of a quarter of the size"].status == "failed"
    assert found["not worse than RigL at equal FLOPs"].status == "not run"
    text = (tmp_path / "summary.md").read_text()
    # (3.5 - 3.3) / (3.5 - 3.1) of means over seeds, which are .1 above seed 0.
    line = next(one for one in text.splitlines() if one.startswith("| mst |"))
    assert "| 3 | 1,000 | 0.250 | 3.3000 | 3.2000 to 3.4000 | 1.6500 | 0.50 |" in line
    assert "| growth at random | not run | | |" in text


def test_nothing_run_is_said_so(script: Script, tmp_path: Path) -> None:
    summarise = script("summarise")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summarise, "SHAKESPEARE", tmp_path / "none.json")
        summarise.main(tmp_path)
    assert {claim.status for claim in read_claims(tmp_path / "claims.toml")} == {"not run"}
    assert "Not run yet." in (tmp_path / "summary.md").read_text()


def test_the_interval_is_students(script: Script) -> None:
    # Differences 1, 2, 3: mean 2, sd 1, t of 2 degrees of freedom at 97.5 % 4.3027.
    of = script("summarise").difference({0: 1.0, 1: 2.0, 2: 3.0}, {0: 0.0, 1: 0.0, 2: 0.0})
    assert of == pytest.approx((2.0, 2.0 - 4.30265 / 3**0.5, 2.0 + 4.30265 / 3**0.5), rel=1e-5)
    assert script("summarise").difference({0: 1.0}, {0: 1.0}) is None
