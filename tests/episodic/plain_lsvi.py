"""LSVI-UCB+ and LSVI-UCB written to be read beside the papers: every sum anew, nothing clever.

Samples are kept as lists; every regression solves its normal equations from the start. Indices are
h = 0..H-1. Shares no code with the learners but the constants' names (``c``, a Weighting).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from thrifty.episodic import LinearMDP
from thrifty.episodic.weighting import Weighting


class PlainLSVI:
    name = "plain_lsvi"

    def __init__(
        self,
        mdp: LinearMDP,
        *,
        regulariser: float,
        c: Weighting,
        weighted: bool = True,
        monotone: bool = True,
        switch: str = "determinant",
        gap: str = "pessimistic",
        reward: str = "known",
        beta_reward: float = 0.0,
    ) -> None:
        self.mdp, self.phi, self.c, self.lam = mdp, mdp.phi, c, regulariser
        self.H, self.S, self.A, self.d = mdp.H, mdp.S, mdp.A, mdp.d
        self.weighted, self.monotone, self.switch = weighted, monotone, switch
        self.gap, self.reward, self.beta_reward = gap, reward, beta_reward
        self.samples: list[list[Any]] = [[] for _ in range(self.H)]  # (phi, r, s', weight)
        self.Q = np.stack([np.full((self.S, self.A), float(self.H - h)) for h in range(self.H)])
        self.Q_pes = np.zeros((self.H, self.S, self.A))
        zeros = np.zeros((self.H + 1, self.S))
        self.V, self.V_pes, self.V_over = zeros.copy(), zeros.copy(), zeros.copy()
        self.det_at_switch: Any = None
        self.switches = 0

    def Sigma(self, h: int) -> Any:
        total = self.lam * np.eye(self.d)
        for phi, _, _, weight in self.samples[h]:
            total += weight * np.outer(phi, phi)
        return total

    def Lambda_r(self, h: int) -> Any:
        return self.lam * np.eye(self.d) + sum(np.outer(phi, phi) for phi, *_ in self.samples[h])

    def regress(self, h: int, f: Any, *, and_reward: bool = False) -> Any:
        """argmin_w of lambda |w|^2 + sum_i weight_i (<phi_i, w> - f(s'_i))^2."""
        b = np.zeros(self.d)
        for phi, r, s_next, weight in self.samples[h]:
            b += weight * phi * (f[s_next] + (r if and_reward else 0.0))
        return np.linalg.solve(self.Sigma(h), b)

    def regress_reward(self, h: int) -> Any:
        b = sum((phi * r for phi, r, *_ in self.samples[h]), np.zeros(self.d))
        return np.linalg.solve(self.Lambda_r(h), b)

    def due(self) -> bool:
        if self.det_at_switch is None or self.switch == "episode":
            return True
        det = [np.linalg.det(self.Sigma(h)) for h in range(self.H)]
        return any(now >= 2.0 * then for now, then in zip(det, self.det_at_switch, strict=True))

    def plan(self) -> None:
        for h in reversed(range(self.H)):
            pooled = self.reward == "estimate" and not self.weighted
            w = self.regress(h, self.V[h + 1], and_reward=pooled)
            w_pes = self.regress(h, self.V_pes[h + 1])
            u = np.sqrt(
                np.einsum("sad,de,sae->sa", self.phi, np.linalg.inv(self.Sigma(h)), self.phi)
            )
            r, doubt = self.mdp.r[h], 0.0
            if self.reward == "estimate":
                r = np.zeros_like(r)
                if self.weighted:
                    r = self.phi @ self.regress_reward(h)
                    inverse = np.linalg.inv(self.Lambda_r(h))
                    doubt = self.beta_reward * np.sqrt(
                        np.einsum("sad,de,sae->sa", self.phi, inverse, self.phi)
                    )
            top = self.H - h
            Q = np.minimum(r + doubt + self.phi @ w + self.c.beta * u, top)
            Q_pes = np.clip(r - doubt + self.phi @ w_pes - self.c.beta_bar * u, 0.0, top)
            over = np.minimum(r + doubt + self.phi @ w + self.c.beta_bar * u, top)
            if self.monotone:
                Q = np.minimum(Q, self.Q[h])
                Q_pes = np.maximum(Q_pes, self.Q_pes[h])
            self.Q[h], self.Q_pes[h] = Q, Q_pes
            self.V[h], self.V_pes[h] = Q.max(axis=1), Q_pes.max(axis=1)
            self.V_over[h] = over.max(axis=1)
        self.det_at_switch = [np.linalg.det(self.Sigma(h)) for h in range(self.H)]
        self.switches += 1

    def act(self, h: int, s: int) -> int:
        if h == 0 and self.due():
            self.plan()
        return int(np.argmax(self.Q[h, s] >= self.Q[h, s].max() - 1e-12))

    def observe(self, h: int, s: int, a: int, r: float, s_next: int) -> None:
        phi = self.phi[s, a]
        sbar2 = self.sbar2(h, phi) if self.weighted else 1.0
        self.samples[h].append((phi, r, s_next, 1.0 / sbar2))

    def sbar2(self, h: int, phi: Any) -> float:
        """Section 2.2 of the paper's box, 3a to 3e, squared."""
        c, H = self.c, self.H
        u = np.sqrt(phi @ np.linalg.solve(self.Sigma(h), phi))
        mean = phi @ self.regress(h, self.V[h + 1])
        pes = phi @ self.regress(h, self.V_pes[h + 1])
        second = phi @ self.regress(h, self.V[h + 1] ** 2)
        V_hat = np.clip(second, 0, H**2) - np.clip(mean, 0, H) ** 2
        E = min(c.beta_tilde * u, H**2) + min(2 * H * c.beta_bar * u, H**2)
        distance = mean - pes + 2 * c.beta_bar * u
        if self.gap == "over":
            distance = phi @ self.regress(h, self.V_over[h + 1]) - pes
        D = min(c.gap_scale * max(distance, 0.0), c.gap_cap)
        sigma2 = c.variance * V_hat + c.error * E + c.gap * D + c.offset
        return float(max(sigma2, c.floor, c.conservatism * u))

    def end_episode(self) -> None:
        pass

    def values(self) -> Any:
        return self.V[0]

    def policy(self) -> Any:
        best = self.Q.max(axis=2, keepdims=True)
        return np.argmax(best - 1e-12 <= self.Q, axis=2)

    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        raise NotImplementedError
