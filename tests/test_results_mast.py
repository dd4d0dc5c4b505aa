"""What results/mast runs, and what it concludes: both denominators, and nothing from none."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from thrifty.marl import Spec
from thrifty.marl.copies import Copies, Result, View
from thrifty.report.claims import read_claims

SCRIPTS = Path(__file__).resolve().parents[1] / "results" / "mast"
MODULES = ("measure", "gate", "scores", "factorial", "summarise")  # other results have such names
TASKS = ("smax-3m", "smax-2s3z", "smax-3s5z", "mpe-simple_spread")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def summarise(scripts: Callable[[str], ModuleType]) -> ModuleType:
    return scripts("summarise")


def row(environment: str, side: tuple[str, str, str], seed: int, value: float) -> dict[str, str]:
    metric = "return" if environment.startswith("mpe") else "win rate"
    return {
        "recipe": side[0], "environment": environment, "steps": "1000", "sparsity": side[1],
        "tricks": side[2], "seed": str(seed), "metric": metric, "last5": str(value),
        "last20": str(value), "first": "0", "curve": "0 0.5 0.7", "backend": "engine",
        "warnings": "0", "diverged": "0", "cpu_seconds": "360", "seconds": "400",
    }  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def asked(
    scripts: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> dict[str, list[tuple[Path, str]]]:
    """Of every table, the folder of each task's run, and all that decides what happens in it."""
    found: dict[str, list[tuple[Path, str]]] = {}

    def note(table: str, tasks: Any, options: Any, *, episodes: int, evaluate_every: int) -> None:
        plan = (episodes, evaluate_every)
        found[table] = [
            (sys.modules["measure"].folder_of(task, folder, *plan), f"{task} {plan}")
            for task in tasks
        ]

    monkeypatch.setattr(sys, "argv", ["script.py"])
    for name in ("gate", "scores", "factorial"):
        script = scripts(name)
        monkeypatch.setattr(script, "carry_out", note)
        monkeypatch.setattr(script, "at_random", print, raising=False)
        script.main()
    return found


def test_tables_share_a_run_where_all_is_the_same(
    scripts: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The gate's runs of 2s3z are as long as those of the scores, but are evaluated otherwise."""
    tables = asked(scripts, monkeypatch, tmp_path)
    assert {name: len(rows) for name, rows in tables.items()} == {
        "gate.csv": 6,  # 2 maps, 3 seeds
        "scores.csv": 48,  # 4 tasks, 4 sides
        "factorial.csv": 108,  # 2 tasks, 15 + 3 cells
    }
    held: dict[Path, str] = {}
    for folder, task in (row for rows in tables.values() for row in rows):
        assert held.setdefault(folder, task) == task
    # Dense with and without MAST's tricks, and MAST at 95 %, on two tasks stand in both tables.
    assert len(held) == 6 + 48 + 108 - 3 * 2 * 3


def test_a_trial_leaves_the_evidence_as_it_is(
    scripts: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measure = scripts("measure")
    for told, out in (
        ([], SCRIPTS),
        (["--toy", "--runs", str(tmp_path)], tmp_path / "toy"),
        (["--toy", "--out", "here"], Path("here")),
    ):
        monkeypatch.setattr(sys, "argv", ["gate.py", *told])
        assert measure.arguments(None).out == out


class Once:
    """Over after one step of 1; a further one is refused, as libraries do."""

    seedable = True
    spec = Spec("once", 1, 2, 1, 1, 1)

    def begin(self, seed: int) -> None:
        self.over = False

    def step(self, action_N: Any) -> Result:
        assert not self.over
        self.over = True
        return Result(1.0, False, True)

    def view(self) -> View:
        return View(np.ones((1, 1), np.float32), np.ones(1, np.float32), np.ones((1, 2), bool))

    def scene(self) -> None:
        return None

    def close(self) -> None: ...


def test_random_teams_begin_every_episode(
    scripts: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More episodes than copies: the next ones are begun."""
    script = scripts("scores")
    monkeypatch.setattr(script, "make_team", lambda name, E, seed: Copies(Once, E, seed))
    task = {"environment": "once", "episodes": 40, "seed": 0}
    assert script.random_return(task) == {"return": 1.0}


def test_the_better_denominator_counts(summarise: ModuleType) -> None:
    """Dense 80, dense with tricks 86, MAST 82: 2 above the one and 4 below the other."""
    values = {"dense": 0.80, "dense, MAST's tricks": 0.86, "MAST at 90 %": 0.82}
    rows = [
        row("smax-3m", summarise.SIDES[name], seed, value)
        for name, value in values.items()
        for seed in range(3)
    ]
    task = summarise.Task("smax-3m", rows, None)
    assert task.better() == "dense, MAST's tricks"
    assert task.distance("MAST at 90 %", "dense") == pytest.approx((2.0, 2.0, 2.0))
    assert task.distance("MAST at 90 %", "dense, MAST's tricks") == pytest.approx((-4, -4, -4))
    assert task.within("MAST at 90 %")
    assert task.complete("MAST at 90 %")
    assert not task.complete("MAST at 95 %")
    # Against plain dense alone 0.805 would pass; it is 5.5 below the better one.
    worse = [{**r, "last20": "0.805"} if r["recipe"] == "mast" else r for r in rows]
    assert not summarise.Task("smax-3m", worse, None).within("MAST at 90 %")


def test_a_task_that_nobody_learns_is_not_kept(summarise: ModuleType) -> None:
    """No game won by any side is no loss, but nothing was there to be kept either."""
    sides = summarise.SIDES.values()
    task = summarise.Task(
        "smax-3m", [row("smax-3m", s, n, 0.0) for s in sides for n in "012"], None
    )
    assert task.complete("MAST at 95 %")
    assert task.distance("MAST at 95 %", "dense") == (0.0, 0.0, 0.0)
    assert not task.within("MAST at 95 %")
    assert "| **no**: neither dense learner learns it |" in summarise.score_lines([task])[-2]
    # Returns: a dense learner below random teams (-40) has no scale, and a worse MAST would gain.
    name = "mpe-simple_spread"
    rows = [row(name, side, seed, -50.0 - int(seed)) for side in sides for seed in "012"]
    task = summarise.Task(name, rows, -40.0)
    assert task.complete("MAST at 95 %")
    assert not task.within("MAST at 95 %")
    assert not summarise.Task(name, rows, None).complete("MAST at 95 %")  # no random teams yet
    # The five points that MAST may lose are not enough to see a loss; six are.
    for value, learned in ((0.05, False), (0.06, True)):
        rows = [row("smax-3m", side, seed, value) for side in sides for seed in "012"]
        assert summarise.Task("smax-3m", rows, None).within("MAST at 90 %") is learned


def test_one_seed_has_no_interval(summarise: ModuleType) -> None:
    rows = [row("smax-3m", side, 0, 0.8) for side in summarise.SIDES.values()]
    task = summarise.Task("smax-3m", rows, None)
    assert summarise.signed(task.distance("MAST at 90 %", "dense")) == "+0.0, one seed"


def test_a_run_that_diverges_has_a_row_and_stops_nothing(
    scripts: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wins .5 and 1, then nothing more: 0 for the other three of five; a return its least, -3."""
    measure = scripts("measure")
    for wins, told, last in ((True, (0.5, 1.0), 0.3), (False, (-3.0, -1.0), -2.6)):
        records = [{"kind": "start", "backend": "engine"}]
        records += [
            {"kind": "evaluation", "win_rate": v if wins else None, "return_mean": v} for v in told
        ]
        records += [{"kind": "warning"}, {"kind": "train"}]
        for record in records:
            record |= {"wall_seconds": 9.0, "wall_cpu_seconds": 8.0}

        def fails(*_: Any, **__: Any) -> None:
            raise ValueError("train record at step 9: loss is not finite: training has diverged")

        monkeypatch.setattr(measure, "execute", fails)
        monkeypatch.setattr(measure, "read_records", lambda folder, held=records: held)
        task = measure.task("dense", "skirmish", 40, 0)
        found = measure.score(task, runs=tmp_path, episodes=8, evaluate_every=10)
        assert (found["last5"], found["diverged"], found["warnings"]) == (last, 1, 1)
        assert len(found["curve"].split()) == 5  # as many as those of the other seeds
        done = measure.row_of([*records, {**records[-1], "kind": "end"}], 2)
        assert list(done) == list(found)
        assert (done["diverged"], done["last5"], done["cpu_seconds"]) == (0, sum(told) / 2, 8.0)

    def refused(*_: Any, **__: Any) -> None:
        raise ValueError("the folder holds another run")

    monkeypatch.setattr(measure, "execute", refused)
    with pytest.raises(ValueError, match="another run"):
        measure.score(task, runs=tmp_path, episodes=8, evaluate_every=10)


def test_seeds_that_disagree_ask_for_more(
    summarise: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dense = [row("smax-3m", summarise.SIDES["dense"], seed, 0.8) for seed in range(3)]
    tricks = [row("smax-3m", summarise.SIDES["dense, MAST's tricks"], s, 0.7) for s in range(3)]
    mast = [
        row("smax-3m", summarise.SIDES["MAST at 95 %"], s, v)
        for s, v in enumerate((0.6, 0.76, 0.9))
    ]
    rows = dense + tricks + mast
    task = summarise.Task("smax-3m", rows, None)
    assert task.within("MAST at 95 %")
    assert task.undecided("MAST at 95 %")
    write(tmp_path / "scores.csv", rows)
    monkeypatch.setattr(sys, "argv", ["summarise.py", "--undecided", "--out", str(tmp_path)])
    summarise.main()
    assert capsys.readouterr().out == "smax-3m\n"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
    # Not before there are three seeds, and not once there are five of each.
    assert not summarise.Task("smax-3m", rows[:-1], None).undecided("MAST at 95 %")
    more = [
        row("smax-3m", side, seed, 0.75) for seed in (3, 4) for side in summarise.SIDES.values()
    ]
    more += [row("smax-3m", summarise.SIDES["MAST at 90 %"], seed, 0.8) for seed in range(3)]
    assert not summarise.Task("smax-3m", rows + more, None).undecided("MAST at 95 %")


def test_returns_are_counted_from_random_teams(summarise: ModuleType) -> None:
    dense = [row("mpe-simple_spread", summarise.SIDES["dense"], seed, -20.0) for seed in range(3)]
    other = [row("mpe-simple_spread", summarise.SIDES["MAST at 90 %"], 0, -25.0)]
    # 100 (-25 + 40) / (-20 + 40) = 75
    assert summarise.points(other, dense, -40.0) == [75.0]
    assert summarise.points(other, dense, None) == []


def test_nothing_is_concluded_from_nothing(
    summarise: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = ["--out", str(tmp_path), "--bench", str(tmp_path / "none.json")]
    monkeypatch.setattr(sys, "argv", ["summarise.py", *nothing])
    summarise.main()
    claims = read_claims(tmp_path / "claims.toml")
    assert [claim.status for claim in claims] == ["not run"] * 6
    assert "not run" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_a_whole_table_is_counted(
    summarise: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MAST at 90 % loses 2 points everywhere, at 95 % it loses 10 on two of the four tasks."""
    scores = []
    for number, task in enumerate(TASKS):
        best, random = (-20.0, -40.0) if task.startswith("mpe") else (0.8, 0.0)
        point = (best - random) / 100 if task.startswith("mpe") else 0.01
        lost = {"dense": 0, "dense, MAST's tricks": 1, "MAST at 90 %": 2}
        lost["MAST at 95 %"] = 10 if number % 2 else 2
        scores += [
            row(task, summarise.SIDES[name], seed, best - point * loss)
            for name, loss in lost.items()
            for seed in range(3)
        ]
    write(tmp_path / "scores.csv", scores)
    shared = [{**one, "diverged": "1"} for one in scores if one["environment"] == "smax-3m"][:1]
    write(tmp_path / "factorial.csv", shared)
    write(tmp_path / "random.csv", [{"environment": "mpe-simple_spread", "return": "-40"}])
    gate = [row("smax-3m", summarise.SIDES["dense"], s, v) for s, v in enumerate((0.7, 0.4, 0.65))]
    gate += [row("smax-2s3z", summarise.SIDES["dense"], s, 0.3) for s in range(3)]
    write(tmp_path / "gate.csv", gate)
    monkeypatch.setattr(sys, "argv", ["summarise.py", "--out", str(tmp_path)])
    summarise.main()
    found = [(c.status, c.measured) for c in read_claims(tmp_path / "claims.toml")][:4]
    # The second best of three seeds; tasks within five points.
    assert found == [("holds", 0.65), ("failed", 0.3), ("holds", 4.0), ("failed", 2.0)]
    assert (tmp_path / "curves_smax_3m.png").exists()
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    # 4 tasks, 4 sides, 3 seeds and the gate's 6, but not the shared one again: .1 hours each.
    assert "; 5.4 processor hours." in text
    assert "counted as losing from there on: dense smax-3m none 0." in text


def test_speed_is_read_from_the_benchmark(summarise: ModuleType, tmp_path: Path) -> None:
    """A tenth of the dense time; half of JaxMARL's rate where an update learns from as much."""
    marl, schema = summarise.marl, summarise.schema
    update = {"case": marl.UPDATE, "metric": "time per update", "statistic": "low", "unit": "ms"}
    loop = {"case": marl.LOOP, "metric": "rate", "statistic": "median", "unit": "steps per second"}
    engine = {"implementation": marl.ENGINE, "sparsity": 0.95}
    alike = {"implementation": marl.ENGINE_ALIKE, "sparsity": 0.95}
    rows = [
        schema.Row(implementation=marl.DENSE, value=60.0, **update),
        schema.Row(**engine, value=6.0, ratio=0.1, ratio_to=marl.DENSE, **update),
        schema.Row(implementation="JaxMARL QMIX (commit x)", value=4000.0, **loop),
        schema.Row(**engine, value=8000.0, ratio=2.0, ratio_to="JaxMARL QMIX (commit x)", **loop),
        schema.Row(**alike, value=2000.0, ratio=0.5, ratio_to="JaxMARL QMIX (commit x)", **loop),
    ]
    schema.write(tmp_path / "marl.json", rows, command="thrifty bench marl")
    found = summarise.speed(tmp_path / "marl.json")
    assert [(one["measured"], one["status"]) for one in found] == [(10.0, "holds"), (0.5, "failed")]


def test_the_softmax_over_all_rises_with_its_sharpness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A softmax mean of one network's values rises with beta and lies below their maximum."""
    spec = importlib.util.spec_from_file_location("softmax", SCRIPTS / "softmax.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["softmax.py", "--steps", "320", "--out", str(tmp_path)])
    script.main()
    for folder in (tmp_path, SCRIPTS):
        with (folder / "softmax.csv").open(newline="", encoding="utf-8") as file:
            rows = [
                {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)
            ]
        assert [row["beta"] for row in rows] == [0.05, 0.5, 5.0]
        for one, two in pairwise(rows):
            assert one["full"] <= two["full"]
            assert one["maximum_distance"] >= two["maximum_distance"]


def test_what_topology_and_tricks_contribute(summarise: ModuleType) -> None:
    table = {
        (topology, tricks): [
            row(
                "smax-3m",
                (topology, "0.95", tricks),
                seed,
                0.1 * t + {"none": 0.0, "rlx2": 0.02, "mast": 0.05}[tricks] + 0.1 * seed,
            )
            for seed in range(2)
        ]
        for t, topology in enumerate(summarise.TOPOLOGIES)
        for tricks in summarise.TRICKS
    }
    line = summarise.contributions(summarise.balanced(table), [], None)
    assert "rlx2 +2.0, mast +5.0 points" in line
    assert "dense -20.0, tiny -10.0, static +0.0, set +10.0, rigl +20.0" in line
    assert "Of 2 seeds, which all cells have." in line
    # Stopped in the second seed: its rows raise some cells and do not count.
    del table["set", "mast"][1], table["rigl", "mast"][1]
    again = summarise.contributions(summarise.balanced(table), [], None)
    assert again == line.replace("2 seeds", "1 seed")
    table["set", "mast"] = []
    nothing = summarise.contributions(summarise.balanced(table), [], None)
    assert nothing == "What topology and tricks contribute: not run."
