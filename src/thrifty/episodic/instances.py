"""Instances on which exploration can be studied, each with what is known about it.

Legend: H horizon, S states, A actions, d feature dimension; h = 0..H-1 is the papers' 1..H.
"uniform" is the policy that draws every action alike.
"""

from __future__ import annotations

import numpy as np

from thrifty.episodic.mdp import EpisodicMDP, Initial, LinearMDP, whole

LEFT, RIGHT = 0, 1


def simplex(
    d: int, S: int, A: int, H: int, rng: np.random.Generator, *, initial: Initial = 0
) -> LinearMDP:
    """A random linear MDP whose features are distributions over d latent kernels.

    From (s, a) draw j ~ phi(s, a), then s' ~ mu_h^j. Known facts: always a valid linear MDP,
    whatever the sizes, since phi(s, a) and every row of mu_h are probability vectors (norms at most
    1 and sqrt(d)) and theta_h lies in [0, 1]^d. phi ~ Dirichlet(.3), sparse but mixed; the rows of
    mu_h ~ Dirichlet(.05), a few next states each; theta_h uniform.

    Args:
        d: number of latent kernels.
        S: number of states.
        A: number of actions.
        H: horizon.
        rng: draws the instance.
        initial: see :class:`~thrifty.episodic.mdp.EpisodicMDP`.

    Reference: the simplex example of Jin, Yang, Wang and Jordan, COLT 2020 (example 2.2).
    """
    for name, size in (("d", d), ("S", S), ("A", A), ("H", H)):
        whole(name, size, 1)
    return LinearMDP.from_parts(
        phi=rng.dirichlet(np.full(d, 0.3), size=(S, A)),
        mu=rng.dirichlet(np.full(S, 0.05), size=(H, d)),
        theta=rng.random((H, d)),
        initial=initial,
        name=f"simplex(d={d}, S={S}, A={A}, H={H})",
    )


def river_swim(S: int = 6, H: int = 20) -> EpisodicMDP:
    """Swim against the current for a large reward, or drift for a small one; A = 2, start at 0.

    Left moves one state left for sure. Right moves right with probability .35, back with .05 and
    stays with .6; at the left end it moves right with .6, at the right end it stays with .6. Reward
    .005 for left at the left end, 1 for right at the right end. Known facts: S = 6, H = 20 has
    V* = 3.397; a learner that does not explore settles on .005 H.

    Reference: Strehl and Littman, 2008; the rewards are those of Osband and Van Roy, 2013.
    """
    whole("S", S, 2)
    P, r = np.zeros((S, 2, S)), np.zeros((S, 2))
    for s in range(S):
        P[s, LEFT, max(s - 1, 0)] = 1.0
    for s in range(1, S - 1):
        P[s, RIGHT, [s - 1, s, s + 1]] = 0.05, 0.6, 0.35
    P[0, RIGHT, [0, 1]] = 0.4, 0.6
    P[-1, RIGHT, [-2, -1]] = 0.4, 0.6
    r[0, LEFT], r[-1, RIGHT] = 0.005, 1.0
    return EpisodicMDP.from_arrays(P, r, horizon=H, name=f"river_swim(S={S}, H={H})")


def combination_lock(
    H: int, A: int, rng: np.random.Generator, *, observations: int = 1, decoy: float = 0.1
) -> LinearMDP:
    """Only the right action at every one of H stages opens the lock; a linear MDP with d = 3 A.

    Latent states: good (0 and 1) and dead (2). In each good state one action, drawn per stage, is
    right and leads to a good state (either with probability 1/2); every other one is fatal. The
    right action of the last stage pays 1, a fatal one of the first stage pays ``decoy`` at once. A
    latent state emits one of ``observations`` symbols of its own, by a law of its own
    (Dirichlet(1)): the learner sees symbols, S = 3 observations, and the features are one-hot in
    (latent state, action). Starts in latent state 0. Known facts: V* = 1 for decoy < 1; uniform
    succeeds with probability A^-H, its value is A^-H + decoy (A - 1) / A (for H > 1).

    Args:
        H: horizon.
        A: number of actions.
        rng: draws the code and the symbols' laws.
        observations: symbols per latent state; 1 is the tabular lock.
        decoy: reward for giving up at once, in [0, 1).

    Reference: the lock of Agarwal, Henaff, Kakade and Sun (PC-PG, NeurIPS 2020); with observations
    a block MDP (Du et al., ICML 2019).
    """
    for name, size in (("H", H), ("A", A), ("observations", observations)):
        whole(name, size, 1)
    if not 0.0 <= decoy < 1.0:
        raise ValueError(f"decoy must be in [0, 1), not {decoy}: giving up would be optimal")
    dead, latent = 2, np.repeat(np.arange(3), observations)
    code = rng.integers(A, size=(H, 2))
    emission = np.zeros((3, len(latent)))  # probability of a symbol given the latent state
    for z in range(3):
        emission[z, latent == z] = rng.dirichlet(np.ones(observations))
    kernel = np.zeros((H, 3, A, 3))
    kernel[..., dead] = 1.0
    theta = np.zeros((H, 3, A))
    theta[0, :dead] = decoy
    for h in range(H):
        for z in (0, 1):
            kernel[h, z, code[h, z]] = 0.5, 0.5, 0.0
            theta[h, z, code[h, z]] = float(h == H - 1)
    return LinearMDP.from_parts(
        phi=np.eye(3 * A).reshape(3, A, 3 * A)[latent],
        mu=kernel.reshape(H, 3 * A, 3) @ emission,
        theta=theta.reshape(H, 3 * A),
        initial=np.where(latent == 0, emission[0], 0.0),
        name=f"combination_lock(H={H}, A={A}, observations={observations})",
    )


def deep_sea(N: int, rng: np.random.Generator) -> EpisodicMDP:
    """A diver sinks a row per stage and must go right N times; H = S = N, A = 2, starts left.

    The state is the column (the row is the stage). One action goes right, the other left, by a code
    drawn per cell. Left pays .01 / N; right at the last stage in the last column pays 1. Known
    facts: V* = 1, found by 1 of 2^N action sequences; uniform is worth 2^-N + .005; who never goes
    right gets .01. The published version charges .01 / N for right instead, which leaves [0, 1].

    Reference: Osband et al., "Behaviour suite for reinforcement learning", ICLR 2020.
    """
    whole("N", N, 1)
    right = rng.integers(2, size=(N, N))  # the action that goes right, per stage and column
    P, r = np.zeros((N, N, 2, N)), np.zeros((N, N, 2))
    for h in range(N):
        for s in range(N):
            P[h, s, right[h, s], min(s + 1, N - 1)] = 1.0
            P[h, s, 1 - right[h, s], max(s - 1, 0)] = 1.0
            r[h, s, 1 - right[h, s]] = 0.01 / N
    r[-1, -1, right[-1, -1]] = 1.0
    return EpisodicMDP.from_arrays(P, r, name=f"deep_sea(N={N})")


def lottery(
    d: int, H: int, rng: np.random.Generator, *, mixtures: int = 0, drift: float = 0.01
) -> LinearMDP:
    """Noisy choices beside almost sure ones: built so that weighting by variance can pay.

    An episode starts in the casino or at the ladder, each with probability 1/2; what is chosen
    there, at stage 0, lasts for the other H - 1 stages. In the casino an action is one of d/2
    lotteries: a jackpot that pays 1 per stage with probability .6 (one of them) or .4 (the others),
    else a dead state that pays 0. At the ladder an action leads to one of d/2 rungs, or to a
    neighbouring rung with probability ``drift``; a rung pays m_i per stage, evenly spaced over
    [.45, .55], and drifts in the same way. The actions are numbered in orders drawn by ``rng``;
    ``mixtures`` further ones in either room have Dirichlet(1) features over the room's kernels, and
    are never better than all of these. States: casino, ladder, jackpot, dead, d/2 rungs. Feature
    dimension d + 2: one per lottery, one per rung (leading to it and staying on it are the same
    kernel), one each for jackpot and dead.

    Known facts: V*(casino) = .6 (H - 1), and the best rung is worth at most .55 (H - 1). The
    variance of V_1(s') is .24 (H - 1)^2 for every lottery and at most drift (.1 (H - 1))^2 at the
    ladder. With one width of the bonus for all, a width that keeps the good lottery makes a learner
    try each rung of gap g about .24 ((H - 1) / g)^2 times.

    Args:
        d: lotteries and rungs together, even, at least 4.
        H: horizon, at least 2.
        rng: draws orders and mixtures.
        mixtures: number of actions beyond the d/2 pure ones.
        drift: probability of changing to a neighbouring rung, in [0, 1].

    Reference: ours.
    """
    whole("d", d, 4)
    whole("H", H, 2)
    whole("mixtures", mixtures, 0)
    if d % 2:
        raise ValueError(f"d must be even (half lotteries, half rungs), not {d}")
    if not 0.0 <= drift <= 1.0:
        raise ValueError(f"drift is a probability, not {drift}")
    half = d // 2
    casino, ladder, jackpot, dead, rungs = 0, 1, 2, 3, np.arange(half) + 4
    mu = np.zeros((d + 2, 4 + half))
    mu[:half, jackpot], mu[:half, dead] = 0.4, 0.6
    mu[0, [jackpot, dead]] = 0.6, 0.4
    for i in range(half):
        neighbours = [j for j in (i - 1, i + 1) if 0 <= j < half]
        mu[half + i, rungs[i]] = 1.0 - drift
        mu[half + i, rungs[neighbours]] = drift / len(neighbours)
    mu[d, jackpot] = mu[d + 1, dead] = 1.0
    theta = np.zeros((H, d + 2))
    theta[1:, half:d] = np.linspace(0.45, 0.55, half)
    theta[1:, d] = 1.0
    phi = np.zeros((4 + half, half + mixtures, d + 2))
    for room, kernels in ((casino, np.arange(half)), (ladder, half + np.arange(half))):
        phi[room, np.arange(half), rng.permutation(kernels)] = 1.0
        phi[room, half:, kernels] = rng.dirichlet(np.ones(half), size=mixtures).T
    phi[jackpot, :, d] = phi[dead, :, d + 1] = 1.0
    for i in range(half):
        phi[rungs[i], :, half + i] = 1.0
    return LinearMDP.from_parts(
        phi,
        mu,
        theta,
        initial=np.where(np.arange(4 + half) < 2, 0.5, 0.0),
        name=f"lottery(d={d}, H={H}, mixtures={mixtures})",
    )


def hard_instance(
    d: int, H: int, K: int, rng: np.random.Generator, *, gap: float = 1.0
) -> LinearMDP:
    """The lower bound's instance: one of 2^(d-1) actions is a little more likely to reach the goal.

    Known stages let the H alive states of the original collapse to one: states alive (0) and goal
    (1, absorbing, reward 1 per stage), actions {-1, 1}^(d-1), bit i of the action's number giving
    component i. From alive, action a reaches goal with probability 1/H + <m_h, a>, where
    m_h in {-Delta, Delta}^(d-1) has drawn signs and Delta = gap sqrt(1 / (H K)) / (4 sqrt(2)).
    Feature dimension d + 1: phi(alive, a) = (al, be a, 0), phi(goal, .) = (0, 0, 1), with
    al = 1 / sqrt(1 + Delta (d-1)) and be = sqrt(Delta) al, so that the norm is exactly 1.

    Known facts: the best action is sign(m_h) at every stage; with p = 1/H + (d-1) Delta, V*_h(goal)
    = H - h and V*_h(alive) = p V*_{h+1}(goal) + (1-p) V*_{h+1}(alive); uniform has the same with p
    = 1/H, the worst policy with p = 1/H - (d-1) Delta. The gap falls like K^-1/2, so *every* policy
    has a flat regret / ((d-1) sqrt(H^3 K)): about .0465 gap for uniform and .0933 gap for the worst
    at (d, H) = (4, 10). Scan the gap and draw those controls beside it.

    Args:
        d: the paper's d, at least 4; the feature dimension is d + 1.
        H: horizon, at least 3.
        K: episodes that will be played: the instance depends on it.
        rng: draws the signs.
        gap: multiplier of Delta, > 0; the instance is valid while gap^2 (d-1)^2 H <= 32 K.

    Reference: Zhou, Gu and Szepesvari, "Nearly minimax optimal reinforcement learning for linear
    mixture Markov decision processes", COLT 2021.
    """
    whole("d", d, 4)
    whole("H", H, 3)
    whole("K", K, 1)
    if not (gap > 0 and gap * gap * (d - 1) ** 2 * H <= 32 * K):
        most = np.sqrt(32 * K / H) / (d - 1)
        raise ValueError(f"gap must be in (0, {most:.6g}] for d={d}, H={H}, K={K}, not {gap}")
    delta = 1.0 / H
    Delta = gap * np.sqrt(delta / K) / (4 * np.sqrt(2))
    al = 1.0 / np.sqrt(1.0 + Delta * (d - 1))
    be = np.sqrt(Delta) * al
    signs = rng.choice([-1.0, 1.0], size=(H, d - 1))
    actions = 2.0 * (np.arange(2 ** (d - 1))[:, None] >> np.arange(d - 1) & 1) - 1.0
    phi = np.zeros((2, len(actions), d + 1))
    phi[0, :, 0] = al
    phi[0, :, 1:d] = be * actions
    phi[1, :, d] = 1.0
    mu = np.zeros((H, d + 1, 2))
    mu[:, 0] = (1.0 - delta) / al, delta / al
    mu[:, 1:d, 0] = -Delta / be * signs
    mu[:, 1:d, 1] = Delta / be * signs
    mu[:, d, 1] = 1.0
    theta = np.zeros(d + 1)
    theta[d] = 1.0
    name = f"hard_instance(d={d}, H={H}, K={K}, gap={gap:g})"
    return LinearMDP.from_parts(phi, mu, theta, name=name)
