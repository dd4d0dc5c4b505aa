"""Links that move in place, and links for which the arena is laid out anew, are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.control.test_compiled import SEED, close, pair, settings
from tests.control.test_fused import filled

from thrifty.control.compiled import CompiledLearner

KEPT = {"moments": "keep", "regrown": "keep", "initial": "largest"}


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
@pytest.mark.parametrize("changes", [{}, KEPT, {"on_update": "skip"}])
def test_in_place_is_as_good_as_anew(
    kind: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = filled()
    first, second = pair(kind, **settings(0.9, 1, 4, **changes))
    in_place = CompiledLearner(first, replay.columns, seed=SEED)
    anew = CompiledLearner(second, replay.columns, seed=SEED)
    monkeypatch.setattr(anew, "_relink", lambda network: False)
    arena = in_place._update.arena
    moved = 0
    for _ in range(21):
        losses, changed = in_place.learn(replay)
        assert losses == anew.learn(replay)[0]
        moved += len(changed)
    assert moved > 5
    assert in_place._update.arena is arena
    close(in_place.state_dict(), anew.state_dict(), 0.0)
    np.testing.assert_array_equal(arena.params, anew._update.arena.params)
    np.testing.assert_array_equal(arena.index, anew._update.arena.index)
    # Nothing of an evolution step is left over.
    assert not arena.grads.any()
    assert not arena.dense.any()


def test_another_number_of_links_lays_out_another_arena() -> None:
    # The layers share one pool of links, so that each layer's number changes.
    replay = filled()
    _, twin = pair("TD3", **settings(0.9, 1, 4))
    for network in twin.networks().values():
        network.topology.groups = (network.topology.names,)
    compiled = CompiledLearner(twin, replay.columns, seed=SEED)
    arena = compiled._update.arena
    sizes = {name: network.topology.nnz for name, network in twin.networks().items()}
    for _ in range(8):  # the actor's fourth step is at the eighth update
        compiled.learn(replay)
    assert compiled._update.arena is not arena
    now = {name: network.topology.nnz for name, network in twin.networks().items()}
    for name, network in now.items():
        assert network != sizes[name]
        assert sum(network.values()) == sum(sizes[name].values())
