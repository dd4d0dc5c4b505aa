"""Configurations as JSON and back: nested frozen dataclasses of scalars, tuples and dicts.

The dataclass is the schema. Reading back follows its type hints, and a key it does not have is an
error, so a configuration that no code reads cannot survive in a file.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np

T = TypeVar("T")
_MISSING = dataclasses.MISSING


def resolved(config: T) -> T:
    """Return a configuration with nothing left open.

    One that lets the length of its run decide some values has a method `resolved()` that returns
    it with these values filled in (and returns a filled one as it is).
    """
    fill = getattr(config, "resolved", None)
    return config if fill is None else typing.cast(T, fill())


def to_json(value: Any) -> Any:
    """Return a configuration (or a part of one) as JSON values.

    Dataclasses become dicts, tuples become lists, floats that JSON lacks become strings ("inf"),
    NumPy's scalars (of a sweep over `np.arange`, say) become Python's.

    Raises:
        ValueError: a field holds something else.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: to_json(item) for key, item in value.items()}
    raise ValueError(
        f"a configuration cannot hold {value!r}: use dataclasses, scalars, tuples and dicts"
    )


def from_json(kind: type[T], document: Any) -> T:
    """Return the configuration of class `kind` that `to_json` turned into `document`.

    A union tries its members in order, so its dataclasses should differ in their fields. A field
    that `document` lacks takes its default.

    Raises:
        ValueError: an unknown or missing key, or a value of the wrong type; its place is named.
    """
    return typing.cast(T, _read(kind, document, kind.__name__))


def _read(hint: Any, value: Any, place: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _read_dataclass(hint, value, place)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, value, place)
    if origin is Literal:
        if value in arguments:
            return value
    elif hint is tuple or origin is tuple:
        if isinstance(value, list):
            return _read_tuple(arguments, value, place)
    elif hint is dict or origin in (dict, Mapping):
        if isinstance(value, dict):
            inner = arguments[1] if arguments else Any
            return {key: _read(inner, item, f"{place}.{key}") for key, item in value.items()}
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        if value in ("inf", "-inf", "nan"):
            return float(value)
    elif hint is None or hint is types.NoneType:
        if value is None:
            return None
    elif isinstance(hint, type) and type(value) is hint:
        return value
    expected = hint.__name__ if isinstance(hint, type) else str(hint)
    raise ValueError(f"{place} is {value!r}: expected {expected}")


def _read_dataclass(kind: type[Any], value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is {value!r}: expected the fields of {kind.__name__}")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for key in value.keys() - fields.keys():
        near = difflib.get_close_matches(str(key), fields, n=1)
        hint = f"did you mean {near[0]}?" if near else "it has " + ", ".join(fields)
        raise ValueError(f"{place} has no field {key!r}: {hint}")
    for name, field in fields.items():
        if name not in value and field.default is _MISSING and field.default_factory is _MISSING:
            raise ValueError(f"{place}.{name} is missing: give it a value")
    hints = typing.get_type_hints(kind)
    return kind(
        **{name: _read(hints[name], item, f"{place}.{name}") for name, item in value.items()}
    )


def _read_tuple(arguments: tuple[Any, ...], value: list[Any], place: str) -> tuple[Any, ...]:
    if not arguments:
        arguments = (Any, ...)
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise ValueError(f"{place} has {len(value)} items: expected {len(arguments)}")
    return tuple(
        _read(hint, item, f"{place}[{i}]")
        for i, (hint, item) in enumerate(zip(arguments, value, strict=True))
    )


def _read_union(arguments: tuple[Any, ...], value: Any, place: str) -> Any:
    errors = []
    for hint in arguments:
        try:
            return _read(hint, value, place)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError("; or ".join(errors))
