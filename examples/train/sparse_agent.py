"""Train a 90 % sparse TD3 agent on Pendulum-v1, watch it, stop it, save it and go on.

    python examples/train/sparse_agent.py --steps 3000

About 20 seconds on one core: enough to see it run, not to solve the task (random: about -1,200).
"""

from __future__ import annotations

import argparse

import thrifty


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--file", default="pendulum-agent.npz")
    flags = parser.parse_args()

    agent = thrifty.TD3(
        "Pendulum-v1", actor_sparsity=0.9, critic_sparsity=0.9, learning_rate=1e-3, seed=0
    )

    def halfway(record: dict[str, object]) -> bool | None:
        """Stop once half of the steps are done; any callback that returns False does."""
        return False if int(str(record["step"])) >= flags.steps // 2 else None

    agent.learn(flags.steps, callback=halfway)
    agent.save(flags.file)

    agent = thrifty.TD3.load(flags.file)  # exactly where it stopped
    agent.resume()
    evaluation = agent.evaluate(episodes=5)
    print(f"{agent.num_timesteps} steps, return {evaluation.return_mean:.0f}")
    print(f"sparsity {agent.sparsity['all']:.3f}, ledger {agent.ledger['training_flops']}")


if __name__ == "__main__":
    main()
