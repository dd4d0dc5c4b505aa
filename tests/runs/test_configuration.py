"""Configurations survive JSON; what does not fit the dataclass is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thrifty.runs.configuration import from_json, to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Cosine:
    start: float
    until: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Static:
    name: str = "static"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    steps: int
    rate: float = 0.1
    on: bool = True
    mode: Literal["layer", "group", 3] = "layer"
    schedule: Cosine | Static = field(default_factory=Static)
    inner: Cosine
    sizes: tuple[int, ...] = (256, 256)
    pair: tuple[int, str] = (1, "a")
    many: tuple[Cosine, ...] = ()
    shares: dict[str, float] = field(default_factory=dict)
    layers: Mapping[str, Cosine] = field(default_factory=dict)
    maybe: Optional[Cosine] = None  # noqa: UP045 - both spellings are read
    anything: Any = None
    plain: tuple = ()  # type: ignore[type-arg]
    derived: int = field(init=False, default=7)


_cosines = st.builds(
    Cosine, start=st.floats(allow_nan=False), until=st.none() | st.integers(-(2**80), 2**80)
)
_settings = st.builds(
    Settings,
    steps=st.integers(),
    rate=st.floats(allow_nan=False),
    on=st.booleans(),
    mode=st.sampled_from(["layer", "group", 3]),
    schedule=_cosines | st.builds(Static, name=st.text()),
    inner=_cosines,
    sizes=st.lists(st.integers()).map(tuple),
    pair=st.tuples(st.integers(), st.text()),
    many=st.lists(_cosines, max_size=2).map(tuple),
    shares=st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=3),
    layers=st.dictionaries(st.text(), _cosines, max_size=2),
    maybe=st.none() | _cosines,
    anything=st.none() | st.integers() | st.text(),
    plain=st.lists(st.integers()).map(tuple),
)


@given(settings=_settings)
def test_every_configuration_survives_json(settings: Settings) -> None:
    text = json.dumps(to_json(settings), allow_nan=False)
    document = json.loads(text)
    del document["derived"]  # computed, not given
    assert from_json(Settings, document) == settings


def test_floats_that_json_lacks() -> None:
    document = json.loads(json.dumps(to_json(Cosine(start=math.nan)), allow_nan=False))
    assert document == {"start": "nan", "until": None}
    assert math.isnan(from_json(Cosine, document).start)


def test_scalars_of_numpy_become_pythons() -> None:
    settings = Settings(
        steps=np.int64(3),  # type: ignore[arg-type]
        rate=np.float32(0.5),  # type: ignore[arg-type]
        on=np.bool_(False),  # type: ignore[arg-type]
        inner=Cosine(start=np.float64(0.1)),
    )
    document = to_json(settings)
    assert [type(document[name]) for name in ("steps", "rate", "on")] == [int, float, bool]
    assert type(document["inner"]["start"]) is float
    del document["derived"]
    assert from_json(Settings, document) == settings


_GOOD: dict[str, Any] = {"steps": 1, "inner": {"start": 0.5}}


def test_what_the_file_lacks_takes_its_default() -> None:
    assert from_json(Settings, _GOOD) == Settings(steps=1, inner=Cosine(start=0.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 1}, "Settings has no field 'step': did you mean steps?"),
        ({"zzz": 1}, "Settings has no field 'zzz': it has steps, rate,"),
        ({"derived": 1}, "Settings has no field 'derived'"),
        ({"inner": {}}, r"Settings\.inner\.start is missing: give it a value"),
        ({"inner": {"start": 1, "untill": 2}}, r"Settings\.inner has no field 'untill': did you"),
        ({"inner": 3}, r"Settings\.inner is 3: expected the fields of Cosine"),
        ({"steps": 1.0}, r"Settings\.steps is 1\.0: expected int"),
        ({"steps": True}, r"Settings\.steps is True: expected int"),
        ({"rate": "fast"}, r"Settings\.rate is 'fast': expected float"),
        ({"rate": True}, r"Settings\.rate is True: expected float"),
        ({"on": 1}, r"Settings\.on is 1: expected bool"),
        ({"mode": "both"}, r"Settings\.mode is 'both': expected .*Literal"),
        ({"sizes": [1, "2"]}, r"Settings\.sizes\[1\] is '2': expected int"),
        ({"sizes": 256}, r"Settings\.sizes is 256: expected tuple"),
        ({"pair": [1]}, r"Settings\.pair has 1 items: expected 2"),
        ({"many": [{"start": None}]}, r"Settings\.many\[0\]\.start is None: expected float"),
        ({"shares": {"a": "b"}}, r"Settings\.shares\.a is 'b': expected float"),
        ({"maybe": 1}, r"maybe is 1: expected the fields of Cosine; or .*maybe is 1: expected"),
        ({"schedule": {"speed": 1}}, "no field 'speed': it has start.*; or .*it has name"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(Settings, {**_GOOD, **change})


@pytest.mark.parametrize("value", [{1, 2}, {1: 2}, object(), Static, len, b"x"])
def test_what_a_configuration_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a configuration cannot hold"):
        to_json({"field": (value,)})
