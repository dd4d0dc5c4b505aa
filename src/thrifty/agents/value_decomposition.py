"""The teams by their algorithms: QMIX, VDN, WQMIX, RES."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from thrifty.agents.team import TeamAgent, TeamEnvironment
from thrifty.marl import PartSparsityConfig, QMIXConfig, RESConfig, TeamConfig, WQMIXConfig
from thrifty.runs.configuration import from_json, to_json

TopologyName = Literal["rigl", "set", "static"]
TrickName = Literal["mast", "none"]
BackendName = Literal["auto", "reference", "engine"]

# MAST's three; the soft value of the next step is not for RES, which has a softmax of its own.
_MAST: Mapping[str, Any] = {
    "td_lambda": 0.6,
    "next_value": "soft_mellowmax",
    "batch_episodes": 24,
    "recent_batch": 8,
}


class _ValueDecomposition(TeamAgent):
    """What the four constructors have in common.

    Args:
        env: name of a multi-agent environment (skirmish, smax-3m, ...), or a function
            (copies, seed) -> Team.
        learning_rate: of Adam.
        buffer_size: largest number of episodes.
        batch_size: episodes of an update; with ``tricks="mast"`` a quarter of them newest ones.
        gamma: discount per step.
        train_freq: environment steps, all copies together, per update.
        target_update_interval: updates between copies to the target networks.
        sparsity: fraction of zero weights of every network, in [0, 1).
        topology: how links move: "rigl" (by gradient), "set" (at random), "static" (not at all).
        tricks: "mast" (lambda targets, soft mellowmax, two buffers) or "none".
        policy_kwargs: fields of the algorithm's configuration, such as ``hidden``,
            ``mixer_embed``, ``last_scale``, ``parameters``.
        n_envs: copies of the environment.
        backend: what runs the updates: "engine" (compiled, on the links alone), "reference"
            (masked, dense) or "auto", the engine wherever it is faster.
        seed: everything random derives from it.
    """

    _algorithm: type[QMIXConfig | WQMIXConfig | RESConfig] = QMIXConfig
    _fixed: Mapping[str, Any] = {}

    def __init__(
        self,
        env: TeamEnvironment,
        *,
        learning_rate: float = 5e-4,
        buffer_size: int = 5000,
        batch_size: int = 32,
        gamma: float = 0.99,
        train_freq: int = 64,
        target_update_interval: int = 200,
        sparsity: float = 0.9,
        topology: TopologyName = "rigl",
        tricks: TrickName = "mast",
        policy_kwargs: Mapping[str, Any] | None = None,
        n_envs: int = 16,
        backend: BackendName = "auto",
        seed: int = 0,
    ) -> None:
        if backend not in ("auto", "reference", "engine"):
            raise ValueError(f"unknown backend {backend!r}; choose auto, reference or engine")
        if topology not in ("rigl", "set", "static"):
            raise ValueError(f"unknown topology {topology!r}; choose rigl, set or static")
        if tricks not in ("mast", "none"):
            raise ValueError(f"unknown tricks {tricks!r}; choose mast or none")
        part = PartSparsityConfig(
            sparsity=sparsity,
            grow="random" if topology == "set" else "gradient",
            update_until=0 if topology == "static" else None,
        )
        fields: dict[str, Any] = {
            "learning_rate": learning_rate,
            "batch_episodes": batch_size,
            "discount": gamma,
            "target_every": target_update_interval,
            "agents": part,
            "mixing": part,
        }
        if tricks == "mast":
            recent = batch_size // 4
            fields |= {**_MAST, "batch_episodes": batch_size - recent, "recent_batch": recent}
            if self._algorithm is RESConfig:
                del fields["next_value"]
        given = dict(policy_kwargs or {})
        unknown = sorted(set(given) - set(self._algorithm.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"policy_kwargs has unknown keys {unknown}; it takes "
                f"{', '.join(self._algorithm.__dataclass_fields__)}"
            )
        algorithm = self._algorithm(**fields | dict(self._fixed) | given)
        config = TeamConfig(
            environment=env if isinstance(env, str) else getattr(env, "__name__", "team"),
            environments=n_envs,
            train_every=train_freq,
            replay_episodes=buffer_size,
            evaluate_every=0,
            backend=backend,
            # Types and words are checked as those of a stored configuration are.
            algorithm=from_json(self._algorithm, to_json(algorithm)),
        )
        super().__init__(env, config, seed)


class QMIX(_ValueDecomposition):
    """Sparse QMIX (MAST by default); arguments as for all teams.

    Example:
        >>> team = QMIX("skirmish", n_envs=2)
        >>> actions, memory = team.predict(np.zeros((3, 24)))
        >>> actions.shape
        (3,)

    Reference: Rashid et al. (2018); MAST (Hu et al., NeurIPS 2024).
    """


class VDN(_ValueDecomposition):
    """Sparse VDN: the joint value is the sum of the individual ones.

    Reference: Sunehag et al. (2017).
    """

    _fixed: Mapping[str, Any] = {"mixer": "vdn"}


class WQMIX(_ValueDecomposition):
    """Sparse Weighted QMIX; ``policy_kwargs={"weighting": "central"}`` is CW-QMIX, else OW-QMIX.

    Reference: Rashid et al. (2020).
    """

    _algorithm = WQMIXConfig


class RES(_ValueDecomposition):
    """Sparse QMIX with RES's softmax target and return regulariser.

    Reference: Pan et al. (2021).
    """

    _algorithm = RESConfig
