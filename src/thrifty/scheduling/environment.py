"""The scheduling problem as a Gymnasium environment, single and vectorised.

The classes share one face, :class:`Face`, which turns observations into arrays and actions into
energies; the problem itself is in ``queueing.py``.
"""

from __future__ import annotations

import operator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from thrifty.scheduling.channels import MarkovChannel
from thrifty.scheduling.queueing import Queues, Sight, Slot
from thrifty.scheduling.scenarios import Scenario, scenario
from thrifty.scheduling.sight import sight_of

Floats = NDArray[np.float64]
Observation = NDArray[np.float32]
Action = NDArray[np.floating[Any]]

_LARGEST = 2.0**24  # packets in a cell: single precision counts exactly up to here
_SLACK = 1e-5  # of the box [-1, 1], for single precision


class Face:
    """Observations, actions and rewards of M environments of one scenario.

    Args:
        scenario: or its name.
        environments: M.
        sight: what is seen of the channel, or its word; left out it is the scenario's own.
        multiplier: price of energy in the reward, one number or one for each node [H].
        pure_throughput: reward without the price.
        start: as in :class:`~thrifty.scheduling.queueing.Queues`.
        clock: as there.
    """

    def __init__(
        self,
        scenario_: Scenario | str,
        environments: int,
        *,
        sight: Sight | str | None,
        multiplier: Any,
        pure_throughput: bool,
        start: str,
        clock: int | None,
    ) -> None:
        self.scenario = scenario(scenario_) if isinstance(scenario_, str) else scenario_
        if sight is None:
            sight = "own"
        self.sight = sight_of(sight, self.scenario) if isinstance(sight, str) else sight
        self.queues = Queues(
            self.scenario,
            _whole("num_envs", environments),
            sight=self.sight,
            start=start,
            clock=None if clock is None else _whole("clock", clock),
        )
        cells = np.flatnonzero(self.scenario.cells)
        self._cells = cells
        self._energy = np.zeros(self.queues.queue.shape)
        self._pure = pure_throughput
        self.default_multiplier = self._prices(multiplier)
        self.multiplier = self.default_multiplier
        """Of the episode, for each environment and node [M, H]."""
        channel = self.scenario.channel
        links = 0 if self.sight.kind == "hidden" else self.scenario.flows * self.scenario.hops
        cyclic = isinstance(channel, MarkovChannel) and channel.period > 1 and self.sight.phase
        self._cyclic = cyclic
        waves = 2 if cyclic else 0
        size = len(cells) + links + waves
        low, high = np.zeros((2, size), dtype=np.float32)
        high[: len(cells)] = _LARGEST
        high[len(cells) : len(cells) + links] = channel.states - 1
        low[size - waves :], high[size - waves :] = (-1.0, 1.0) if waves else (0.0, 0.0)
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (len(cells),), dtype=np.float32)

    def reset(self, seed: int, options: dict[str, Any] | None) -> None:
        """Start an episode; ``options`` as in :meth:`priced`."""
        self.multiplier = self.priced(options)
        self.queues.reset(seed)

    def priced(self, options: dict[str, Any] | None) -> Floats:
        """Return the multiplier of an episode with these options [M, H].

        Args:
            options: may hold ``multiplier``: one number, one for each node [H], for each
                environment [M], or for both [M, H].

        Raises:
            ValueError: another option, or a multiplier that is none.
        """
        unknown = set(options or {}) - {"multiplier"}
        if unknown:
            raise ValueError(f"unknown reset options {', '.join(sorted(unknown))}: give multiplier")
        told = (options or {}).get("multiplier")
        return self.default_multiplier if told is None else self._prices(told, by_environment=True)

    def observation(self) -> Observation:
        """Return what is seen now [M, D], in an array of its own."""
        queues = self.queues
        environments = queues.environments
        seen = np.empty((environments, *(self.observation_space.shape or ())), dtype=np.float32)
        count = len(self._cells)
        seen[:, :count] = queues.queue.reshape(environments, -1)[:, self._cells]
        channel = queues.view().channel
        if channel is not None:
            links = channel.reshape(environments, -1)
            seen[:, count : count + links.shape[1]] = links
        if self._cyclic:
            angle = 2 * np.pi * queues.phase / self.scenario.channel.period
            seen[:, -2], seen[:, -1] = np.sin(angle), np.cos(angle)
        return seen

    def step(self, actions: Action) -> tuple[Slot, Floats]:
        """Play a slot with actions [M, cells] in [-1, 1]; return what it brought, and the rewards.

        Raises:
            ValueError: actions of another shape, outside the box, or not numbers.
        """
        environments, count = self.queues.environments, len(self._cells)
        actions = np.asarray(actions)
        if actions.shape != (environments, count):
            raise ValueError(
                f"an action has {count} numbers, one for each cell; got the shape "
                f"{actions.shape} for {environments} environments"
            )
        lowest, highest = float(actions.min()), float(actions.max())
        if not (lowest >= -1 - _SLACK and highest <= 1 + _SLACK):
            raise ValueError(
                f"actions must lie in [-1, 1], got {lowest:g} to {highest:g}: clip them"
            )
        energy = np.clip((actions + 1.0) * 0.5, 0.0, 1.0)
        self._energy.reshape(environments, -1)[:, self._cells] = energy
        slot = self.queues.step(self._energy)
        reward = slot.throughput.astype(np.float64)
        if not self._pure:
            reward = reward - (slot.energy * self.multiplier).sum(axis=1)
        return slot, reward

    def _prices(self, multiplier: Any, *, by_environment: bool = False) -> Floats:
        many, hops = self.queues.environments, self.scenario.hops
        ways = ["one number >= 0", f"one for each of {hops} nodes"]
        shapes: list[tuple[int, ...]] = [(), (1,), (hops,)]
        if by_environment and many > 1:
            ways += [f"one for each of {many} environments", f"the shape {(many, hops)} for both"]
            shapes += [(many,), (many, hops)]
        try:
            given = np.asarray(multiplier, dtype=np.float64)
            fits = given.shape in shapes and bool(np.all(np.isfinite(given) & (given >= 0)))
        except (ValueError, TypeError):
            fits = False
        if not fits:
            raise ValueError(f"a multiplier is {', '.join(ways)}; got {multiplier!r}")
        if given.shape == (many,) == (hops,) and by_environment and many > 1:
            raise ValueError(
                f"{many} multipliers are one for each node or one for each environment: "
                f"give the shape {(many, hops)}"
            )
        if by_environment and given.shape == (many,):
            given = given[:, None]
        return np.broadcast_to(given, (many, hops)).copy()


class DelayConstrainedScheduling(gym.Env[Observation, Action]):
    """Scheduling of many users' packets under deadlines and an average energy budget.

    F flows (users) hold packets with deadlines. In each slot the scheduler gives every packet an
    energy; the packet gets through with a probability that depends on it and on the state of its
    channel. A delivered packet earns its flow's weight, an expired one nothing. Order within a
    slot: send and charge, deliver, expire, arrive, move channels (``thrifty.scheduling.queueing``).

    **Observation** (``float32``): number of packets in each cell (flow, hop, slots left after this
    one), cells in that order; then, unless the channel is hidden, the state of each link (flow,
    hop) as an index, 0 is best, with ``sight`` deciding whether it is delayed or noisy; then, where
    the channel has a cycle and its phase is seen, sine and cosine of the phase.
    A packet with K attempts is first seen in the cell of K - 1 slots left.

    **Action** (``float32`` in [-1, 1], one for each cell): the energy (a + 1) / 2 in [0, 1], in
    units of the largest energy of one attempt, that *each* packet of the cell is sent with.

    **Reward**: weighted throughput minus multiplier times energy, of one slot; with
    ``pure_throughput`` the weighted throughput alone. The multiplier (weight per unit of energy,
    one number or one for each node) can be set for an episode by
    ``reset(options={"multiplier": ...})``; a reset's info says it (``multiplier`` [H]).

    **Info**: ``throughput`` (weight per slot), ``energy`` (all nodes), ``cost`` (the same number:
    what a constrained learner keeps below the budget per slot), ``energy_of_node`` [H],
    ``delivered``, ``missed`` and ``arrived`` (packets of each flow [F]).

    **Episode**: ``slots`` slots, then truncated; it never terminates.

    ``gymnasium.make`` knows it once ``thrifty.scheduling`` is imported, and imports that itself
    where the name says so:
    ``gymnasium.make("thrifty.scheduling:thrifty/DelayConstrainedScheduling-v0", scenario="S1")``.

    Args:
        scenario: a :class:`~thrifty.scheduling.scenarios.Scenario` or its name (S1 to S5,
            S3xUSERS, csi:SEED:USERS, a file).
        slots: of an episode.
        sight: a :class:`~thrifty.scheduling.queueing.Sight` or its word, such as "hidden" or
            "delayed:3" (see :func:`~thrifty.scheduling.sight.sight_of`); by default full, hidden
            for a scenario that says so.
        multiplier: used unless an episode says otherwise.
        pure_throughput: leave the price of energy out of the reward.
        start: "stationary" or "uniform" (channels of the first slot; queues start empty).
        clock: slot of the cycle or of the record to start in; random (or 0) if left out.

    Example:
        >>> env = DelayConstrainedScheduling("S1")
        >>> observation, info = env.reset(seed=0)
        >>> observation.shape, env.action_space.shape
        ((26,), (22,))
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - the type that Gymnasium declares

    def __init__(
        self,
        scenario: Scenario | str = "S1",
        *,
        slots: int = 100,
        sight: Sight | str | None = None,
        multiplier: Any = 0.0,
        pure_throughput: bool = False,
        start: str = "stationary",
        clock: int | None = None,
    ) -> None:
        self.slots = _whole("slots", slots, least=1)
        self._face = Face(
            scenario, 1, sight=sight, multiplier=multiplier, pure_throughput=pure_throughput,
            start=start, clock=clock,
        )  # fmt: skip
        self.scenario = self._face.scenario
        self.observation_space = self._face.observation_space
        self.action_space = self._face.action_space
        self._slot = self.slots

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Raises:
            ValueError: an unknown option or a bad multiplier; the episode under way goes on.
        """
        self._face.priced(options)  # before the generator is touched
        super().reset(seed=seed)
        self._face.reset(_seed(seed, self.np_random), options)
        self._slot = 0
        return self._face.observation()[0], {"multiplier": self._face.multiplier[0].copy()}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Play one slot.

        Raises:
            ValueError: an action outside the box.
            gymnasium.error.ResetNeeded: the episode is over.
        """
        if self._slot >= self.slots:
            raise gym.error.ResetNeeded("the episode is over: call reset")
        slot, reward = self._face.step(np.asarray(action)[None])
        self._slot += 1
        info = {name: one[0] for name, one in _info(slot).items()}
        for name in ("throughput", "energy", "cost"):
            info[name] = float(info[name])
        ended = self._slot >= self.slots
        return self._face.observation()[0], float(reward[0]), False, ended, info


class VectorScheduling(VectorEnv[Observation, Action, Any]):
    """M :class:`DelayConstrainedScheduling` environments in one call.

    They share the episode's clock: all are truncated together, and the step after that resets them
    (``AutoresetMode.NEXT_STEP``: its action is ignored, its reward is 0). The seed of a reset is
    one integer for all; their random numbers differ. Info holds arrays with M first. The multiplier
    of ``reset(options=)`` may differ between them, [M] or [M, H].

    Args:
        num_envs: M.
        scenario: see :class:`DelayConstrainedScheduling`, as for all others.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        scenario: Scenario | str = "S1",
        *,
        slots: int = 100,
        sight: Sight | str | None = None,
        multiplier: Any = 0.0,
        pure_throughput: bool = False,
        start: str = "stationary",
        clock: int | None = None,
    ) -> None:
        self.slots = _whole("slots", slots, least=1)
        self._face = Face(
            scenario, num_envs, sight=sight, multiplier=multiplier,
            pure_throughput=pure_throughput, start=start, clock=clock,
        )  # fmt: skip
        self.num_envs = num_envs
        self.scenario = self._face.scenario
        self.single_observation_space = self._face.observation_space
        self.single_action_space = self._face.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._slot = self.slots

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start all episodes; ``options`` (the multiplier) hold until the next reset by hand.

        Raises:
            ValueError: a list of seeds, an unknown option or a bad multiplier; the episodes under
                way go on.
        """
        if isinstance(seed, list):
            raise ValueError("these environments share one seed: give one integer")
        self._face.priced(options)  # before the generator is touched
        super().reset(seed=seed)
        self._face.reset(_seed(seed, self.np_random), options)
        self._slot = 0
        return self._face.observation(), {"multiplier": self._face.multiplier.copy()}

    def step(
        self, actions: Action
    ) -> tuple[Observation, Floats, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Play one slot in every environment, or reset them all after their last.

        Raises:
            ValueError: an action outside the box.
        """
        none = np.zeros(self.num_envs, dtype=np.bool_)
        if self._slot >= self.slots:
            self._face.queues.reset(_seed(None, self.np_random))
            self._slot = 0
            info = {"multiplier": self._face.multiplier.copy()}
            return self._face.observation(), np.zeros(self.num_envs), none, none.copy(), info
        slot, reward = self._face.step(actions)
        self._slot += 1
        ended = np.full(self.num_envs, self._slot >= self.slots)
        return self._face.observation(), reward, none, ended, _info(slot)


def _whole(name: str, value: Any, least: int = 0) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return number


def _seed(seed: int | None, generator: np.random.Generator) -> int:
    return int(generator.integers(2**63)) if seed is None else seed


def _info(slot: Slot) -> dict[str, Any]:
    energy = slot.energy.sum(axis=1)
    return {
        "throughput": slot.throughput,
        "energy": energy,
        "cost": energy,
        "energy_of_node": slot.energy,
        "delivered": slot.delivered.copy(),
        "missed": slot.missed.copy(),
        "arrived": slot.arrived,
    }
