from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from toy_counter import Counting, make_run, result

import thrifty.runs.claim as claim_module
from thrifty.runs import execute
from thrifty.runs.experiment import Record

pytestmark = pytest.mark.usefixtures("quick")


def test_a_field_added_since_the_run_began_has_its_default(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: False])
    path = run.directory / "config.json"
    document = json.loads(path.read_text())
    del document["config"]["capacity"]  # as if a newer version had brought it
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="different config"):
        execute(make_run(tmp_path / "run", capacity=21))
    assert execute(run).status == "done"


@pytest.mark.parametrize(
    ("other", "word"),
    [({"seed": 1}, "seed"), ({"capacity": 21}, "config"), ({"steps": 51}, "config")],
)
def test_another_run_is_refused(tmp_path: Path, other: dict[str, int], word: str) -> None:
    execute(make_run(tmp_path / "run"))
    with pytest.raises(ValueError, match=rf"holds another run \(different {word}\): choose"):
        execute(make_run(tmp_path / "run", **other))


def test_other_files_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds other files: choose an empty or new folder"):
        execute(make_run(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="is a file: choose another folder"):
        execute(make_run(tmp_path / "thesis.tex"))


def test_an_empty_folder_and_a_deep_new_one_are_taken(tmp_path: Path) -> None:
    assert execute(make_run(tmp_path)).status == "done"
    assert execute(make_run(tmp_path / "a" / "b")).status == "done"


def test_a_bad_configuration_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="capacity 0 is not positive"):
        execute(make_run(tmp_path / "run", capacity=0))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written \(.*\): choose another folder"):
        execute(make_run(tmp_path / "file" / "run"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ValueError, match=r"cannot be written \(Permission denied\)"):
            execute(make_run(tmp_path / "run"))
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_folder_is_refused_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ValueError, match=r"cannot be written \(Permission denied\): choose"):
        execute(make_run(tmp_path / "run"))


def test_two_processes_never_work_on_one_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")

    def second(record: Record) -> bool:
        with pytest.raises(ValueError, match="another process is working on"):
            execute(run)
        return False

    assert execute(run, callbacks=[second]).status == "stopped"  # flock knows open files, not pids
    assert execute(run).status == "done"


def test_without_flock_runs_still_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_module, "fcntl", None)
    assert execute(make_run(tmp_path / "run")).status == "done"


def test_a_folder_without_locks_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*arguments: Any) -> None:
        raise OSError(37, "No locks available")

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert execute(make_run(tmp_path / "run")).status == "done"


def test_a_damaged_checkpoint_names_the_older_one_and_the_way_back(tmp_path: Path) -> None:
    execute(make_run(tmp_path / "whole"))
    run = make_run(tmp_path / "run")
    for limit in (20, 30):
        execute(run, callbacks=[lambda record, limit=limit: record["step"] < limit])
    older, newest = sorted(run.directory.glob("checkpoint-*"))
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(
        ValueError,
        match=f"{newest.name} is damaged.*{older.name} is whole: delete {newest.name}, then resume",
    ):
        execute(run)
    newest.unlink()
    assert execute(run).steps_executed_from == 21
    assert result(run.directory) == result(tmp_path / "whole")


def test_a_copy_of_a_checkpoint_is_neither_resumed_from_nor_deleted(tmp_path: Path) -> None:
    execute(make_run(tmp_path / "whole"))
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: record["step"] < 20])
    newest = max(run.directory.glob("checkpoint-*"))
    copy = newest.with_name(f"{newest.stem}-copy.npz")
    copy.write_bytes(newest.read_bytes())
    execute(run, callbacks=[lambda record: record["step"] < 30])
    assert execute(run).steps_executed_from == 30
    assert copy.exists()
    copy.unlink()
    assert result(run.directory) == result(tmp_path / "whole")


def test_a_damaged_segment_leads_to_the_older_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for limit in (20, 30):
        execute(run, callbacks=[lambda record, limit=limit: record["step"] < limit])
    first, second = sorted((run.directory / "journal").iterdir())
    content = bytearray(second.read_bytes())
    content[-1] ^= 1
    second.write_bytes(content)
    with pytest.raises(ValueError, match=f"{second.name} is damaged.*delete checkpoint-0000000030"):
        execute(run)
    first.unlink()  # the older checkpoint needs this one
    with pytest.raises(ValueError, match="No older checkpoint is whole: start again"):
        execute(run)


def test_lost_records_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: False])
    (run.directory / "records.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"records.jsonl is shorter than at the last checkpoint"):
        execute(run)


def test_a_state_that_another_version_wrote_is_refused_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: False])
    monkeypatch.setattr(Counting, "load_state_dict", lambda self, state: state["renamed"])
    with pytest.raises(ValueError, match="has no 'renamed', so another version of thrifty"):
        execute(run)
    monkeypatch.undo()
    assert execute(run).status == "done"
