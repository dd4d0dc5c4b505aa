"""The kernels for CUDA: on the CPU by Triton's interpreter, slow and exact; on a GPU if any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from thrifty.lm import triton_blocks
from thrifty.lm.triton_blocks import AVAILABLE, TritonBlocks

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.skipif(not AVAILABLE, reason="needs triton")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_products_and_gradients(device: str) -> None:
    # In a process of its own: the interpreter is chosen when the kernels are defined.
    script = Path(__file__).with_name("triton_worker.py")
    source = Path(__file__).resolve().parents[2] / "src"
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1" if device == "cpu" else "0",
        "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, str(script), device]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    assert len(errors) == (4 if device == "cpu" else 7)
    for case, (y, dx, dw) in errors.items():
        bound = 2e-2 if "bfloat16" in case else 2e-3 if "float16" in case else 1e-5
        assert max(y, dx, dw) < bound, case


def test_what_no_kernel_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = torch.ones(24, 24, dtype=torch.bool)
    monkeypatch.setattr(triton_blocks, "AVAILABLE", True)
    for block in (8, 24):
        with pytest.raises(ValueError, match=f"a power of two from 16 on, got {block}"):
            TritonBlocks(mask, block)
    monkeypatch.setattr(triton_blocks, "AVAILABLE", False)
    with pytest.raises(ImportError, match="triton is not installed: pip install triton"):
        TritonBlocks(mask, 16)
