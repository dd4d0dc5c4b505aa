from __future__ import annotations

import numpy as np
import pytest

from thrifty.bench import kernels, schema
from thrifty.bench.cases import BATCH


def rows_of(tiles: np.ndarray) -> np.ndarray:
    return tiles.transpose(0, 2, 1).reshape(BATCH, -1)


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_the_products_that_are_timed_are_the_right_ones(sparsity: float) -> None:
    """Against numpy on the dense matrices."""
    layer = kernels.SparseLayer(23, 40, sparsity)
    x, dy = rows_of(layer.x), rows_of(layer.dy)
    layer.forward()
    layer.input_gradient()
    layer.weight_gradient()
    np.testing.assert_allclose(
        rows_of(layer.y), np.maximum(x @ layer.weight.T + layer.bias, 0), atol=1e-4
    )
    np.testing.assert_allclose(rows_of(layer.dx), (dy @ layer.weight) * (x > 0), atol=1e-4)
    np.testing.assert_allclose(layer.gradient, (dy.T @ x)[layer.mask], atol=1e-3)


def test_useful_work_per_second_and_time_per_product_are_one_measurement() -> None:
    rows = kernels.measure(rounds=2, layers=((17, 32),), sparsities=(0.9,))
    schema.validate(
        {**schema.circumstances("x"), "rows": [schema.dataclasses.asdict(r) for r in rows]}
    )
    assert {row.case for row in rows} == {f"17->32, {product}" for product in kernels.PRODUCTS}
    layer = kernels.SparseLayer(17, 32, 0.9)
    for implementation, links in ((kernels.DENSE, 17 * 32), (kernels.SPARSE, layer.index.nnz)):
        rate, time = (
            next(
                row.value
                for row in rows
                if row.implementation == implementation
                and row.metric == metric
                and row.statistic == "low"
                and "forward" in row.case
            )
            for metric in (kernels.METRIC, "time per product")
        )
        assert rate is not None
        assert time is not None
        # GFLOP/s times microseconds are thousands of operations: two per link and sample.
        assert rate * time * 1e3 == pytest.approx(2 * links * BATCH)
    against = {row.ratio_to for row in rows if row.implementation == kernels.SPARSE}
    assert against == {kernels.DENSE, kernels.DENSE_BF16}
