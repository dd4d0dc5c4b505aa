"""Resumable runs: execute an experiment, write its records, survive being killed."""

from __future__ import annotations

from thrifty.runs.experiment import Callback, Config, Experiment, Record
from thrifty.runs.run import Outcome, Run, execute, read_run
from thrifty.runs.store import load_state, read_checkpoint, read_config, read_records, save_state

__all__ = [
    "Callback",
    "Config",
    "Experiment",
    "Outcome",
    "Record",
    "Run",
    "execute",
    "load_state",
    "read_checkpoint",
    "read_config",
    "read_records",
    "read_run",
    "save_state",
]
