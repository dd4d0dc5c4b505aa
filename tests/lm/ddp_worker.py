"""One of the processes of test_two_processes: a GPT-2 trained sparsely under DDP on gloo.

Rank 0 saves the state after every fourth step. A process told to die does so with SIGKILL.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from thrifty.lm.gpt import GPT, GPTConfig, linear_matrices
from thrifty.runs import load_state, save_state
from thrifty.sparse import (
    Phase,
    Phases,
    TopologyEvolution,
    er,
    gradient,
    random,
    sparsify,
    split,
    subset,
)

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)

STEPS, SAVE = 16, 4
SCHEDULE = Phases(
    (Phase(4, 1.0, 0.3, 3.0), Phase(6, 0.3, 0.3), Phase(6, 0.3, 1.0)),
    update_every=2,
)


def differs_between_ranks(tensor: Tensor) -> bool:
    gathered = [torch.zeros_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, tensor.contiguous())
    return any(not torch.equal(gathered[0], other) for other in gathered[1:])


def main(folder: Path, die_at: int) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    config = GPTConfig(layers=1, heads=2, width=16, context=8)
    model = GPT(config, 20, torch.Generator().manual_seed(0)).double()
    topology = sparsify(
        model, sparsity=SCHEDULE, allocate=er, initial=subset, where=linear_matrices
    )
    parallel = DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    grow = split((gradient, 3), (random, 1))
    evolution = TopologyEvolution(topology, SCHEDULE, grow=grow, seed=1)
    path, begin = folder / "state.npz", 0
    if path.exists():
        state = load_state(path)
        begin = state["step"]
        model.load_state_dict(state["model"])
        topology.load_state_dict(state["topology"])
        optimizer.load_state_dict(state["optimizer"])
        evolution.load_state_dict(state["evolution"])
    compared = 0
    torch.manual_seed(100 + rank)  # the ranks' own random numbers must not matter
    for step in range(begin + 1, STEPS + 1):
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(20, (4, 9), generator=generator)[2 * rank : 2 * rank + 2]
        optimizer.zero_grad()
        logits = parallel(ids[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        if evolution.step(optimizer, clip_norm=1.0) is not None:
            for name in topology.names:  # right after the evolution step, before any forward
                parameter = topology.parameter(name)
                moments = optimizer.state[parameter]
                for tensor in (
                    topology.mask(name).int(),
                    parameter.detach(),
                    moments["exp_avg"],
                    moments["exp_avg_sq"],
                ):
                    assert not differs_between_ranks(tensor), f"{name} differs at step {step}"
            compared += 1
        if step % SAVE == 0:
            if rank == 0:
                state = {
                    "step": step,
                    "model": model.state_dict(),
                    "topology": topology.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "evolution": evolution.state_dict(),
                }
                save_state(path, state)
            dist.barrier()
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(parameter.detach().numpy().tobytes())
        if name in topology.names:
            digest.update(topology.mask(name).numpy().tobytes())
    result = {"digest": digest.hexdigest(), "compared": compared, "begin": begin}
    (folder / f"{rank}.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # without the interpreter's shutdown, which now and then aborts on gloo's threads


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
