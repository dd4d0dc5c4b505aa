"""What runs the updates of a learner, and why: the choice that ``backend="auto"`` makes.

The choice follows from the configuration and the links alone (and from whether the engine can be
loaded), so a resumed run makes it again.
"""

from __future__ import annotations

from typing import Literal

from thrifty.control.sac import SAC, SACConfig
from thrifty.control.td3 import TD3, TD3Config
from thrifty.engine import loading
from thrifty.engine.loading import Backend

ENGINE_FROM = 0.5
"""Share of cut weights, actor and critics together, from which ``auto`` takes the engine.

On the cases of ``thrifty bench`` (256x256, batch 256, one core with AVX-512) the engine makes 3.8
to 5.5 times the updates of our dense reference at 80 % (benchmarks/td3.json and sac.json) and 1.5
to 2.3 times at 50 % (the same code at that sparsity, TD3 and SAC, on a busy machine), where the two
were equal at 10 to 25 %. What is left over is for processors with narrower vectors.
"""


def choose(asked: Literal["auto"] | Backend, learner: TD3 | SAC) -> tuple[Backend, str]:
    """Return what runs the updates, and the reason in words.

    Args:
        asked: the configuration's ``backend``; all but auto is returned as it is.
        learner: as built; its links are counted.

    Example:
        >>> choose("auto", TD3Config(dtype="float64").build(3, 1, seed=0))
        ('reference', 'the engine has no float64')
    """
    if asked != "auto":
        return asked, "as configured"
    lacking = unsupported(learner.config)
    if lacking:
        return "reference", f"the engine has no {lacking}"
    rows = [row for name, network in learner.networks().items() for row in network.costs(name)]
    cut = 1.0 - sum(r.sparse_parameters for r in rows) / sum(r.dense_parameters for r in rows)
    return loading.where_sparse(cut, ENGINE_FROM, "thrifty.control.compiled")


def unsupported(config: TD3Config | SACConfig) -> str | None:
    """Return what the engine lacks for a configuration, in words, or None.

    Args:
        config: of the learner.
    """
    for lacking, wanted in (
        (f"device {config.device}", config.device != "cpu"),
        (config.dtype, config.dtype != "float32"),
        (f"activation {config.activation}", config.activation != "relu"),
    ):
        if wanted:
            return lacking
    return None
