"""Few and tiny samples: that everything is measured, named and compared, not how fast it is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from thrifty.bench import baselines, cases, schema, td3, updates
from thrifty.bench import sac as sac_bench
from thrifty.bench.cases import Case, random_replay
from thrifty.bench.schema import NOT_MEASURED, Row

TOY = Case("toy", 5, 2)


def rates(rows: list[Row], implementation: str) -> set[float | None]:
    return {row.sparsity for row in rows if row.implementation == implementation}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "_SLOW_CALLS", 2)
    monkeypatch.setattr(updates, "TRANSITIONS", 2_000)


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("learner", ["TD3", "SAC"])
def test_without_the_baselines_gaps_are_reported_and_the_rest_is_measured(
    learner: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "stable_baselines3", "sbx")
    rows = updates.measure(updates.Settings(learner, TOY, rounds=2))
    gaps = [row.implementation for row in rows if row.statistic == NOT_MEASURED]
    assert gaps == [f"SB3 {learner}", f"sbx {learner}", f"sbx {learner}, 16 per call"]
    assert capsys.readouterr().out.count('pip install "thrifty[bench]"') == 3
    for name in (updates.ENGINE, f"{updates.ENGINE}, 16 per call", updates.ARITHMETIC):
        assert rates(rows, name) == {0.8, 0.9, 0.95, 0.97}
    assert rates(rows, updates.REFERENCE_MASKED) == {0.95}
    compared = {row.ratio_to for row in rows if row.implementation == updates.ENGINE}
    assert compared == {updates.REFERENCE, updates.DENSE_LIMIT, updates.DENSE_LIMIT_BF16}
    assert {row.metric for row in rows} == {"updates_per_second"}


@pytest.mark.slow
@pytest.mark.parametrize("module", [td3, sac_bench])
def test_every_row_is_there_and_fits_the_schema(module: object, tmp_path: Path) -> None:
    pytest.importorskip("sbx", reason='needs pip install "thrifty[bench]"')
    rows = module.measure(rounds=2, cases=(TOY,))  # type: ignore[attr-defined]
    schema.write(tmp_path / "bench.json", rows, command="thrifty bench x")
    assert schema.read(tmp_path / "bench.json") == rows
    learner = "TD3" if module is td3 else "SAC"
    one = {row.ratio_to for row in rows if row.implementation == updates.ENGINE}
    assert one >= {f"sbx {learner}", f"SB3 {learner}"}
    several = f"{updates.ENGINE}, 16 per call"
    assert {r.ratio_to for r in rows if r.implementation == several} == {
        f"sbx {learner}, 16 per call"
    }
    if module is td3:
        published = [row for row in rows if "published" in row.case]
        (sparsity,) = rates(published, updates.ENGINE)
        assert sparsity is not None
        assert 0.85 < sparsity < 0.9  # actor 90 %, critics 85 %


def test_the_share_of_evolution_is_stated_for_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By hand: a plain pair of updates takes 2 s, one with moving links 22 s: 20 of 1,020 s."""
    monkeypatch.setattr(td3, "_PAIRS", 3)
    clock, pairs = [0.0], [0]

    def perf_counter() -> float:
        pairs[0] += 1
        if pairs[0] % 2 == 0:  # the end of a pair; every fourth pair moves links
            clock[0] += 22.0 if pairs[0] // 2 % 4 == 0 else 2.0
        return clock[0]

    monkeypatch.setattr(td3.time, "perf_counter", perf_counter)
    rows = td3.evolution(TOY, 0.9, rounds=2)
    assert [row.statistic for row in rows] == ["low", "median"]
    assert {row.case for row in rows} == {"toy, links move every 1,000 updates"}
    for row in rows:
        assert row.value == pytest.approx(100 * 20 / 1020)


def test_two_threads_stand_beside_one() -> None:
    rows = td3.shared(TOY, 0.9, rounds=2)
    assert [(row.threads, row.statistic) for row in rows] == [
        (threads, statistic) for threads in (1, 2) for statistic in ("low", "median")
    ]
    one, two = rows[1], rows[3]
    assert one.ratio is None
    assert two.ratio_to == updates.ENGINE
    assert one.value is not None
    assert two.value is not None
    assert two.ratio == pytest.approx(two.value / one.value)


@pytest.mark.parametrize(
    "package",
    ["SB3", pytest.param("sbx", marks=pytest.mark.slow)],  # JAX compiles for seconds
)
def test_a_call_makes_its_updates_on_our_transitions(package: baselines.Package) -> None:
    pytest.importorskip(baselines.MODULES[package], reason='needs pip install "thrifty[bench]"')
    replay = random_replay(TOY, 600)
    model = baselines.learner(package, "TD3", TOY, replay)
    call = baselines.updates_of(package, model, 4)
    call()
    call()
    assert model._n_updates == 8
    batch = model.replay_buffer.sample(64)
    stored = replay.matrix[:, replay.columns.observation]
    for observation in batch.observations.numpy():
        assert (stored == observation).all(axis=1).any()


def test_random_transitions_are_ended_terminated_and_valid() -> None:
    replay = random_replay(TOY, 1_000)
    at = replay.columns
    assert len(replay) == 1_000
    assert replay.matrix[:, at.ended].sum() == 100  # a tenth of so few
    assert replay.matrix[:, at.terminated].sum() == 50
    assert (replay.matrix[:, at.terminated] <= replay.matrix[:, at.ended]).all()
    assert np.abs(replay.matrix[:, at.action]).max() <= 1.0


def test_one_core_is_given_back() -> None:
    os = pytest.importorskip("os")
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system cannot pin")
    before = os.sched_getaffinity(0)
    with cases.one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


@pytest.mark.slow
def test_the_marks_are_met() -> None:
    """The low quantiles, which a busy machine disturbs least."""
    pytest.importorskip("sbx", reason='needs pip install "thrifty[bench]"')
    for module, learner in ((td3, "TD3"), (sac_bench, "SAC")):
        rows = module.measure(rounds=20)
        found = {
            (row.case, row.sparsity, row.updates_per_call): row.ratio
            for row in rows
            if row.statistic == "low"
            and row.ratio_to in (f"sbx {learner}", f"sbx {learner}, 16 per call")
        }
        for key, mark in module.MARKS.items():
            ratio = found[key]
            assert ratio is not None
            assert ratio >= mark, key
