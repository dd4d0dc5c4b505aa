"""Names lead to functions, or to the nearest names; folders for new runs are free."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thrifty.runs.naming import default_directory, names, resolve


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of recipes: one module with two functions, one with __all__, one private."""
    package = tmp_path / "toy_recipes"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rlx2.py").write_text(
        "from dataclasses import replace\n"
        "limit = 3\n"
        "def td3(): return 'td3'\n"
        "def sac(): return 'sac'\n"
        "def _shared(): return 'private'\n"
    )
    (package / "tiny.py").write_text(
        "__all__ = ['one', 'limit']\nlimit = 3\ndef one(): return 1\ndef two(): return 2\n"
    )
    (package / "_base.py").write_text("def hidden(): return 0\n")
    (package / "broken.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for module in [name for name in sys.modules if name.startswith("toy_recipes")]:
        monkeypatch.delitem(sys.modules, module)
    return "toy_recipes"


def test_the_namespace_is_the_registry(recipes: str) -> None:
    assert names(recipes) == ["rlx2.sac", "rlx2.td3", "tiny.one"]
    assert [resolve(name, recipes)() for name in names(recipes)] == ["sac", "td3", 1]


def test_a_users_own_function_is_found(recipes: str) -> None:
    assert resolve("toy_recipes.tiny:two", "unused")() == 2


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("rlx2.td4", "did you mean rlx2.td3"),
        ("rlx.td3", "did you mean rlx2.td3"),
        ("rlx2.replace", "did you mean rlx2.sac"),  # merely imported there
        ("rlx2._shared", "did you mean rlx2.sac"),
        ("tiny.two", "did you mean tiny.one"),  # not in __all__
        ("td3", "did you mean rlx2.td3?"),  # less than .6 alike, but its own name
        ("tin.on", "did you mean tiny.one?"),
        ("sca", "there are rlx2.sac, rlx2.td3, tiny.one"),  # half its letters: no near name
        ("zzzzzzzz", "there are rlx2.sac, rlx2.td3, tiny.one"),
        ("", "there are rlx2.sac, rlx2.td3, tiny.one"),
        ("rlx2.", "did you mean"),
        ("toy_recipes.rlx2:td33", "did you mean toy_recipes.rlx2:td3"),
        ("toy_recipes.rlx2:limit", "did you mean toy_recipes.rlx2:td3"),
        ("toy_recipes.nowhere:td3", "no module toy_recipes.nowhere (looked in "),
        ("nowhere:td3", "no module nowhere (looked in "),
        (".nowhere:td3", "no module .nowhere (looked in "),
        (":td3", "write module.function, or package.module:function"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_names(recipes: str, name: str, answer: str) -> None:
    with pytest.raises(ValueError, match="there is no recipe") as raised:
        resolve(name, recipes)
    assert repr(name) in str(raised.value)
    assert answer in str(raised.value)


def test_of_many_near_names_three_are_shown(recipes: str, tmp_path: Path) -> None:
    functions = "".join(f"def recipe{i}(): pass\n" for i in range(9))
    (tmp_path / recipes / "tiny.py").write_text(functions)
    with pytest.raises(ValueError, match="did you mean") as raised:
        resolve("tiny.recipe", recipes)
    assert str(raised.value).count("tiny.recipe") == 4  # what was asked, and three


def test_a_module_is_said_to_be_missing_with_the_place(recipes: str) -> None:
    with pytest.raises(ValueError, match="no module nowhere") as raised:
        resolve("nowhere:recipe", recipes)
    assert f"looked in {sys.path[0]} and the rest of sys.path" in str(raised.value)


def test_an_error_inside_a_recipe_is_not_hidden(recipes: str, tmp_path: Path) -> None:
    (tmp_path / recipes / "broken.py").write_text("import a_package_that_is_missing\n")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_missing"):
        resolve("broken.recipe", recipes)


def test_default_folders_are_readable_and_free(tmp_path: Path) -> None:
    def folder(environment: str = "HalfCheetah-v5") -> Path:
        arguments = {"environment": environment, "steps": 100}
        return default_directory("rlx2.td3", arguments, 3, root=tmp_path)

    assert folder() == tmp_path / "rlx2.td3-HalfCheetah-v5-seed3"
    folder().mkdir()
    assert folder() == tmp_path / "rlx2.td3-HalfCheetah-v5-seed3-2"
    folder().mkdir()
    assert folder() == tmp_path / "rlx2.td3-HalfCheetah-v5-seed3-3"
    assert folder("ALE/Pong v5").name == "rlx2.td3-ALE-Pong-v5-seed3"
    own = default_directory("my.runs:f", {}, 0, root=tmp_path)
    assert own.name == "my.runs-f-seed0"


def test_any_callable_of_ones_own_will_do() -> None:
    found: Callable[..., object] = resolve("pathlib:Path", "unused")
    assert found is Path
