from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import thrifty.sparse

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train" / "sparse_supervised.py"
MODULES = sorted(module.name for module in pkgutil.iter_modules(thrifty.sparse.__path__))


def run(source: str) -> float:
    scope: dict = {"__name__": "example"}
    exec(compile(source, str(EXAMPLE), "exec"), scope)
    return scope["main"]()


def test_three_changed_lines_make_a_supervised_loop_sparse(capsys: pytest.CaptureFixture) -> None:
    lines = EXAMPLE.read_text().splitlines()
    marked = [line for line in lines if line.rstrip().endswith(("  # 1", "  # 2", "  # 3"))]
    assert len(marked) == 3
    assert len(lines) < 60
    assert run("\n".join(lines)) > 0.95
    # 10 % of 2 * 128 + 128 * 128 + 128 * 3 = 17024 weights, by ERK.
    assert "with 1702 of 17024 weights" in capsys.readouterr().out
    # Without them it is the loop that it was: nothing else mentions us, and all weights are there.
    rest = "\n".join(line for line in lines if line not in marked)
    assert "thrifty" not in rest
    assert run(rest) > 0.95
    assert "with 17024 of 17024 weights" in capsys.readouterr().out


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(f"thrifty.sparse.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_everything_public_is_exported_and_documented() -> None:
    public = set()
    for name in MODULES:
        if name == "ingredients":  # what names in a configuration mean; not for users to import
            continue
        module = importlib.import_module(f"thrifty.sparse.{name}")
        public |= set(module.__all__)
        for item in module.__all__:
            thing = getattr(module, item)
            if getattr(thing, "__module__", None) == module.__name__:
                assert thing.__doc__, f"{name}.{item} has no docstring"
    assert public == set(thrifty.sparse.__all__)
