"""A sparse team that learns to fight, and what its networks cost.

python examples/train/sparse_team.py
"""

from __future__ import annotations

import numpy as np

import thrifty


def main() -> None:
    """Train for a moment; it takes far longer to win."""
    team = thrifty.QMIX("skirmish", sparsity=0.9, batch_size=8, train_freq=256, seed=0)
    team.learn(4_000)
    result = team.evaluate(16)
    print(f"won {result.win_rate:.0%} of the games, mean return {result.return_mean:.1f} of 20")
    print(f"{team.sparsity:.0%} of the weights are missing")

    # Acting by hand: the memory goes from call to call, masks keep the team to what it may do.
    memory = None
    for _ in range(3):
        actions, memory = team.predict(np.zeros((3, 24)), memory)
    print("actions", actions)


if __name__ == "__main__":
    main()
