"""From the places of links to their index arrays, compiled: an evolution step rebuilds them."""

from __future__ import annotations

import numpy as np

from thrifty.engine.cache import entry


@entry
def index_links(flat, starts, cols, col_starts, rows, perm):
    """Fill the CSR arrays and the CSC arrays with their permutation from a list of links.

    Args:
        flat: int64 [nnz], rising: places in the flattened weight [out, in].
        starts: int32 [out + 1].
        cols: int32 [nnz].
        col_starts: int32 [in + 1].
        rows: int32 [nnz].
        perm: int32 [nnz], CSC position -> CSR position.
    """
    out, inputs, nnz = len(starts) - 1, len(col_starts) - 1, len(flat)
    col_starts[:] = 0
    n = 0
    for r in range(out):
        starts[r] = n
        begin, end = r * inputs, (r + 1) * inputs
        while n < nnz and flat[n] < end:
            cols[n] = flat[n] - begin
            col_starts[cols[n] + 1] += 1
            n += 1
    starts[out] = n
    for c in range(inputs):
        col_starts[c + 1] += col_starts[c]
    place = np.empty(inputs, np.int32)
    for c in range(inputs):
        place[c] = col_starts[c]
    for r in range(out):
        for p in range(starts[r], starts[r + 1]):
            at = place[cols[p]]
            rows[at] = r
            perm[at] = p
            place[cols[p]] = at + 1
