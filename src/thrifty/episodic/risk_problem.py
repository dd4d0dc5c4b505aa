"""What the configuration of a run for the iterated CVaR stands for: an instance and a learner."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thrifty.episodic import icvar_bpi, icvar_g, icvar_l, icvar_rm, risk_instances
from thrifty.episodic.annotators import SimulatedAnnotator, SimulatedSource
from thrifty.episodic.cvar import iterated_cvar, worst_path
from thrifty.episodic.icvar_g_ensemble import EnsembleICVaR, SoftmaxEnsemble
from thrifty.episodic.icvar_hf import ICVaRHF
from thrifty.episodic.lava_grid import LavaGrid
from thrifty.episodic.linear_mixture import LinearMixtureMDP, random_mixture
from thrifty.episodic.max_wp import MaxWP
from thrifty.episodic.mdp import EpisodicMDP, Floats, whole
from thrifty.episodic.planning import Operator
from thrifty.episodic.preferences import Source
from thrifty.episodic.risk_config import (
    EnsembleConfig,
    HardChainConfig,
    ICVaRBPIConfig,
    ICVaRGConfig,
    ICVaRHFConfig,
    ICVaRLConfig,
    ICVaRRMConfig,
    InventoryConfig,
    KernelClassConfig,
    LavaGridConfig,
    LinearHardChainConfig,
    MaxWPConfig,
    MixtureConfig,
    RiskConfig,
    TwoDoorConfig,
)
from thrifty.episodic.rollout import Learner


class Problem(NamedTuple):
    """An instance, and what a learner may know of it beyond sizes and rewards."""

    mdp: EpisodicMDP
    kernels: Floats | None = None
    """A class of kernels with the truth in it [N, S, A, S]."""
    features: Floats | None = None
    """Features in which the rewards are linear [S, A, d]."""


def make_grid(instance: LavaGridConfig) -> LavaGrid:
    """Return the grid of a configuration.

    Raises:
        ValueError: a number out of its range.
    """
    return LavaGrid(
        width=instance.width, height=instance.height, horizon=instance.horizon, slip=instance.slip
    )


def make_problem(config: RiskConfig) -> Problem:
    """Return the instance of a configuration.

    Raises:
        ValueError: a number out of its range.
    """
    instance = config.instance
    if isinstance(instance, LavaGridConfig):
        grid = make_grid(instance)
        return Problem(grid.mdp(), features=grid.features())
    if isinstance(instance, HardChainConfig):
        return Problem(
            risk_instances.hard_chain(
                n=instance.n,
                horizon=instance.horizon,
                risk_level=config.risk_level,
                gap=instance.gap,
                actions=instance.actions,
            )
        )
    if isinstance(instance, LinearHardChainConfig):
        return Problem(
            risk_instances.linear_hard_chain(
                n=instance.n,
                horizon=instance.horizon,
                risk_level=config.risk_level,
                gap=instance.gap,
                dimension=instance.dimension,
            )
        )
    if isinstance(instance, TwoDoorConfig):
        return Problem(risk_instances.two_door(safe=instance.safe, failure=instance.failure))
    if isinstance(instance, InventoryConfig):
        return Problem(risk_instances.inventory(horizon=instance.horizon, shock=instance.shock))
    for name in ("states", "actions", "horizon", "dimension", "members"):
        whole(name, getattr(instance, name, 1))
    rng = np.random.default_rng(whole("instance_seed", instance.instance_seed, least=0))
    S, A, H = instance.states, instance.actions, instance.horizon
    if isinstance(instance, MixtureConfig):
        return Problem(
            random_mixture(rng, states=S, actions=A, horizon=H, dimension=instance.dimension)
        )
    if isinstance(instance, KernelClassConfig):
        kernels = rng.dirichlet(np.full(S, 0.3), (instance.members, S, A))
        mdp = EpisodicMDP.from_arrays(
            kernels[0], rng.random((S, A)), horizon=H, name="kernel_class"
        )
        return Problem(mdp, kernels=kernels)
    P = rng.dirichlet(np.full(S, 0.3), (S, A))
    features = rng.dirichlet(np.ones(instance.dimension), (S, A))
    r = features @ rng.random(instance.dimension)
    mdp = EpisodicMDP.from_arrays(P, r, horizon=H, name="features")
    others = rng.dirichlet(np.full(S, 0.3), (instance.members - 1, S, A))
    return Problem(mdp, kernels=np.concatenate([P[None], others]), features=features)


def objective(config: RiskConfig) -> Operator:
    """Return the operator of a configuration: iterated CVaR, or for MaxWP the worst path."""
    if isinstance(config.algorithm, MaxWPConfig):
        return worst_path
    return iterated_cvar(config.risk_level)


def simulated_source(config: RiskConfig, problem: Problem, seed: int) -> SimulatedSource:
    """Return the simulated annotators of a configuration."""
    told = config.algorithm
    assert isinstance(told, ICVaRHFConfig)
    annotator = SimulatedAnnotator(
        r=np.asarray(problem.mdp.r),
        scale=1.0 / problem.mdp.H if told.scale is None else told.scale,
        flip=told.flip,
        lapse=told.lapse,
        cycle=told.cycle,
        risk_level=told.annotator_risk_level,
    )
    return SimulatedSource(annotator, annotators=told.annotators, seed=seed)


def make_learner(
    config: RiskConfig, problem: Problem, seed: int, source: Source | None = None
) -> Learner:
    """Return the learner of a configuration at its beginning.

    Args:
        config: which, and with what constants.
        problem: what it learns on.
        seed: of what a learner draws itself, and of simulated annotators.
        source: of labels, where they are not simulated.

    Raises:
        ValueError: a number out of its range, or a learner that cannot learn on this instance.
    """
    algorithm, mdp, level, K = config.algorithm, problem.mdp, config.risk_level, config.steps
    if isinstance(algorithm, ICVaRLConfig):
        if not isinstance(mdp, LinearMixtureMDP):
            raise ValueError(f"icvar_l learns linear mixtures, and {mdp.name} is none")
        beta = _constant(algorithm, 0.3)
        if beta is None:
            beta = icvar_l.theory_beta(
                horizon=mdp.H,
                dimension=mdp.d,
                episodes=K,
                regulariser=algorithm.regulariser,
                delta=algorithm.delta,
            )
        return icvar_l.ICVaRL(
            mdp,
            risk_level=level,
            beta=beta,
            regulariser=algorithm.regulariser,
            knots=algorithm.knots,
            spacing=algorithm.spacing,
            switch=algorithm.switch,
        )
    sizes = {"states": mdp.S, "actions": mdp.A, "horizon": mdp.H}
    if isinstance(algorithm, ICVaRRMConfig):
        beta = _constant(algorithm, 0.3)
        if beta is None:
            beta = icvar_rm.theory_beta(**sizes, episodes=K, delta=algorithm.delta)
        return icvar_rm.ICVaRRM(mdp, risk_level=level, beta=beta)
    if isinstance(algorithm, ICVaRBPIConfig):
        beta = _constant(algorithm, 0.3)
        if beta is None:
            visits = K * mdp.H
            beta = icvar_bpi.theory_beta(**sizes, visits=visits, delta=algorithm.delta)
        return icvar_bpi.ICVaRBPI(mdp, risk_level=level, accuracy=algorithm.accuracy, beta=beta)
    if isinstance(algorithm, MaxWPConfig):
        return MaxWP(mdp)
    if isinstance(algorithm, ICVaRGConfig):
        if problem.kernels is None:
            raise ValueError(f"icvar_g needs a class of kernels, and {mdp.name} has none")
        gamma2 = _constant(algorithm, 5.0)
        if gamma2 is None:
            members = len(problem.kernels)
            gamma2 = icvar_g.theory_gamma2(horizon=mdp.H, members=members, delta=algorithm.delta)
        return icvar_g.ICVaRG(mdp, problem.kernels, risk_level=level, gamma2=gamma2)
    if isinstance(algorithm, EnsembleConfig):
        pairs = mdp.S * mdp.A
        ensemble = SoftmaxEnsemble(
            np.eye(pairs).reshape(mdp.S, mdp.A, pairs),
            members=algorithm.members,
            rng=np.random.default_rng([seed, 1]),
        )
        return EnsembleICVaR(mdp, ensemble, risk_level=level, gap=algorithm.gap, seed=seed)
    if problem.features is None:
        raise ValueError(f"icvar_hf needs features of rewards, and {mdp.name} has none")
    transitions = None
    if algorithm.transitions == "learned":
        if problem.kernels is None:
            raise ValueError(
                f"learned transitions need a class of kernels, and {mdp.name} has none: take "
                "transitions=known, or the instance of icvar.hf_class"
            )
        transitions = icvar_g.ICVaRG(
            mdp, problem.kernels, risk_level=level, gamma2=algorithm.gamma2
        )
    return ICVaRHF(
        mdp,
        problem.features,
        simulated_source(config, problem, seed) if source is None else source,
        risk_level=level,
        transitions=transitions,
        radius=algorithm.radius,
        candidates=algorithm.candidates,
        scale=algorithm.scale,
        regulariser=algorithm.regulariser,
        reference=algorithm.reference,
        annotators=algorithm.annotators,
        queue=algorithm.queue,
        threshold=algorithm.threshold,
        distinct=algorithm.annotator == "person",
        repeat_every=algorithm.repeat_every,
        seed=seed,
    )


def _constant(
    algorithm: ICVaRLConfig | ICVaRRMConfig | ICVaRBPIConfig | ICVaRGConfig, practical: float
) -> float | None:
    """Return the learner's beta (gamma2), or None where theory decides it."""
    if isinstance(algorithm, ICVaRGConfig):
        name, given = "gamma2", algorithm.gamma2
    else:
        name, given = "beta", algorithm.beta
    if algorithm.constants == "practical":
        return practical if given is None else given
    if given is not None:
        raise ValueError(
            f"constants=theory decides {name}: leave it out, or take constants=practical"
        )
    return None
