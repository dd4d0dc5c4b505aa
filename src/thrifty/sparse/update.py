"""What an evolution step did, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["LayerChange", "TopologyUpdate"]


class LayerChange(NamedTuple):
    """What one evolution step did to one layer, in links.

    Attributes:
        nnz: links now.
        dropped: links that were not kept, including those regrown at once.
        grown: links added, including those regrown; so nnz = before - dropped + grown.
        regrown: links dropped and added in the same step.

    Example:
        >>> LayerChange(nnz=10, dropped=4, grown=4, regrown=1)._asdict()
        {'nnz': 10, 'dropped': 4, 'grown': 4, 'regrown': 1}
    """

    nnz: int
    dropped: int
    grown: int
    regrown: int


@dataclass(frozen=True)
class TopologyUpdate:
    """What one evolution step did.

    Attributes:
        step: number of this network's optimizer steps, this one included.
        drop_fraction: the schedule's zeta at this step.
        layers: the change of every layer, by name.
        sparsity: fraction of all links cut now.
        survival: share of the links of the first topology that exist now.
    """

    step: int
    drop_fraction: float
    layers: dict[str, LayerChange]
    sparsity: float
    survival: float

    def fields(self) -> dict[str, Any]:
        """Return what a record of it holds, in values that JSON has."""
        return {
            "update": self.step,
            "drop_fraction": self.drop_fraction,
            "layers": {name: change._asdict() for name, change in self.layers.items()},
            "survival": self.survival,
        }
