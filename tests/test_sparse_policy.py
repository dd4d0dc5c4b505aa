"""The runtime of exported policies, without the rest of thrifty where that matters."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thrifty import sparse_policy
from thrifty.export import encode_npz, sealed
from thrifty.sparse_policy import Contents, Floats, Layer, Policy

FILE = Path(sparse_policy.__file__)
BOTH = pytest.mark.parametrize("compiled", [True, False])


def contents(
    widths: tuple[int, ...] = (5, 16, 12, 3),
    density: float = 0.3,
    *,
    activation: str = "relu",
    low: float = -1.0,
    high: float = 1.0,
    seed: int = 0,
) -> Contents:
    rng = np.random.default_rng(seed)
    layers = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weight = rng.normal(size=(outputs, inputs)) * (rng.random((outputs, inputs)) < density)
        last = number + 2 == len(widths)
        bias = rng.normal(size=outputs).astype(np.float32)
        layers.append(Layer(weight.astype(np.float32), bias, "" if last else activation))
    bounds = np.full((2, widths[-1]), [[low], [high]], np.float32)
    return Contents(layers, bounds[0], bounds[1], {"algorithm": "none"})


def exact(policy: Contents, observation: Any) -> Floats:
    """The definition, in float64."""
    values = np.asarray(observation, np.float64)
    for layer in policy.layers:
        values = values @ layer.weight.T.astype(np.float64) + layer.bias
        if layer.activation == "relu":
            values = np.maximum(values, 0)
        elif layer.activation == "tanh":
            values = np.tanh(values)
    low, high = policy.low.astype(np.float64), policy.high.astype(np.float64)
    action: Floats = (high + low) / 2 + (high - low) / 2 * np.tanh(values)
    return action


@BOTH
def test_a_network_computed_by_hand(compiled: bool) -> None:
    # hidden = relu([1*2 + 0.5, -1*2 + 1]) = [2.5, 0]; output = 0.4*2.5 - 1 + 7*0 = 0.
    # tanh(0) = 0 is the middle of the bounds 1 and 5.
    hidden = Layer(np.float32([[1], [-1]]), np.float32([0.5, 1]), "relu")
    last = Layer(np.float32([[0.4, 7]]), np.float32([-1]), "")
    policy = Policy(Contents([hidden, last], np.float32([1]), np.float32([5]), {}), compiled)
    assert policy.compiled is compiled
    np.testing.assert_allclose(policy(np.float32([2])), [3.0], atol=1e-6)
    # relu([-2 + 0.5, 2 + 1]) = [0, 3]: tanh(21 - 1) is 1 in float32, and so the upper bound.
    np.testing.assert_array_equal(policy(np.float32([-2])), np.float32([5]))


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=5),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from(["relu", "tanh"]),
    st.integers(0, 1000),
)
def test_compiled_numpy_and_definition_agree(
    widths: list[int], density: float, activation: str, seed: int
) -> None:
    one = contents(tuple(widths), density, activation=activation, low=-0.5, high=2.0, seed=seed)
    observations = np.random.default_rng(seed).normal(size=(6, widths[0])).astype(np.float32)
    expected = exact(one, observations)
    for compiled in (True, False):
        policy = Policy(one, compiled)
        singly = np.array([policy(observation) for observation in observations])
        np.testing.assert_allclose(singly, expected, atol=2e-5)
        np.testing.assert_allclose(policy(observations), expected, atol=2e-5)


@pytest.mark.parametrize("width", [sparse_policy.WIDEST - 7, sparse_policy.WIDEST])
def test_the_widest_layers_are_computed(width: int) -> None:
    """Places and widths are 16-bit numbers; in groups of eight the widest layer has 65,536."""
    rng = np.random.default_rng(0)
    into, out = np.zeros((8, width), np.float32), np.zeros((2, 8), np.float32)
    into[:, [0, 70, width - 1]] = rng.normal(size=(8, 3))
    out[:] = rng.normal(size=(2, 8))
    layers = [Layer(into, np.zeros(8, np.float32), "relu"), Layer(out, out[:, 0].copy(), "")]
    one = Contents(layers, -np.ones(2, np.float32), np.ones(2, np.float32), {})
    seen = rng.normal(size=width).astype(np.float32)
    np.testing.assert_allclose(Policy(one, compiled=True)(seen), exact(one, seen), atol=1e-5)


@BOTH
def test_what_may_be_an_observation(compiled: bool) -> None:
    policy = Policy(contents(), compiled)
    observation = np.linspace(-1, 1, 5, dtype=np.float32)
    action = policy(observation)
    assert action.dtype == np.float32
    assert action.shape == (3,)
    fixed = observation.copy()
    fixed.flags.writeable = False
    strided = np.repeat(observation, 2)[::2]
    for other in (observation.astype(float), observation.tolist(), fixed, strided):
        np.testing.assert_array_equal(policy(other), action)
    assert policy(observation[None]).shape == (1, 3)
    assert policy(np.zeros((0, 5))).shape == (0, 3)
    for wrong in (np.zeros(4), np.zeros((2, 4)), np.zeros((1, 1, 5)), 0.0):
        with pytest.raises(ValueError, match=r"expected \(5,\) or \(batch, 5\)"):
            policy(wrong)


@BOTH
def test_actions_are_new_arrays_inside_the_bounds(compiled: bool) -> None:
    policy = Policy(contents(low=0.1, high=0.7), compiled)
    one, two = policy(np.full(5, 1e6)), policy(np.full(5, -1e6))
    kept = one.copy()
    two[:] = 9
    np.testing.assert_array_equal(one, kept)
    assert ((one >= policy.low) & (one <= policy.high)).all()


@BOTH
def test_what_is_not_a_number_is_passed_on(compiled: bool) -> None:
    policy = Policy(contents(density=1.0), compiled)
    assert np.isnan(policy(np.full(5, np.nan))).all()
    assert np.isfinite(policy(np.zeros(5))).all()  # and is not kept


@BOTH
def test_several_threads_share_a_policy(compiled: bool) -> None:
    policy = Policy(contents((30, 64, 64, 4), 0.5), compiled)
    observations = np.random.default_rng(1).normal(size=(4, 30)).astype(np.float32)
    expected = [policy(observation) for observation in observations]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(2000):
            if not np.array_equal(policy(observations[number]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_form_follows_the_sparsity() -> None:
    widths = (17, 256, 256, 6)
    assert Policy(contents(widths, 0.05)).compiled
    assert not Policy(contents(widths, 1.0)).compiled
    assert Policy(contents(widths, 1.0), compiled=True).compiled
    gelu = contents(activation="gelu")
    assert not Policy(gelu).compiled
    with pytest.raises(ValueError, match="compiled=True needs Numba, and no activations but"):
        Policy(gelu, compiled=True)


def run(folder: Path, blocked: str, observations: Floats, code: str = "") -> Any:
    """Act in a process of its own, with a copy of the file, and without the modules blocked."""
    np.save(folder / "observations.npy", observations)
    shutil.copy(FILE, folder / "robot.py")
    script = f"""
import json, sys
for name in {blocked.split()!r}:
    sys.modules[name] = None
{code}
import numpy as np, robot
policy = robot.load("policy.npz")
actions = [policy(one).tolist() for one in np.load("observations.npy")]
print(json.dumps([policy.compiled, actions]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_file_alone_acts_without_torch_thrifty_and_numba(tmp_path: Path) -> None:
    one = contents((17, 64, 64, 6), 0.05)
    (tmp_path / "policy.npz").write_bytes(encode_npz(one))
    observations = np.random.default_rng(2).normal(size=(5, 17)).astype(np.float32)
    compiled, actions = run(tmp_path, "torch thrifty", observations)
    assert compiled
    plain, numpy_actions = run(tmp_path, "torch thrifty numba", observations)
    assert not plain
    switched_off = "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'"
    assert run(tmp_path, "torch thrifty", observations, switched_off) == [False, numpy_actions]
    np.testing.assert_allclose(actions, exact(one, observations), atol=1e-5)
    np.testing.assert_allclose(numpy_actions, actions, atol=1e-6)


def test_a_folder_for_compiled_code_is_not_needed(tmp_path: Path) -> None:
    one = contents((17, 64, 64, 6), 0.05)
    (tmp_path / "policy.npz").write_bytes(encode_npz(one))
    # Numba asks each of its places for a cache in turn; here they are all gone.
    code = "import numba.core.caching as c; c.CacheImpl._locator_classes = []"
    compiled, _ = run(tmp_path, "torch thrifty", np.zeros((1, 17), np.float32), code)
    assert compiled
    assert list(tmp_path.glob("**/*.nbc")) == []


def test_damaged_compiled_code_is_compiled_again(tmp_path: Path) -> None:
    one = contents((17, 64, 64, 6), 0.05)
    (tmp_path / "policy.npz").write_bytes(encode_npz(one))
    observations = np.zeros((1, 17), np.float32)
    first = run(tmp_path, "torch thrifty", observations)
    (kept,) = tmp_path.glob("**/*.nbc")  # beside the file, since the folder can be written
    kept.write_bytes(b"damaged")
    assert run(tmp_path, "torch thrifty", observations) == first
    assert first[0]


def written(path: Path, one: Contents | None = None) -> bytes:
    path.write_bytes(encode_npz(contents(density=0.4) if one is None else one))
    return path.read_bytes()


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "policy.npz"
    data = written(path)
    rng = np.random.default_rng(3)
    for place in {0, len(data) - 1, *rng.integers(0, len(data), 300).tolist()}:
        damaged = bytearray(data)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"policy\.npz is damaged, or no policy .* thrifty exp"
        ):
            sparse_policy.load(path)


def test_truncated_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.npz"
    data = written(path)
    for part in (b"", data[:10], data[: len(data) // 2], data[:-1], data + b"x", b"PK" * 500):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=r"policy\.npz is damaged, or no policy"):
            sparse_policy.load(path)
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(ValueError, match=r"policy\.npz is damaged, or no policy"):
        sparse_policy.load(path)
    with pytest.raises(ValueError, match=r"cannot be read .*: check the path"):
        sparse_policy.load(tmp_path / "nothing.npz")


def members(data: bytes, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    (folder / "whole.npz").write_bytes(data)
    with np.load(folder / "whole.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "policy.json"}
        return json.loads(archive["policy.json"]), arrays


def changed(array: Any, place: int, value: float) -> Any:
    array = array.copy()
    array[place] = value
    return array


# A density of 0.04 is stored as columns, one of 0.4 as a mask.
FORGERIES: list[tuple[float, str, Any]] = [
    (0.04, "1.columns", lambda a: changed(a, -1, 200)),
    (0.04, "1.columns", lambda a: changed(a, 0, a[1]) if len(a) > 1 else a),
    (0.04, "1.columns", lambda a: a[:-1]),
    (0.04, "1.columns", lambda a: a.astype(np.int8)),
    (0.04, "1.counts", lambda a: changed(a, 0, a[0] + 1)),
    (0.04, "1.counts", lambda a: a[:-1]),
    (0.4, "1.mask", lambda a: a ^ 1),
    (0.4, "1.mask", lambda a: a[:-1]),
    (0.4, "1.values", lambda a: a[:-1]),
    (0.4, "1.values", lambda a: changed(a, 0, np.nan)),
    (0.4, "1.values", lambda a: a.astype(np.float64)),
    (0.4, "2.bias", lambda a: a[:, None]),
    (0.4, "low", lambda a: a + 2),
    (0.4, "high", lambda a: a[:-1]),
    (0.4, "json", lambda d: {**d, "format": "thrifty policy 2"}),
    (0.4, "json", lambda d: {**d, "inputs": 65_536}),
    (0.4, "json", lambda d: {**d, "inputs": 4}),
    (0.4, "json", lambda d: {**d, "inputs": True}),
    (0.4, "json", lambda d: {**d, "layers": []}),
    (0.4, "json", lambda d: {**d, "layers": d["layers"][:-1]}),
    (0.4, "json", lambda d: {**d, "layers": 3}),
    (0.4, "json", lambda d: {**d, "output": "softmax"}),
    (0.4, "json", lambda d: {**d, "metadata": []}),
    (0.4, "json", lambda d: [d]),
]


@pytest.mark.parametrize(("density", "name", "forge"), FORGERIES)
def test_a_file_with_wrong_content_and_right_digest_is_refused(
    density: float, name: str, forge: Any, tmp_path: Path
) -> None:
    path = tmp_path / "policy.npz"
    document, arrays = members(encode_npz(contents((60, 50, 40, 30), density)), tmp_path)
    path.write_bytes(sealed(document, arrays))
    sparse_policy.load(path)  # what is changed below is what makes it wrong
    if name == "json":
        document = forge(document)
    else:
        arrays[name] = forge(arrays[name])
    path.write_bytes(sealed(document, arrays))
    with pytest.raises(ValueError, match=r"policy\.npz holds no valid policy .* thrifty export"):
        sparse_policy.load(path)


def test_a_column_beyond_its_row_is_refused(tmp_path: Path) -> None:
    """Column 40 of row 0 would lie where column 0 of row 1 does: in range and in order."""
    weight = np.zeros((2, 40), np.float32)
    weight[0, 5] = weight[1, 7] = 1
    low, high = -np.ones(2, np.float32), np.ones(2, np.float32)
    one = Contents([Layer(weight, np.zeros(2, np.float32), "")], low, high, {})
    document, arrays = members(encode_npz(one), tmp_path)
    assert arrays["0.columns"].tolist() == [5, 7]
    arrays["0.columns"][0] = 40
    (tmp_path / "policy.npz").write_bytes(sealed(document, arrays))
    with pytest.raises(ValueError, match=r"policy\.npz holds no valid policy \(layer 0 has links"):
        sparse_policy.load(tmp_path / "policy.npz")


# A density of 0.05 is stored as columns, one of 0.4 as a mask.
FUZZED = {density: encode_npz(contents((40, 24, 20, 3), density)) for density in (0.05, 0.4)}


def accepted(path: Path) -> Contents | None:
    """What a file holds, or None where it is refused with a message that names it."""
    message = ""
    try:
        sparse_policy.load(path, compiled=False)
    except ValueError as refused:
        message = str(refused)
    if not message:
        return sparse_policy._parse(path.read_bytes())
    assert message.startswith(str(path))
    assert message.endswith("write it again with: thrifty export RUN --out FILE")
    return None


def sound(one: Contents, count: int = 4) -> None:
    """What was accepted is a network of consistent sizes, and compiled code computes it."""
    for before, layer in itertools.pairwise(one.layers):
        assert len(before.bias) == len(before.weight) == layer.weight.shape[1]
    assert len(one.layers[-1].bias) == len(one.low) == len(one.high)
    seen = np.random.default_rng(0).normal(size=(count, one.layers[0].weight.shape[1]))
    policy = Policy(one, compiled=True)
    expected = exact(one, seen.astype(np.float32))
    for observation, action in zip(seen, expected, strict=True):
        np.testing.assert_allclose(policy(observation), action, atol=1e-4 * np.abs(one.high).max())


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_flipped_bytes_are_refused(tmp_path_factory: Any, data: st.DataObject) -> None:
    """Any byte: refused. With the digest made anew: refused, or a network that is whole."""
    path = tmp_path_factory.getbasetemp() / "flipped.npz"
    whole = bytearray(FUZZED[data.draw(st.sampled_from(sorted(FUZZED)))])
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] ^= data.draw(st.integers(1, 255))
    changed_at_all = bytes(whole) not in FUZZED.values()
    path.write_bytes(whole)
    assert accepted(path) is None or not changed_at_all
    body = bytes(whole[: -sparse_policy.DIGEST_LENGTH])
    path.write_bytes(body + sparse_policy.digest_of(body))
    one = accepted(path)
    if one is not None:
        sound(one)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_changed_arrays_are_refused_or_whole(tmp_path_factory: Any, data: st.DataObject) -> None:
    """Arrays with a right digest: no place that is none ever comes to compiled code."""
    folder = tmp_path_factory.getbasetemp()
    document, arrays = members(FUZZED[data.draw(st.sampled_from(sorted(FUZZED)))], folder)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(arrays)))
        array = arrays[name].copy()
        kind = data.draw(st.sampled_from(["element", "shorter", "longer", "shuffled", "type"]))
        if kind == "element" and array.size:
            bits = data.draw(st.integers(0, 256**array.itemsize - 1))
            place = data.draw(st.integers(0, array.size - 1))
            array.view(f"V{array.itemsize}")[place] = bits.to_bytes(array.itemsize, "little")
        elif kind == "shorter":
            array = array[: data.draw(st.integers(0, array.size))]
        elif kind == "longer":
            array = np.concatenate([array, array[: data.draw(st.integers(0, 5))]])
        elif kind == "shuffled":
            array = array[::-1].copy()
        else:
            with np.errstate(invalid="ignore"):
                array = array.astype(
                    data.draw(st.sampled_from(["<u2", "|u1", "<f4", "<i8", "|b1"]))
                )
        arrays[name] = array
    path = folder / "changed.npz"
    path.write_bytes(sealed(document, arrays))
    one = accepted(path)
    if one is not None and all(np.abs(layer.weight).max() < 1e3 for layer in one.layers):
        sound(one)  # larger weights leave float32's range, which is no fault of the file
