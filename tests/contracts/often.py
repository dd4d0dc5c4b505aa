"""The command line, with a checkpoint every so many seconds: `often.py SECONDS ARGUMENTS...`."""

from __future__ import annotations

import sys
from functools import partial

import thrifty.runs
from thrifty.cli import main

if __name__ == "__main__":
    thrifty.runs.execute = partial(thrifty.runs.execute, checkpoint_seconds=float(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
