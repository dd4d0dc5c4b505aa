from __future__ import annotations

import dataclasses
import itertools
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from thrifty.scheduling import clairvoyant, optimum, traces
from thrifty.scheduling.channels import MarkovChannel
from thrifty.scheduling.environment import DelayConstrainedScheduling
from thrifty.scheduling.measurement import measure
from thrifty.scheduling.scenarios import KERNEL_5G, VALUES_5G, Scenario, scenario
from thrifty.scheduling.schedulers import TableScheduler

HEAD = "Timestamp,Speed,CQI\n"
DAY = "2019.12.16_10.00."
A, B, C = (f"{DAY}0{second}" for second in (1, 2, 3))


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_log_has_one_value_a_second(tmp_path: Path) -> None:
    rows = f"{A},0,12\n{A},0,9\n{B},0,15\n"
    (log,) = traces.read_cqi(written(tmp_path / "log.csv", HEAD + rows))
    assert log.tolist() == [9, 15]
    assert traces.classes(log).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + f"{A},0,12\n{B},0,-\n", "row 3: CQI must be a whole number, it is missing; drop"),
        (HEAD + f"{A},0,12\n{B},0\n", "row 3: CQI must be a whole number, it is missing; drop"),
        (HEAD + f"{A},0,good\n", "row 2: CQI must be a whole number, got 'good'$"),
        (HEAD + f"{A},0,nan\n", "row 2"),
        (HEAD + f"{A},0,16\n", r"0\.\.15"),
        (HEAD + f"{A},0,5\n,0,5\n,0,6\n", "row 3: Timestamp is like .*, got nothing"),
        (HEAD + "10:00,0,5\n", "row 2: Timestamp is like .*, got '10:00'"),
        (HEAD + f"{B},0,5\n{A},0,5\n", f"row 3: the time goes back, from {B} to {A}"),
        ("Timestamp,Speed\na,0\n", "no column CQI"),
        (HEAD, "no row with a CQI"),
    ],
)
def test_a_bad_log_is_named_with_its_row(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as problem:
        traces.read_cqi(written(tmp_path / "log.csv", text))
    assert "log.csv" in str(problem.value)
    assert "\n" not in str(problem.value)


def test_missing_values_can_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", HEAD + f"{A},0,12\n{B},0,-\n{C},0,3\n")
    (log,) = traces.read_cqi(path, drop_missing=True)
    assert log.tolist() == [12, 3]
    written(path, HEAD + f"{A},0,12\n{B},0,x\n")  # not missing, but wrong: no hint to drop it
    with pytest.raises(ValueError, match=r"row 3: CQI must be a whole number, got 'x'$"):
        traces.read_cqi(path, drop_missing=True)


def test_a_log_breaks_where_time_passes_without_a_value(tmp_path: Path) -> None:
    # 2 and 5 s from one value to the next are a slot each, 6 s are a gap, and so is the next day.
    seconds = {0: 15, 2: 14, 7: 13, 13: 1, 14: 2}
    rows = "".join(f"{DAY}{second:02},0,{value}\n" for second, value in seconds.items())
    path = written(tmp_path / "log.csv", HEAD + rows + "2019.12.17_10.00.15,0,3\n")
    found = traces.read_cqi(path)
    assert [stretch.tolist() for stretch in found] == [[15, 14, 13], [1, 2], [3]]
    # Of the states 0 and 3 none was seen to lead to the other: 2 moves 0-0, 1 move 3-3.
    kernel = traces.kernel([traces.classes(one) for one in found], 4, prior=0.1)
    np.testing.assert_allclose(kernel[[0, 3], [0, 3]], [2.1 / 2.4, 1.1 / 1.4])


@pytest.mark.parametrize("garbage", [b"\xff\xfe", b'"' + b"x" * 200_000])
def test_what_is_no_text_is_named(garbage: bytes, tmp_path: Path) -> None:
    for name, head, read in (
        ("log.csv", HEAD, traces.read_cqi),
        ("counts.csv", "timestamp,value\n", traces.read_counts),
    ):
        path = tmp_path / name
        path.write_bytes(head.encode() + garbage + b",1,1\n")
        with pytest.raises(ValueError, match=f"{name} is no CSV file in UTF-8") as problem:
            read(path)  # type: ignore[operator]
        assert "\n" not in str(problem.value)


def test_logs_of_a_folder_and_of_an_archive(tmp_path: Path) -> None:
    (tmp_path / "logs" / "walk").mkdir(parents=True)
    written(tmp_path / "logs" / "walk" / "a.csv", HEAD + f"{A},0,12\n{B},0,3\n")
    written(tmp_path / "logs" / "b.csv", HEAD + f"{A},0,-\n")
    with zipfile.ZipFile(tmp_path / "logs.zip", "w") as archive:
        archive.writestr("logs/walk/a.csv", HEAD + f"{A},0,12\n{B},0,3\n")
        archive.writestr("__MACOSX/logs/._a.csv", "no log")
    folder = traces.read_cqi_logs(tmp_path / "logs", drop_missing=True)
    zipped = traces.read_cqi_logs(tmp_path / "logs.zip")
    assert list(folder) == ["walk/a.csv"]
    assert list(zipped) == ["logs/walk/a.csv"]
    for (stretch,) in (*folder.values(), *zipped.values()):
        assert stretch.tolist() == [12, 3]
    with pytest.raises(ValueError, match="row 2"):
        traces.read_cqi_logs(tmp_path / "logs")
    with pytest.raises(ValueError, match="neither a folder nor"):
        traces.read_cqi_logs(tmp_path / "logs" / "b.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no CSV"):
        traces.read_cqi_logs(tmp_path / "empty")


def test_counts(tmp_path: Path) -> None:
    first, second, third = (f"2015-02-26 21:{minute}:53" for minute in (42, 47, 53))
    head = "timestamp,value\n"
    path = written(tmp_path / "counts.csv", f"{head}{first},3\n{second},0\n")
    assert traces.read_counts(path).tolist() == [3, 0]
    for text, said in (
        (f"{first},-3\n", "row 2: a count is at least 0"),
        (f"{first},\n", "row 2: value must be a whole number, it is missing$"),
        (f"{first},2.5\n", "row 2: value must be a whole number, got '2.5'$"),
        (f"{first},2\n,3\n", "row 3: timestamp is like .*, got nothing"),
        (f"{first},2\n{second}Z,3\n{third},3\n", "row 4: timestamp is like"),
        (f"{first},2\n{second},3\n{third},3\n", "row 4: 0:06:00 after the row before"),
        ("", "no rows"),
    ):
        with pytest.raises(ValueError, match=said):
            traces.read_counts(written(path, head + text))


def test_a_kernel_is_counted_within_logs() -> None:
    # 0-0, 0-1, 1-0 in one log, 1-1 in the other; none from the first log's end to the second.
    found = traces.kernel([np.array([0, 0, 1, 0]), np.array([1, 1])], 2)
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match=r"\[2\] are never left"):
        traces.kernel([np.array([0, 1, 0])], 3)
    np.testing.assert_allclose(traces.kernel([np.array([0, 1, 0])], 3, prior=1.0)[2], 1 / 3)


def test_a_split_keeps_the_order_of_time() -> None:
    early, late = traces.split(np.arange(10), 0.7)
    assert (early.tolist(), late.tolist()) == (list(range(7)), [7, 8, 9])
    with pytest.raises(ValueError, match="empty"):
        traces.split(np.arange(10), 1.0)


def recording(slots: int, seed: int = 0) -> Scenario:
    """A record drawn from chains and Poisson arrivals."""
    generator = np.random.default_rng(seed)
    states = np.zeros((slots, 2), dtype=int)
    for t, flow in itertools.product(range(1, slots), range(2)):
        states[t, flow] = generator.choice(4, p=np.array(KERNEL_5G)[states[t - 1, flow]])
    return traces.replay(
        "drawn",
        counts=generator.poisson(2.0, (slots, 2)),
        states=states,
        weights=[2, 1],
        attempts=[3, 5],
        distances=[1.0, 1.2],
    )


def chain_of(of: Scenario) -> Scenario:
    """The chain fitted to the very record that is replayed."""
    states = of.channel.states_at[:, :, 0]  # type: ignore[union-attr]
    return traces.fitted(of, logs=[[states[:, 0]], [states[:, 1]]], counts=of.arrivals.rates)


def test_a_fitted_chain_has_its_own_matrices_and_means() -> None:
    of = recording(300)
    chain = traces.fitted(
        of, logs=[[np.array([0, 0, 0])], [np.array([1, 2])]], counts=np.array([[1, 2], [3, 2]])
    )
    assert chain.arrivals.mean.tolist() == [2.0, 2.0]
    assert isinstance(chain.channel, MarkovChannel)
    # Two moves 0-0 and a tenth for each of the four: 2.1 of 2.4; a state never seen is uniform.
    assert chain.channel.kernels[0, 0, 0, 0, 0] == pytest.approx(2.1 / 2.4)
    np.testing.assert_allclose(chain.channel.kernels[0, 1, 0, 3], 0.25)


def test_a_record_is_an_environment_too() -> None:
    env = DelayConstrainedScheduling(recording(50), clock=0, slots=10)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    again, _ = env.reset(seed=1)  # the record does not depend on the seed
    np.testing.assert_array_equal(observation, again)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)


def test_the_clairvoyant_value_by_exhaustion() -> None:
    """One packet, three known slots: against a fine grid over all pairs of energies."""
    of = traces.replay(
        "tiny", counts=np.array([[1], [0], [0]]), states=np.array([[0], [2], [1]]),
        weights=[2.0], attempts=[4], distances=[1.0],
    )  # fmt: skip
    price = 0.4
    grid = np.linspace(0, 1, 401)
    first, second = np.meshgrid(grid, grid, indexing="ij")
    p, q = np.tanh(first / 3.0), np.tanh(second / 1.0)  # channel values of the states 2 and 1
    worth = p * 2 - price * first + (1 - p) * (q * 2 - price * second)
    found = clairvoyant.along(of, price)
    assert 3 * (found.reward - price * found.energy[0]) == pytest.approx(worth.max(), abs=1e-4)
    assert 3 * (found.reward - price * found.energy[0]) >= worth.max()


def test_the_clairvoyant_bounds_a_table_and_simulation_agrees() -> None:
    of = recording(400)
    chain = chain_of(of)
    table = optimum.solve(chain, 1.5)
    expected = clairvoyant.along(of, 0.0, table=table.tables[0])
    best = clairvoyant.solve(of, float(expected.energy[0]))
    assert 0.8 * best.optimum < expected.reward <= best.optimum
    found = measure(
        of, TableScheduler(chain, table), environments=400, slots=400, warm_up=0, clock=0
    )
    assert abs(found.throughput - expected.reward) < 4 * found.throughput_error
    assert abs(found.energy[0] - expected.energy[0]) < 4 * found.energy_error[0]


def test_the_clairvoyant_table_reaches_its_bound() -> None:
    """Its energies by slot, given to the simulator as a table whose phase is the slot."""
    of = recording(200, seed=1)
    best = clairvoyant.solve(of, 1.5)
    tables = tuple(np.repeat(table, 4, axis=2) for table in best.tables)
    by_slot = dataclasses.replace(best, tables=tables)
    found = measure(
        of, TableScheduler(of, by_slot), environments=400, slots=200, warm_up=0, clock=0
    )
    assert abs(found.throughput - best.optimum) < 4 * found.throughput_error
    assert abs(found.energy[0] - 1.5) < 4 * found.energy_error[0]


def test_a_long_record_of_a_chain_is_worth_a_little_more_than_the_chain() -> None:
    of = recording(20000)
    chain = dataclasses.replace(chain_of(of), channel=MarkovChannel(VALUES_5G, KERNEL_5G))
    part = optimum.solve(chain, 1.5).optimum / clairvoyant.solve(of, 1.5).optimum
    assert 0.9 < part < 1.01  # knowing the future is worth some, and the record scatters by 1 %


def test_energy_to_spare_on_a_record() -> None:
    of = recording(50)
    found = clairvoyant.solve(of, 100.0)
    assert found.multiplier.tolist() == [0.0]
    assert found.slack[0] == pytest.approx(100.0 - found.energy[0])


def test_records_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 4 slots"):
        traces.replay("x", counts=np.zeros((3, 1), int), states=np.zeros((4, 1), int),
                      weights=[1.0], attempts=[1], distances=[1.0])  # fmt: skip
    with pytest.raises(ValueError, match="recorded channel"):
        clairvoyant.along(scenario("S1"), 1.0)


# The public data, where the machine has them.

DATA = os.environ.get("THRIFTY_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="THRIFTY_DATA names no folder with the traces")


@needs_data
def test_the_kernel_of_the_public_5g_traces() -> None:
    archive = Path(str(DATA)) / "5g" / "5G-production-dataset.zip"
    logs = traces.read_cqi_logs(archive, drop_missing=True)
    assert len(logs) == 82  # of 83, one without any CQI
    stretches = [one for log in logs.values() for one in log]
    assert len(stretches) == 129  # logs break where their clock jumps by more than 5 s
    found = traces.kernel([traces.classes(one) for one in stretches], 4)
    np.testing.assert_allclose(found, KERNEL_5G, atol=2e-3)
    with pytest.raises(ValueError, match="it is missing"):
        traces.read_cqi_logs(archive)


@needs_data
def test_tables_fitted_out_of_sample_on_public_traces() -> None:
    """Real arrivals x real 5G CQI, unrelated sources: fitted on what is not replayed."""
    of, chain = traces.public_traces(Path(str(DATA)))
    table = optimum.solve(chain, 6.0)
    found = clairvoyant.along(of, 0.0, table=table.tables[0])
    best = clairvoyant.solve(of, float(found.energy[0]))
    # Measured once: 98.9 %; who knows the future cannot be beaten.
    assert 0.97 * best.optimum < found.reward <= best.optimum
    with pytest.raises(ValueError, match="slots must lie"):
        traces.public_traces(Path(str(DATA)), slots=10**6)


def test_public_traces_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="5G-production-dataset"):
        traces.public_traces(tmp_path)
