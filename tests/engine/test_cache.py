from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from thrifty.engine import cache
from thrifty.engine.isa import TARGET

TOY = """
from thrifty.engine.cache import announce, entry, folder

@entry
def double(x):
    return 2 * x

said = announce(double)
assert double(21) == 42
print(said, announce(double), double.stats.cache_hits[double.signatures[0]])
"""
COMPACT = """
import torch
from thrifty.engine.modules import compact
from thrifty.sparse import sparsify

models = torch.nn.ModuleList([torch.nn.Linear(4, 3), torch.nn.GRU(4, 3)])
for module in compact(models, sparsify(models, sparsity=0.5)):
    for _ in range(2):
        module(torch.zeros(2, 1, 4))
"""
FIRST_UPDATE = """
import time
from thrifty.control import TD3Config, SparsityConfig
from thrifty.control.compiled import CompiledLearner
from thrifty.rl.transitions import Replay
half = SparsityConfig(sparsity=0.5)
learner = TD3Config(actor=half, critic=half, actor_hidden=(8, 8), critic_hidden=(8, 8)).build(
    3, 2, seed=0
)
replay = Replay(64, 3, 2)
replay.matrix[:, replay.columns.valid] = 1.0
replay.total = 64
imported = time.process_time()  # what the reference needs is loaded
CompiledLearner(learner, replay.columns, seed=0).learn(replay)
print(time.process_time() - imported)
"""
WATCHED = """
from numba.core.event import install_recorder
with install_recorder("numba:compile") as record:
    exec({update!r})
for _, event in record.buffer:
    if event.is_start:
        print(event.data["dispatcher"].py_func.__qualname__, event.data["args"])
"""


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    cache.folder.cache_clear()
    cache._digest.cache_clear()
    yield
    cache.folder.cache_clear()
    cache._digest.cache_clear()


def python(program: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(program)]
    everything = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, env=everything, capture_output=True, text=True, check=True)


def test_the_folder_is_named_for_sources_versions_and_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("THRIFTY_CACHE_DIR", str(tmp_path))
    names = set()

    def name() -> str:
        cache.folder.cache_clear()
        cache._digest.cache_clear()
        place = cache.folder()
        assert place is not None
        assert place.is_dir()
        assert place.parent == tmp_path
        return place.name

    names.add(name())
    assert name() in names  # the same facts, the same folder
    with monkeypatch.context() as patch:
        patch.setattr(cache, "TARGET", TARGET._replace(name="another"))
        names.add(name())
    with monkeypatch.context() as patch:  # the same instruction set on another processor
        other = SimpleNamespace(magic_tuple=lambda: ("x86_64", "another", "+avx512f"))
        context = SimpleNamespace(codegen=lambda: other)
        patch.setattr(cache, "cpu_target", SimpleNamespace(target_context=context))
        names.add(name())
    with monkeypatch.context() as patch:
        patch.setattr(cache.importlib.metadata, "version", lambda package: "0.0")
        names.add(name())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: b"another source")
        names.add(name())
    assert len(names) == 5


def test_a_folder_may_be_named_from_home_or_from_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("THRIFTY_CACHE_DIR", "~/compiled")
    place = cache.folder()
    assert place is not None
    assert place.parent == tmp_path / "home" / "compiled"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THRIFTY_CACHE_DIR", "here")
    cache.folder.cache_clear()
    place = cache.folder()
    assert place is not None
    assert place.parent == tmp_path / "here"  # also once the process works elsewhere


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users without numbers")
def test_a_user_without_a_home_has_the_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    for variable in ("THRIFTY_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)  # as in a container with a number for a user
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = cache.folder()
    assert place is not None
    assert place.is_relative_to(tmp_path)


def test_folders_of_earlier_versions_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in range(7):
        old = tmp_path / f"engine-{number}"
        old.mkdir()
        os.utime(old, (number, number))
    (tmp_path / "something else").mkdir()
    monkeypatch.setenv("THRIFTY_CACHE_DIR", str(tmp_path))
    place = cache.folder()
    assert place is not None
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"something else", place.name, *(f"engine-{n}" for n in (3, 4, 5, 6))}
    # Using a folder keeps it: the one that was used longest ago is forgotten first.
    os.utime(place, (2, 2))
    cache.folder.cache_clear()
    assert cache.folder() == place
    assert place.stat().st_mtime > 6


def test_where_the_user_has_no_writable_folder_a_temporary_one_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked, temporary = tmp_path / "a file", tmp_path / "temporary"
    blocked.write_text("in the place of a folder")  # not writable for anybody, root included
    temporary.mkdir()
    monkeypatch.delenv("THRIFTY_CACHE_DIR", raising=False)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(blocked))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    place = cache.folder()
    assert place is not None
    assert place.is_relative_to(temporary)
    # Nor there: None, and code is compiled in every process.
    monkeypatch.setattr(tempfile, "tempdir", str(blocked))
    cache.folder.cache_clear()
    assert cache.folder() is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users without numbers")
def test_a_temporary_folder_that_others_may_write_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("in the place of a folder")
    monkeypatch.delenv("THRIFTY_CACHE_DIR", raising=False)
    for variable in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(blocked))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    foreign = tmp_path / f"thrifty-{os.getuid()}"
    foreign.mkdir()
    foreign.chmod(0o777)
    assert cache.folder() is None
    foreign.chmod(0o700)
    cache.folder.cache_clear()
    assert cache.folder() is not None
    other = os.getuid() + 1
    foreign.rename(tmp_path / f"thrifty-{other}")
    monkeypatch.setattr(os, "getuid", lambda: other)
    cache.folder.cache_clear()
    assert cache.folder() is None  # somebody else's


def test_processes_may_forget_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(root: Path, present: Path) -> None:
        raise FileNotFoundError

    monkeypatch.setenv("THRIFTY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_forget_old", gone)
    assert cache.folder() is not None


def test_compiling_is_announced_once(tmp_path: Path) -> None:
    program = tmp_path / "toy.py"
    program.write_text(TOY)
    runs = [python(program, THRIFTY_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2)]
    # At the first use it is said and compiled; never again, not in another process either.
    assert [run.stdout.split()[:2] for run in runs] == [["True", "False"], ["False", "False"]]
    assert [run.stdout.split()[2] for run in runs] == ["0", "1"]
    assert runs[0].stderr.count("compiling the engine once for this processor") == 1
    assert str(tmp_path / "cache") in runs[0].stderr
    assert "compiling" not in runs[1].stderr


def test_compact_modules_announce_it_as_well(tmp_path: Path) -> None:
    program = tmp_path / "compact.py"
    program.write_text(COMPACT)
    runs = [python(program, THRIFTY_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2)]
    # A perceptron and a GRU, each at its first call; nothing where the code is kept.
    assert [run.stderr.count("compiling the engine once") for run in runs] == [2, 0]


@pytest.mark.parametrize("ending", ["nbi", "nbc"])  # the index, the code
def test_damaged_code_is_compiled_again(ending: str, tmp_path: Path) -> None:
    program = tmp_path / "toy.py"
    program.write_text(TOY)
    python(program, THRIFTY_CACHE_DIR=str(tmp_path / "cache"))
    (kept,) = (tmp_path / "cache").glob(f"**/*.{ending}")
    kept.write_bytes(kept.read_bytes()[:100])
    hits = [python(program, THRIFTY_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2)]
    # Once more, and then it is whole.
    assert [run.stdout.split()[2] for run in hits] == ["0", "1"]
    assert ["is damaged: once more" in run.stderr for run in hits] == [True, False]


def test_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    program, full = tmp_path / "toy.py", tmp_path / "full"
    # An index is written behind the code; there is no room for it.
    spoiled = "\n".join(
        [
            "def no_room(self, overloads): raise OSError(28, 'No space left on device')",
            "import numba.core.caching",
            "numba.core.caching.IndexDataCacheFile._save_index = no_room",
            "said = announce(double)",
        ]
    )
    toy = TOY.replace("said = announce(double)", spoiled)
    program.write_text(toy.replace("double.stats.cache_hits[double.signatures[0]]", "0"))
    for _ in range(2):
        run = python(program, THRIFTY_CACHE_DIR=str(full))
        assert run.stderr.count("cannot be kept in") == 1
        assert "(No space left on device): it will be compiled again" in run.stderr


def test_without_a_folder_it_is_said_in_every_process(tmp_path: Path) -> None:
    blocked, program = tmp_path / "a file", tmp_path / "toy.py"
    blocked.write_text("in the place of a folder")
    program.write_text(TOY.replace("double.stats.cache_hits[double.signatures[0]]", "0"))
    for _ in range(2):
        run = python(program, THRIFTY_CACHE_DIR=str(blocked))
        assert "in every process: no cache folder can be written" in run.stderr


@pytest.mark.slow
def test_compiled_code_loads_within_a_second_or_so(tmp_path: Path) -> None:
    program = tmp_path / "first_update.py"
    program.write_text(FIRST_UPDATE)
    python(program)  # compiles, where nobody has
    times = []
    for _ in range(3):
        run = python(program)
        assert "compiling" not in run.stderr
        times.append(float(run.stdout))
    # Processor seconds from there to the end of the first update; 0.4 on an idle machine.
    assert min(times) < 1.0


@pytest.mark.slow
def test_nothing_is_compiled_in_vain(tmp_path: Path) -> None:
    program = tmp_path / "first_update.py"
    program.write_text(WATCHED.format(update=FIRST_UPDATE))
    lines = python(program, THRIFTY_CACHE_DIR=str(tmp_path / "cache")).stdout.splitlines()
    # The one large function took 5 s more where one argument was first seen as a literal, the index
    # arrays 2 s where a slice was assigned, for the message of another length.
    assert sum(line.startswith("run_tile ") for line in lines) == 1
    assert not [line for line in lines if "unicode" in line]
