"""Scenarios: what a scheduling problem consists of, the five canonical ones, the official ones.

Energies lie in [0, 1] per attempt, times are in slots. ``scenario("S1")``, ``scenario("csi:1:4")``
and ``scenario("mine.toml")`` are the ways to name one.

Reference:
    The generator of ``csi`` is the one of the published environment (arXiv 2208.14074): draws of
    Python's ``random.Random(seed)``, attribute by attribute.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling.arrivals import Arrivals
from thrifty.scheduling.channels import Channel, MarkovChannel, piecewise
from thrifty.scheduling.scenario_file import content_of
from thrifty.scheduling.success import ExponentialLaw, OutageLaw, SuccessLaw, TanhLaw

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KERNEL_5G = (
    (0.861, 0.102, 0.029, 0.008),
    (0.096, 0.821, 0.069, 0.014),
    (0.047, 0.114, 0.789, 0.050),
    (0.033, 0.073, 0.130, 0.764),
)
"""Four CQI classes (13 and more, 10-12, 7-9, below 7), fitted to public 5G traces at 1 s."""
VALUES_5G = (0.5, 1.0, 3.0, 10.0)
"""A chosen spread of channel values for the four classes (illustrative)."""
LAWS: dict[str, type[Any]] = {
    "tanh": TanhLaw,
    "exponential": ExponentialLaw,
    "outage": OutageLaw,
}


_MOST_ATTEMPTS = 100_000
_STRONGEST = 1e30  # attenuation that probabilities and prices can be computed with


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Scenario:
    """One scheduling problem.

    Args:
        name: how tables call it.
        weights: beta, worth of a delivered packet of each flow [F], at least 0.
        attempts: K, slots in which a packet can be sent before it is lost [F], at least 1; over
            several hops, end to end.
        distances: d of each link [F, H], or [F] for a single hop; the attenuation is d^3 c.
        arrivals: packets per slot.
        channel: of the links.
        budget: E_0, average energy per slot of each node [H] or one number for all; None if open.
        law: success probability of an attempt.
        hidden: whether the scenario means the channel to be unobserved.

    Raises:
        ValueError: numbers that do not fit, with the field's name.
    """

    name: str
    weights: Any
    attempts: Any
    distances: Any
    arrivals: Arrivals
    channel: Channel
    budget: Any = None
    law: SuccessLaw = dataclasses.field(default_factory=TanhLaw)
    hidden: bool = False

    def __repr__(self) -> str:
        """Name it and its sizes; the arrays themselves would fill the screen."""
        sizes = f"{self.flows} flows, {self.hops} hops, {self.channel.states} channel states"
        return f"Scenario({self.name!r}, {sizes})"

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights, dtype=np.float64)
        flows = weights.size
        if weights.ndim != 1 or not flows or not np.all(np.isfinite(weights) & (weights >= 0)):
            raise ValueError("weights must be numbers >= 0, one for each flow")
        attempts = np.asarray(self.attempts, dtype=np.float64)
        if attempts.shape != (flows,) or np.any(attempts != np.round(attempts)):
            raise ValueError(f"attempts must be {flows} whole numbers, one for each flow")
        if attempts.min() < 1:
            raise ValueError(f"a packet needs at least one attempt, got {attempts.min():g}")
        if attempts.max() > _MOST_ATTEMPTS:
            raise ValueError(f"attempts are at most {_MOST_ATTEMPTS}, got {attempts.max():g}")
        distances = np.asarray(self.distances, dtype=np.float64)
        if distances.ndim == 1:
            distances = distances[:, None]
        positive = np.all(np.isfinite(distances) & (distances > 0))
        if distances.ndim != 2 or len(distances) != flows or not distances.size or not positive:
            raise ValueError(
                f"distances must be positive finite numbers, [{flows}] or [{flows}, hops]"
            )
        if self.arrivals.flows != flows:
            raise ValueError(f"arrivals are for {self.arrivals.flows} flows, weights for {flows}")
        _check_links(self.channel, *distances.shape)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "attempts", attempts.astype(np.int64))
        object.__setattr__(self, "distances", distances)
        with np.errstate(over="ignore", under="ignore"):
            attenuation = self.attenuation
        if not np.all((attenuation > 1 / _STRONGEST) & (attenuation < _STRONGEST)):
            raise ValueError(
                f"an attenuation d^3 c must lie within 1e-30 and 1e30, got {attenuation.min():g} "
                f"to {attenuation.max():g}: check distances and channel values"
            )
        if self.budget is not None:
            object.__setattr__(self, "budget", node_budget(self.budget, distances.shape[1]))

    @property
    def flows(self) -> int:
        """F, the number of flows (users)."""
        return int(self.weights.size)

    @property
    def hops(self) -> int:
        """H, the number of nodes that a packet must be sent from."""
        return int(self.distances.shape[1])

    @property
    def most_attempts(self) -> int:
        """The largest K."""
        return int(self.attempts.max())

    @property
    def attenuation(self) -> Floats:
        """d^3 c of each link in each channel state [F, H, C]."""
        return np.asarray(self.distances[..., None] ** 3 * self.channel.values)

    @property
    def cells(self) -> NDArray[np.bool_]:
        """Which (flow, hop, slots left after this one) a packet can be in, [F, H, max K]."""
        left = np.arange(self.most_attempts)
        hop = np.arange(self.hops)[:, None]
        return np.asarray(left < self.attempts[:, None, None] - hop)

    @property
    def offered(self) -> float:
        """Mean weight that arrives per slot."""
        return float(self.arrivals.mean @ self.weights)


def node_budget(budget: Any, hops: int) -> Floats:
    """Return a budget for each node [hops].

    Args:
        budget: energy per slot, one number or one for each node; also as text: "10", "3,3,3".
        hops: H.

    Raises:
        ValueError: no numbers, a negative one, or another count of them.
    """
    try:
        parts = budget.split(",") if isinstance(budget, str) else budget
        numbers = np.atleast_1d(np.asarray(parts, dtype=np.float64))
    except (ValueError, TypeError, OverflowError):
        raise ValueError(
            f"the budget {budget!r} is not a number: give energy per slot, such as 10, "
            "or one for each node, such as 3,3,3"
        ) from None
    if numbers.shape not in ((1,), (hops,)):
        raise ValueError(f"a budget is one number, or one for each of {hops} nodes; got {budget}")
    if not np.all(np.isfinite(numbers)) or numbers.min() < 0:
        raise ValueError(f"a budget must be a finite number >= 0, got {numbers.min():g}")
    return np.broadcast_to(numbers, (hops,)).copy()


def _check_links(channel: Channel, flows: int, hops: int) -> None:
    links = (flows, hops)
    if isinstance(channel, MarkovChannel):
        have = channel.kernels.shape[1:3]
        fits = all(one in (1, most) for one, most in zip(have, links, strict=True))
    else:
        have = channel.states_at.shape[1:3]
        fits = have == links
    if not fits:
        raise ValueError(f"the channel is for {have[0]} x {have[1]} links, not {flows} x {hops}")


def csi(
    seed: int,
    users: int,
    *,
    largest_delay: int = 6,
    bernoulli: bool = False,
    homogeneous: bool = False,
    budget: Any = None,
) -> Scenario:
    """Return an instance of the official generator.

    Args:
        seed: of Python's ``random.Random``.
        users: N; also the number of channel states.
        largest_delay: tau_max.
        bernoulli: at most one packet a slot, with probabilities from NumPy's generator of the same
            seed, instead of Poisson arrivals.
        homogeneous: weights and distances of 1, which are then not drawn.
        budget: as in :class:`Scenario`.

    Example:
        >>> csi(1, 4).attempts.tolist()
        [5, 5, 5, 7]
    """
    if users < 1:
        raise ValueError(f"the generator needs at least one user, got {users}")
    draw = random.Random(seed)
    if bernoulli:
        arrivals = Arrivals(np.random.default_rng(seed).random(users), "bernoulli")
    else:
        arrivals = Arrivals([draw.randint(2, 5) for _ in range(users)])
    delays = [draw.randint(1, largest_delay) for _ in range(users)]
    weights, distances = [1] * users, [1.0] * users
    if not homogeneous:
        weights = [draw.randint(1, 5) for _ in range(users)]
        distances = [draw.uniform(1, 2) for _ in range(users)]
    rows = np.array([[draw.random() for _ in range(users)] for _ in range(users)])
    return Scenario(
        name=f"csi:{seed}:{users}",
        weights=weights,
        attempts=[delay + 1 for delay in delays],
        distances=distances,
        arrivals=arrivals,
        channel=MarkovChannel(np.arange(1.0, users + 1), rows / rows.sum(axis=1, keepdims=True)),
        budget=budget,
    )


def _s1() -> Scenario:
    """Four users, channel seen: the official default instance."""
    return dataclasses.replace(csi(1, 4, budget=10.0), name="S1")


def _s2() -> Scenario:
    """Eight users, sticky channel, hidden."""
    return Scenario(
        name="S2",
        weights=[4, 1, 3, 2, 5, 2, 3, 1],
        attempts=[3, 5, 7, 4, 6, 8, 5, 7],
        distances=np.linspace(1.0, 1.7, 8),
        arrivals=Arrivals([2, 3, 2, 4, 2, 3, 2, 3]),
        channel=MarkovChannel(VALUES_5G, KERNEL_5G),
        budget=20.0,
        hidden=True,
    )


def _s3(users: int = 32) -> Scenario:
    """Thirty-two users, channel seen: scale."""
    i = np.arange(users) % 32
    return Scenario(
        name="S3" if users == 32 else f"S3x{users}",
        weights=1 + 3 * i % 5,
        attempts=2 + i % 7,
        distances=0.8 + 0.04 * (i % 26),
        arrivals=Arrivals(1 + i % 4),
        channel=MarkovChannel(VALUES_5G, KERNEL_5G),
        budget=40.0 * users / 32,
    )


def _s4() -> Scenario:
    """Four users whose channels alternate between a good and a bad regime every 20 slots."""
    good = [[0.95, 0.04, 0.01, 0], [0.30, 0.60, 0.10, 0], [0.10, 0.40, 0.45, 0.05],
            [0.05, 0.20, 0.45, 0.30]]  # fmt: skip
    bad = [[0.30, 0.40, 0.20, 0.10], [0.05, 0.45, 0.40, 0.10], [0, 0.10, 0.60, 0.30],
           [0, 0.02, 0.13, 0.85]]  # fmt: skip
    return Scenario(
        name="S4",
        weights=[4, 2, 3, 1],
        attempts=[4, 6, 8, 10],
        distances=[1.0, 1.1, 1.2, 1.3],
        arrivals=Arrivals([2, 3, 2, 4]),
        channel=piecewise(VALUES_5G, [(good, 20), (bad, 20)]),
        budget=5.0,
    )


def _s5() -> Scenario:
    """Four flows over a line of three nodes, each with its own budget."""
    return Scenario(
        name="S5",
        weights=[4, 3, 2, 5],
        attempts=[6, 8, 10, 12],
        distances=[[0.8, 1.0, 0.9], [1.0, 0.9, 1.1], [0.9, 1.1, 0.8], [1.1, 0.8, 1.0]],
        arrivals=Arrivals([2, 2, 3, 1]),
        channel=MarkovChannel(VALUES_5G, KERNEL_5G),
        budget=3.0,
    )


CANONICAL = {"S1": _s1, "S2": _s2, "S3": _s3, "S4": _s4, "S5": _s5}
"""The canonical scenarios by name."""


def copies(users: int) -> Scenario:
    """Return S3 repeated to so many users (a multiple of 32), its budget growing with them.

    The optimum grows in proportion as well. ``scenario("S3x64")`` is another way to name it.
    """
    if users < 1 or users % 32:
        raise ValueError(f"S3 repeats in blocks of 32 users, got {users}")
    return _s3(users)


def scenario(name: str) -> Scenario:
    """Return the scenario of a name: S1 to S5, S3xUSERS, csi:SEED:USERS, or a TOML or JSON file.

    Raises:
        ValueError: no such scenario, with the ways to name one.
    """
    if name in CANONICAL:
        return CANONICAL[name]()
    if name.startswith("S3x") and name[3:].isdecimal():
        return copies(int(name[3:]))
    if name.startswith("csi:"):
        parts = name.split(":")[1:]
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ValueError(f"an official instance is csi:SEED:USERS, such as csi:1:4; got {name}")
        return csi(int(parts[0]), int(parts[1]))
    path = Path(name)
    if not path.is_file():
        raise ValueError(
            f"no scenario {name!r}: give {', '.join(CANONICAL)}, S3xUSERS, csi:SEED:USERS or a file"
        )
    return load(path)


def load(path: Path) -> Scenario:
    """Read a scenario from a TOML or JSON file.

    Its keys: ``weights``, ``attempts``, ``distances``, ``arrivals`` (``rates``, ``kind``),
    ``channel`` (``values``, ``kernels``, ``cycle``, ``common``), and if wanted ``budget``, ``law``
    (tanh, exponential, outage), ``hidden``, ``name``.

    Raises:
        ValueError: a file that does not hold a scenario, with its name and the key.
    """
    try:
        content = {"name": path.stem, "law": "tanh", **content_of(path)}
        law = content.pop("law")
        if law not in LAWS:
            raise ValueError(f"the law is one of {', '.join(LAWS)}; got {law!r}")
        arrivals = Arrivals(**content.pop("arrivals"))
        channel = MarkovChannel(**content.pop("channel"))
        return Scenario(arrivals=arrivals, channel=channel, law=LAWS[law](), **content)
    except ValueError as problem:
        raise ValueError(f"{path} is not a scenario: {problem}") from problem
