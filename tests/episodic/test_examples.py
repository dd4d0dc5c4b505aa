"""The examples in the docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import thrifty.episodic

NAMES = [module.name for module in pkgutil.iter_modules(thrifty.episodic.__path__)]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"thrifty.episodic.{name}"))
    assert found.failed == 0
