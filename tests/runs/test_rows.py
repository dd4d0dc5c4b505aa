"""Row logs: a checkpoint pays for new rows only, and damaged segments are refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_counter import Ring

from thrifty.runs.rows import RowLog, StoredRows
from thrifty.runs.state import load_state, read_segments, save_state


def filled(capacity: int, count: int) -> Ring:
    ring = Ring(capacity)
    extend(ring, count)
    return ring


def extend(ring: Ring, count: int) -> None:
    """Append rows [n, -n], so that a row says which one it is."""
    for number in range(ring.total, ring.total + count):
        ring.append([number, -number])


def check(stored: Any, ring: Ring) -> None:
    assert isinstance(stored, StoredRows)
    assert (stored.first, stored.total) == (ring.first, ring.total)
    numbers = np.arange(ring.first, ring.total, dtype=float)
    assert np.array_equal(stored.rows(stored.first, stored.total), np.stack([numbers, -numbers], 1))


def test_without_a_journal_live_rows_lie_in_the_file(tmp_path: Path) -> None:
    ring = filled(5, 12)
    save_state(tmp_path / "state.npz", {"replay": ring})
    check(load_state(tmp_path / "state.npz")["replay"], ring)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_with_a_journal_each_save_writes_only_new_rows(tmp_path: Path) -> None:
    journal, path = tmp_path / "journal", tmp_path / "state.npz"
    ring = filled(100, 40)
    stored = save_state(path, {"replay": ring}, journal=journal)
    extend(ring, 2)
    stored = save_state(path, {"replay": ring}, journal=journal, stored=stored)
    stored = save_state(path, {"replay": ring}, journal=journal, stored=stored)  # nothing new
    assert sorted(file.name for file in journal.iterdir()) == [
        "replay-0-40.npy",
        "replay-40-42.npy",
    ]
    assert np.load(journal / "replay-40-42.npy").tolist() == [[40, -40], [41, -41]]
    check(load_state(path, journal=journal)["replay"], ring)
    assert read_segments(path) == stored
    extend(ring, 98)  # rows 40..139 are left: the first segment is needed no more
    stored = save_state(path, {"replay": ring}, journal=journal, stored=stored)
    assert [segment.start for segment in stored["replay"]] == [40, 42]
    check(load_state(path, journal=journal)["replay"], ring)


def test_rows_overwritten_before_they_were_stored_are_not_missed(tmp_path: Path) -> None:
    journal, path = tmp_path / "journal", tmp_path / "state.npz"
    ring = filled(5, 3)
    stored = save_state(path, {"replay": ring}, journal=journal)
    extend(ring, 20)  # rows 18..22 are left, 3..17 were never stored
    stored = save_state(path, {"replay": ring}, journal=journal, stored=stored)
    assert [(segment.start, segment.stop) for segment in stored["replay"]] == [(18, 23)]
    check(load_state(path, journal=journal)["replay"], ring)


def test_a_loaded_log_is_a_log(tmp_path: Path) -> None:
    journal, ring = tmp_path / "journal", filled(10, 25)
    save_state(tmp_path / "a.npz", {"replay": ring}, journal=journal)
    tree = load_state(tmp_path / "a.npz", journal=journal)
    assert isinstance(tree["replay"], RowLog)
    save_state(tmp_path / "b.npz", tree)
    check(load_state(tmp_path / "b.npz")["replay"], ring)
    for start, stop in [(14, 20), (20, 26), (18, 17)]:
        with pytest.raises(ValueError, match=rf"rows \[{start}, {stop}\) are not stored"):
            tree["replay"].rows(start, stop)


def test_an_empty_log_keeps_dtype_and_row_shape(tmp_path: Path) -> None:
    dtype = np.dtype([("observation", "<f4", (3,)), ("terminated", "?")])
    table = np.zeros(0, dtype)
    log = StoredRows(0, 0, table)
    for journal in (None, tmp_path / "journal"):
        save_state(tmp_path / "state.npz", [log], journal=journal)
        rows = load_state(tmp_path / "state.npz", journal=journal)[0].rows(0, 0)
        assert (rows.dtype, rows.shape) == (dtype, (0,))


@given(
    capacity=st.integers(1, 12),
    counts=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    reloads=st.lists(st.booleans(), min_size=8, max_size=8),
    window=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_history_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    capacity: int,
    counts: list[int],
    reloads: list[bool],
    window: tuple[float, float],
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    journal, path, ring, stored = folder / "journal", folder / "state.npz", Ring(capacity), None
    for count, reload in zip(counts, reloads, strict=False):
        extend(ring, count)
        stored = save_state(path, {"a": [ring], "b": 1}, journal=journal, stored=stored)
        log = load_state(path, journal=journal)["a"][0]
        check(log, ring)
        start, stop = sorted(round(log.first + w * (log.total - log.first)) for w in window)
        assert np.array_equal(log.rows(start, stop), ring.rows(start, stop))
        if reload:  # another process goes on
            ring, stored = Ring(capacity), read_segments(path)
            ring.restore(log)


def test_two_logs_with_one_name_are_refused(tmp_path: Path) -> None:
    tree = {"a": {1: filled(3, 3), "1": filled(3, 4)}}
    with pytest.raises(ValueError, match=r"two row logs share the name a\.1: rename a key"):
        save_state(tmp_path / "state.npz", tree)


def test_names_are_safe_for_files(tmp_path: Path) -> None:
    tree = {"../up/x y": filled(3, 3), "é" * 300: filled(3, 4)}
    save_state(tmp_path / "state.npz", tree, journal=tmp_path / "journal")
    assert len(list((tmp_path / "journal").iterdir())) == 2
    loaded = load_state(tmp_path / "state.npz", journal=tmp_path / "journal")
    assert [log.total for log in loaded.values()] == [3, 4]


def test_a_journal_that_is_not_given_is_asked_for(tmp_path: Path) -> None:
    save_state(tmp_path / "state.npz", [filled(3, 3)], journal=tmp_path / "journal")
    with pytest.raises(ValueError, match="keeps rows in a journal: give its folder as journal="):
        load_state(tmp_path / "state.npz")


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Path]:
    save_state(tmp_path / "state.npz", [filled(4, 4)], journal=tmp_path / "journal")
    (path,) = (tmp_path / "journal").iterdir()
    return path  # type: ignore[return-value]


def test_every_damaged_byte_of_a_segment_is_refused(tmp_path: Path, segment: Path) -> None:
    whole = segment.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        for content in (bytes(damaged), whole[:position], whole + b"\0"):
            segment.write_bytes(content)
            with pytest.raises(ValueError, match=r"0-0-4\.npy is damaged: restore it, or use an"):
                load_state(tmp_path / "state.npz", journal=tmp_path / "journal")
    segment.unlink()
    with pytest.raises(ValueError, match=r"0-0-4\.npy is missing: restore it, or use an older"):
        load_state(tmp_path / "state.npz", journal=tmp_path / "journal")


def test_damage_after_loading_is_refused_too(tmp_path: Path, segment: Path) -> None:
    (log,) = load_state(tmp_path / "state.npz", journal=tmp_path / "journal")
    segment.write_bytes(segment.read_bytes()[::-1])
    with pytest.raises(ValueError, match="is damaged"):
        log.rows(0, 4)


def test_a_checkpoint_costs_what_is_new(tmp_path: Path) -> None:
    """200,000 rows of 40 numbers (64 MB) first, then ten more: bytes and seconds follow."""
    table = np.zeros((200_010, 40))

    class Growing:
        first, total = 0, 200_000

        def rows(self, start: int, stop: int) -> np.ndarray:
            assert stop <= self.total
            return table[start:stop]

    journal, log = tmp_path / "journal", Growing()
    began = time.perf_counter()
    stored = save_state(tmp_path / "1.npz", [log], journal=journal)
    first_seconds = time.perf_counter() - began
    log.total += 10
    began = time.perf_counter()
    save_state(tmp_path / "2.npz", [log], journal=journal, stored=stored)
    second_seconds = time.perf_counter() - began
    sizes = sorted(path.stat().st_size for path in journal.iterdir())
    assert sizes == [10 * 40 * 8 + 128, 200_000 * 40 * 8 + 128]  # npy headers are 128 bytes
    assert (tmp_path / "2.npz").stat().st_size < 2000
    assert second_seconds < first_seconds / 4
