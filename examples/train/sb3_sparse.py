"""Train Stable-Baselines3's own TD3 with 90 % of its weights missing, save it, load it, go on.

    python examples/train/sb3_sparse.py --steps 1000

A few seconds: enough to see it run, not to solve the task. Only `sparsify_agent` is ours; the
file is an ordinary Stable-Baselines3 file, and loading it brings the masks back.
"""

from __future__ import annotations

import argparse

from stable_baselines3 import TD3

from thrifty.adapters.sb3 import sparsify_agent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--file", default="pendulum-sb3.zip")
    flags = parser.parse_args()

    model = TD3("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [128, 128]}, seed=0)
    # Links move every 1/300 of the run, but not within 500 updates: here we ask for more.
    sparsify_agent(model, steps=flags.steps, actor=0.9, critic=0.85, update_every=50)
    model.learn(flags.steps // 2)
    model.save(flags.file)

    model = TD3.load(flags.file, env=model.get_env())
    model.learn(flags.steps // 2, reset_num_timesteps=False)
    masks = model.policy.sparsity
    print(masks)
    for network, topology in masks.topologies.items():
        print(f"{network}: {topology.nnz}, {topology.survival:.2f} of the first links exist now")


if __name__ == "__main__":
    main()
