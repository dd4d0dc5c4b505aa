"""One of the processes of test_two_processes_agree_under_ddp: attach under DDP on gloo."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from thrifty.sparse import Cosine, TopologyEvolution, gradient, random, sparsify, split

warnings.simplefilter("error")
# The issue asks for this argument; torch 2.13 would rather have a new one that older ones lack.
warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)


def differs_between_ranks(tensor: Tensor) -> bool:
    gathered = [torch.zeros_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, tensor.contiguous())
    return any(not torch.equal(gathered[0], other) for other in gathered[1:])


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    topology = sparsify(model, sparsity=0.6)
    parallel = DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    grow = split((gradient, 3), (random, 1))
    schedule = Cosine(0.6, update_every=3, update_until=30)
    evolution = TopologyEvolution(topology, schedule, grow=grow)
    evolution.attach(optimizer)
    torch.manual_seed(100 + rank)  # the ranks' own random numbers must not matter
    compared = []
    for step in range(14):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(8, 6, generator=generator).double()[4 * rank : 4 * rank + 4]
        targets = torch.randn(8, 2, generator=generator).double()[4 * rank : 4 * rank + 4]
        torch.rand(rank + 1)
        optimizer.zero_grad()
        nn.functional.mse_loss(parallel(inputs), targets).backward()
        optimizer.step()
        if schedule.is_due(step + 1):
            assert evolution.last_update is not None
            assert evolution.last_update.step == step + 1
            for name in topology.names:
                parameter = topology.parameter(name)
                moments = optimizer.state[parameter]
                for tensor in (
                    topology.mask(name).int(),
                    parameter.detach(),
                    moments["exp_avg"],
                    moments["exp_avg_sq"],
                ):
                    assert not differs_between_ranks(tensor), f"{name} differs at step {step + 1}"
            compared.append(step + 1)
    masks = {name: topology.mask(name).int().tolist() for name in topology.names}
    result = {"compared_after_steps": compared, "masks": masks}
    (folder / f"{rank}.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()
    # Everything is on disk. Rank 0 also serves the store from threads of its own, and the
    # interpreter's shutdown now and then aborts on them ("terminate called"): leave without it.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
