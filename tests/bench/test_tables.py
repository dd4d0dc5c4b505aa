from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from thrifty.bench import compact, lm, schema, td3, updates
from thrifty.bench.schema import NOT_MEASURED, Row

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tables() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("tables")
    finally:
        sys.path.remove(str(BENCHMARKS))


def row(implementation: str, value: float | None, **changes: object) -> Row:
    fields: dict[str, object] = {
        "case": "halfcheetah",
        "implementation": implementation,
        "sparsity": 0.0,
        "updates_per_call": 1,
        "metric": updates.METRIC,
        "statistic": "low",
        "value": value,
        "unit": "1/s",
    }
    return Row(**{**fields, **changes})  # type: ignore[arg-type]


def rows_of_td3(ratio: float = 10.0) -> list[Row]:
    """Sbx makes 100 updates a second, the engine at 95 % ``ratio`` times as many."""
    rows = []
    for statistic in ("low", "median"):
        rows += [row("sbx TD3", 100.0, statistic=statistic)]
        rows += [row(updates.ENGINE, 300.0, sparsity=0.8, statistic=statistic)]
        rows += [row(updates.ENGINE, 100.0 * ratio, sparsity=0.95, statistic=statistic)]
        rows += [
            row(updates.ARITHMETIC, v, sparsity=s, statistic=statistic)
            for s, v in ((0.8, 1e3), (0.95, 4e3))
        ]
    rows += [row("SB3 TD3", None, statistic=NOT_MEASURED)]
    return updates.against(rows, updates.ENGINE, ["sbx TD3"])


def test_the_page_beside_the_measurements_is_up_to_date(tables: ModuleType) -> None:
    """`python benchmarks/tables.py` was run after the last measurement."""
    assert (BENCHMARKS / "README.md").read_text(encoding="utf-8") == tables.page(BENCHMARKS)


def test_a_page_states_numbers_ratios_gaps_marks_and_the_machine(
    tables: ModuleType, tmp_path: Path
) -> None:
    schema.write(tmp_path / "td3.json", rows_of_td3(), command="thrifty bench td3")
    page = tables.page(tmp_path)
    assert "| thrifty engine | 95% | 1,000 / 1,000 | 10.0 / 10.0 |" in page
    assert "| SB3 TD3 | 0% | not measured |  |" in page
    assert "| halfcheetah | 95% | 1 | 10.0 / 10.0 | 12 | **no** |" in page  # the mark is 12
    assert "`thrifty bench td3`" in page
    assert "cores" in page
    schema.write(tmp_path / "td3.json", rows_of_td3(12.5), command="x")
    assert "| halfcheetah | 95% | 1 | 12.5 / 12.5 | 12 | yes |" in tables.page(tmp_path)
    assert td3.MARKS["halfcheetah", 0.95, 1] == 12.0


def test_every_mark_stands_beside_what_was_measured(tables: ModuleType) -> None:
    """A benchmark's docstring states its marks; the page says which are met and which are not."""
    dense = row(compact.DENSE, 100.0)
    rows = [dense, row("c", 360.0, sparsity=0.9, ratio=3.6, ratio_to=compact.DENSE)]
    rows += [row("c", 440.0, sparsity=0.95, ratio=4.4, ratio_to=compact.DENSE)]
    page = tables.limits("compact", rows)
    assert "| updates over dense ones, 90% sparse | 3.60 | at least 3.5 | yes |" in page
    assert "| updates over dense ones, 95% sparse | 4.40 | at least 4.5 | **no** |" in page
    shares = [
        row("thrifty TD3, engine", v, statistic=s, metric="share", unit="%", sparsity=0.95)
        for s, v in (("low", 1.5), ("median", 2.5))
    ]
    page = tables.limits("loop", shares)
    assert "| moving links, % of the time, TD3 | 1.50 / 2.50 | at most 2 | **no** |" in page
    assert "| moving links, % of the time, SAC |  | at most 2 | not measured |" in page
    fields = {"metric": lm.STEP, "unit": "ms", "ratio_to": lm.DENSE, "sparsity": 0.9}
    steps = [
        row(lm.LINKS, 1.0, statistic=s, ratio=r, **fields)
        for s, r in (("low", 0.6), ("median", 0.7))
    ]
    runs = [row(lm.MIXED[0], 1.0, **{**fields, "metric": lm.RUN, "sparsity": None}, ratio=0.65)]
    page = tables.limits("lm", steps + runs)
    links = f"{lm.STEP}: {lm.LINKS}, density 0.1, over {lm.DENSE}"
    assert f"| {links} | 0.600 / 0.700 | at most 0.667 | **no** |" in page
    assert f"| {lm.RUN}: {lm.MIXED[0]}, over {lm.DENSE} | 0.650 | at most 0.714 | yes |" in page
    assert f"| {lm.STEP}: {lm.DENSE}, over {lm.NANOGPT} |  | at most 1 | not measured |" in page
    assert tables.limits("kernels", rows) == []


def test_the_picture_is_drawn(tables: ModuleType, tmp_path: Path) -> None:
    tables.updates_picture.draw(rows_of_td3(), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_labels_keep_their_distance_and_their_order(tables: ModuleType) -> None:
    """The pair is moved apart around its mean 0.5; the far one stays; a chain is one run."""
    spread = tables.updates_picture.spread
    assert spread([0.49, 0.51, 0.9], 0.1) == pytest.approx([0.45, 0.55, 0.9])
    assert spread([0.4, 0.48, 0.56], 0.1) == pytest.approx([0.38, 0.48, 0.58])
    assert spread([], 0.1) == []
