"""How far RES's softmax over few joint actions lies from the softmax over all of them.

    python results/mast/softmax.py [--steps 20000]

RES learns our skirmish (3 agents, 9 actions: at most 25 of 729 joint actions), one seed. On the
states of 8 games with every tenth action random, both operators are taken of its networks at
several sharpnesses. Writes softmax.csv: means over the states of the full softmax, of the absolute
distance of the few to it, and of the distance of the plain maximum (of the greedy joint action).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from thrifty.marl import RESConfig, TeamConfig
from thrifty.marl.learner import greedy_actions
from thrifty.marl.res import RES, full_softmax_value, softmax_value

BETAS = (0.05, 0.5, 5.0)
GAMES = 8


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    torch.set_num_threads(1)
    experiment = TeamConfig(
        environment="skirmish",
        steps=options.steps,
        train_every=32,
        evaluate_every=0,
        backend="reference",
        algorithm=RESConfig(learning_rate=1e-3, batch_episodes=16),
    ).build(0)
    for _ in experiment.records():
        pass
    learner, games = experiment.learner, []
    assert isinstance(learner, RES)
    team = experiment.make_team(GAMES, 12_345)
    memory, rng = learner.memory(GAMES), np.random.default_rng(0)
    going = np.ones(GAMES, bool)
    with torch.no_grad():
        while going.any():
            seen, before = team.seen, memory
            actions, memory = learner.act(
                seen.observation, seen.available, before, epsilon=0.1, rng=rng
            )
            step = (torch.from_numpy(seen.observation), torch.from_numpy(before.last_action))
            q, _ = learner.value.module.step(*step, before.hidden)
            available, state = torch.from_numpy(seen.available), torch.from_numpy(seen.state)
            games.append((q[going], available[going], state[going]))
            outcome = team.step(actions)
            going &= ~(outcome.terminated | outcome.truncated)
            team.restart(outcome.terminated | outcome.truncated)
            learner.forget(memory, outcome.terminated | outcome.truncated)
        q, available, state = (torch.cat(parts) for parts in zip(*games, strict=True))
        joint, rows = learner.value.module, []
        best = greedy_actions(q, available).unsqueeze(-1)
        most = joint(q.gather(-1, best).squeeze(-1), state)
        for beta in BETAS:
            full = full_softmax_value(joint, joint, q, q, available, state, beta=beta)
            few = softmax_value(joint, joint, q, q, available, state, beta=beta)
            rows.append(
                {
                    "beta": beta,
                    "states": len(state),
                    "full": f"{full.mean():.4f}",
                    "few_distance": f"{(few - full).abs().mean():.4f}",
                    "maximum_distance": f"{(most - full).abs().mean():.4f}",
                }
            )
    with (options.out / "softmax.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
