from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import thrifty.lm

MODULES = [module.name for module in pkgutil.iter_modules(thrifty.lm.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"thrifty.lm.{name}")).failed == 0
