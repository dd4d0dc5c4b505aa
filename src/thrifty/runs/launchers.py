"""The launchers by name, and the parameters that a command line gives them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from thrifty.runs.local_pool import LocalPool
from thrifty.runs.sweep import Launcher

QUEUE = ".slurm"  # in the sweep's folder: what submitit writes


def read_parameters(name: str, told: Sequence[str]) -> dict[str, str]:
    """Return NAME=VALUE words as a dict.

    Args:
        name: of the launcher.
        told: the words.

    Raises:
        ValueError: a word of another form, or one that the launcher does not take.
    """
    parameters: dict[str, str] = {}
    for word in told:
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise ValueError(f"--launcher-set {word!r} cannot be read: write NAME=VALUE")
        parameters[key] = value
    takes = {"local": (), "ray": ("address",)}.get(name)
    if takes is not None and (unknown := [key for key in parameters if key not in takes]):
        raise ValueError(
            f"the launcher {name} has no parameter {unknown[0]}: "
            + (f"it has {', '.join(takes)}" if takes else "leave --launcher-set out")
        )
    return parameters


def launcher_named(name: str, parameters: Mapping[str, str], *, folder: Path) -> Launcher:
    """Return a launcher, connected and ready.

    Args:
        name: local, ray or slurm.
        parameters: from `read_parameters`.
        folder: of the sweep.

    Raises:
        ValueError: its extra is not installed, its cluster is not there, or a parameter is wrong.
    """
    if name == "ray":
        from thrifty.runs.ray_cluster import RayCluster

        return RayCluster(parameters.get("address") or os.environ.get("RAY_ADDRESS"))
    if name == "slurm":
        from thrifty.runs.slurm_queue import SlurmQueue

        return SlurmQueue(folder / QUEUE, parameters)
    return LocalPool()
