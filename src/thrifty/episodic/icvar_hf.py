"""ICVaR-HF: iterated-CVaR reinforcement learning from comparisons of trajectories.

Chen, Du, Hu, Wang, Wu and Huang (ICLR 2024, arXiv 2307.02842). The reward is not known; after an
episode, annotators say which of two trajectories has the larger sum of rewards. Before an episode
the learner takes the reward in its confidence set (and the transitions in theirs) whose optimistic
value, less the reward of the compared trajectory, is largest, and plays the best policy for it:

    (r, P, pi) = argmax V_1^pi(P, r) - r(tau_0).

The paper gives no tractable form. Ours: rewards linear in known features with the logistic
maximum-likelihood estimate and its ellipsoid (:mod:`thrifty.episodic.reward_model`); the maximum is
taken over the centre and points drawn on the surface of the ellipsoid, each planned for exactly.
Transitions are known, or ICVaR-G's on a finite class.

Where we differ. (1) The set is an ellipsoid around the estimate, not the set of near-maximal
likelihood, and its radius is a parameter; with a regulariser of 1 and a radius of 1 it holds every
|w| <= 1 at the start. (2) tau_0 is the first trajectory
(``reference="fixed"``; the paper's choice could not be verified), or the one with the largest
estimated reward so far (``"best"``). (3) Comparisons are scaled by 1/H: the slope of the sigmoid at
H is e^-H / 4 otherwise, and the bounds grow by its inverse. (4) A query is asked only if the set
still disagrees about it: 2 radius |X|_{Hess^-1} > threshold; of people also only if these two clips
have not been asked about, for a second answer to them is no independent label (``distinct``).
(5) Plans are made when log det Hess has grown by log 1.5, the reference has changed, or the
transitions' sets have shrunk.

| symbol | meaning |
|---|---|
| H, S, A, d | stages, states, actions, features of rewards |
| m | annotators, hence labels, per query |
| X | F(tau) - F(tau_0): sum of features of a trajectory less that of the compared one |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numba import njit

from thrifty.episodic.cvar import check_risk_level
from thrifty.episodic.icvar_g import ICVaRG
from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers, once
from thrifty.episodic.preferences import Change, Clip, Query, Source
from thrifty.episodic.regression import first_best
from thrifty.episodic.reward_model import RewardModel, clip_features, plausible_reward
from thrifty.episodic.visit_counts import tail_mean

Reference = Literal["fixed", "best"]

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}


class ICVaRHF:
    """ICVaR-HF on a finite MDP whose rewards are linear in known features of (s, a).

    Args:
        mdp: gives sizes and, unless ``transitions`` are learned, the kernel; r is not looked at.
        features: f [S, A, d].
        source: where queries go and labels come from.
        risk_level: alpha in (0, 1].
        transitions: ICVaR-G on the same MDP at the same risk level, or None for known transitions.
        radius: of the ellipsoid, at least 0.
        candidates: points drawn on it for a plan, at least 1.
        scale: of comparisons, above 0; None is 1/H.
        regulariser: of the estimate, above 0.
        reference: what trajectories are compared with: the first one, or the best so far.
        annotators: m, how many have to answer a query.
        queue: no query is asked while so many wait for answers.
        threshold: no query is asked about which the set disagrees by less.
        distinct: ask about two clips once only, besides repetitions: for people.
        repeat_every: every so many queries one is shown again, to test annotators; 0 for never.
        seed: of the points on the ellipsoid and of the queries that are repeated.

    Raises:
        ValueError: a number out of its range, or parts that do not fit.
    """

    name = "icvar_hf"

    def __init__(
        self,
        mdp: EpisodicMDP,
        features: Floats,
        source: Source,
        *,
        risk_level: float,
        transitions: ICVaRG | None = None,
        radius: float = 1.0,
        candidates: int = 16,
        scale: float | None = None,
        regulariser: float = 1.0,
        reference: Reference = "fixed",
        annotators: int = 1,
        queue: int = 10,
        threshold: float = 0.0,
        distinct: bool = False,
        repeat_every: int = 0,
        seed: int = 0,
    ) -> None:
        features = np.asarray(features, dtype=np.float64)
        if features.shape[:2] != (mdp.S, mdp.A) or features.ndim != 3 or not features.size:
            raise ValueError(
                f"features must be [S, A, d] with S={mdp.S}, A={mdp.A}, d at least 1, not "
                f"{list(features.shape)}"
            )
        if not np.isfinite(features).all():
            raise ValueError("features must be finite")
        for name, value in (("radius", radius), ("threshold", threshold)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be finite and at least 0, got {value}")
        for name, count in (
            ("candidates", candidates),
            ("annotators", annotators),
            ("queue", queue),
        ):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if reference not in ("fixed", "best"):
            raise ValueError(f"reference must be fixed or best, got {reference!r}")
        if repeat_every < 0:
            raise ValueError(f"repeat_every must be at least 0, got {repeat_every}")
        self.mdp, self.source, self.risk_level = mdp, source, check_risk_level(risk_level)
        if transitions is not None and (
            transitions.mdp is not mdp or transitions.risk_level != risk_level
        ):
            raise ValueError("transitions must be learned on the same MDP at the same risk_level")
        self.features, self.transitions, self.radius = features, transitions, radius
        self.reference_rule, self.annotators, self.queue = reference, annotators, queue
        self.candidates, self.threshold, self.repeat_every = candidates, threshold, repeat_every
        self.distinct = distinct
        self.model = RewardModel(
            features.shape[2],
            scale=1.0 / mdp.H if scale is None else scale,
            regulariser=regulariser,
        )
        self.reference: Clip | None = None
        self.episodes = self.switches = 0
        self._P = np.ascontiguousarray(once(mdp.P))
        self._first = mdp.initial_distribution
        self._seed = seed
        self._queries: list[Query] = []
        self._steps: list[tuple[int, int]] = []
        self._losses = np.zeros(2)  # sum over the labels as they came, and their number
        self._due, self._fitted, self._growth = True, True, self.model.growth()
        self._V = np.zeros((mdp.H + 1, mdp.S))
        self._policy = np.zeros((mdp.H, mdp.S), np.int64)

    def collect(self) -> None:
        """Take in the labels that are new."""
        self._take(self.source.collect(self.episodes))

    def _take(self, changes: list[Change]) -> None:
        for change in changes:
            query = self._queries[change.query]
            if query.repeat_of is None:
                X = self._difference(query.A, query.B)
                if change.labels > 0:
                    loss = self.model.loss(X, change.outcome)
                    self._losses += change.labels * loss, change.labels
                self.model.add(X, change.outcome, count=change.labels)
                self._fitted = False

    @property
    def log_loss(self) -> float | None:
        """Return the mean loss of predicting each label before it was learned from, in nats.

        Guessing has log 2 = .693; None before the first label.
        """
        total, count = self._losses
        return float(total / count) if count else None

    @property
    def queries(self) -> int:
        """Return how many queries have been asked."""
        return len(self._queries)

    @property
    def blocked(self) -> bool:
        """Tell whether to wait for answers: the queue is full, or the last episode asked nothing.

        The latter counts for distinct queries only, which may run out before the queue is full.
        """
        waiting = self._waiting()
        asked = bool(self._queries) and self._queries[-1].episode == self.episodes - 1
        return waiting >= self.queue or (self.distinct and waiting > 0 and not asked)

    def _waiting(self) -> int:
        return self.source.waiting(len(self._queries), self.annotators)

    def prepare(self) -> bool:
        """Plan before an episode if that is due; tell whether it was."""
        self.collect()
        grown = abs(self.model.growth() - self._growth) >= math.log(1.5)  # labels can be taken back
        learned = self.transitions is not None and bool(self.transitions.tables.due[0])
        if not (self._due or grown or learned):
            return False
        if not self._fitted:
            self.model.fit()
            self._fitted = True
        self._growth, self._due = self.model.growth(), False
        self._plan()
        self.switches += 1
        return True

    def _plan(self) -> None:
        """Plan for the centre and for points on the ellipsoid, and take the most hopeful."""
        rng = np.random.default_rng([self._seed, 0, self.switches])
        parameters = self.model.candidates(self.candidates, self.radius, rng)
        rewards = np.stack([plausible_reward(w, self.features) for w in parameters])
        worth = np.zeros(len(rewards))  # of the compared trajectory
        if self.reference is not None:
            states, actions = list(self.reference.states), list(self.reference.actions)
            worth = rewards[:, states, actions].sum(1)
        stages = (self.mdp.H, self.mdp.S, self.mdp.A)
        if self.transitions is None:
            values, policies = _plans(self._P, rewards, self.mdp.H, self.risk_level)
            best = int(np.argmax(values[:, 0] @ self._first - worth))
            self._V, self._policy = values[best], policies[best]
            return
        hopes = np.empty(len(rewards))
        for number, r in enumerate(rewards):
            self.transitions.plan(np.broadcast_to(r, stages).copy())
            hopes[number] = self._first @ self.transitions.tables.V[0] - worth[number]
        self.transitions.plan(np.broadcast_to(rewards[int(np.argmax(hopes))], stages).copy())
        self._V = self.transitions.tables.V.copy()
        self._policy = self.transitions.tables.policy.copy()

    def act(self, h: int, s: int) -> int:
        """Return the action of state s at stage h; an episode begins with h = 0."""
        if h == 0:
            self.prepare()
        return int(self._policy[h, s])

    def observe(self, h: int, s: int, a: int, r: float, s_next: int) -> None:
        """Learn from one step of the episode; the reward is not looked at."""
        self._steps.append((s, a))
        if self.transitions is not None:
            self.transitions.observe(h, s, a, r, s_next)

    def end_episode(self) -> None:
        """Ask about the trajectory."""
        states, actions = zip(*self._steps, strict=True)
        clip, self._steps = Clip(states, actions), []
        if self.reference is None:
            self.reference, self._due = clip, True
        else:
            self._ask(clip, self.reference)
            if self.reference_rule == "best":
                gain = float(self.model.w @ self._difference(clip, self.reference))
                if gain > 0.0:
                    self.reference, self._due = clip, True
        self.episodes += 1

    def _ask(self, clip: Clip, reference: Clip) -> None:
        X = self._difference(clip, reference)
        doubt = 2.0 * self.radius * self.model.width(X)
        if not X.any() or doubt < self.threshold or self._waiting() >= self.queue:
            return
        if self.distinct and any({q.A, q.B} == {clip, reference} for q in self._queries):
            return
        self._send(Query(len(self._queries), self.episodes, clip, reference))
        if self.repeat_every and len(self._queries) % self.repeat_every == 0:
            rng = np.random.default_rng([self._seed, 1, len(self._queries)])
            first = [query for query in self._queries if query.repeat_of is None]
            again = first[int(rng.integers(len(first)))]
            self._send(Query(len(self._queries), self.episodes, again.A, again.B, again.number))

    def _send(self, query: Query) -> None:
        self._queries.append(query)
        self._take(self.source.ask(query))

    def _difference(self, A: Clip, B: Clip) -> Floats:
        return clip_features(self.features, A) - clip_features(self.features, B)

    def values(self) -> Floats:
        """Return V [S] of the first stage under the reward chosen last, least reward 0.

        It is no bound for the true V_1, since comparisons tell rewards up to a constant only.
        """
        return np.asarray(self._V[0])

    def policy(self) -> Integers:
        """Return the actions [H, S], as last planned."""
        return self._policy

    def estimated_policy(self) -> Integers:
        """Return the best actions [H, S] for the estimated reward, without hope in what is unsure.

        Learned transitions keep theirs. Nothing that affects the future changes.
        """
        model = RewardModel(
            len(self.model.w), scale=self.model.scale, regulariser=self.model.regulariser
        )
        model.load_state_dict(self.model.state_dict())
        model.fit()
        r = plausible_reward(model.w, self.features)
        if self.transitions is None:
            return np.asarray(_plans(self._P, r[None], self.mdp.H, self.risk_level)[1][0])
        stages = (self.mdp.H, self.mdp.S, self.mdp.A)
        return self.transitions.policy_for(np.broadcast_to(r, stages).copy())

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future; complete between two episodes."""
        return {
            "model": self.model.state_dict(),
            "transitions": None if self.transitions is None else self.transitions.state_dict(),
            "reference": None if self.reference is None else _numbers(self.reference),
            "queries": np.array(
                [
                    (
                        query.episode,
                        -1 if query.repeat_of is None else query.repeat_of,
                        *_numbers(query.A),
                        *_numbers(query.B),
                    )
                    for query in self._queries
                ],
                dtype=np.int64,
            ).reshape(-1, 2 + 4 * self.mdp.H),
            "losses": self._losses.copy(),
            "episodes": self.episodes,
            "switches": self.switches,
            "due": self._due,
            "fitted": self._fitted,
            "growth": self._growth,
            "V": self._V.copy(),
            "policy": self._policy.copy(),
            "position": self.source.position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to other sizes, or the label file has lost labels since.
        """
        if state["policy"].shape != self._policy.shape:
            raise ValueError(
                f"the state is of an MDP with H, S = {state['policy'].shape}, not "
                f"{self._policy.shape}: build the learner with the settings of its run"
            )
        self.model.load_state_dict(state["model"])
        if self.transitions is not None:
            self.transitions.load_state_dict(state["transitions"])
        self.reference = None if state["reference"] is None else _clip(state["reference"])
        self._queries = []
        for episode, repeat_of, *numbers in state["queries"].tolist():
            middle = len(numbers) // 2
            A, B = _clip(numbers[:middle]), _clip(numbers[middle:])
            again = None if repeat_of < 0 else repeat_of
            self._queries.append(Query(len(self._queries), episode, A, B, again))
        self.episodes, self.switches = state["episodes"], state["switches"]
        self._due, self._fitted, self._growth = state["due"], state["fitted"], state["growth"]
        self._V, self._policy = state["V"].copy(), state["policy"].copy()
        self._steps, self._losses = [], np.array(state["losses"])
        self.source.rewind(state["position"])


def _numbers(clip: Clip) -> list[int]:
    return [*clip.states, *clip.actions]


def _clip(numbers: Sequence[int]) -> Clip:
    middle = len(numbers) // 2
    return Clip(tuple(numbers[:middle]), tuple(numbers[middle:]))


@njit(**_COMPILE)
def _plans(P, rewards, H, alpha):
    """Return V [M, H+1, S] and policies [M, H, S] for rewards [M, S, A], exactly."""
    M, S, A = rewards.shape
    V = np.zeros((M, H + 1, S))
    policy = np.zeros((M, H, S), np.int64)
    Q = np.empty(A)
    for m in range(M):
        for h in range(H - 1, -1, -1):
            g, order = 0 if P.shape[0] == 1 else h, np.argsort(V[m, h + 1])
            for s in range(S):
                for a in range(A):
                    tail = tail_mean(P[g, s, a], 1.0, V[m, h + 1], order, alpha)
                    Q[a] = rewards[m, s, a] + tail
                policy[m, h, s], V[m, h, s] = first_best(Q)
    return V, policy
