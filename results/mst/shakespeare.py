"""Run `mst.shakespeare` as people will, on two threads, and note how far it is after ten minutes.

    python results/mst/shakespeare.py [--runs FOLDER]

Writes shakespeare.json: the last evaluation within ten minutes, the run's end, and the load of the
machine. Where that file is, nothing is run: delete it to measure anew. A run that was stopped does
not count, since its clock leaves out what was done twice: it begins again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from thrifty.recipes import mst
from thrifty.runs import Run, execute, read_records
from thrifty.runs.environment import describe_environment

RESULT = Path(__file__).parent / "shakespeare.json"
SECONDS, THREADS = 600.0, 2


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is noted of a run's records."""
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    inside = [one for one in evaluations if one["wall_seconds"] <= SECONDS][-1]
    end = records[-1]
    return {
        "bits_per_byte": round(inside["bits_per_byte"], 4),
        "step": inside["step"],
        "seconds": round(inside["wall_seconds"], 1),
        "end": {
            "bits_per_byte": round(evaluations[-1]["bits_per_byte"], 4),
            "step": end["step"],
            "seconds": round(end["wall_seconds"], 1),
            "processor_seconds": round(end["wall_cpu_seconds"], 1),
        },
    }


def main() -> None:
    """Run it, unless that has been done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/mst"), help="folder of the run")
    folder = parser.parse_args().runs / "shakespeare"
    if RESULT.exists():
        print(f"{RESULT.name} is there: delete it to measure anew")
        return
    shutil.rmtree(folder, ignore_errors=True)
    before = os.getloadavg()[0]
    run = Run(
        recipe="mst.shakespeare",
        arguments={},
        config=mst.shakespeare(),
        seed=0,
        directory=folder,
        threads=THREADS,
    )
    if execute(run, progress="force").status != "done":
        raise SystemExit(130)
    hardware = describe_environment()["hardware"]
    shared = ", shared with other work" if before > 0.5 else ""
    found = summary(list(read_records(folder))) | {
        "hardware": f"{hardware['cpu']}, {hardware['cores']} cores{shared}",
        "load_before": round(before, 1),
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
