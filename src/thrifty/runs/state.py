"""One state tree in one file: atomic to write, impossible to misread, free of pickle.

The file is an ordinary .npz (a zip archive that `numpy.load(path, allow_pickle=False)` opens):

| member | content |
|---|---|
| tree.json | the tree (see `thrifty.runs.tree`) |
| segments.json | for every row log in a journal, its segment files, their rows and digests |
| 0.npy, 1.npy, ... | the arrays |

The zip comment, the last bytes of the file, is a fixed mark and the BLAKE2b digest of every byte
before it. A flipped bit, a missing tail or a file of another origin is refused before it is parsed.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from thrifty.runs import durable
from thrifty.runs.rows import (
    RowLog,
    Rows,
    Segment,
    Stored,
    append_rows,
    read_segment,
    write_array,
)
from thrifty.runs.tree import Encoder, decode

_MARK = b"thrifty state 1 "
_DIGEST_LENGTH = 64  # hexadecimal digits
_EPOCH = (1980, 1, 1, 0, 0, 0)  # members carry no clock time: equal states are equal files
_MAX_HEADER = 1 << 20  # bytes; NumPy's own limit guards against hostile headers, ours are verified


def save_state(
    path: Path | str, tree: Any, *, journal: Path | None = None, stored: Stored | None = None
) -> Stored:
    """Write `tree` to `path` so that at every moment either the old or the new file is whole.

    Args:
        path: the file to write; its folder must exist.
        tree: dicts, lists, tuples, scalars, bytes, arrays, tensors, row logs.
        journal: folder for the rows of row logs; None writes all live rows into the file itself.
        stored: what the previous save (or `read_segments` of the file loaded) returned; rows listed
            there are not written again.

    Returns:
        The segments that the new file needs, by row log.

    Raises:
        ValueError: the tree holds something else; its place is named.
        OSError: the disk is full or the folder cannot be written; the old file is untouched.

    Example:
        >>> save_state("state.npz", {"weight": np.zeros(3), "step": 7})  # doctest: +SKIP
    """
    segments: dict[str, list[Segment]] = {}

    def store(key: str, log: RowLog) -> Rows:
        if journal is None:
            return log.rows(log.first, log.total)
        segments[key] = append_rows(journal, key, log, (stored or {}).get(key, ()))
        return log.rows(log.total, log.total)

    if journal is not None:
        journal.mkdir(exist_ok=True)
    encoder = Encoder(store)
    encoded = encoder.encode(tree)
    listing = {key: [asdict(segment) for segment in listed] for key, listed in segments.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("tree.json", _EPOCH), json.dumps(encoded))
        archive.writestr(zipfile.ZipInfo("segments.json", _EPOCH), json.dumps(listing))
        for number, array in enumerate(encoder.arrays):
            with archive.open(
                zipfile.ZipInfo(f"{number}.npy", _EPOCH), "w", force_zip64=True
            ) as member:
                write_array(member, array)
        archive.comment = _MARK + b"0" * _DIGEST_LENGTH
    with buffer.getbuffer() as data:
        data[-_DIGEST_LENGTH:] = _digest(data[:-_DIGEST_LENGTH])
        durable.write_bytes(Path(path), data)
    return segments


def load_state(path: Path | str, *, journal: Path | None = None) -> Any:
    """Return the tree that `save_state` wrote; tensors on the CPU, row logs as `StoredRows`.

    Args:
        path: the state file.
        journal: the folder given to `save_state`, where one was.

    Raises:
        ValueError: the file, or a segment it needs, is missing, foreign or damaged.
    """
    archive, segments = _open(Path(path))
    with archive:
        listed = [segment for held in segments.values() for segment in held]
        if listed and journal is None:
            raise ValueError(f"{path} keeps rows in a journal: give its folder as journal=")
        for segment in listed:  # refuse now, not when the rows are first used
            assert journal is not None
            read_segment(journal, segment)
        count = sum(name.endswith(".npy") for name in archive.namelist())
        arrays = []
        for number in range(count):
            with archive.open(f"{number}.npy") as member:
                arrays.append(
                    np.lib.format.read_array(
                        member, allow_pickle=False, max_header_size=_MAX_HEADER
                    )
                )
        return decode(json.loads(archive.read("tree.json")), arrays, segments, journal)


def read_segments(path: Path | str) -> Stored:
    """Return the journal segments that the state file at `path` needs, by row log."""
    archive, segments = _open(Path(path))
    archive.close()
    return segments


def _open(path: Path) -> tuple[zipfile.ZipFile, dict[str, list[Segment]]]:
    """Verify the whole file, then open it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): check the path") from None
    digest = data[-_DIGEST_LENGTH:]
    body = memoryview(data)[:-_DIGEST_LENGTH]
    if body[-len(_MARK) :] != _MARK or _digest(body) != digest:
        raise ValueError(
            f"{path} is damaged, or no state file of this version of thrifty: "
            "restore it from a copy, or use an older one"
        )
    archive = zipfile.ZipFile(io.BytesIO(data))
    listing = json.loads(archive.read("segments.json"))
    return archive, {key: [Segment(**item) for item in listed] for key, listed in listing.items()}


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_LENGTH // 2).hexdigest().encode()
