"""MAST: sparse multi-agent value learning (Hu et al., NeurIPS 2024), and what it is compared with.

| recipe | topology | value and data tricks |
|---|---|---|
| mast (= rigl with tricks="mast") | evolves, grown by gradient | MAST's three |
| rlx2 (= rigl with tricks="rlx2") | evolves, grown by gradient | RLx2's delayed n-step targets |
| rigl, set, static | evolves by gradient, at random, not at all | ``tricks``, by default none |
| tiny | dense, as many weights as the sparse twin has links | ``tricks`` |
| dense | dense | ``tricks`` |

``tricks`` is none, rlx2, mast, or one of MAST's.

MAST's three tricks, each also alone: ``td_lambda`` (lambda targets after 3/8 of the run),
``soft_mellowmax`` (in place of the maximum in targets), ``dual_buffers`` (24 + 8 episodes, the 8
from the newest 100). RLx2's second trick, the dynamic buffer, does not apply: data are whole
episodes, and a greedy policy of values has no distance to stored actions.

Learners: qmix, vdn, cw_qmix, ow_qmix, res; the unrestricted networks of Weighted QMIX are as sparse
as the others. For res the softmax target of its own stays in ``mast``, and ``soft_mellowmax`` alone
is refused (the paper does not say whether both apply).

One sparsity holds for agents, mixer and hypernetworks. Where the paper is open, the choice is named
and can be set: shared parameters with one mask (its size figures), a mask for each agent over
shared weights (``parameters="masked"``) or own networks ("own", its section 4.2), the links of both
ranked together over the agents; layer-wise Erdos-Renyi densities; moments of exchanged links
cleared; lambda targets without a correction for exploring (``algorithm.correction``). Time
constants are fractions of the run (`thrifty.marl.config`).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from thrifty.marl import (
    PartSparsityConfig,
    QMIXConfig,
    RESConfig,
    TeamConfig,
    WQMIXConfig,
)

__all__ = ["dense", "mast", "rigl", "rlx2", "set", "static", "tiny"]

LearnerName = Literal["qmix", "vdn", "cw_qmix", "ow_qmix", "res"]
Tricks = Literal["none", "rlx2", "mast", "td_lambda", "soft_mellowmax", "dual_buffers"]
Parameters = Literal["shared", "masked", "own"]
Topology = Literal["rigl", "set", "static", "tiny", "dense"]

_N_STEP = 3
_LAMBDA = 0.6


def _algorithm(learner: LearnerName, fields: dict[str, Any]) -> Any:
    if learner in ("qmix", "vdn"):
        return QMIXConfig(mixer=learner, **fields)
    if learner in ("cw_qmix", "ow_qmix"):
        weighting: Literal["central", "optimistic"]
        weighting = "central" if learner == "cw_qmix" else "optimistic"
        return WQMIXConfig(weighting=weighting, **fields)
    if learner == "res":
        return RESConfig(**fields)
    raise ValueError(f"unknown learner {learner!r}; choose qmix, vdn, cw_qmix, ow_qmix or res")


def _tricks(name: Tricks, learner: LearnerName) -> dict[str, Any]:
    """The fields of a learner that a choice of tricks sets."""
    parts: dict[str, dict[str, Any]] = {
        "td_lambda": {"td_lambda": _LAMBDA},
        "soft_mellowmax": {} if learner == "res" else {"next_value": "soft_mellowmax"},
        "dual_buffers": {"batch_episodes": 24, "recent_batch": 8, "recent_episodes": 100},
    }
    if name == "none":
        return {}
    if name == "rlx2":
        return {"n_step": _N_STEP}
    if name == "mast":
        return {key: value for part in parts.values() for key, value in part.items()}
    if name not in parts:
        raise ValueError(f"unknown tricks {name!r}; choose none, rlx2, mast, {', '.join(parts)}")
    if not parts[name]:
        raise ValueError(
            f'the targets of res have a softmax of their own, tricks="{name}" would do nothing: '
            'choose tricks="none", or another learner'
        )
    return parts[name]


def _config(
    topology: Topology,
    environment: str,
    steps: int,
    learner: LearnerName,
    sparsity: float,
    tricks: Tricks,
    parameters: Parameters = "shared",
) -> TeamConfig:
    fields = _tricks(tricks, learner) | {"parameters": parameters}
    if topology in ("rigl", "set", "static"):
        part = PartSparsityConfig(
            sparsity=sparsity,
            grow="random" if topology == "set" else "gradient",
            update_until=0 if topology == "static" else None,
        )
        scope: Literal["layer", "agents"] = "layer" if parameters == "shared" else "agents"
        fields |= {"agents": replace(part, scope=scope), "mixing": part}
    elif topology == "tiny":
        fields |= _tiny(environment, learner, sparsity)
    return TeamConfig(environment=environment, steps=steps, algorithm=_algorithm(learner, fields))


def _tiny(environment: str, learner: LearnerName, sparsity: float) -> dict[str, Any]:
    """Widths of dense networks with about as many weights as the sparse ones have links."""
    from thrifty.marl.environments import make_team

    team = make_team(environment, 1, 0)
    spec = team.spec
    team.close()
    big = _algorithm(learner, {})

    def weights(config: Any, part: str) -> int:
        learned = config.build(spec, seed=0)
        return sum(
            row.dense_parameters
            for name, (value, _) in learned.pairs().items()
            for row in value.costs(name)
            if row.network.endswith(part)
        )

    def narrow(percent: int) -> dict[str, Any]:
        """Every width of the mixers at so many per cent of the full one."""
        share = percent / 100
        widths = {
            "mixer_embed": max(1, round(big.mixer_embed * share)),
            "hypernet_hidden": max(1, round(big.hypernet_hidden * share)),
        }
        if isinstance(big, WQMIXConfig):
            widths["central_embed"] = max(1, round(big.central_embed * share))
        return widths

    hidden = _nearest(
        range(1, big.hidden + 1),
        lambda h: weights(replace(big, hidden=h), "agents"),
        (1.0 - sparsity) * weights(big, "agents"),
    )
    found: dict[str, Any] = {
        "hidden": hidden,
        "dense_twin": (big.hidden, big.mixer_embed, big.hypernet_hidden),
    }
    if learner == "vdn":
        return found
    share = _nearest(
        range(1, 101),
        lambda percent: weights(replace(big, **narrow(percent)), "mixer"),
        (1.0 - sparsity) * weights(big, "mixer"),
    )
    if isinstance(big, WQMIXConfig):
        found["central_twin"] = big.central_embed
    return found | narrow(share)


def _nearest(choices: range, count: Callable[[int], int], wanted: float) -> int:
    """The choice whose count, which rises with it, comes nearest to what is wanted."""
    above = bisect.bisect_left(choices, wanted, key=count)
    near = choices[max(0, above - 1) : above + 1]
    return min(near, key=lambda choice: abs(count(choice) - wanted))


def mast(
    environment: str = "skirmish",
    steps: int = 200_000,
    learner: LearnerName = "qmix",
    sparsity: float = 0.95,
    parameters: Parameters = "shared",
) -> TeamConfig:
    """Train MAST: evolving sparse agents and mixer, lambda targets, soft mellowmax, two buffers.

    Expected: the paper chooses its sparsities, 85 to 95 %, so that MAST stays within 3 % of dense
    on StarCraft maps after two million steps. SMAX is another game: see results/mast.

    Args:
        environment: name of a multi-agent environment, such as skirmish, smax-3m, smax-2s3z.
        steps: environment steps.
        learner: qmix, vdn, cw_qmix, ow_qmix or res.
        sparsity: fraction of zero weights of every network.
        parameters: one network for all agents, a mask for each of them over it, or own networks.
    """
    return _config("rigl", environment, steps, learner, sparsity, "mast", parameters)


def rlx2(
    environment: str = "skirmish",
    steps: int = 200_000,
    learner: LearnerName = "qmix",
    sparsity: float = 0.95,
) -> TeamConfig:
    """Train evolving sparse networks with RLx2's delayed 3-step targets in place of MAST's tricks.

    RLx2's dynamic buffer does not apply to whole episodes and is left out.

    Args:
        environment: name of a multi-agent environment.
        steps: environment steps.
        learner: qmix, vdn, cw_qmix, ow_qmix or res.
        sparsity: fraction of zero weights of every network.
    """
    return _config("rigl", environment, steps, learner, sparsity, "rlx2")


def rigl(
    environment: str = "skirmish",
    steps: int = 200_000,
    learner: LearnerName = "qmix",
    sparsity: float = 0.95,
    tricks: Tricks = "none",
    parameters: Parameters = "shared",
) -> TeamConfig:
    """Train on a topology that grows links of large gradient (RigL, Evci et al. 2020).

    Args:
        environment: name of a multi-agent environment.
        steps: environment steps.
        learner: qmix, vdn, cw_qmix, ow_qmix or res.
        sparsity: fraction of zero weights of every network.
        tricks: none, rlx2, mast, td_lambda, soft_mellowmax or dual_buffers.
        parameters: one network for all agents, a mask for each of them over it, or own networks.
    """
    return _config("rigl", environment, steps, learner, sparsity, tricks, parameters)


def set(  # the method: sparse evolutionary training
    environment: str = "skirmish",
    steps: int = 200_000,
    learner: LearnerName = "qmix",
    sparsity: float = 0.95,
    tricks: Tricks = "none",
) -> TeamConfig:
    """Train on a topology that grows random links (SET, Mocanu et al. 2018).

    Args:
        environment: name of a multi-agent environment.
        steps: environment steps.
        learner: qmix, vdn, cw_qmix, ow_qmix or res.
        sparsity: fraction of zero weights of every network.
        tricks: none, rlx2, mast, td_lambda, soft_mellowmax or dual_buffers.
    """
    return _config("set", environment, steps, learner, sparsity, tricks)


def static(
    environment: str = "skirmish",
    steps: int = 200_000,
    learner: LearnerName = "qmix",
    sparsity: float = 0.95,
    tricks: Tricks = "none",
) -> TeamConfig:
    """Train on a random topology that never changes.

    Args:
        environment: name of a multi-agent environment.
        steps: environment steps.
        learner: qmix, vdn, cw_qmix, ow_qmix or res.
        sparsity: fraction of zero weights of every network.
        tricks: none, rlx2, mast, td_lambda, soft_mellowmax or dual_buffers.
    """
    return _config("static", environment, steps, learner, sparsity, tricks)


def tiny(
    environment: str = "skirmish",
    steps: int = 200_000,
    learner: LearnerName = "qmix",
    sparsity: float = 0.95,
    tricks: Tricks = "none",
) -> TeamConfig:
    """Train narrow dense networks with as many weights as the sparse twin has links.

    Args:
        environment: name of a multi-agent environment.
        steps: environment steps.
        learner: qmix, vdn, cw_qmix, ow_qmix or res.
        sparsity: of the twin.
        tricks: none, rlx2, mast, td_lambda, soft_mellowmax or dual_buffers.
    """
    return _config("tiny", environment, steps, learner, sparsity, tricks)


def dense(
    environment: str = "skirmish",
    steps: int = 200_000,
    learner: LearnerName = "qmix",
    tricks: Tricks = "none",
) -> TeamConfig:
    """Train the dense algorithm: plain, the first denominator, or with MAST's tricks, the second.

    Args:
        environment: name of a multi-agent environment.
        steps: environment steps.
        learner: qmix, vdn, cw_qmix, ow_qmix or res.
        tricks: none, rlx2, mast, td_lambda, soft_mellowmax or dual_buffers.
    """
    return _config("dense", environment, steps, learner, 0.0, tricks)
