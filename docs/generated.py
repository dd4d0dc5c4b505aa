"""What the pages take from the repository when they are built: code, benchmarks, claims.

A line of a page that begins with `:::` is replaced, so that nothing of it can become stale:

    ::: code thrifty.sparse.schedule:Cosine.drop_fraction    the function without its docstring
    ::: claims                                               every row of results/*/claims.toml
    ::: engine                                               the table of benchmarks/td3.json
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with the text of every page."""
    return re.sub(
        r"^::: (\w+) ?(.*)$", lambda found: made(found[1], found[2]), markdown, flags=re.M
    )


def made(kind: str, argument: str) -> str:
    """Return what stands for a line `::: kind argument`."""
    return {"code": code, "claims": claims, "engine": engine}[kind](argument)


def code(name: str) -> str:
    """Return a function or class as a block of code under its file and line.

    Args:
        name: module:function or module:Class.method.
    """
    module_name, _, path = name.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in path.split("."):
        found = inspect.unwrap(getattr(found, part))
    found = getattr(found, "py_func", getattr(found, "fget", None) or found)  # Numba's, a property
    lines, first = inspect.getsourcelines(found)
    file = Path(inspect.getsourcefile(found) or "").resolve()
    source = "src/" + file.as_posix().rpartition("/src/")[2]
    text = without_docstring(textwrap.dedent("".join(lines)))
    return f'```python title="{source}, line {first}"\n{text}\n```'


def without_docstring(source: str) -> str:
    """Return a definition without the docstring that explains it."""
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.FunctionDef | ast.ClassDef)
    lines = source.rstrip().splitlines()
    first = definition.body[0]
    if ast.get_docstring(definition) is not None:
        assert first.end_lineno is not None
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines)


def claims(_: str) -> str:
    """Return all claims as a table."""
    from thrifty.report.claims import read_results, render_table

    return render_table(read_results(ROOT / "results"))


def engine(_: str) -> str:
    """Return what benchmarks/td3.json measured, one update per call, at the low quantile."""
    rows = json.loads((ROOT / "benchmarks/td3.json").read_text(encoding="utf-8"))["rows"]

    def value(**wanted: Any) -> float | None:
        found = [r for r in rows if all(r[key] == one for key, one in wanted.items())]
        key = "ratio" if wanted.get("ratio_to") else "value"
        return float(found[0][key]) if found else None

    lines = [
        "| sizes of | sparsity | engine, updates/s | arithmetic limit | share of it | x sbx (JAX) "
        "| x dense float32 | x dense bfloat16 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for case in ("halfcheetah", "humanoid"):
        for sparsity in (0.8, 0.9, 0.95, 0.97):
            here = {"case": case, "sparsity": sparsity, "statistic": "low"}
            own = here | {"implementation": "thrifty engine"}
            ours = value(**own)
            limit = value(**here, implementation="arithmetic limit")
            assert ours is not None
            assert limit is not None
            ratios = (
                value(**own, ratio_to=other)
                for other in (
                    "sbx TD3",
                    "dense without autograd",
                    "dense without autograd, bf16",
                )
            )
            shown = " | ".join("-" if one is None else f"{one:.1f}" for one in ratios)
            lines.append(
                f"| {case} | {sparsity:.0%} | {ours:,.0f} | {limit:,.0f} | {ours / limit:.0%} "
                f"| {shown} |"
            )
    return "\n".join(lines)
