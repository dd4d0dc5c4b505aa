from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from toy_counter import Counter, make_run

from thrifty.runs import execute, read_config, read_run

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
def test_damaged_json_is_named(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: False])
    (run.directory / name).write_text("{")
    with pytest.raises(ValueError, match=f"{name} is damaged: "):
        execute(run)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("recipe", None, "recipe is None and not a name"),
        ("arguments", [1], r"arguments is \[1\] and not an object"),
        ("seed", "0", "seed is '0' and not an integer"),
        ("threads", True, "threads is True and not an integer"),
        ("overrides", 1, "overrides is 1 and not a list"),
        ("config", [], r"config is \[\] and not an object"),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path: Path, name: str, value: Any, told: str) -> None:
    run = make_run(tmp_path / "run")
    execute(run)
    document = read_config(run.directory) | {name: value}
    (run.directory / "config.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"run/config.json: {told}: restore it from a copy"):
        read_config(run.directory)


def test_a_run_that_lacks_something_to_go_on_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    execute(run)
    document = read_config(run.directory)
    del document["seed"], document["recipe"]
    (run.directory / "config.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"run/config.json has no recipe, seed: restore it"):
        read_run(run.directory, "thrifty")


def test_read_run_goes_on_where_the_folder_says(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", capacity=7, seed=3)
    execute(run, callbacks=[lambda record: False])
    assert read_run(run.directory, "thrifty") == run
    with pytest.raises(ValueError, match="holds no run"):
        read_run(tmp_path, "thrifty")


def test_the_flags_of_a_run_are_kept_and_change_nothing(tmp_path: Path) -> None:
    run = replace(make_run(tmp_path / "run"), overrides=("--delay", "0"))
    execute(run, callbacks=[lambda record: False])
    assert read_run(run.directory, "thrifty") == run
    # The same configuration told in other words is the same run.
    assert execute(replace(run, overrides=("--delay=0.0",))).status == "done"
    document = read_config(run.directory)
    assert document.pop("overrides") == ["--delay", "0"]
    (run.directory / "config.json").write_text(json.dumps(document))  # as older versions wrote it
    assert read_run(run.directory, "thrifty") == replace(run, overrides=())


@dataclass(frozen=True, kw_only=True)
class Open(Counter):
    """Keeps half its steps, if not told otherwise."""

    kept: int | None = None

    def resolved(self) -> Open:
        return self if self.kept else replace(self, kept=self.steps // 2)


def test_what_the_length_decides_is_written_as_a_number(tmp_path: Path) -> None:
    run = replace(make_run(tmp_path / "run"), config=Open(steps=10))
    assert execute(run, callbacks=[lambda record: False]).step == 3
    assert read_config(run.directory)["config"]["kept"] == 5
    # The open and the filled configuration are one run.
    assert execute(replace(run, config=Open(steps=10, kept=5))).steps_executed_from == 3
    with pytest.raises(ValueError, match="holds another run"):
        execute(replace(run, config=Open(steps=10, kept=4)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed -1 is negative: give an integer >= 0"),
        ({"threads": 0}, "threads 0 are too few: give 1 or more"),
    ],
)
def test_seed_and_threads_are_checked(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make_run(tmp_path), **wrong)


def test_read_run_names_a_changed_recipe(tmp_path: Path) -> None:
    run = replace(make_run(tmp_path / "run"), arguments={"length": 3})
    execute(run)
    with pytest.raises(ValueError, match="another version of toy_counter:counter"):
        read_run(run.directory, "thrifty")
