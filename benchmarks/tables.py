"""Write README.md beside this script from the JSON files that `thrifty bench` wrote here.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARKS = {
    "env_loop": "The loop outside the update (policy call, environment step, insertion) must stay "
    "under 150 us beyond the simulator; a whole step with one update must not be slower than "
    "Stable-Baselines3's (256x256, batch 256).",
}


def table(name: str, document: dict[str, Any]) -> list[str]:
    """Return one benchmark's section."""
    hardware, versions = document["hardware"], document["versions"]
    made = ", ".join(f"{package} {version}" for package, version in versions.items())
    lines = [f"## {name}", "", f"`{document['command']}`; {hardware['cpu']}, ", "", ""]
    lines[2] += f"{hardware['cores']} cores, load {document['load']['one_minute']:.1f}; {made}."
    lines[3:] = ["", MARKS.get(name, ""), ""]
    lines += ["| case | metric | implementation | sparsity | statistic | value | ratio |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in document["rows"]:
        sparsity = "" if row["sparsity"] is None else f"{row['sparsity']:.0%}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} x {row['ratio_to']}"
        value = "not measured" if row["value"] is None else f"{row['value']:,.1f} {row['unit']}"
        cells = (row["case"], row["metric"], row["implementation"], sparsity, row["statistic"])
        lines.append("| " + " | ".join((*cells, value, ratio)) + " |")
    return lines


def main() -> None:
    """Read every JSON file here."""
    lines = [
        "# Benchmarks",
        "",
        "Each JSON file here is the output of one command, with versions, hardware and load; "
        "ratios are taken side by side in one process, one thread each, interleaved samples, low "
        "decile and median. This page is made by `python benchmarks/tables.py`.",
    ]
    for path in sorted(HERE.glob("*.json")):
        lines += ["", *table(path.stem, json.loads(path.read_text()))]
    (HERE / "README.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
