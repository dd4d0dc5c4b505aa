"""Small random batches of episodes, with termination, truncation and padding."""

from __future__ import annotations

import numpy as np

from thrifty.marl.episodes import EpisodeBatch, Rows
from thrifty.marl.team import Seen, Spec

SPEC = Spec("toy", agents=2, actions=3, observation_dim=4, state_dim=5, limit=6)


def episode(rng: np.random.Generator, length: int, *, terminated: bool, spec: Spec = SPEC):
    """Rows of one episode of random numbers; the first action is always available."""
    rows = Rows(spec)
    out = np.zeros((length + 1, rows.width), np.float32)
    for t in range(length + 1):
        available = rng.random((1, spec.agents, spec.actions)) < 0.6
        available[..., 0] = True
        seen = Seen(
            rng.normal(size=(1, spec.agents, spec.observation_dim)).astype(np.float32),
            rng.normal(size=(1, spec.state_dim)).astype(np.float32),
            available,
        )
        rows.see(out[t : t + 1], seen)
        if t < length:
            over = np.array([terminated and t == length - 1])
            action = np.zeros((1, spec.agents), np.int64)
            for n in range(spec.agents):
                action[0, n] = rng.choice(np.flatnonzero(available[0, n]))
            rows.act(out[t : t + 1], action, rng.normal(size=1).astype(np.float32), over)
    return out


def batch(seed: int = 0, spec: Spec = SPEC) -> EpisodeBatch:
    """Four episodes of different lengths; two are terminated, two truncated."""
    rng = np.random.default_rng(seed)
    shapes = ((6, True), (3, False), (1, True), (4, False))
    return Rows(spec).batch(
        [episode(rng, length, terminated=over, spec=spec) for length, over in shapes]
    )
