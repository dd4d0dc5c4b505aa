from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from thrifty.lm.gpt import GPT, GPTConfig, linear_matrices
from thrifty.sparse import sparsify

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def launch(folder: Path, die_at: int = 0) -> list[Any]:
    """Run both ranks to their end, or until one has killed itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    source = Path(__file__).resolve().parents[2] / "src"
    workers = []
    for rank in range(2):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")]),
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        script = str(Path(__file__).with_name("ddp_worker.py"))
        command = [sys.executable, script, str(folder), str(die_at if rank else 0)]
        workers.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        )
    try:
        if die_at:
            workers[1].communicate(timeout=120)
            assert workers[1].returncode == -signal.SIGKILL
            return []
        errors = [worker.communicate(timeout=120)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_ranks_agree_also_after_kill_and_resume(tmp_path: Path) -> None:
    # Masks, weights and moments are compared by the workers right after each evolution step:
    # steps 1 to 4 (warm-up), 5, 6, 8, 10 and 11 to 16 (restoration) are due.
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    results = launch(whole)
    assert results[0] == results[1]
    assert results[0]["compared"] == 14
    launch(killed, die_at=11)
    resumed = launch(killed)
    assert [result["begin"] for result in resumed] == [8, 8]  # from the last state saved
    assert {result["digest"] for result in (*results, *resumed)} == {results[0]["digest"]}


def test_parameters_divided_among_processes_are_refused() -> None:
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        config = GPTConfig(layers=1, heads=2, width=16, context=8)
        model = GPT(config, 20, torch.Generator().manual_seed(0))
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(ValueError, match=r"wte\.weight is divided .* DistributedDataParallel"):
            sparsify(model, sparsity=0.5, where=linear_matrices)
    finally:
        dist.destroy_process_group()
