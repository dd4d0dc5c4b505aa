"""Acts with a policy that ``thrifty export`` wrote. This one file is all that is needed.

Copy it wherever Python and NumPy are, a robot for instance: it imports nothing else of thrifty.
Where Numba is installed, the non-zero weights alone are computed with, in one compiled call per
observation; with NumPy alone (or where the network is not sparse enough for that to pay) the
weights are filled up with zeros and multiplied as dense matrices.

    policy = sparse_policy.load("policy.npz")
    action = policy(observation)  # in the environment's own bounds

The file is an .npz without pickle; thrifty/export.py, which writes it, describes the format.

How the compiled form works: eight rows with similar numbers of links are computed at a time, and
which weights are read never depends on the observation. Skipping inputs that are 0 would do half
the multiplications, but guessing which ones costs a processor more than it saves.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]

FORMAT = "thrifty policy 1"
MARK = FORMAT.encode() + b" "
DIGEST_LENGTH = 64  # hexadecimal digits that end a file
ACTIVATIONS = ("relu", "tanh", "elu", "silu", "gelu", "leaky_relu")  # with torch's defaults
WIDEST = 65_535  # units of a layer: places are 16-bit numbers
_COMPILED = ("relu", "tanh")  # the activations that compiled code has
_LANES = 8  # sums computed at a time
_EXPORT = "write it again with: thrifty export RUN --out FILE"


class Layer(NamedTuple):
    """A linear map [outputs, inputs], zeros included, its bias, and what follows ("": nothing)."""

    weight: Floats
    bias: Floats
    activation: str


class Contents(NamedTuple):
    """What a file holds: layers, lowest and highest actions [A], and where they come from."""

    layers: list[Layer]
    low: Floats
    high: Floats
    metadata: dict[str, Any]

    def scale(self) -> tuple[Floats, Floats]:
        """Return the centre of the bounds and half their distance."""
        return _HALF * (self.high + self.low), _HALF * (self.high - self.low)


def load(path: Path | str, *, compiled: bool | None = None) -> Policy:
    """Read an exported policy.

    Args:
        path: the file.
        compiled: True computes with the non-zero weights in compiled code, False with NumPy alone;
            None takes what is faster here. The first use on a machine compiles for a few seconds.

    Raises:
        ValueError: no exported policy, a damaged one, or ``compiled=True`` where it cannot be.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): check the path") from None
    body, digest = memoryview(data)[:-DIGEST_LENGTH], data[-DIGEST_LENGTH:]
    if body[-len(MARK) :] != MARK or digest_of(body) != digest:
        raise ValueError(f"{path} is damaged, or no policy that this version can read: {_EXPORT}")
    try:
        contents = _parse(data)
    except Exception as error:  # of many kinds, if somebody forges the digest as well
        raise ValueError(f"{path} holds no valid policy ({error}): {_EXPORT}") from None
    return Policy(contents, compiled)


def digest_of(data: bytes | memoryview) -> bytes:
    """Return the digest that ends a file, of all bytes before it."""
    return hashlib.blake2b(data, digest_size=DIGEST_LENGTH // 2).hexdigest().encode()


class Policy:
    """tanh(network(observation)), scaled to the bounds ``low`` and ``high`` [A]; see :func:`load`.

    Several threads may call one policy. NaN in an observation makes actions NaN.
    """

    def __init__(self, contents: Contents, compiled: bool | None = None) -> None:
        layers, self.low, self.high, self.metadata = contents
        self.observation_size, self.action_size = layers[0].weight.shape[1], len(self.low)
        links = sum(int(np.count_nonzero(layer.weight)) for layer in layers)
        weights = sum(layer.weight.size for layer in layers)
        self.sparsity = 1.0 - links / weights
        # Measured: a link costs 0.3 ns compiled; dense, a weight 0.06 ns and a call 3 us more.
        pays = links <= weights / 5 + 10_000
        known = all(layer.activation in _COMPILED for layer in layers[:-1])
        wanted = known and (pays if compiled is None else compiled)
        forward = _compiled_forward() if wanted else None
        self.compiled = forward is not None
        if compiled and not self.compiled:
            raise ValueError(f"compiled=True needs Numba, and no activations but {_COMPILED}")
        self._shape = (self.observation_size,)
        self._dense = _Dense(contents)
        self._one = self._dense.one if forward is None else _sparse(contents, forward)

    def __call__(self, observation: ArrayLike) -> Floats:
        """Return the action for one observation, or the actions for several.

        Args:
            observation: [O] or [B, O], of any real type.

        Returns:
            a new array in the environment's bounds, float32 [A] or [B, A].

        Raises:
            ValueError: the observation has another size.
        """
        if getattr(observation, "shape", None) == self._shape:  # the usual case, at once
            return self._one(observation)
        array = np.asarray(observation, np.float32)
        if array.shape == self._shape:
            return self._one(array)
        if array.ndim == 2 and array.shape[1:] == self._shape:
            return self._dense.many(array)
        expected = f"{self._shape} or (batch, {self.observation_size})"
        raise ValueError(f"observation has shape {array.shape}, expected {expected}")


# ---------------------------------------------------------------------- with NumPy alone


class _Dense:
    """The network as dense matrices [inputs + 1, outputs], whose last rows are the biases."""

    def __init__(self, contents: Contents) -> None:
        layers, self._low, self._high, _ = contents
        self._matrices = [_aligned(np.vstack((layer.weight.T, layer.bias))) for layer in layers]
        self._last = _aligned(self._matrices[-1].T)  # few rows: quicker so
        self._activations = [layer.activation for layer in layers[:-1]]
        self._centre, self._half_range = contents.scale()
        # Bounds around 0 need neither a shift nor, as |tanh| <= 1, a cut after rounding.
        self._shifted = bool(self._centre.any())
        self._scaled = self._shifted or bool((self._half_range != 1).any())
        self._spare: list[tuple[Floats, list[Any], Any]] = []

    def _buffers(self) -> tuple[Floats, list[Any], Any]:
        """The place of the observation, what to do for each hidden layer, and the last input."""
        whole = [np.ones(len(matrix), np.float32) for matrix in self._matrices]  # 1 meets the bias
        steps = []
        for number, activation in enumerate(self._activations):
            output = whole[number + 1][:-1]
            activate = functools.partial(_NUMPY[activation], output)
            if activation == "relu":  # NumPy takes longer to make an array of 0 than to compare
                activate = functools.partial(np.maximum, output, np.zeros_like(output), out=output)
            steps.append((whole[number].dot, self._matrices[number], output, activate))
        return whole[0][:-1], steps, whole[-1]

    def one(self, observation: Any) -> Floats:
        try:
            own = self._spare.pop()  # nobody else has it until it is back
        except IndexError:
            own = self._buffers()
        place, steps, last = own
        place[...] = observation
        for multiply, matrix, output, activate in steps:
            multiply(matrix, output)
            activate()
        action = self._last.dot(last)
        self._spare.append(own)
        return self._bounded(action)

    def many(self, observation: Floats) -> Floats:
        values = observation
        for matrix, activation in zip(self._matrices, [*self._activations, ""], strict=True):
            values = values @ matrix[:-1]
            values += matrix[-1]
            if activation:
                _NUMPY[activation](values)
        return self._bounded(values)

    def _bounded(self, output: Floats) -> Floats:
        np.tanh(output, out=output)
        if self._scaled:
            output *= self._half_range
        if self._shifted:
            output += self._centre
            np.maximum(output, self._low, out=output)
            np.minimum(output, self._high, out=output)
        return output


def _aligned(array: Floats) -> Floats:
    """Return a contiguous copy that begins with a cache line: no vector lies across two."""
    room = np.zeros(array.size + 16, np.float32)
    copy = room[-room.ctypes.data % 64 // 4 :][: array.size].reshape(array.shape)
    copy[...] = array
    return copy


def _gelu(values: Floats) -> None:
    # erf by Abramowitz and Stegun 7.1.26, wrong by 1.5e-7 at most; NumPy has none.
    z = np.abs(values).astype(np.float64) * math.sqrt(0.5)
    t = 1.0 / (1.0 + 0.3275911 * z)
    series = (((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t
    erf = np.copysign(1.0 - (series + 0.254829592) * t * np.exp(-z * z), values)
    values *= (0.5 + 0.5 * erf).astype(np.float32)


_ZERO, _HALF = np.float32(0.0), np.float32(0.5)
_NUMPY: dict[str, Callable[[Floats], object]] = {  # in place
    "relu": lambda x: np.maximum(x, _ZERO, out=x),
    "tanh": lambda x: np.tanh(x, out=x),
    "elu": lambda x: np.expm1(x, out=x, where=x < 0),
    "silu": lambda x: np.multiply(x, _HALF + _HALF * np.tanh(_HALF * x), out=x),
    "gelu": _gelu,
    "leaky_relu": lambda x: np.maximum(x, np.float32(0.01) * x, out=x),
}


# ---------------------------------------------------------------------- with Numba

_add_links: Any = None  # an intrinsic of Numba's, once _compiled_forward has made it


@functools.cache
def _compiled_forward() -> Any:
    """Return :func:`_forward` compiled, or None without Numba."""
    global _add_links
    try:
        from numba import config, njit
    except ImportError:
        return None
    if getattr(config, "DISABLE_JIT", False):
        return None
    _add_links = _vector_loop()
    signature = "void(float32[::1], float32[::1], uint16[::1])"
    try:
        return njit(signature, cache=True, error_model="numpy")(_forward)
    except Exception:  # no folder for a cache can be written, or what it holds is damaged
        return njit(signature, error_model="numpy")(_forward)


def _vector_loop() -> Any:
    """Return ``y[:8] = params[0, :8] + sum over k < n of params[1 + k, :8] * x[table[k, :8]]``.

    For Numba, in LLVM's language, so that the eight sums stay in one register; takes addresses.
    """
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    f32, i16, i64 = ir.FloatType(), ir.IntType(16), ir.IntType(64)
    vector = ir.VectorType(f32, _LANES)

    @intrinsic
    def add_links(context: Any, x: Any, y: Any, params: Any, table: Any, n: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kinds = zip(values, (f32, vector, vector, i16), strict=False)
            x, y, params, table = (builder.inttoptr(v, kind.as_pointer()) for v, kind in kinds)
            total = cgutils.alloca_once(builder, vector)  # type: ignore[no-untyped-call]
            builder.store(builder.load(params, align=4), total)
            with cgutils.for_range(builder, values[4], intp=i64) as loop:
                places = builder.gep(table, [builder.mul(loop.index, ir.Constant(i64, _LANES))])
                found = ir.Constant(vector, ir.Undefined)
                for lane in range(_LANES):
                    place = builder.load(builder.gep(places, [ir.Constant(i64, lane)]), align=2)
                    value = builder.load(builder.gep(x, [builder.zext(place, i64)]), align=4)
                    found = builder.insert_element(found, value, ir.Constant(i64, lane))
                after = builder.gep(params, [builder.add(loop.index, ir.Constant(i64, 1))])
                product = builder.fmul(builder.load(after, align=4), found)
                builder.store(builder.fadd(builder.load(total), product), total)
            builder.store(builder.load(total), y, align=4)
            return context.get_dummy_value()

        return types.void(*[types.uintp] * 5), generate

    return add_links


def _forward(work: Any, params: Any, table: Any) -> None:
    """Compute all layers, in Numba's language: ``work`` holds the observation, then each layer."""
    U = np.uintp  # of a signed place Numba would ask whether it counts from the end
    works, numbers, places = U(work.ctypes.data), U(params.ctypes.data), U(table.ctypes.data)
    at, first = U(2), U(0)  # in the table and in the params
    x, y = U(0), U(8) * U(table[1])
    for _ in range(table[0]):
        outputs, groups, code = U(table[at]), U(table[at + U(1)]), table[at + U(2)]
        at += U(3)
        for group in range(groups):
            links = U(table[at])
            source, target = works + U(4) * x, works + U(4) * (y + U(8) * U(group))
            _add_links(source, target, numbers + U(4) * first, places + U(2) * (at + U(1)), links)
            first += U(8) * (links + U(1))
            at += U(8) * links + U(1)
        zero = np.float32(0.0)
        if code == 0:
            for unit in range(y, y + outputs):  # without a branch, which would be guessed wrong
                value = work[unit]
                work[unit] = zero if value <= zero else value  # NaN stays
        elif code == 1:
            for unit in range(y, y + outputs):
                work[unit] = math.tanh(work[unit])
        else:
            for unit in range(outputs):  # the last layer: eight sums each
                value = zero
                for part in range(y + U(8) * unit, y + U(8) * unit + U(8)):
                    value += work[part]
                scale = first + unit
                value = params[scale] + params[scale + outputs] * math.tanh(value)
                low, high = params[scale + U(2) * outputs], params[scale + U(3) * outputs]
                value = low if value < low else value
                work[y + unit] = high if value > high else value
        x, y = y, y + U(8) * groups


def _packed(contents: Contents) -> tuple[Floats, NDArray[np.uint16]]:
    """Return numbers and places in the order in which :func:`_forward` reads them.

    A group has eight lanes, a row each; in the last layer, whose rows are few and long, an eighth
    of one row each. Per group: the links of the longest lane; their places, link by link; biases
    and weights. Shorter lanes are filled up with weights of 0. Hidden units are sorted by their
    number of links, which changes nothing but keeps groups even.
    """
    layers, low, high, _ = contents
    inputs = layers[0].weight.shape[1]
    table: list[Any] = [[len(layers), _whole(inputs) // _LANES]]  # 65,536 would be 0
    params: list[Floats] = []
    order = np.arange(inputs)
    for layer in layers:
        weight, bias, last = layer.weight[:, order], layer.bias, not layer.activation
        order = np.argsort(-np.count_nonzero(weight, axis=1), kind="stable")
        if last:
            lanes = [
                (row, b if lane == 0 else 0.0, np.flatnonzero(row)[lane::_LANES])
                for row, b in zip(weight, bias, strict=True)
                for lane in range(_LANES)
            ]
        else:
            lanes = [(weight[row], bias[row], np.flatnonzero(weight[row])) for row in order]
        code = (*_COMPILED, "").index(layer.activation)
        table.append([len(bias), -(-len(lanes) // _LANES), code])
        for start in range(0, len(lanes), _LANES):
            group = lanes[start : start + _LANES]
            longest = max(len(found) for _, _, found in group)
            places = np.zeros((longest, _LANES), np.uint16)
            numbers = np.zeros((1 + longest, _LANES), np.float32)  # biases, then weights
            for lane, (row, b, found) in enumerate(group):
                numbers[0, lane], numbers[1 : 1 + len(found), lane] = b, row[found]
                places[: len(found), lane] = found
                places[len(found) :, lane] = found[-1:].sum()  # 0 times infinity: its own row
            table += [[longest], places.ravel()]
            params.append(numbers.ravel())
    params += [*contents.scale(), low, high]
    return _aligned(np.concatenate(params)), np.concatenate(table).astype(np.uint16)


def _sparse(contents: Contents, forward: Callable[..., None]) -> Callable[[Any], Floats]:
    """Return the function from one observation to its action that computes with links alone."""
    params, table = _packed(contents)
    inputs, actions = contents.layers[0].weight.shape[1], len(contents.low)
    last = _whole(inputs) + sum(_whole(len(layer.bias)) for layer in contents.layers[:-1])
    spare: list[tuple[Floats, Floats, Floats]] = []

    def one(observation: Any) -> Floats:
        try:
            own = spare.pop()  # nobody else has it until it is back
        except IndexError:
            work = np.zeros(last + _LANES * actions, np.float32)
            own = work[:inputs], work, work[last : last + actions]
        place, work, action = own
        place[...] = observation
        forward(work, params, table)
        result = action.copy()
        spare.append(own)
        return result

    return one


def _whole(width: int) -> int:
    return -(-width // _LANES) * _LANES


# ---------------------------------------------------------------------- the file


def _parse(data: bytes) -> Contents:
    """Return what a file holds, checked: compiled code must not see a place that is none."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:

        def vector(name: str, size: int | None, *types: str) -> NDArray[Any]:
            with archive.open(f"{name}.npy") as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
            if array.dtype.str not in types or array.ndim != 1:
                raise ValueError(f"{name} is no vector of {' or '.join(types)}")
            if len(array) != (len(array) if size is None else size) or not np.isfinite(array).all():
                raise ValueError(f"{name} has a wrong length or holds no finite numbers")
            return array

        described = json.loads(archive.read("policy.json"))
        if described["format"] != FORMAT or described["output"] != "tanh":
            raise ValueError("another format")
        inputs, layers = _width(described["inputs"]), []
        for number, entry in enumerate(described["layers"]):
            outputs, activation = _width(entry["outputs"]), entry["activation"]
            if activation not in (ACTIVATIONS if described["layers"][number + 1 :] else ("",)):
                raise ValueError(f"layer {number} has the activation {activation!r}")
            values = vector(f"{number}.values", None, "<f4")
            bias = vector(f"{number}.bias", outputs, "<f4")
            if entry["links"] == "mask":
                size = outputs * inputs
                bits = vector(f"{number}.mask", -(-size // 8), "|u1")
                found = np.flatnonzero(np.unpackbits(bits, count=size))
            else:
                counts = vector(f"{number}.counts", outputs, "|u1", "<u2")
                columns = vector(f"{number}.columns", len(values), "|u1", "<u2")
                if (columns >= inputs).any() or int(counts.sum()) != len(columns):
                    raise ValueError(f"layer {number} has links that do not exist")
                found = np.repeat(np.arange(outputs) * inputs, counts) + columns
            if len(found) != len(values) or (np.diff(found) <= 0).any():
                raise ValueError(f"layer {number} has links too many, too few or in disorder")
            weight = np.zeros((outputs, inputs), np.float32)
            weight.reshape(-1)[found] = values
            layers.append(Layer(weight, bias, activation))
            inputs = outputs
        low, high = vector("low", inputs, "<f4"), vector("high", inputs, "<f4")
        bounded = ((low > -1e38) & (low < high) & (high < 1e38)).all()  # so is their distance
        if not (layers and bounded and isinstance(described["metadata"], dict)):
            raise ValueError("it has no layers, no bounds of actions or no metadata")
        return Contents(layers, low, high, described["metadata"])


def _width(number: object) -> int:
    if type(number) is not int or not 1 <= number <= WIDEST:
        raise ValueError(f"a layer has {number!r} units")
    return number
