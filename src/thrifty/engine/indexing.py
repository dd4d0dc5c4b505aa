"""From a mask to the index arrays of its links, compiled: an evolution step rebuilds them."""

from __future__ import annotations

import numpy as np

from thrifty.engine.cache import entry


@entry
def index_mask(mask, starts, cols, col_starts, rows, perm):
    """Fill the CSR arrays and the CSC arrays with their permutation from a bool mask [out, in].

    Args:
        mask: bool [out, in].
        starts: int32 [out + 1].
        cols: int32 [nnz].
        col_starts: int32 [in + 1].
        rows: int32 [nnz].
        perm: int32 [nnz], CSC position -> CSR position.
    """
    out, inputs = mask.shape
    col_starts[:] = 0
    n = 0
    for r in range(out):
        starts[r] = n
        for c in range(inputs):
            if mask[r, c]:
                cols[n] = c
                col_starts[c + 1] += 1
                n += 1
    starts[out] = n
    for c in range(inputs):
        col_starts[c + 1] += col_starts[c]
    place = np.empty(inputs, np.int32)
    place[:] = col_starts[:inputs]
    for r in range(out):
        for p in range(starts[r], starts[r + 1]):
            at = place[cols[p]]
            rows[at] = r
            perm[at] = p
            place[cols[p]] = at + 1
