"""thrifty: get the result for a fraction of the budget.

Sparse reinforcement learning from scratch (RLx2): TD3 and SAC agents trained at 75 to 98 %
sparsity, and teams (MAST): QMIX, VDN, WQMIX, RES. ``thrifty.TD3`` and its like are agents in the
manner of Stable-Baselines3;
``thrifty.sparse`` makes any PyTorch module sparse; the command line is ``thrifty --help``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thrifty.agents import QMIX, RES, SAC, TD3, VDN, WQMIX

__all__ = ["QMIX", "RES", "SAC", "TD3", "VDN", "WQMIX", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the agents (and with them torch) when they are first asked for."""
    if name in __all__:
        from thrifty import agents

        return getattr(agents, name)
    raise AttributeError(f"module 'thrifty' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
