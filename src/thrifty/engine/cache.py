"""Compiled once per processor and version, kept in the user's cache folder.

Numba's own cache looks at the time stamp of the one file that holds a function; here code comes
from several files (the vector kernels are generated), so the folder's name is a digest of all of
them, of the versions and of the processor. An installation need not be writable.

``THRIFTY_CACHE_DIR`` names another folder. Where none can be written, or the disk is full, the code
is compiled anew in every process; where what it holds is damaged, once more. A temporary folder
that somebody else could write into is not used: compiled code from there would run with the user's
rights.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.registry import cpu_target

from thrifty.engine.isa import TARGET

COMPILE: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz"}, "nogil": True}
"""Options of every compiled function: no checks for zero divisors, which stop vectorisation."""

_VARIABLE = "THRIFTY_CACHE_DIR"
_KEPT = 4  # folders of other versions, those used last


@cache
def folder() -> Path | None:
    """Return the folder of compiled code, made if need be, or None where none can be written."""
    for root in _roots():
        place = root.absolute() / f"engine-{_digest()}"  # also where the process goes elsewhere
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError:
            continue
        with contextlib.suppress(OSError):  # another process forgets them at the same time
            os.utime(place)
            _forget_old(root, place)
        return place
    return None


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, with its machine code kept in the cache folder.

    Args:
        function: in Numba's language; it may call any other compiled function.

    Returns:
        the compiled function, or the function as it is where NUMBA_DISABLE_JIT is set.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return function
    place = folder()
    if place is None:
        return numba.njit(**COMPILE)(function)
    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = str(place)  # type: ignore[attr-defined]
    try:
        dispatcher = numba.njit(cache=True, **COMPILE)(function)
    finally:
        numba.config.CACHE_DIR = before  # type: ignore[attr-defined]
    _recompile_what_is_damaged(dispatcher)
    _go_on_where_nothing_can_be_kept(dispatcher)
    return dispatcher


def announce(dispatcher: Any) -> bool:
    """Say so on stderr if the first call of an entry is going to compile it.

    Args:
        dispatcher: from :func:`entry`.

    Returns:
        Whether it was said.

    Raises:
        ImportError: NUMBA_DISABLE_JIT is set.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise ImportError(
            "NUMBA_DISABLE_JIT is set, and the engine is compiled code only: unset it"
        )
    if dispatcher.overloads:
        return False
    path, function = dispatcher.stats.cache_path, dispatcher.py_func
    # As Numba names its files; several modules have a forward.
    pattern = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}-*.nbc"
    if path and any(Path(path).glob(pattern)):
        return False
    kept = f"kept in {path}" if path else "in every process: no cache folder can be written"
    print(
        f"compiling the engine once for this processor ({TARGET.name}), up to 15 s; {kept}",
        file=sys.stderr,
        flush=True,
    )
    return True


def _recompile_what_is_damaged(dispatcher: Any) -> None:
    """Let a dispatcher compile anew where the power failed while its code was being kept."""
    kept = dispatcher._cache
    load = kept.load_overload

    def load_or_forget(signature: Any, context: Any) -> Any:
        try:
            return load(signature, context)
        except Exception:  # whatever unpickling half a file leads to
            print(f"compiled code in {kept.cache_path} is damaged: once more", file=sys.stderr)
            kept.flush()
            return None

    kept.load_overload = load_or_forget


def _go_on_where_nothing_can_be_kept(dispatcher: Any) -> None:
    """Let a dispatcher work with what it has compiled where the disk is full, or over a quota."""
    kept = dispatcher._cache
    save = kept.save_overload

    def save_or_say(signature: Any, compiled: Any) -> None:
        try:
            save(signature, compiled)
        except OSError as error:
            print(
                f"compiled code cannot be kept in {kept.cache_path} ({error.strerror}): it will "
                f"be compiled again; {_VARIABLE} names another folder",
                file=sys.stderr,
            )

    kept.save_overload = save_or_say


def _roots() -> list[Path]:
    named = os.environ.get(_VARIABLE)
    if named:
        return [Path(os.path.expanduser(named))]
    if sys.platform == "darwin":
        user = Path("~/Library/Caches")
    elif sys.platform == "win32":
        user = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
    else:
        user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    roots = []
    with contextlib.suppress(RuntimeError):  # a user without a home, as in some containers
        roots.append(user.expanduser() / "thrifty")
    if not hasattr(os, "getuid"):
        return [*roots, Path(tempfile.gettempdir()) / "thrifty"]
    temporary = Path(tempfile.gettempdir()) / f"thrifty-{os.getuid()}"
    with contextlib.suppress(OSError):
        temporary.mkdir(mode=0o700, exist_ok=True)
        found = temporary.lstat()
        if found.st_uid == os.getuid() and not found.st_mode & 0o022:
            roots.append(temporary)
    return roots


@cache
def _digest() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    versions = [f"{p} {importlib.metadata.version(p)}" for p in ("numba", "llvmlite", "numpy")]
    # What code is compiled for: several kinds of processors may share a home folder.
    processor = cpu_target.target_context.codegen().magic_tuple()
    facts = (*versions, platform.python_version(), *processor, TARGET.name)
    digest.update("\n".join(facts).encode())
    return digest.hexdigest()[:16]


def _forget_old(root: Path, present: Path) -> None:
    """Remove the folders of versions that have not been used for long."""
    import shutil

    others = sorted(
        (p for p in root.glob("engine-*") if p != present), key=lambda p: p.stat().st_mtime
    )
    for place in others[:-_KEPT]:
        shutil.rmtree(place, ignore_errors=True)
