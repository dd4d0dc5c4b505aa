"""What the scripts in results/mst rest on: the right tasks in their order, and rows of runs."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from thrifty.lm import bpe, corpus, tokens
from thrifty.lm.corpus import Text
from thrifty.lm.experiment import Pretraining
from thrifty.lm.gpt import GPT
from thrifty.lm.ledger import Costs, matrix_shapes, training_flops
from thrifty.lm.plan import make_plan
from thrifty.sparse import er, in_blocks

V = 2048  # tokens of the embedded corpus
SCRIPTS = Path(__file__).resolve().parents[1] / "results" / "mst"
Script = Callable[[str], ModuleType]
NAMES = ("measure", "controls", "parts", "tuning", "summarise", "shakespeare")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """A script as a module; like Python, with its folder first on the path."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)

    def load(name: str) -> ModuleType:
        module = importlib.import_module(name)
        assert Path(str(module.__file__)).parent == SCRIPTS
        return module

    yield load
    for name in NAMES:
        sys.modules.pop(name, None)  # other results have scripts of these names


def study(script: Script, folder: Path) -> Any:
    return script("measure").Study(folder, folder / "runs", 2500, 1, False)


def test_a_trial_leaves_the_evidence_as_it_is(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for told, out in (
        ([], SCRIPTS),
        (["--toy", "--runs", str(tmp_path)], tmp_path / "toy"),
        (["--toy", "--out", "here"], Path("here")),
    ):
        monkeypatch.setattr(sys, "argv", ["tuning.py", *told])
        assert script("measure").study(None).out == out


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


def test_nothing_is_chosen_on_a_work_of_the_comparison(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, of = script("measure"), study(script, tmp_path)
    named = [Text(name, (name,), name * 9) for name in ("hamlet", "macbeth", "othello")]
    monkeypatch.setattr(corpus, "embedded", lambda: tuple(named))
    monkeypatch.setattr(measure.tasks, "complete", lambda path, wanted, work, processes: [])
    measure.complete("tuning", [measure.task("mst", 1000, 8, text="tuning")], of)
    both = tokens.load(str(of.runs / measure.TUNING_TEXT))
    assert both.vocabulary.merges == bpe.embedded().merges
    for stream, text in ((both.training, "hamlet" * 9), (both.held_out, "othello" * 9)):
        assert len(stream) == 1 + len(bpe.embedded().encode(text))
        inputs, targets = stream.batch(1, len(stream) - 1, seed=0, step=0)
        ids = [*inputs[0].tolist(), int(targets[0, -1])]
        assert both.vocabulary.decode(ids[1:]) == text
    # And of the real corpus, works that the comparison trains on.
    monkeypatch.undo()
    training, held_out = corpus.sides(corpus.embedded())
    works = [text.works for text in training]
    assert {(work,) for work in measure.TUNED_ON} <= {*works}
    assert all(sum(work in one for one in works) == 1 for work in measure.TUNED_ON)
    assert not {work for text in held_out for work in text.works} & measure.TUNED_ON


def test_a_trial_reads_the_text_of_the_tuning(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, read = script("measure"), []

    def execute(run: Any, **_: Any) -> Any:
        read.append(run.config.data)
        return SimpleNamespace(status="interrupted")

    monkeypatch.setattr(measure, "execute", execute)
    for text in ("tuning", "held out"):
        with pytest.raises(KeyboardInterrupt):
            measure.work(measure.task("mst", 1000, 8, text=text), runs=tmp_path, toy=True)
    assert read == [str(tmp_path / "tuning_text"), "shakespeare"]


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
        for changes in parts.PARTS.values()
    ]
    assert len({repr(config) for config in made}) == len(parts.PARTS)
    for config in made:
        make_plan(config.resolved(), V)  # none is refused


def test_the_schedule_is_chosen_on_no_seed_of_the_comparison(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, controls = script("parts"), script("controls")
    of, seen = study(script, tmp_path), []
    worst_first = iter(range(100, 0, -1))  # the last one is best, and is not on offer

    def made(name: str, wanted: list[dict[str, Any]], of: Any) -> list[dict[str, str]]:
        seen.extend(wanted)
        return [{**one, "loss": str(next(worst_first))} for one in wanted]

    monkeypatch.setattr(parts, "complete", made)
    for early in (parts, controls):
        with pytest.raises(SystemExit, match=r"tuning\.toml is missing: run tuning\.py"):
            early.main(of)
    script("measure").write_settings(tmp_path / "tuning.toml", {"dense": {}, "mst": {}})
    with pytest.raises(SystemExit, match=r"parts\.toml is missing: run parts\.py"):
        controls.main(of)
    parts.main(of)
    assert not {one["seed"] for one in seen} & set(controls.SEEDS)
    assert {one["text"] for one in seen} == {"tuning"}
    assert {one["text"] for one in controls.wanted(of)} == {"held out"}
    assert len(seen) == len(parts.PARTS)
    best = script("measure").chosen("parts", "mst", tmp_path)
    assert best == parts.PARTS["warm-up from half"]
    changes = {
        (one["recipe"], one["arguments"]): json.loads(one["changes"]) for one in controls.wanted(of)
    }
    assert changes["mst", "{}"] == best
    assert changes["mst", '{"block": 32}'] == changes["dense", "{}"] == {}
    order = (SCRIPTS / "run.sh").read_text().splitlines()
    assert "for script in shakespeare tuning parts controls summarise; do" in order


def test_what_the_marks_compare_costs_a_quarter(script: Script) -> None:
    """Within 2 %, whatever was tuned and chosen, blocks too; none is refused."""
    measure, controls, tuning = script("measure"), script("controls"), script("tuning")
    parts = script("parts")

    def flops(recipe: str, arguments: Any, changes: Any) -> float:
        one = measure.task(recipe, 0, 2500, arguments, changes)
        config = measure.configuration(one, toy=False).resolved()
        costs = Costs.of(config.model, V, "square")
        plan = make_plan(config, V)
        for phase in plan.phases.phases if plan.phases else ():
            shapes = {name: torch.Size(s) for name, s in matrix_shapes(config.model, V).items()}
            in_blocks(er, config.sparsity.block)(shapes, 1.0 - phase.end)
        stretches = plan.stretches(config.steps, config.model.context)
        tokens = config.steps * config.batch_size * config.model.context
        return training_flops(costs, stretches) * costs.step(costs.links) * tokens

    dense = flops("dense", {}, {})
    for exchange in tuning.EXCHANGES:
        for recipe, arguments in controls.SEVERAL:
            moving = recipe in tuning.MOVING
            every = parts.PARTS.values() if recipe == "mst" else [{}]
            for schedule in every:
                changes = {**exchange, **schedule} if moving else {}
                ratio = flops(recipe, arguments, changes) / dense
                if (recipe, arguments) == ("dense", {}):
                    assert ratio == 1.0
                elif (recipe, arguments) == ("rigl", {}):
                    assert ratio == pytest.approx(0.303, abs=0.003)
                else:
                    assert ratio == pytest.approx(0.25, rel=0.02), (recipe, arguments, changes)
        for recipe, arguments, changes in controls.ONCE:
            if recipe == "mst":
                assert flops(recipe, arguments, {**exchange, **changes}) > 0.0


def test_links_are_exchanged_no_more_often_than_the_floor(script: Script) -> None:
    # 2 % of the 1,000 steps of a trial are 20, and no run exchanges more often than every 25.
    measure = script("measure")
    one = measure.task("rigl", 1000, 1000, None, {"sparsity.interval": 0.02})
    assert measure.configuration(one, toy=False).sparsity.update_every == 25


def test_a_row_of_a_run(script: Script, tmp_path: Path) -> None:
    measure = script("measure")
    one = measure.task("mst", 3, 8)
    found = measure.work(one, runs=tmp_path / "runs", toy=True)
    assert found["backend"] == "dense" or found["ultra_density"] < 0.3
    assert found["flops_ratio"] == pytest.approx(0.7, abs=2e-3)  # in whole links
    assert found["loss"] < 8.0
    assert found["seconds"] > 0.0
    # A finished run is read, not made again, and keeps no checkpoints.
    assert measure.work(one, runs=tmp_path / "runs", toy=True) == found
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_a_row_counts_what_was_spent_and_how_far_past_its_minimum_a_run_is(script: Script) -> None:
    # Spent 30 of 100, planned 25: blocks round. The last evaluation has other tokens than .8, .6
    # and .65, of which the last is .05 above the least.
    start = {
        "kind": "start", "parameters": 1, "ultra_density": 0.1, "backend": "engine",
        "flops_ratio": {"square": 0.25}, "dense_flops": {"square": 100.0}, "wall_seconds": 0.0,
    }  # fmt: skip
    evaluations = [
        {"kind": "evaluation", "loss": loss, "bits_per_byte": loss / 2, "flops_square": 30.0,
         "flops_causal": 20.0}
        for loss in (0.8, 0.6, 0.65, 0.5)
    ]  # fmt: skip
    end = {"kind": "end", "wall_seconds": 9.0, "wall_cpu_seconds": 8.0}
    found = script("measure").row_of([start, *evaluations, end])
    assert found["flops_ratio"] == 0.3
    assert (found["loss"], found["rise"]) == (0.5, 0.05)
    assert (found["seconds"], found["cpu_seconds"]) == (9.0, 8.0)


def test_a_run_that_diverges_has_a_row_and_stops_nothing(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = script("measure")
    losses = iter([7.0, 7.0, math.nan])
    monkeypatch.setattr(
        GPT, "loss", lambda model, ids, wanted: model(ids).sum() * 0.0 + next(losses)
    )
    monkeypatch.setattr(Pretraining, "_nats", lambda *_: 1.0)  # no time for evaluations
    one = measure.task("mst", 3, 8)
    found = measure.work(one, runs=tmp_path / "runs", toy=True)
    assert found["loss"] == math.inf
    assert found["flops_ratio"] == pytest.approx(0.7, abs=1e-4)
    for problem in ("a score is NaN: the loss or a weight has diverged", "holds another run"):

        def fails(*_: Any, problem: str = problem, **__: Any) -> None:
            raise ValueError(problem)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(measure, "execute", fails)
            if "diverged" in problem:
                assert measure.work(one, runs=tmp_path / "runs", toy=True) == found
            else:
                with pytest.raises(ValueError, match=problem):
                    measure.work(one, runs=tmp_path / "runs", toy=True)
    losses = iter([7.0] * 8)
    whole = measure.work({**one, "seed": 4}, runs=tmp_path / "runs", toy=True)
    assert list(whole) == list(found)  # one row for a table
    assert found["flops"] == pytest.approx(whole["flops"], rel=1e-2)


def test_the_run_that_people_try_first_is_measured_once(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shakespeare = script("shakespeare")
    monkeypatch.setattr(shakespeare, "RESULT", tmp_path / "shakespeare.json")
    monkeypatch.setattr(sys, "argv", ["shakespeare.py", "--runs", str(tmp_path)])
    started = []

    def stopped(run: Any, **_: Any) -> Any:
        assert not list(tmp_path.glob("shakespeare/*"))  # what was stopped begins again
        (run.directory).mkdir(parents=True)
        (run.directory / "half").touch()
        started.append(run)
        return SimpleNamespace(status="interrupted")

    monkeypatch.setattr(shakespeare, "execute", stopped)
    for _ in range(2):
        with pytest.raises(SystemExit):
            shakespeare.main()
    assert len(started) == 2
    (tmp_path / "shakespeare.json").write_text("{}")
    shakespeare.main()
    assert len(started) == 2
