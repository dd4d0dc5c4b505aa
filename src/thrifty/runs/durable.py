"""Files that are either the old one or the new one, whenever the process or the machine stops.

The content goes to a temporary name beside the target, is forced to the disk, and then takes the
target's name in one step (`os.replace`). A process killed on the way leaves at most a `.tmp` file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp"


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Replace the file at `path` by `data`, atomically and durably.

    Args:
        path: the file to write; its folder must exist.
        data: the whole content.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old file is untouched.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace the file at `path` by `value` as indented JSON, atomically and durably."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Force the names in `folder` to the disk (a rename alone may be lost when the power fails)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folders: Iterable[Path]) -> None:
    """Delete what interrupted writes left behind; only the owner of the folders may call this."""
    for folder in folders:
        for leftover in folder.glob("*" + TEMPORARY):
            leftover.unlink(missing_ok=True)
