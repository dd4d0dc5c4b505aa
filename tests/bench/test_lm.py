from __future__ import annotations

from thrifty.bench import lm, names
from thrifty.bench.schema import NOT_MEASURED
from thrifty.lm.gpt import GPTConfig


def test_every_pair_has_its_ratio_and_nothing_is_made_up() -> None:
    small = GPTConfig(layers=1, heads=2, width=64, context=16, biases=False)
    rows = lm.measure(rounds=1, model=small, batch=1, block=4)
    assert "lm" in names()
    ratios = [row for row in rows if row.ratio is not None]
    # Two densities, two dense arithmetics, two statistics.
    assert len(ratios) == 8
    assert {row.ratio_to for row in ratios} == {lm.DENSE, lm.DENSE_BF16}
    assert {row.sparsity for row in ratios} == {0.75, 0.875}
    missing = [row.implementation for row in rows if row.statistic == NOT_MEASURED]
    assert len(missing) == 3
