"""Scenario files, TOML or JSON: which keys they hold, and of which type each is."""

from __future__ import annotations

import difflib
import json
import reprlib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = 1e12  # of any number: products of a few of them stay finite

Check = Callable[[Any, str], Any]  # (value, how messages call it) -> value


def content_of(path: Path) -> dict[str, Any]:
    """Return what a scenario file holds, its lists as arrays, its keys and types checked.

    Raises:
        ValueError: no TOML or JSON, a key that is missing or unknown, or a value of another type.
    """
    text = path.read_text(encoding="utf-8")
    content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    return _table(content, "the file", _SCENARIO, needed=_NEEDED)


def _table(
    value: Any, name: str, keys: Mapping[str, Check], *, needed: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a table with {', '.join(keys)}, got {_shown(value)}")
    wrong = []
    if missing := [key for key in needed if key not in value]:
        wrong.append(f"missing: {', '.join(missing)}")
    for key in value.keys() - keys.keys():
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"perhaps {near[0]}" if near else f"known are {', '.join(keys)}"
        wrong.append(f"unknown: {_shown(key)} ({hint})")
    if wrong:
        raise ValueError(f"in {name}, {'; '.join(wrong)}")
    inside = "" if name == "the file" else f"{name}."
    return {key: keys[key](item, inside + key) for key, item in value.items()}


def _numbers(value: Any, name: str) -> NDArray[np.float64]:
    _shape(value, name)
    return np.array(value, dtype=np.float64)


def _shape(value: Any, name: str) -> tuple[int, ...]:
    """The shape of nested lists of numbers."""
    if isinstance(value, list):
        shapes = [_shape(item, f"{name}[{number}]") for number, item in enumerate(value)]
        if len(set(shapes)) > 1:
            raise ValueError(f"{name} must hold lists of one length")
        return (len(value), *(shapes[0] if shapes else ()))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and -_LARGEST <= value <= _LARGEST):
        raise ValueError(f"{name} must be a finite number, at most 1e12; got {_shown(value)}")
    return ()


def _cycle(value: Any, name: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise ValueError(f"{name} must be a list of whole numbers, got {_shown(value)}")
    return tuple(value)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{name} must be text of one line, got {_shown(value)}")
    return value


def _switch(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {_shown(value)}")
    return value


def _arrivals(value: Any, name: str) -> dict[str, Any]:
    return _table(value, name, {"rates": _numbers, "kind": _text}, needed=("rates",))


def _channel(value: Any, name: str) -> dict[str, Any]:
    keys = {"values": _numbers, "kernels": _numbers, "cycle": _cycle, "common": _switch}
    return _table(value, name, keys, needed=("values", "kernels"))


def _shown(value: Any) -> str:
    return reprlib.repr(value)


_SCENARIO: dict[str, Check] = {
    "weights": _numbers,
    "attempts": _numbers,
    "distances": _numbers,
    "arrivals": _arrivals,
    "channel": _channel,
    "name": _text,
    "budget": _numbers,
    "law": _text,
    "hidden": _switch,
}
_NEEDED = ("weights", "attempts", "distances", "arrivals", "channel")
