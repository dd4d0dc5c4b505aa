"""State files: what goes in comes out bit for bit, and nothing but a whole file is accepted."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thrifty.runs.state import load_state, read_segments, save_state
from thrifty.runs.store import CheckpointFolder


def same(left: Any, right: Any) -> bool:
    """Equal in type, order, dtype, shape and every bit; NaN equals only the same NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) is float:
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, np.ndarray | np.generic):
        return (left.dtype, left.shape, left.tobytes()) == (
            right.dtype,
            right.shape,
            right.tobytes(),
        )
    if isinstance(left, torch.Tensor):
        if left.dtype != right.dtype or left.shape != right.shape:
            return False
        if left.numel() == 0:
            return True
        raw = (one.contiguous().reshape(-1).view(torch.uint8) for one in (left, right))
        return torch.equal(*raw)
    return bool(left == right)


_keys = st.text() | st.integers()
_dtypes = st.one_of(
    hnp.scalar_dtypes(),  # both byte orders, dates and times included
    hnp.byte_string_dtypes(),
    hnp.unicode_string_dtypes(),
    hnp.array_dtypes(),  # structured, nested
)
_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.text(),
    st.text(alphabet=st.characters()),  # lone surrogates too
    st.binary(),
    _dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0))),
    hnp.scalar_dtypes().flatmap(lambda dtype: hnp.arrays(dtype, ())).map(lambda array: array[()]),
)
_trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(_keys, inner, max_size=4),
    ),
    max_leaves=12,
)


@given(tree=_trees)
def test_every_tree_survives(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.mktemp("state") / "state.npz"
    save_state(path, tree)
    assert same(load_state(path), tree)


_TENSOR_DTYPES = """
    bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 complex64 complex128
    float16 bfloat16 float32 float64 float8_e4m3fn float8_e5m2
"""


@pytest.mark.parametrize("dtype", _TENSOR_DTYPES.split())
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (4, 2)])
def test_every_tensor_dtype_survives(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    wanted = getattr(torch, dtype)
    count = int(np.prod(shape)) * wanted.itemsize
    if wanted == torch.bool:
        raw = torch.arange(count, dtype=torch.uint8) % 2  # a bool is the byte 0 or 1
    else:
        raw = torch.arange(count, dtype=torch.int16).mul(37).to(torch.uint8)
    tensor = raw.view(wanted).reshape(shape)
    save_state(tmp_path / "state.npz", [tensor, tensor.T if tensor.dim() == 2 else tensor])
    loaded = load_state(tmp_path / "state.npz")
    assert same(loaded, [tensor, tensor.T if tensor.dim() == 2 else tensor])
    loaded[0].zero_()  # our own memory, writable


def test_what_a_training_loop_holds_survives(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    generator = torch.Generator().manual_seed(5)
    tree = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch": generator.get_state(),
        "numpy": np.random.default_rng(1).bit_generator.state,
        "twister": np.random.Generator(np.random.MT19937(1)).bit_generator.state,
        "parameter": model.weight,
        "huge": 7**9000,  # beyond the digits that Python converts to decimal
        1: float("nan"),
        -1: -0.0,
        "floats": (float("inf"), -float("inf"), 5e-324),
    }
    save_state(tmp_path / "state.npz", tree)
    loaded = load_state(tmp_path / "state.npz")
    assert list(loaded["model"]) == ["weight", "bias"]
    assert type(loaded["model"]) is dict  # an OrderedDict comes back as what it is, a dict
    loaded["model"], loaded["parameter"] = OrderedDict(loaded["model"]), model.weight
    assert same(loaded, {**tree, "model": OrderedDict(tree["model"])})
    optimizer.load_state_dict(loaded["optimizer"])


def test_equal_states_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_state(tmp_path / name, {"x": np.arange(5), "y": [1, (2.5, None)]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_numpy_alone_reads_the_file(tmp_path: Path) -> None:
    save_state(tmp_path / "state.npz", {"weight": np.arange(6.0).reshape(2, 3)})
    with np.load(tmp_path / "state.npz", allow_pickle=False) as archive:
        assert archive["0"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert archive["tree.json"] == b'{"dict": [["weight", {"array": 0}]]}'


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": [1, {2, 3}]}, r"state\['a'\]\[1\] is a builtins.set: a state holds only"),
        ({"a": {1.5: 2}}, r"state\['a'\] has the key 1.5: use str or int keys"),
        ({True: 2}, "has the key True: use str or int keys"),
        ([np.array([object()])], r"state\[0\] is an array of objects"),
        ({"f": len}, r"state\['f'\] is a builtins.builtin_function_or_method"),
        ([torch.eye(2).to_sparse()], r"state\[0\] is a sparse or quantized tensor"),
        ([np.ma.masked_array([1], [True])], r"state\[0\] is a numpy.ma.*MaskedArray"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Path, tree: Any, message: str) -> None:
    save_state(tmp_path / "state.npz", 1)
    with pytest.raises(ValueError, match=message):
        save_state(tmp_path / "state.npz", tree)
    assert load_state(tmp_path / "state.npz") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


_REFUSED = "is damaged, or no state file of this version of thrifty: restore it"


def test_every_flipped_bit_and_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    save_state(path, {"a": np.arange(3), "b": [1, 2.5, "text"]})
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"state.npz {_REFUSED}"):
            load_state(path)
        path.write_bytes(whole[:position])
        with pytest.raises(ValueError, match=_REFUSED):
            load_state(path)
    path.write_bytes(whole)
    assert same(load_state(path), {"a": np.arange(3), "b": [1, 2.5, "text"]})


@given(data=st.data())
def test_any_other_damage_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("state") / "state.npz"
    save_state(path, {"a": np.arange(30), "b": "text"})
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=20)) + whole[stop:]
    path.write_bytes(damaged)
    if damaged == whole:
        load_state(path)
    else:
        with pytest.raises(ValueError, match=_REFUSED):
            load_state(path)


class Bomb:
    """Unpickling this would end the test run."""

    def __reduce__(self) -> Any:
        return sys.exit, ("a pickle was loaded",)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.arange(3))
    np.savez(tmp_path / "objects.npz", a=np.array([Bomb()], dtype=object))
    (tmp_path / "pickle").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "text").write_text("hello\n" * 100)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "short").write_bytes(b"PK")
    torch.save({"a": torch.ones(1)}, tmp_path / "torch")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=f"{path.name} {_REFUSED}"):
            load_state(path)
    with pytest.raises(ValueError, match=r"absent cannot be read \(No such file.*check the path"):
        load_state(tmp_path / "absent")
    with pytest.raises(ValueError, match="cannot be read"):
        load_state(tmp_path)


def test_a_state_that_is_no_checkpoint_is_refused_as_one(tmp_path: Path) -> None:
    save_state(tmp_path / "checkpoint-0000000001.npz", {"step": 1})
    with pytest.raises(ValueError, match="is a state file, but not of a run"):
        CheckpointFolder(tmp_path).load()


def test_without_tensors_torch_is_never_imported(tmp_path: Path) -> None:
    save_state(tmp_path / "plain.npz", {"a": np.arange(3)})
    save_state(tmp_path / "tensor.npz", {"a": torch.arange(3)})
    code = (
        "import sys\n"
        "from thrifty.runs import load_state, save_state, execute, read_records\n"
        "from thrifty.runs.store import read_config\n"
        "tree = load_state(sys.argv[1]); save_state(sys.argv[1], tree)\n"
        "assert 'torch' not in sys.modules\n"
        "load_state(sys.argv[2])\n"
        "assert 'torch' in sys.modules\n"
    )
    files = [str(tmp_path / "plain.npz"), str(tmp_path / "tensor.npz")]
    subprocess.run([sys.executable, "-c", code, *files], check=True)


def test_segments_of_a_file_without_journal_are_none(tmp_path: Path) -> None:
    save_state(tmp_path / "state.npz", {"a": 1})
    assert read_segments(tmp_path / "state.npz") == {}
