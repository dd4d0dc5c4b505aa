"""Event files hold the numbers of the records, and a missing package is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from toy_counter import make_run

from thrifty.runs import execute, read_records
from thrifty.runs.tensorboard import TensorBoard


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    return [
        (value.tag, event.step, value.tensor.float_val[0])  # the loader turns scalars to tensors
        for path in sorted(folder.iterdir())
        for event in loader.EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def test_numbers_become_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with TensorBoard(tmp_path / "events") as board:
        assert not (tmp_path / "events").exists()  # so it may lie in a run directory to be made
        board(
            {
                "kind": "train",
                "step": 7,
                "return": 2.5,
                "missing": None,
                "flag": True,
                "returns": [1.0],
                "layers": {"fc1": {"nnz": 12}},
            }
        )
    assert scalars(tmp_path / "events") == [
        ("train/return", 7, 2.5),
        ("train/layers/fc1/nnz", 7, 12.0),
    ]


def test_a_run_can_be_watched_over_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = make_run(tmp_path / "run")
    for limit in (20, 50):
        with TensorBoard(run.directory / "tensorboard") as board:
            execute(run, callbacks=[board, lambda record, limit=limit: record["step"] < limit])
    found = [(s, v) for tag, s, v in scalars(run.directory / "tensorboard") if "return" in tag]
    expected = [(record["step"], record["return"]) for record in read_records(run.directory)]
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [value for _, value in found] == pytest.approx([v for _, v in expected], rel=1e-6)


def test_torch_is_not_needed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['tensorflow'] = None\n"
        "from thrifty.runs.tensorboard import TensorBoard\n"
        "with TensorBoard(sys.argv[1]) as board: board({'kind': 'train', 'step': 1, 'x': 1.0})\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match=r'pip install "thrifty\[tensorboard\]"'):
        TensorBoard(tmp_path)
