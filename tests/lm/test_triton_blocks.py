"""The kernels for CUDA on Triton's interpreter: slow, exact, and without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def test_products_and_gradients_on_the_interpreter() -> None:
    # In a process of its own: the interpreter is chosen when the kernels are defined.
    script = Path(__file__).with_name("triton_worker.py")
    source = Path(__file__).resolve().parents[2] / "src"
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    assert len(errors) == 4
    for case, (y, dx, dw) in errors.items():
        bound = 2e-3 if "float16" in case else 1e-5
        assert max(y, dx, dw) < bound, case
