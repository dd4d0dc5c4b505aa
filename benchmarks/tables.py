"""Write README.md and the picture beside this script from the JSON that `thrifty bench` wrote here.

python benchmarks/tables.py
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import updates_picture

from thrifty.bench import compact, kernels, lm, loop, policy, sac, schema, td3, updates
from thrifty.bench.schema import NOT_MEASURED, Row

HERE = Path(__file__).resolve().parent
ORDER = ("td3", "sac", "loop", "compact", "policy", "kernels", "env_loop")
MARKS = {"td3": ("TD3", td3.MARKS), "sac": ("SAC", sac.MARKS)}
PICTURE = "updates_per_second.png"
INTRODUCTION = """# Benchmarks

Each JSON file here is the output of one command, with versions, hardware and load. Samples of
everything in a table are taken in turn in one process, on one thread unless said otherwise; a cell
shows two numbers, **low / median**: the 10 % quantile of times (what an undisturbed machine does)
and the median. Ratios above 1 mean faster where the unit is a rate, slower where it is a time. A
mark is what was asked for beforehand; one that is missed stays. Nothing here says what is learned.
This page is made by `python benchmarks/tables.py`.
"""


def main() -> None:
    """Read every JSON file here."""
    (HERE / "README.md").write_text(page(HERE), encoding="utf-8")
    if (HERE / "td3.json").exists():
        updates_picture.draw(schema.read(HERE / "td3.json"), HERE / PICTURE)


def page(folder: Path) -> str:
    """Return the page of a folder's JSON files."""
    found = {path.stem: path for path in folder.glob("*.json")}
    lines = [INTRODUCTION]
    if "td3" in found:
        lines.append(
            "![TD3 updates per second over sparsity: the engine between the dense learners and "
            f"the arithmetic limit]({PICTURE})\n"
        )
    others = sorted(set(found) - set(ORDER))
    for name in [name for name in (*ORDER, *others) if name in found]:
        lines += section(name, found[name])
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def section(name: str, path: Path) -> list[str]:
    """Return one benchmark's section."""
    document = json.loads(path.read_text(encoding="utf-8"))
    rows = schema.read(path)
    hardware, load = document["hardware"], document["load"]["one_minute"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    busy = "" if load is None else f", load {load:.1f} at the end"
    lines = [
        f"## {name}",
        "",
        description(name),
        "",
        f"`{document['command']}`: {hardware['cpu']}, {hardware['cores']} cores{busy}; {versions}.",
        "",
    ]
    if name in MARKS:
        lines += marks(*MARKS[name], rows)
    lines += limits(name, rows)
    if name == "kernels":
        return [*lines, *kernel_table(rows)]
    for key in dict.fromkeys(map(shown_together, rows)):
        case, metric, calls = key
        chosen = [row for row in rows if shown_together(row) == key]
        lines += [f"### {case}: {metric.replace('_', ' ')} ({chosen[0].unit}){calls}", ""]
        lines += [*pivot(chosen), ""]
    return lines


def shown_together(row: Row) -> tuple[str, str, str]:
    """Return what the rows of one table share."""
    several = row.metric == updates.METRIC and (row.updates_per_call or 1) > 1
    return row.case, row.metric, f", {row.updates_per_call} per call" if several else ""


def description(name: str) -> str:
    """Return what a benchmark says of itself, without the markup of docstrings."""
    module = importlib.import_module(f"thrifty.bench.{name}")
    return re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", inspect.getdoc(module) or "")


def pivot(rows: list[Row]) -> list[str]:
    """One line for each implementation and sparsity, one column for each comparison."""
    others = list(dict.fromkeys(row.ratio_to for row in rows if row.ratio_to is not None))
    lines = dict.fromkeys((row.implementation, row.sparsity, row.threads) for row in rows)
    cells = []
    for line in lines:
        mine = [row for row in rows if (row.implementation, row.sparsity, row.threads) == line]
        ratios = [pair((r.statistic, r.ratio) for r in mine if r.ratio_to == o) for o in others]
        implementation, sparsity, threads = line
        shown = "" if sparsity is None else f"{sparsity:.0%}"
        name = implementation if threads == 1 else f"{implementation} ({threads} threads)"
        cells.append([name, shown, pair((row.statistic, row.value) for row in mine), *ratios])
    return table(["", "sparsity", "low / median", *(f"x {other}" for other in others)], cells)


def pair(values: Iterable[tuple[str, float | None]]) -> str:
    """Return "low / median" of some (statistic, value), whatever of them there is."""
    by_name = dict(values)
    if NOT_MEASURED in by_name:
        return NOT_MEASURED
    numbers = [by_name[name] for name in ("low", "median") if by_name.get(name) is not None]
    numbers = numbers or list(by_name.values())
    return " / ".join(number(value) for value in numbers if value is not None)


def number(value: float) -> str:
    """Three digits or the whole part: 0.123, 1.23, 12.3, 123, 1,234."""
    for limit, digits in ((1.0, 3), (10.0, 2), (100.0, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def table(heading: list[str], cells: list[list[str]]) -> list[str]:
    """Return a Markdown table; columns from the second one on are numbers."""
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return [f"| {' | '.join(row)} |" for row in (heading, rule, *cells)]


def marks(learner: str, wanted: dict[tuple[str, float, int], float], rows: list[Row]) -> list[str]:
    """Return the table of what is asked for beside what was measured."""
    cells = []
    for (case, sparsity, per_call), mark in wanted.items():
        mine = [
            row
            for row in rows
            if row.case == case
            and row.implementation == updates.named(updates.ENGINE, per_call)
            and row.sparsity == sparsity
            and row.ratio_to == updates.named(f"sbx {learner}", per_call)
        ]
        ratios = [row.ratio for row in mine if row.ratio is not None]
        met = "yes" if ratios and min(ratios) >= mark else "**no**" if ratios else NOT_MEASURED
        measured = pair((row.statistic, row.ratio) for row in mine)
        cells.append([case, f"{sparsity:.0%}", str(per_call), measured, f"{mark:g}", met])
    heading = ["case", "sparsity", "updates per call", "ratio to sbx", "mark", "met"]
    return [*table(heading, cells), ""]


class Limit(NamedTuple):
    """A mark: of which rows, whether of their ratio or their value, and which side is met."""

    what: str
    rows: list[Row]
    mark: float
    at_least: bool = True
    of_ratio: bool = True


def limits(name: str, rows: list[Row]) -> list[str]:
    """Return the table of a benchmark's other marks beside what was measured."""

    def chosen(implementation: str, other: str | None, **fields: object) -> list[Row]:
        wanted = {"implementation": implementation, "ratio_to": other, **fields}
        return [r for r in rows if all(getattr(r, key) == value for key, value in wanted.items())]

    found: list[Limit] = []
    if name == "td3":
        for sparsity in (0.9, 0.95):
            shares = chosen(updates.ENGINE, None, metric=td3.EVOLUTION, sparsity=sparsity)
            what = f"moving links, % of the time, {sparsity:.0%} sparse"
            found.append(Limit(what, shares, td3.EVOLUTION_MARK, at_least=False, of_ratio=False))
    if name == "loop":
        for learner in ("TD3", "SAC"):
            ours = f"thrifty {learner}, engine"
            steps = chosen(ours, f"sbx {learner}", metric=loop.METRIC)
            found.append(Limit(f"steps per second over sbx {learner}'s", steps, loop.MARK))
            shares = chosen(ours, None, unit="%")
            what = f"moving links, % of the time, {learner}"
            found.append(Limit(what, shares, loop.EVOLUTION_MARK, at_least=False, of_ratio=False))
        two = chosen("two learners", "one learner")
        found.append(Limit("two learners on two cores over one", two, loop.TWO_LEARNERS))
    if name == "compact":
        for sparsity, mark in compact.MARKS.items():
            mine = [r for r in rows if (r.ratio_to, r.sparsity) == (compact.DENSE, sparsity)]
            found.append(Limit(f"updates over dense ones, {sparsity:.0%} sparse", mine, mark))
    if name == "lm":
        for implementation, metric, density, other, mark in lm.MARKS:
            sparsity = None if density is None else 1.0 - density
            mine = chosen(implementation, other, metric=metric, sparsity=sparsity)
            share = "" if density in (None, 1.0) else f", density {density:g}"
            what = f"{metric}: {implementation}{share}, over {other}"
            found.append(Limit(what, mine, mark, at_least=False))
    if name == "policy":
        for case in dict.fromkeys(row.case for row in rows if row.sparsity == 0.95):
            for implementation, other, mark in (
                (policy.OURS, policy.NUMPY, policy.MARK_NUMPY),
                (policy.OURS, policy.TORCH, policy.MARK_TORCH),
                (policy.OURS_NUMPY, policy.NUMPY, 1.0),
                (policy.OURS_FILE, policy.SAVEZ, policy.MARK_FILE),
            ):
                mine = chosen(implementation, other, case=case)
                what = f"{case.partition(',')[0]}: {implementation} over {other}"
                found.append(Limit(what, mine, mark, at_least=False))
    if not found:
        return []
    cells = []
    for what, mine, mark, at_least, of_ratio in found:
        values = [(row.statistic, row.ratio if of_ratio else row.value) for row in mine]
        numbers = [value for _, value in values if value is not None]
        met = all(value >= mark if at_least else value <= mark for value in numbers)
        verdict = NOT_MEASURED if not numbers else "yes" if met else "**no**"
        limit = f"{'at least' if at_least else 'at most'} {mark:.3g}"
        cells.append([what, pair(values), limit, verdict])
    return [*table(["mark", "measured", "wanted", "met"], cells), ""]


def kernel_table(rows: list[Row]) -> list[str]:
    """Return one line for each layer and product: useful GFLOP/s, and times faster than dense."""
    sparsities = sorted({row.sparsity or 0.0 for row in rows} - {0.0})
    low = [row for row in rows if row.statistic == "low"]
    cells = []
    for case in dict.fromkeys(row.case for row in rows):

        def rate(implementation: str, sparsity: float, case: str = case) -> str:
            values = {
                (row.implementation, row.sparsity): row.value
                for row in low
                if row.case == case and row.metric == kernels.METRIC
            }
            return f"{values[implementation, sparsity]:.0f}"

        def faster(sparsity: float, other: str, case: str = case) -> str:
            (row,) = (
                row
                for row in low
                if (row.case, row.sparsity, row.ratio_to) == (case, sparsity, other)
                and row.metric != kernels.METRIC
            )
            assert row.ratio is not None
            return number(1.0 / row.ratio)

        cells.append([case, rate(kernels.DENSE, 0.0), rate(kernels.DENSE_BF16, 0.0)])
        for sparsity in sparsities:
            against = " / ".join(faster(sparsity, o) for o in (kernels.DENSE, kernels.DENSE_BF16))
            cells[-1].append(f"{rate(kernels.SPARSE, sparsity)} ({against})")
    lines = [
        "Useful GFLOP/s at the low quantile; in brackets how many times faster than dense float32 "
        "/ dense bfloat16.",
        "",
    ]
    heading = ["inputs->outputs, product", "dense", "dense bf16"]
    return [*lines, *table([*heading, *(f"{s:.0%}" for s in sparsities)], cells), ""]


if __name__ == "__main__":
    main()
