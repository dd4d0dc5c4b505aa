from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from thrifty.lm import bpe, tokens
from thrifty.lm.tokens import Stream


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint16)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    stream = Stream([np.arange(1000, dtype=np.uint16)], "counting")
    inputs, targets = stream.batch(4, 16, seed=3, step=7)
    assert inputs.shape == targets.shape == (4, 16)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert torch.equal(inputs + 1, targets)  # the stream counts
    again, _ = stream.batch(4, 16, seed=3, step=7)
    assert torch.equal(inputs, again)
    for seed, step in ((3, 8), (4, 7)):
        assert not torch.equal(inputs, stream.batch(4, 16, seed=seed, step=step)[0])


def test_windows_cross_no_border_between_pieces_and_all_are_drawn() -> None:
    # Pieces of 4 and 5 tokens hold 4 - 2 = 2 and 5 - 2 = 3 windows of 2 + 1 tokens.
    stream = Stream([ids(0, 1, 2, 3), ids(), ids(10, 11, 12, 13, 14)], "two pieces")
    inputs, targets = stream.batch(500, 2, seed=0, step=1)
    drawn = {tuple(row) for row in torch.cat([inputs, targets[:, -1:]], 1).tolist()}
    assert drawn == {(0, 1, 2), (1, 2, 3), (10, 11, 12), (11, 12, 13), (12, 13, 14)}


def test_strips_meet_every_target_once_and_thin_evenly() -> None:
    stream = Stream([np.arange(100, dtype=np.uint16)], "counting")
    targets = torch.cat([wanted.flatten() for _, wanted in stream.strips(2, 9, 10**6)])
    assert targets.tolist() == list(range(1, 100))  # 11 windows of 9
    thinned = stream.strips(2, 9, 27)  # 3 windows: numbers 0, 11 / 3 = 3 and 22 / 3 = 7
    assert [int(row[0]) for batch, _ in thinned for row in batch] == [0, 27, 63]


def test_strips_cross_no_border_between_pieces() -> None:
    # Pieces of 7 and 5 tokens hold 3 and 2 windows of 2 targets; 2 tokens hold none.
    stream = Stream([np.arange(7), np.arange(10, 12), np.arange(20, 25)], "three pieces")
    batches = list(stream.strips(2, 2, 10**6))
    assert [targets.tolist() for _, targets in batches] == [
        [[1, 2], [3, 4]],
        [[5, 6], [21, 22]],
        [[23, 24]],
    ]
    assert [len(inputs) for inputs, _ in stream.strips(3, 2, 8)] == [3, 1]


def test_a_long_stream_is_evaluated_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # The 100 million held-out tokens of FineWeb: one batch is to touch its own windows alone.
    strips = Stream([np.zeros(100_000_000, dtype=np.uint16)], "long").strips(4, 1024, 10**9)
    sizes = []
    original = np.stack
    monkeypatch.setattr(np, "stack", lambda rows: sizes.append(len(rows)) or original(rows))
    assert len(strips) == 24_414  # 99,999,999 targets hold 97,656 windows of 1,024
    assert strips[24_413][0].shape == (4, 1024)
    assert sizes == [4]


def test_files_of_nanogpt_and_of_llm_c_are_mapped(tmp_path: Path) -> None:
    body = np.arange(1, 400, dtype="<u2")
    body.tofile(tmp_path / "train.bin")
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, len(body)
    (tmp_path / "x_val_0.bin").write_bytes(header.tobytes() + body.tobytes())
    loaded = tokens.load(str(tmp_path))
    assert loaded.vocabulary is bpe.gpt2()
    for stream in (loaded.training, loaded.held_out):
        assert len(stream) == 399
        assert isinstance(stream._pieces[0], np.memmap)
        assert stream.strips(1, 398, 398)[0][0][0].tolist() == list(range(1, 399))


def test_texts_become_files_with_their_vocabulary(tmp_path: Path) -> None:
    vocabulary = bpe.learn(["to be or not to be"], size=260)
    count = tokens.write(tmp_path / "train.bin", ["to be", "not"], vocabulary)
    tokens.write(tmp_path / "val.bin", ["or"], vocabulary)
    vocabulary.write(tmp_path / "merges.txt")
    loaded = tokens.load(str(tmp_path))
    assert loaded.vocabulary.merges == vocabulary.merges
    stored = loaded.training._pieces[0].tolist()
    assert len(stored) == count
    assert stored.count(vocabulary.end_of_text) == 2
    assert loaded.vocabulary.decode(stored) == "to benot"


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'nowhere' is no corpus"):
        tokens.load("nowhere")
    with pytest.raises(ValueError, match=r"has no \*train\*\.bin"):
        tokens.load(str(tmp_path))
    (tmp_path / "train.bin").write_bytes(b"")
    (tmp_path / "val.bin").write_bytes(b"\0\0")
    with pytest.raises(ValueError, match=r"train\.bin holds no tokens"):
        tokens.load(str(tmp_path))
    (tmp_path / "train.bin").write_bytes(b"\0\0\0")
    with pytest.raises(ValueError, match="3 bytes are no row of 16-bit ids"):
        tokens.load(str(tmp_path))
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, 10
    (tmp_path / "train.bin").write_bytes(header.tobytes() + b"\0\0")
    with pytest.raises(ValueError, match="10 tokens in 1026 bytes: it is cut off"):
        tokens.load(str(tmp_path))


def test_a_file_of_either_side_is_refused(tmp_path: Path) -> None:
    # "constrained" has "train" in it, and what is held out would be trained on.
    for name in ("train.bin", "constrained_val.bin"):
        ids(*range(9)).tofile(tmp_path / name)
    with pytest.raises(ValueError, match=r"has constrained_val\.bin, which could be of either"):
        tokens.load(str(tmp_path))


def test_streams_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="has 8 tokens, and a window needs 9"):
        Stream([ids(*range(8))], "x").check(vocabulary=10, context=8)
    with pytest.raises(ValueError, match="has 0 tokens"):
        Stream([], "x").check(vocabulary=10, context=8)
    with pytest.raises(ValueError, match="holds token 9, beyond the vocabulary of 9"):
        Stream([ids(*range(10))], "x").check(vocabulary=9, context=8)
    Stream([ids(*range(10))], "x").check(vocabulary=10, context=8)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("long", "terminal"), [(True, True), (True, False), (False, True)])
def test_a_long_stream_shows_how_far_it_is_read(
    monkeypatch: pytest.MonkeyPatch, long: bool, terminal: bool
) -> None:
    shown = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(tokens, "_CHECKED", 4)
    monkeypatch.setattr(tokens, "_LONG", 10 if long else 11)
    stream = Stream([ids(*range(4)), ids(*range(6))], "a corpus")
    stream.check(vocabulary=6, context=2)
    assert ("looking through a corpus" in shown.getvalue()) == (long and terminal)
    assert long or not shown.getvalue()
    # The last id of the last part counts as well.
    with pytest.raises(ValueError, match="holds token 5, beyond the vocabulary of 5"):
        stream.check(vocabulary=5, context=2)
