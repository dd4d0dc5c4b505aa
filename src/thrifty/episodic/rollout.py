"""Episodes of a learner, counted: where a model is known with their exact regret.

The regret of an episode is V*_1(s_1) - V^pi_1(s_1) of the policy that played it, by exact policy
evaluation, computed anew only when the policy has changed. Without a model regret is unknown and
stays None: returns and optimistic values are then all there is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np

from thrifty.episodic.environments import Environment
from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers
from thrifty.episodic.planning import evaluate, optimal
from thrifty.episodic.simulator import new_simulator, next_state, starts


class Learner(Protocol):
    """What a learner of a finite MDP offers; `play` may be missing (then steps are interpreted)."""

    name: str
    switches: int

    def act(self, h: int, s: int) -> int:
        """Return the action of state s at stage h."""
        ...

    def observe(self, h: int, s: int, a: int, r: float, s_next: int) -> None:
        """Learn from one step."""
        ...

    def end_episode(self) -> None:
        """Note that an episode is over."""
        ...

    def values(self) -> Floats:
        """Return the optimistic V [S] of the first stage."""
        ...

    def policy(self) -> Integers:
        """Return the actions [H, S] of the present policy."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state."""
        ...


@dataclass(frozen=True)
class Block:
    """Some episodes, all played with one policy."""

    returns: Floats
    """[n], sums of rewards in [0, 1]."""
    regrets: Floats | None
    """[n], or None where no model is known."""
    values: Floats
    """[n], optimistic V_1 of the first states."""
    switched: bool
    """Whether a new plan was made before the first of them."""


class Rollout:
    """A learner on a finite MDP.

    Args:
        mdp: the truth.
        learner: learns.
        seed: decides transitions and first states.

    Raises:
        ValueError: the learner was made for an MDP of other sizes, or for features only.
    """

    def __init__(self, mdp: EpisodicMDP, learner: Learner, seed: int) -> None:
        if not hasattr(learner, "policy"):
            raise ValueError(
                f"{learner.name} sees features only, and has no table of actions: "
                "use LSVIUCB or LSVIUCBPlus for a finite MDP"
            )
        made_for = getattr(learner, "mdp", mdp)
        if isinstance(made_for, EpisodicMDP) and made_for.r.shape != mdp.r.shape:
            raise ValueError(
                f"{learner.name} was made for an MDP of [H, S, A] = {list(made_for.r.shape)}, "
                f"but {mdp.name} has {list(mdp.r.shape)}: make the learner with this MDP"
            )
        self.mdp, self.learner = mdp, learner
        self.optimum: Floats = optimal(mdp).V[0]
        self._simulator = new_simulator(mdp, seed)
        self._evaluated: Integers | None = None
        self._gap: Floats = np.zeros(mdp.S)
        self.episodes = 0

    def advance(self, count: int) -> Block:
        """Play up to `count` episodes, fewer where the policy may change in between."""
        first = starts(self.mdp, self._simulator, self.episodes, count)
        switches = self.learner.switches
        play = getattr(self.learner, "play", None)
        if play is not None:
            returns = np.asarray(play(self._simulator, self.episodes, first))
        else:
            returns = np.array([self._interpreted(int(first[0]))])
        first = first[: len(returns)]
        self.episodes += len(returns)
        return Block(
            returns,
            self.gap()[first],
            self.learner.values()[first],
            self.learner.switches != switches,
        )

    def gap(self) -> Floats:
        """Return V* - V^pi [S] of the first stage for the policy of the last episode."""
        policy = self.learner.policy()
        if self._evaluated is None or not np.array_equal(policy, self._evaluated):
            self._evaluated = policy.copy()
            # A policy as good as the best may differ from it by rounding.
            self._gap = np.maximum(self.optimum - evaluate(self.mdp, policy)[0], 0.0)
        return self._gap

    def _interpreted(self, s: int) -> float:
        total, simulator = 0.0, self._simulator
        for h in range(self.mdp.H):
            a = self.learner.act(h, s)
            r = float(self.mdp.r[h, s, a])
            s_next = int(next_state(simulator, self.episodes, h, s, a))
            self.learner.observe(h, s, a, r, s_next)
            total, s = total + r, s_next
        self.learner.end_episode()
        return total

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {"episodes": self.episodes, "learner": self.learner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state."""
        self.episodes = state["episodes"]
        self.learner.load_state_dict(state["learner"])


class FeatureLearner(Protocol):
    """What a learner offers that sees states through features only."""

    name: str
    switches: int

    def act(self, h: int, s: Any) -> int:
        """Return the action of observation s at stage h."""
        ...

    def observe(self, h: int, s: Any, a: int, r: float, s_next: Any, *, ended: bool) -> None:
        """Learn from one step."""
        ...

    def end_episode(self) -> None:
        """Note that an episode is over."""
        ...

    def first_value(self) -> float:
        """Return the optimistic V_1 at the first state of the last episode."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state."""
        ...


class FeatureRollout:
    """A learner on an environment whose model is not known: no regret.

    Args:
        environment: gives features and, where known, rewards.
        learner: learns.
        seed: decides the seeds of the episodes.

    Raises:
        ValueError: the learner was made for an environment of other sizes, or for a finite MDP.
    """

    def __init__(self, environment: Environment, learner: FeatureLearner, seed: int) -> None:
        if not hasattr(learner, "first_value"):
            raise ValueError(
                f"{learner.name} learns on the tables of a finite MDP, which {environment.name} is "
                "not: use FeatureLSVI(environment)"
            )
        made_for = getattr(learner, "environment", environment)
        sizes = [[one.H, one.A, one.d] for one in (made_for, environment)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"{learner.name} was made for an environment of [H, A, d] = {sizes[0]}, "
                f"but {environment.name} has {sizes[1]}: make the learner with this environment"
            )
        self.environment, self.learner, self._seed = environment, learner, seed
        self.episodes = 0

    def advance(self, count: int) -> Block:
        """Play one episode, whatever `count`: it is the piece of work between two safe points."""
        environment, learner = self.environment, self.learner
        switches = learner.switches
        entropy = np.random.SeedSequence([self._seed, self.episodes])
        s = environment.reset(int(entropy.generate_state(1, np.uint32)[0]))
        total = 0.0
        for h in range(environment.H):
            a = learner.act(h, s)
            outcome = environment.step(a)
            learner.observe(h, s, a, outcome.r, outcome.observation, ended=outcome.ended)
            total, s = total + outcome.r, outcome.observation
            if outcome.ended:
                total += environment.value_after_end(h + 1)
                break
        learner.end_episode()
        self.episodes += 1
        return Block(
            np.array([total]), None, np.array([learner.first_value()]), learner.switches != switches
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {"episodes": self.episodes, "learner": self.learner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state."""
        self.episodes = state["episodes"]
        self.learner.load_state_dict(state["learner"])


@dataclass(frozen=True, eq=False)
class EpisodeRun:
    """What K episodes brought."""

    returns: Floats
    """[K], sums of rewards in [0, 1]."""
    regret: Floats | None
    """Exact regret up to and with each episode [K]; None where no model is known."""
    values: Floats
    """The optimistic V_1 of the first states [K]."""
    switches: int
    """How often the learner planned anew."""


@dataclass(frozen=True, eq=False)
class JudgedRun(EpisodeRun):
    """What K episodes on a known model brought: there is a regret."""

    regret: Floats


@overload
def run_episodes(
    mdp: EpisodicMDP, learner: Learner, K: int, seed: int, *, progress: bool = True
) -> JudgedRun: ...
@overload
def run_episodes(
    mdp: Environment, learner: FeatureLearner, K: int, seed: int, *, progress: bool = True
) -> EpisodeRun: ...
def run_episodes(
    mdp: EpisodicMDP | Environment,
    learner: Learner | FeatureLearner,
    K: int,
    seed: int,
    *,
    progress: bool = True,
) -> EpisodeRun:
    """Let a learner of the expected return play K episodes.

    Args:
        mdp: a finite MDP, whose model gives the exact regret, or an environment seen by features.
        learner: made for it; goes on from where it is.
        K: episodes, at least 1.
        seed: of transitions and first states. Episodes are numbered from 0 in every call: a learner
            that goes on needs another seed, or it meets the same random numbers again.
        progress: draw a bar, on a terminal.

    Raises:
        ValueError: K is no positive integer, a negative seed, something that is no MDP, or a
            learner that was made for other sizes or weighs risk, whose regret is another one:
            see :func:`~thrifty.episodic.risk_rollout.play_episodes`.

    Example:
        >>> from thrifty.episodic.instances import river_swim
        >>> from thrifty.episodic.ucbvi import UCBVI
        >>> swim = river_swim(S=3, H=5)
        >>> run = run_episodes(swim, UCBVI(swim), K=100, seed=0, progress=False)
        >>> run.regret.shape
        (100,)
    """
    check_episodes(K)
    check_seed(seed)
    if getattr(learner, "risk_level", 1.0) < 1.0:
        raise ValueError(
            f"{learner.name} weighs risk, and run_episodes counts the regret of the mean: use "
            "thrifty.episodic.risk_rollout.play_episodes with the operator of the objective, "
            "iterated_cvar(risk_level) or worst_path of thrifty.episodic.cvar"
        )
    rollout: Any
    if isinstance(mdp, EpisodicMDP):
        rollout = Rollout(mdp, learner, seed)  # type: ignore[arg-type]
    elif hasattr(mdp, "features"):
        rollout = FeatureRollout(mdp, learner, seed)  # type: ignore[arg-type]
    else:
        raise ValueError(
            f"{type(mdp).__name__} is neither an EpisodicMDP nor seen through features: "
            "use from_gymnasium(env, horizon) or FeatureEnvironment(env, phi, horizon)"
        )
    returns, values, regrets = np.empty(K), np.empty(K), np.zeros(K)
    with ExitStack() as stack:
        advanced = stack.enter_context(_bar(K)) if progress else None
        while rollout.episodes < K:
            first = rollout.episodes
            block = rollout.advance(min(1000, K - first))
            here = slice(first, rollout.episodes)
            returns[here], values[here] = block.returns, block.values
            if block.regrets is not None:
                regrets[here] = block.regrets
            if advanced is not None:
                advanced.update(advanced.task_ids[0], completed=rollout.episodes)
    if isinstance(mdp, EpisodicMDP):
        return JudgedRun(returns, np.cumsum(regrets), values, learner.switches)
    return EpisodeRun(returns, None, values, learner.switches)


def check_episodes(K: object) -> None:
    """Refuse a number of episodes that cannot be played.

    Raises:
        ValueError: K is no integer of at least 1.
    """
    if not isinstance(K, int | np.integer) or isinstance(K, bool) or K < 1:
        raise ValueError(
            f"K, the number of episodes (steps), must be an integer of at least 1, got {K!r}"
        )


def check_seed(seed: object) -> None:
    """Refuse what is no seed.

    Raises:
        ValueError: it is no integer of at least 0.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"the seed must be an integer of at least 0, got {seed!r}")


def _bar(K: int) -> Any:
    """A progress bar on standard error; nothing where that is no terminal."""
    from rich.console import Console  # a learner in a loop of one's own needs no terminal
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty())
    bar.add_task("episodes", total=K)
    return bar
