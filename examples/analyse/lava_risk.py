"""One grid, two attitudes to risk: the neutral path grazes the lava, the averse one does not.

Both are learned: ICVaR-L does not know how slippery the rim beside the lava is. It maximises the
iterated CVaR at a risk level: the mean at 1, the worst tenth of every step's outcomes at .1.
"""

from __future__ import annotations

from thrifty.episodic import occupancy, optimal
from thrifty.episodic.cvar import iterated_cvar, return_distribution
from thrifty.episodic.icvar_l import ICVaRL
from thrifty.episodic.lava_grid import LavaGrid
from thrifty.episodic.risk_rollout import play_episodes


def main(episodes: int = 20_000) -> dict[float, str]:
    """Learn at two risk levels, and draw where each policy walks (o), beside lava (#)."""
    grid = LavaGrid()
    mdp = grid.mdp()
    print(f"the best path changes at risk level {grid.switch:.3f}")
    pictures = {}
    for level in (1.0, 0.1):
        operator = iterated_cvar(level)
        learner = ICVaRL(mdp, risk_level=level)
        run = play_episodes(mdp, learner, episodes, seed=0, operator=operator)
        policy = learner.policy()
        visits = occupancy(mdp, policy).sum(axis=(0, 2))
        pictures[level] = grid.picture(visits)
        returns, masses = return_distribution(mdp, policy)
        lava = sum(p for value, p in zip(returns, masses, strict=True) if value == 0.0)
        assert run.regret is not None
        print(f"\nrisk level {level}: regret {run.regret[-1]:.0f} in {episodes} episodes")
        print(f"optimum {optimal(mdp, operator).V[0, 0]:.2f}, mean return {returns @ masses:.2f}")
        print(f"ends in lava with probability {lava:.3f}\n{pictures[level]}")
    return pictures


if __name__ == "__main__":
    main()
