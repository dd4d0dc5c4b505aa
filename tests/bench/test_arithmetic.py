from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thrifty.bench import arithmetic
from thrifty.control import SAC, TD3, SACConfig, SparsityConfig, TD3Config
from thrifty.control.sac_fused import sac_update
from thrifty.control.td3_fused import td3_update
from thrifty.engine import executor, programme
from thrifty.engine.update import Update
from thrifty.rl import Replay

OBSERVATIONS, ACTIONS = 11, 3


def flops_of_the_programme(update: Update, batch: int) -> float:
    """What the engine's table of operations multiplies: links by operation, over its period."""
    table, script = update._table, update._script
    index = update.arena.index
    total = 0.0
    for kind, begin, end, _, every, _ in script:
        if kind != executor.TILES:
            continue
        for row in table[begin:end]:
            if row[0] in (programme.LINEAR, programme.WEIGHT_GRADIENT):
                starts = row[6]
                total += (index[starts + row[4]] - index[starts]) / every
            elif row[0] == programme.INPUT_GRADIENT:
                first = row[8] + row[13]
                total += (index[first + row[14]] - index[first]) / every
    return 2.0 * batch * total


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
@pytest.mark.parametrize("n_step", [1, 3])
def test_the_formula_counts_what_the_engine_computes(sparsity: float, n_step: int) -> None:
    """Nothing that the engine computes is left out, and nothing that it saves is charged."""
    sparse = SparsityConfig(sparsity=sparsity)
    shape: dict[str, Any] = {"actor_hidden": (40, 24), "critic_hidden": (32, 24), "batch_size": 64}
    shape |= {"actor": sparse, "critic": sparse, "n_step": n_step}
    columns = Replay(10, OBSERVATIONS, ACTIONS).columns
    td3 = TD3(TD3Config(**shape), OBSERVATIONS, ACTIONS)
    sac = SAC(SACConfig(**shape), OBSERVATIONS, ACTIONS)
    update = td3_update(td3, columns)
    assert arithmetic.update_flops(td3, OBSERVATIONS) == pytest.approx(
        flops_of_the_programme(update, 64)
    )
    update = sac_update(sac, columns)
    assert arithmetic.update_flops(sac, OBSERVATIONS) == pytest.approx(
        flops_of_the_programme(update, 64)
    )


def test_a_dense_update_of_halfcheetah_by_hand() -> None:
    """Links: A = 17*256 + 256*256 + 256*6, Q = 23*256 + 256*256 + 256; first layers 17*256, 23*256.

    targets A + 2 Q; critics 2 (3 Q - 23*256);
    actor (2 A + (A - 17*256) + Q + (Q - 23*256) + 6*256) / 2; times 2 * 256 samples: 413 MFLOP.
    """
    a, q = 17 * 256 + 256 * 256 + 256 * 6, 23 * 256 + 256 * 256 + 256
    targets, critics = a + 2 * q, 2 * (3 * q - 23 * 256)
    actor = (3 * a - 17 * 256 + 2 * q - 23 * 256 + 6 * 256) / 2
    by_hand = 2 * 256 * (targets + critics + actor)
    assert arithmetic.update_flops(TD3(TD3Config(), 17, 6), 17) == by_hand
    assert by_hand == pytest.approx(413.7e6, rel=1e-3)


def test_the_limit_is_the_work_at_the_speed_of_the_fastest_product() -> None:
    """n = 256 makes 1e9 operations a second here, the others half as many: 3e9 take 3 seconds."""
    samples = {
        n: np.array([1.0, 1.0]) * arithmetic.gemm_flops(n) / (1e9 if n == 256 else 5e8)
        for n in arithmetic.GEMM_SIZES
    }
    assert arithmetic.seconds_at_best(3e9, samples) == pytest.approx([3.0, 3.0])
    for n, product in arithmetic.gemms().items():
        product()
        assert arithmetic.gemm_flops(n) % (2 * n**3) == 0
