"""What QMIX, VDN, Weighted QMIX and RES share: acting with memory, inputs, hyper-parameters.

Agents see their observation, their last action (one-hot) and their own number (one-hot). The
memory of an acting team is the hidden states and last actions; -1 is no last action.

Legend: E copies, T steps, B episodes, N agents, O observation size, I input size, U actions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from thrifty.marl.agents import AgentInputs, Agents
from thrifty.marl.episodes import EpisodeBatch
from thrifty.marl.joint_value import JointValue, Mixer, PartSparsityConfig, SparseValue
from thrifty.marl.mixers import AdditiveMixer, MonotonicMixer
from thrifty.marl.returns import n_step, soft_mellowmax, td_lambda
from thrifty.marl.team import Bools, Floats, Integers, Spec
from thrifty.sparse import TopologyUpdate

if TYPE_CHECKING:
    from thrifty.marl.compiled import CompiledTarget, CompiledValue


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    """Hyper-parameters that all the learners have."""

    mixer: Literal["qmix", "vdn"] = "qmix"
    """How individual values make the joint one: qmix (monotonic network) or vdn (sum)."""
    parameters: Literal["shared", "masked", "own"] = "shared"
    """One network for all agents, one with a mask for each agent, or one network for each. The
    ledger counts the links of every mask."""
    hidden: int = 64
    """Width of the agents' linear layer and GRU."""
    mixer_embed: int = 32
    """Embedding size of the mixer."""
    hypernet_layers: int = 2
    """Layers of the hypernetworks that make the mixer's weights: 1 or 2."""
    hypernet_hidden: int = 64
    """Width of two-layer hypernetworks."""
    last_scale: float = 0.001
    """Factor on the first weights of the hypernetworks' last layers; 1 is PyTorch's default, under
    which a raw state can start with values far beyond any return."""
    state_scale: float = 1.0
    """The mixers see the state divided by this."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """adam, or rmsprop (decay 0.99, epsilon 1e-5) as published."""
    learning_rate: float = 5e-4
    """Step size of the optimizer."""
    clip_norm: float = 10.0
    """Largest norm of the gradient of a whole network."""
    discount: float = 0.99
    """Discount per environment step."""
    batch_episodes: int = 32
    """Episodes of an update, from the whole replay."""
    recent_batch: int = 0
    """Further episodes of an update, from the newest ones alone (MAST's second buffer)."""
    recent_episodes: int = 100
    """How many episodes count as newest."""
    target_every: int = 200
    """Updates between hard copies to the target networks."""
    next_value: Literal["double", "max", "soft_mellowmax"] = "double"
    """Value of the next step: the target's at the online network's greedy actions (double), its
    own maximum, or MAST's soft mellowmax of it."""
    alpha: float = 1.0
    """Soft mellowmax: sharpness of the weights."""
    omega: float = 10.0
    """Soft mellowmax: sharpness of the mean."""
    td_lambda: float = 0.0
    """Lambda of the targets once the delay has passed; 0 is one-step."""
    correction: Literal["none", "watkins"] = "none"
    """Lambda targets of exploring teams: none looks through every step, as published; watkins cuts
    where an agent's action is not greedy any more (Retrace's trace for a greedy policy)."""
    n_step: int = 1
    """Steps of the target once the delay has passed, where td_lambda is 0."""
    long_after: int | None = None
    """Updates before targets become long (lambda or n-step); None is 3/8 of the run's for lambda
    and a tenth for n-step, or 0 outside of a run."""
    agents: PartSparsityConfig = field(default_factory=PartSparsityConfig)
    """Sparsity of the agents' networks."""
    mixing: PartSparsityConfig = field(default_factory=PartSparsityConfig)
    """Sparsity of the mixer and its hypernetworks."""
    dense_twin: tuple[int, int, int] | None = None
    """Widths (hidden, mixer_embed, hypernet_hidden) of the dense networks that the ledger compares
    with; None are this run's own."""


Value: TypeAlias = "SparseValue | CompiledValue"
Target: TypeAlias = "JointValue | CompiledTarget"


class Memory(NamedTuple):
    """What an acting team remembers."""

    hidden: Tensor
    """[E, N, H]."""
    last_action: Integers
    """[E, N]."""


class Learner:
    """The part of a learner that acts and keeps the main network; subclasses update it.

    Args:
        config: hyper-parameters.
        spec: sizes of the environment.
        seed: of first weights, masks and random growth.
    """

    name = "learner"

    def __init__(self, config: LearnerConfig, spec: Spec, *, seed: int = 0) -> None:
        check_learner(config, spec)
        self.config = config
        self.spec = spec
        self._seeds = np.random.SeedSequence(seed).generate_state(4, np.uint32).tolist()
        self.updates = 0
        self.value: Value
        self.target: Target
        self.value, self.target = self._network(self._mixer, self._seeds[0])

    def _mixer(self) -> Mixer:
        c = self.config
        if c.mixer == "vdn":
            return AdditiveMixer()
        return MonotonicMixer(
            self.spec.agents,
            self.spec.state_dim,
            embed=c.mixer_embed,
            layers=c.hypernet_layers,
            hidden=c.hypernet_hidden,
        )

    def _network(self, mixer: Callable[[], Mixer], seed: int) -> tuple[SparseValue, JointValue]:
        """Make a sparse network and its target, a masked copy."""
        c, spec = self.config, self.spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            agents = Agents(
                spec.agents, self.inputs, c.hidden, spec.actions, parameters=c.parameters
            )
            module = JointValue(agents, mixer())
        target = copy.deepcopy(module)
        value = SparseValue(
            module,
            agents=c.agents,
            mixer=c.mixing,
            optimizer=c.optimizer,
            learning_rate=c.learning_rate,
            clip_norm=c.clip_norm,
            last_scale=c.last_scale,
            tied=c.parameters == "masked",
            seed=seed,
        )
        target.load_state_dict(module.state_dict())
        return value, target.requires_grad_(False)

    def compile(self) -> None:
        """Let the engine compute updates and actions; state and links stay the reference's."""
        self.value, self.target = compiled_pair(self.value, self.target)

    # ------------------------------------------------------------------ acting

    @property
    def inputs(self) -> int:
        """Return I, the size of an agent's input."""
        return self.spec.observation_dim + self.spec.actions + self.spec.agents

    def memory(self, copies: int) -> Memory:
        """Return the memory of teams that begin an episode."""
        N = self.spec.agents
        return Memory(
            torch.zeros(copies, N, self.config.hidden), np.full((copies, N), -1, np.int64)
        )

    def forget(self, memory: Memory, chosen_E: Bools) -> None:
        """Make the memory of the chosen copies that of a beginning, in place."""
        memory.hidden[torch.from_numpy(chosen_E)] = 0.0
        memory.last_action[chosen_E] = -1

    @torch.no_grad()
    def act(
        self,
        observation_ENO: Floats,
        available_ENU: Bools,
        memory: Memory,
        *,
        epsilon: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> tuple[Integers, Memory]:
        """Choose available actions, epsilon-greedy.

        Args:
            observation_ENO: what is seen.
            available_ENU: what may be done.
            memory: from `memory` or the last call.
            epsilon: chance of each agent to act uniformly at random among what is available.
            rng: of this chance and choice; needed where epsilon is not 0.

        Returns:
            actions [E, N], and the memory after them.
        """
        E, N, _ = available_ENU.shape
        q, hidden_ENH = self.value.acting.step(
            torch.from_numpy(observation_ENO.astype(np.float32, copy=False)),
            torch.from_numpy(memory.last_action),
            memory.hidden,
        )
        q_ENU = np.where(available_ENU, q.numpy(), -np.inf)
        action_EN: Integers = q_ENU.argmax(2)
        if epsilon > 0.0:
            assert rng is not None, "exploring needs a generator"
            draws_2EN = rng.random((2, E, N))
            counts_EN = available_ENU.sum(2)
            nth_EN = (draws_2EN[1] * counts_EN).astype(np.int64)
            random_EN = (available_ENU.cumsum(2) > nth_EN[..., None]).argmax(2)
            action_EN = np.where(draws_2EN[0] < epsilon, random_EN, action_EN)
        return action_EN, Memory(hidden_ENH, action_EN)

    # ------------------------------------------------------------------ learning

    def batch_inputs(self, batch: EpisodeBatch) -> AgentInputs:
        """Return what the agents see at all T + 1 observations."""
        return AgentInputs(batch, self.spec.actions)

    def state_of(self, batch: EpisodeBatch) -> Tensor:
        """Return the states as the mixers see them, [T + 1, B, S]."""
        return batch.state / self.config.state_scale

    def next_individual(
        self, target_TBNU: Tensor, online_TBNU: Tensor, batch: EpisodeBatch
    ) -> Tensor:
        """Return every agent's value of the next step, [T, B, N], as ``next_value`` says.

        Args:
            target_TBNU: values of the target agents at all T + 1 observations.
            online_TBNU: those of the network whose greedy actions count, likewise.
            batch: for the available actions.
        """
        c, available = self.config, batch.available[1:]
        q = target_TBNU[1:]
        if c.next_value == "soft_mellowmax":
            return soft_mellowmax(q, available, c.alpha, c.omega)
        if c.next_value == "max":
            return q.masked_fill(~available, -torch.inf).max(-1).values
        greedy = greedy_actions(online_TBNU[1:], available).unsqueeze(-1)
        return q.gather(-1, greedy).squeeze(-1)

    def returns(self, value_next_TB: Tensor, online_TBNU: Tensor, batch: EpisodeBatch) -> Tensor:
        """Return the targets of this update, [T, B]: one-step, and after the delay long ones.

        Args:
            value_next_TB: values of the next step.
            online_TBNU: as for `next_individual`.
            batch: for the rewards.
        """
        c = self.config
        long = self.updates >= (c.long_after or 0)
        steps = (batch.reward, batch.terminated, batch.filled, value_next_TB, c.discount)
        if long and c.td_lambda > 0.0:
            trace_TB = None
            if c.correction == "watkins":
                trace_TB = took_greedy(online_TBNU, batch).to(batch.filled.dtype)
            return td_lambda(*steps, c.td_lambda, trace_TB)
        return n_step(*steps, c.n_step if long else 1)

    def update(self, batch: EpisodeBatch) -> tuple[dict[str, float], dict[str, TopologyUpdate]]:
        """Learn from one minibatch.

        Returns:
            numbers by name, and what moved in the topologies, by network.part.
        """
        raise NotImplementedError

    def finish_update(self) -> None:
        """Count an update, and copy to the targets where it is due."""
        self.updates += 1
        if self.updates % self.config.target_every == 0:
            for value, target in self.pairs().values():
                target.load_state_dict(value.module.state_dict())

    def pairs(self) -> dict[str, tuple[Value, Target]]:
        """Return every network with its target, by name."""
        return {"value": (self.value, self.target)}

    def dense_twin(self) -> Learner:
        """Return a dense learner of the sizes that the ledger compares with."""
        c = self.config
        hidden, embed, hypernet = c.dense_twin or (c.hidden, c.mixer_embed, c.hypernet_hidden)
        twin = replace(
            c,
            hidden=hidden,
            mixer_embed=embed,
            hypernet_hidden=hypernet,
            agents=PartSparsityConfig(),
            mixing=PartSparsityConfig(),
        )
        return type(self)(twin, self.spec)

    def plan(self, config: LearnerConfig) -> None:
        """Take over the time constants of a run that begins."""
        self.config = config
        for value, _ in self.pairs().values():
            value.plan(config.agents, config.mixing)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {
            "updates": self.updates,
            "networks": {name: value.state_dict() for name, (value, _) in self.pairs().items()},
            "targets": {
                name: dict(target.state_dict()) for name, (_, target) in self.pairs().items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state."""
        self.updates = state["updates"]
        for name, (value, target) in self.pairs().items():
            value.load_state_dict(state["networks"][name])
            target.load_state_dict(state["targets"][name])


def compiled_pair(value: Value, target: Target) -> tuple[Value, Target]:
    """Return a network and its target in the form that runs on the engine."""
    from thrifty.marl.compiled import CompiledTarget, CompiledValue  # loading Numba takes a moment

    assert isinstance(value, SparseValue)
    assert isinstance(target, JointValue)
    topologies = {name: part.topology for name, part in value.parts.items()}
    return CompiledValue(value), CompiledTarget(target, topologies)


def chosen(q_TBNU: Tensor, batch: EpisodeBatch) -> Tensor:
    """Return the values of the actions taken, [T, B, N]."""
    return q_TBNU[:-1].gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)


def greedy_actions(q_LNU: Tensor, available_LNU: Tensor) -> Tensor:
    """Return every agent's available action of highest value, int64 [..., N]."""
    return q_LNU.masked_fill(~available_LNU, -torch.inf).argmax(-1)


def took_greedy(q_TBNU: Tensor, batch: EpisodeBatch) -> Tensor:
    """Return where all agents took their greedy action, bool [T, B]."""
    greedy_TBN = greedy_actions(q_TBNU[:-1], batch.available[:-1])
    return (greedy_TBN == batch.action).all(-1)


def check_learner(config: LearnerConfig, spec: Spec) -> None:
    """Refuse hyper-parameters that cannot work.

    Raises:
        ValueError: names the field and the remedy.
    """
    for name, least in (
        ("hidden", 1),
        ("mixer_embed", 1),
        ("hypernet_hidden", 1),
        ("batch_episodes", 1),
        ("recent_batch", 0),
        ("recent_episodes", 1),
        ("target_every", 1),
        ("n_step", 1),
        ("long_after", 0),
        ("alpha", 0.0),
    ):
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    for name in ("learning_rate", "clip_norm", "omega", "last_scale", "state_scale"):
        if not getattr(config, name) > 0.0:
            raise ValueError(f"{name} must be more than 0, got {getattr(config, name)}")
    for name in ("discount", "td_lambda"):
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {getattr(config, name)}")
    if config.td_lambda > 0.0 and config.n_step > 1:
        raise ValueError(
            "td_lambda and n_step are two lengths of one target: set td_lambda=0 or n_step=1"
        )
    if config.correction != "none" and config.td_lambda == 0.0:
        raise ValueError(
            f'correction="{config.correction}" is of lambda targets: set td_lambda, or leave it out'
        )
    if config.agents.scope == "agents" and config.parameters == "shared":
        raise ValueError(
            f'scope="agents" moves links between the networks of {spec.agents} agents, but '
            'parameters="shared" gives them one: set parameters="own" or "masked"'
        )
    if config.mixing.scope == "agents":
        raise ValueError('a mixer has no agents: set mixing.scope to "layer" or "group"')
