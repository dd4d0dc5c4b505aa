"""The safetensors file format: named tensors, a JSON header and raw bytes; nothing can run code.

A file is 8 bytes (little-endian length of the header), the header, and the tensors' bytes one after
the other: ``{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["read", "write"]

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_LONGEST_HEADER = 100_000_000


def write(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors to a file: the whole file or none.

    Args:
        path: the file.
        tensors: by name; written contiguous, on the CPU.
        metadata: texts by name, in the header.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(f"{folder}/a.safetensors", {"a": torch.ones(2)}, {})
        ...     read(f"{folder}/a.safetensors")
        {'a': tensor([1., 1.])}
    """
    path = Path(path)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in plain.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for tensor in plain.values():
                file.write(tensor.flatten().view(torch.uint8).numpy().tobytes())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def read(path: Path | str) -> dict[str, Tensor]:
    """Read all tensors of a file.

    Args:
        path: the file.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ValueError: it is no such file, or damaged; names it.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise ValueError(f"{path} cannot be read ({problem.strerror})") from None
    if len(content) < 8:
        raise ValueError(f"{path} is no safetensors file: it has {len(content)} bytes")
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(_LONGEST_HEADER, len(content) - 8):
        raise ValueError(f"{path} is cut off, or no safetensors file")
    try:
        header = json.loads(content[8 : 8 + length])
        body = memoryview(content)[8 + length :]
        return {
            name: _tensor(entry, body) for name, entry in header.items() if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"{path} is damaged, or no safetensors file: {problem}") from None


def _tensor(entry: dict[str, Any], body: memoryview) -> Tensor:
    dtype, shape = _TYPES[str(entry["dtype"])], entry["shape"]
    begin, end = entry["data_offsets"]
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{shape!r} is no shape")
    size = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    if not 0 <= begin <= end <= len(body) or end - begin != size:
        raise ValueError(f"a tensor of {size} bytes does not lie at {begin} to {end}")
    raw = torch.from_numpy(np.frombuffer(body[begin:end], dtype=np.uint8).copy())
    return raw.view(dtype).view(shape) if size else torch.empty(shape, dtype=dtype)
