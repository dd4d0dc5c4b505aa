"""Train a GPT-2 sparsely on several processes: torchrun --nproc-per-node 2 gpt_data_parallel.py

Every process has all masks. They stay equal because DDP averages the gradients before they are
scored, and because random growth is a function of seed and step. Alone it is one process.
"""

import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from thrifty.lm.gpt import GPT, GPTConfig, linear_matrices
from thrifty.lm.tokens import Stream
from thrifty.sparse import Phase, Phases, TopologyEvolution, er, gradient, random, sparsify, split

STEPS, BATCH, SEED = 60, 8, 0


def main() -> None:
    several = "RANK" in os.environ
    rank, processes = 0, 1
    if several:
        dist.init_process_group("gloo")
        rank, processes = dist.get_rank(), dist.get_world_size()
    # A toy language: the alphabet, again and again. tokens.load gives the embedded corpus.
    stream = Stream([(torch.arange(5000) % 26).numpy().astype("uint16")], "the alphabet")
    config = GPTConfig(layers=2, heads=2, width=32, context=32)
    model = GPT(config, 26, torch.Generator().manual_seed(SEED))
    schedule = Phases(
        (Phase(6, 1.0, 0.15, 3.0), Phase(42, 0.15, 0.15), Phase(12, 0.15, 1.0)), update_every=6
    )
    topology = sparsify(model, sparsity=schedule, allocate=er, where=linear_matrices)
    grow = split((gradient, 3), (random, 1))
    evolution = TopologyEvolution(topology, schedule, grow=grow, seed=SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    forward = DistributedDataParallel(model, broadcast_buffers=False) if several else model

    for step in range(1, STEPS + 1):
        inputs, targets = stream.batch(BATCH * processes, config.context, seed=SEED, step=step)
        mine = slice(rank * BATCH, (rank + 1) * BATCH)
        optimizer.zero_grad()
        logits = forward(inputs[mine])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[mine].flatten())
        loss.backward()
        evolution.step(optimizer, clip_norm=1.0)  # mask, clip, step, project
        if rank == 0 and step % 10 == 0:
            print(f"{step}: loss {loss.item():.3f}, density {1 - topology.sparsity:.2f}")
    if several:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
