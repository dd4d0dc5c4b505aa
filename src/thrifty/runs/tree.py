"""State trees as JSON plus a list of arrays, and back, bit for bit and without pickle.

JSON null, true, numbers, strings and lists stand for themselves. Everything else is an object with
one key that says what it is:

| object | Python |
|---|---|
| {"dict": [[key, value], ...]} | dict with str or int keys, in order |
| {"tuple": [...]} | tuple |
| {"int": "0x..."} | int beyond 64 bits (the state of a bit generator) |
| {"float": "7ff8..."} | NaN or infinity, as the bits of the float64 |
| {"bytes": "..."} | bytes, hexadecimal |
| {"array": n} | NumPy array number n |
| {"scalar": n} | NumPy scalar, stored as array n of shape () |
| {"tensor": [n, dtype]} | torch tensor, stored as array n |
| {"rows": {first, total, inline, key}} | row log: rows in array `inline`, the others in segments |

Tensors of a dtype that NumPy lacks (bfloat16) are stored as integers of their width. torch is
imported only when a tensor is met.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from thrifty.runs.rows import RowLog, Rows, Segment, StoredRows

Array = npt.NDArray[Any]
Place = tuple[str | int, ...]

_LONGEST_KEY = 100  # it begins a file name, and those end at 255 bytes
_CARRIERS = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}  # by width, for dtypes NumPy lacks


class Encoder:
    """Turns a tree into JSON and collects its arrays.

    Args:
        store: called with (key, log) for every row log; returns the rows to keep inline.
    """

    def __init__(self, store: Callable[[str, RowLog], Rows]) -> None:
        self.arrays: list[Array] = []
        self._store = store
        self._keys: set[str] = set()

    def encode(self, value: Any, place: Place = ()) -> Any:
        """Return `value` as JSON; ValueError names the place of what cannot be stored."""
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            return value if value.bit_length() < 64 else {"int": hex(value)}
        if kind is float:
            finite = math.isfinite(value)
            return value if finite else {"float": struct.pack(">d", value).hex()}
        if kind is bytes:
            return {"bytes": value.hex()}
        if kind is list:
            return [self.encode(item, (*place, i)) for i, item in enumerate(value)]
        if kind is tuple:
            return {"tuple": [self.encode(item, (*place, i)) for i, item in enumerate(value)]}
        if isinstance(value, dict):  # subclasses too: torch's state_dict is an OrderedDict
            return {"dict": [self._item(key, item, place) for key, item in value.items()]}
        if kind in (np.ndarray, np.memmap):
            return {"array": self._array(value, place)}
        if isinstance(value, np.generic):
            return {"scalar": self._array(np.asarray(value), place)}
        torch = sys.modules.get("torch")  # who holds a tensor has imported torch
        if torch is not None and isinstance(value, torch.Tensor):
            return {"tensor": self._tensor(torch, value, place)}
        if isinstance(value, RowLog):
            return {"rows": self._rows(value, place)}
        raise ValueError(
            f"{_spell(place)} is a {kind.__module__}.{kind.__qualname__}: a state holds only "
            "numbers, strings, bytes, lists, tuples, dicts, arrays, tensors and row logs"
        )

    def _item(self, key: Any, value: Any, place: Place) -> list[Any]:
        if type(key) not in (str, int):
            raise ValueError(f"{_spell(place)} has the key {key!r}: use str or int keys")
        return [self.encode(key), self.encode(value, (*place, key))]

    def _array(self, array: Array, place: Place) -> int:
        if array.dtype.hasobject:
            raise ValueError(f"{_spell(place)} is an array of objects: give it a plain dtype")
        self.arrays.append(array)
        return len(self.arrays) - 1

    def _tensor(self, torch: Any, tensor: Any, place: Place) -> list[Any]:
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise ValueError(f"{_spell(place)} is a sparse or quantized tensor: give a dense one")
        plain = tensor.detach().cpu().resolve_conj().resolve_neg()
        try:
            array = plain.numpy()
        except TypeError:
            array = plain.view(getattr(torch, _CARRIERS[plain.itemsize])).numpy()
        return [self._array(array, place), str(tensor.dtype).removeprefix("torch.")]

    def _rows(self, log: RowLog, place: Place) -> dict[str, Any]:
        key = quote(".".join(map(str, place)), safe="", errors="surrogatepass") or "rows"
        if len(key) > _LONGEST_KEY:
            key = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        if key in self._keys:
            raise ValueError(f"two row logs share the name {key}: rename a key of the state")
        self._keys.add(key)
        inline = self._array(self._store(key, log), place)
        return {"first": log.first, "total": log.total, "inline": inline, "key": key}


def decode(
    value: Any,
    arrays: Sequence[Array],
    segments: Mapping[str, Sequence[Segment]],
    folder: Path | None,
) -> Any:
    """Return the tree that `Encoder.encode` turned into `value` and `arrays`."""

    def build(value: Any) -> Any:
        if isinstance(value, list):
            return [build(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((tag, content),) = value.items()
        match tag:
            case "dict":
                return {build(key): build(item) for key, item in content}
            case "tuple":
                return tuple(build(item) for item in content)
            case "int":
                return int(content, 16)
            case "float":
                return struct.unpack(">d", bytes.fromhex(content))[0]
            case "bytes":
                return bytes.fromhex(content)
            case "array":
                return arrays[content]
            case "scalar":
                return arrays[content][()]
            case "tensor":
                return _as_tensor(arrays[content[0]], content[1])
            case "rows":
                return StoredRows(
                    content["first"],
                    content["total"],
                    arrays[content["inline"]],
                    tuple(segments.get(content["key"], ())),
                    folder,
                )
        raise ValueError(f"unknown kind of value {tag!r}")

    return build(value)


def _as_tensor(array: Array, dtype: str) -> Any:
    torch = importlib.import_module("torch")  # lazily: most readers of a run need no torch
    wanted = getattr(torch, dtype)
    tensor = torch.from_numpy(array)
    return tensor if tensor.dtype == wanted else tensor.view(wanted)


def _spell(place: Place) -> str:
    return "state" + "".join(f"[{key!r}]" for key in place)
