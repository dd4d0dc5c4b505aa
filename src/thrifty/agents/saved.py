"""The file of an agent or a team: a state file that names the class that it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thrifty.runs import load_state, save_state

_SUFFIX = ".npz"


def write(path: Path | str, maker: type, noun: str, **parts: Any) -> Path:
    """Write a file, atomically.

    Args:
        path: the file; ``.npz`` is added if it has no suffix.
        maker: the class, whose ``load`` reads it.
        noun: what it is an instance of: agent or team.
        parts: what the file holds, by name.

    Returns:
        The path written.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(_SUFFIX)
    save_state(path, {"format": _format(noun), "agent": maker.__name__, **parts})
    return path


def read(path: Path | str, maker: type, noun: str) -> tuple[Path, dict[str, Any]]:
    """Read what :func:`write` wrote.

    Args:
        path: the file; ``.npz`` may be left out.
        maker: the class that wrote it.
        noun: as it was written.

    Returns:
        The path read, and the parts.

    Raises:
        ValueError: no file of this class, or a damaged one.
    """
    path = Path(path)
    if not path.exists() and path.with_suffix(_SUFFIX).exists():
        path = path.with_suffix(_SUFFIX)
    tree = load_state(path)
    if not isinstance(tree, dict) or tree.get("format") != _format(noun):
        raise ValueError(f"{path} holds no {noun}: give a file that the save() of one wrote")
    name = tree["agent"]
    if name != maker.__name__:
        raise ValueError(f"{path} holds a {name} {noun}: use thrifty.{name}.load")
    return path, tree


def _format(noun: str) -> str:
    return f"thrifty {noun} 1"
