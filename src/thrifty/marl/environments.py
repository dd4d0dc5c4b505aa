"""Names of multi-agent environments, and what they stand for.

| name | environment | needs |
|---|---|---|
| matrix_game | one-step game, best payoff 8 | - |
| predator_prey | two predators that must catch together | - |
| skirmish | three against a scripted three | - |
| smax-MAP | SMAX, such as smax-3m, smax-2s3z, smax-3s5z (not StarCraft) | extra smax |
| mpe-NAME | particle world of mpe2 without adversaries, such as mpe-simple_spread | extra marl |
| lbf-NAME | Level-Based Foraging, such as lbf-8x8-2p-3f | extra marl |
| smac-MAP, smaclite-MAP | StarCraft II and its light copy | installed by you |
| smacv2-RACE_N_vs_M | the same with drawn teams, such as terran_5_vs_5 | installed by you |
| module:function | a function (copies, seed) -> Team of your own | - |
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable

from thrifty.marl.matrix_game import MatrixGame
from thrifty.marl.predator_prey import PredatorPrey
from thrifty.marl.skirmish import Skirmish
from thrifty.marl.team import Team

TeamFactory = Callable[[int, int], Team]
"""(copies, seed) -> Team."""

_OWN: dict[str, TeamFactory] = {
    "matrix_game": MatrixGame,
    "predator_prey": PredatorPrey,
    "skirmish": Skirmish,
}
# The module that knows the names with a prefix; loaded only when one is asked for.
_PREFIXES = {
    "smax": "smax",
    "mpe": "parallel",
    "lbf": "foraging",
    "smac": "starcraft",
    "smacv2": "starcraft",
    "smaclite": "starcraft",
}


def make_team(name: str, copies: int, seed: int) -> Team:
    """Make copies of an environment by its name.

    Args:
        name: see the module's table.
        copies: how many are stepped together.
        seed: everything random in them derives from it.

    Raises:
        ValueError: there is no such environment or it is no function of the two, or what it needs
            is not installed.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            factory: TeamFactory = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as problem:
            raise ValueError(f"cannot import the environment {name!r}: {problem}") from problem
        try:
            inspect.signature(factory).bind(copies, seed)
        except TypeError as problem:
            raise ValueError(
                f"{name!r} is no function (copies, seed) -> Team: {problem}"
            ) from problem
        return factory(copies, seed)
    if name in _OWN:
        return _OWN[name](copies, seed)
    prefix, dash, rest = name.partition("-")
    if dash and prefix in _PREFIXES:
        adapter = importlib.import_module(f"thrifty.marl.{_PREFIXES[prefix]}")
        team: Team = adapter.make(name, rest, copies, seed)
        return team
    known = [*_OWN, *(f"{prefix}-..." for prefix in _PREFIXES)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise ValueError(f"there is no multi-agent environment {name!r}: {hint}")
