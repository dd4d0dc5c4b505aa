from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thrifty.scheduling import optimum
from thrifty.scheduling.arrivals import Arrivals, on_off
from thrifty.scheduling.channels import (
    MarkovChannel,
    TraceChannel,
    piecewise,
    shifting,
    square_wave,
)
from thrifty.scheduling.scenarios import Scenario, copies, csi, node_budget, scenario

MATRIX = [[0.9, 0.1], [0.3, 0.7]]


def small(**changes: object) -> Scenario:
    fields: dict[str, object] = {
        "name": "small",
        "weights": [1.0, 2.0],
        "attempts": [2, 3],
        "distances": [1.0, 1.0],
        "arrivals": Arrivals([1.0, 1.0]),
        "channel": MarkovChannel([1.0, 2.0], MATRIX),
    }
    return Scenario(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_official_generator_is_reproduced() -> None:
    # Printed by the published generator's draws, attribute by attribute, for its default instance.
    one = csi(1, 4)
    assert one.arrivals.rates.tolist() == [[3, 2, 4, 2]]
    assert one.attempts.tolist() == [5, 5, 5, 7]
    assert one.weights.tolist() == [4, 2, 1, 4]
    np.testing.assert_allclose(one.distances[:, 0], [1.0283, 1.8358, 1.4328, 1.7623], atol=5e-5)
    matrix = [
        [0.0015, 0.3186, 0.5162, 0.1637],
        [0.4968, 0.4738, 0.0161, 0.0134],
        [0.2605, 0.4519, 0.1834, 0.1042],
        [0.3800, 0.0261, 0.1996, 0.3942],
    ]
    np.testing.assert_allclose(one.channel.kernels[0, 0, 0], matrix, atol=5e-5)
    stationary = one.channel.stationary()[0, 0, 0]
    np.testing.assert_allclose(stationary, [0.2879, 0.3689, 0.2195, 0.1237], atol=5e-5)
    assert one.offered == 28.0


def test_two_more_official_seeds() -> None:
    two, three = csi(2, 4), csi(3, 4)
    assert two.attempts.tolist() == [3, 7, 7, 4]
    assert two.weights.tolist() == [3, 5, 2, 5]
    assert three.arrivals.rates.tolist() == [[3, 3, 4, 5]]
    np.testing.assert_allclose(three.distances[:, 0], [1.2343, 1.9956, 1.4703, 1.8365], atol=5e-5)


def test_switches_of_the_official_generator() -> None:
    # Bernoulli rates come from NumPy, so Python's first draws are the delays: the Poisson
    # instance's rates of 3, 2, 4, 2 drawn from 2..5 become other numbers drawn from 1..6.
    python = random.Random(1)
    delays = [python.randint(1, 6) for _ in range(4)]
    one = csi(1, 4, bernoulli=True)
    assert one.attempts.tolist() == [delay + 1 for delay in delays]
    np.testing.assert_array_equal(one.arrivals.rates[0], np.random.default_rng(1).random(4))
    same = csi(1, 4, homogeneous=True)
    assert same.weights.tolist() == [1, 1, 1, 1]
    assert same.distances.tolist() == [[1.0]] * 4
    assert same.attempts.tolist() == csi(1, 4).attempts.tolist()


@pytest.mark.parametrize(("name", "offered"), [("S2", 50), ("S3", 240), ("S4", 24), ("S5", 25)])
def test_offered_weight(name: str, offered: float) -> None:
    assert scenario(name).offered == pytest.approx(offered)  # sums of rate times weight


def test_copies_repeat_and_scale() -> None:
    assert copies(64).weights.tolist() == [*scenario("S3").weights.tolist()] * 2
    assert copies(64).budget == 80.0
    with pytest.raises(ValueError, match="blocks of 32"):
        copies(33)


def test_cells_of_several_hops() -> None:
    one = small(distances=[[1.0, 1.0], [1.0, 1.0]])
    # K = 2: 2 slots at the first hop, 1 at the second; K = 3: 3 and 2.
    assert one.cells.sum(axis=-1).tolist() == [[2, 1], [3, 2]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attempts": [0, 2]}, "at least one attempt"),
        ({"attempts": [1.5, 2]}, "whole numbers"),
        ({"weights": [-1, 2]}, "weights"),
        ({"weights": [np.nan, 2]}, "weights"),
        ({"distances": [0.0, 1.0]}, "distances"),
        ({"budget": -1.0}, "budget"),
        ({"budget": [1.0, 2.0]}, "nodes"),
        ({"arrivals": Arrivals([1.0])}, "flows"),
        ({"channel": TraceChannel([1.0, 2.0], np.zeros((5, 3), int))}, "links"),
    ],
)
def test_a_bad_scenario_is_refused_in_one_line(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as problem:
        small(**changes)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ([[0.9, 0.2], [0.3, 0.7]], "not stochastic: row 0 of matrix 0"),
        ([[1.1, -0.1], [0.3, 0.7]], "not stochastic"),
        ([[0.9, np.nan], [0.3, 0.7]], "not stochastic"),
        ([[1.0]], "must be 2 x 2"),
    ],
)
def test_a_bad_matrix_is_refused(matrix: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MarkovChannel([1.0, 2.0], matrix)


def test_other_bad_channels_and_arrivals() -> None:
    with pytest.raises(ValueError, match="positive"):
        MarkovChannel([0.0, 2.0], MATRIX)
    with pytest.raises(ValueError, match="cycle"):
        MarkovChannel([1.0, 2.0], MATRIX, (0, 1))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        TraceChannel([1.0, 2.0], np.full((3, 1), 2))
    with pytest.raises(ValueError, match="whole numbers"):
        TraceChannel([1.0, 2.0], np.zeros((3, 1)))
    with pytest.raises(ValueError, match="probability"):
        Arrivals([1.5], "bernoulli")
    with pytest.raises(ValueError, match="poisson, bernoulli"):
        Arrivals([1.5], "pareto")
    with pytest.raises(ValueError, match="whole"):
        Arrivals([1.5], "deterministic")
    with pytest.raises(ValueError, match=">= 0"):
        Arrivals([-1.0])


def test_stationary_law_of_a_cycle() -> None:
    # Under the matrix of each slot the law of a slot leads to the law of the next.
    channel = scenario("S4").channel
    assert isinstance(channel, MarkovChannel)
    law = channel.stationary()[:, 0, 0]
    moved = (law[:, None, :] @ channel.by_slot()[:, 0, 0])[:, 0]
    np.testing.assert_allclose(moved, np.roll(law, -1, axis=0), atol=1e-12)


def test_deterministic_channels() -> None:
    # state + t^2 mod 3 for t = 0, 1, 2: shifts of 0, 1 and 4 = 1.
    shift = shifting([1.0, 2.0, 3.0], 2)
    first = shift.kernels[:, 0, 0, 0].argmax(axis=-1)
    assert first[list(shift.cycle)].tolist() == [0, 1, 1]
    wave = square_wave([1.0, 2.0], 4)
    # Out of slots 0 and 1 to state 0, out of 2 and 3 to state 1, from anywhere.
    assert wave.kernels[list(wave.cycle), 0, 0, 1].argmax(axis=-1).tolist() == [0, 0, 1, 1]


def test_bursts_keep_the_mean() -> None:
    assert on_off([2.0, 3.0], on=5, off=15).mean.tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match="on >= 1"):
        on_off([1.0], on=0, off=2)
    with pytest.raises(ValueError, match="at least one slot"):
        piecewise([1.0, 2.0], [(MATRIX, 0)])


def test_a_budget_for_every_node() -> None:
    assert node_budget(3, 2).tolist() == [3.0, 3.0]
    with pytest.raises(ValueError, match="finite"):
        node_budget(np.inf, 1)


TOML = """
weights = [1, 2]
attempts = [2, 3]
distances = [1.0, 1.2]
budget = 2.5
law = "exponential"
[arrivals]
rates = [1.0, 0.5]
[channel]
values = [1.0, 2.0]
kernels = [[0.9, 0.1], [0.3, 0.7]]
"""


def test_a_scenario_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    found = scenario(str(path))
    assert (found.name, found.flows, found.budget) == ("mine", 2, 2.5)
    content = {
        "weights": [1, 2], "attempts": [2, 3], "distances": [1.0, 1.2],
        "arrivals": {"rates": [1.0, 0.5]}, "channel": {"values": [1.0, 2.0], "kernels": MATRIX},
    }  # fmt: skip
    other = tmp_path / "mine.json"
    other.write_text(json.dumps(content))
    np.testing.assert_array_equal(scenario(str(other)).attenuation, found.attenuation)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TOML.replace("budget", "bugdet"), r"unknown: 'bugdet' \(perhaps budget\)"),
        (TOML.replace("rates", "rate"), r"in arrivals, .*unknown: 'rate' \(perhaps rates\)"),
        (TOML.replace("kernels", "matrix"), "in channel, missing: kernels; unknown: 'matrix'"),
        (TOML.replace("1.2]", "inf]"), r"distances\[1\] must be a finite number.*got inf"),
        (TOML.replace("1.2]", "1e-12]"), r"d\^3 c must lie within 1e-30"),
        (TOML.replace("[1, 2]", "[1, nan]"), r"weights\[1\] must be a finite number"),
        (TOML.replace("[1, 2]", '"12"'), "weights must be a finite number.*got '12'"),
        (TOML.replace("[1, 2]", "[1, true]"), r"weights\[1\] must be a finite number.*got True"),
        (TOML.replace("[2, 3]", '[2, "3"]'), r"attempts\[1\] must be a finite number"),
        (TOML.replace("[2, 3]", "[2, 2.5]"), "2 whole numbers"),
        (TOML.replace("[2, 3]", "[2, 1e9]"), "attempts are at most 100000"),
        (TOML.replace("[1.0, 1.2]", "[[], []]"), "distances must be positive"),
        (TOML.replace("[0.3, 0.7]", "[0.3]"), "channel.kernels must hold lists of one length"),
        (TOML.replace("2.5", "true"), "budget must be a finite number"),
        (TOML.replace("2.5", "-1"), "budget must be a finite number >= 0"),
        (TOML + "cycle = [0.5]", "channel.cycle must be a list of whole numbers"),
        (TOML + "cycle = [1]", "must name matrices 0 to 0"),
        (TOML + "common = 1", "channel.common must be true or false"),
        ('hidden = "yes"' + TOML, "hidden must be true or false, got 'yes'"),
        ("name = 3" + TOML, "name must be text"),
        ('name = "a\\nb"' + TOML, "name must be text of one line"),
        (TOML.replace("[arrivals]\n", "").replace("rates", "arrivals"), "arrivals must be a table"),
        (TOML.replace("weights", "w"), "missing: weights"),
        (TOML.replace('"exponential"', '"linear"'), "tanh, exponential"),
        (TOML.replace("0.1]", "0.2]"), "not stochastic"),
        ("no toml", "not a scenario"),
    ],
)
def test_a_bad_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as problem:
        scenario(str(path))
    assert "mine.toml" in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("text", ["[1, 2]", "3", "null", '"S1"', "[", "\udcff"])
def test_json_that_is_no_table_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"mine\.json is not a scenario") as problem:
        scenario(str(path))
    assert "\n" not in str(problem.value)


CONTENT: dict[str, Any] = tomllib.loads(TOML) | {"name": "mine", "hidden": False}
CONTENT["arrivals"]["kind"] = "poisson"
CONTENT["channel"] |= {"cycle": [0], "common": False}
_NUMBERS = st.integers(-2, 5) | st.floats() | st.sampled_from([10**400, -(10**20), 1e-200])
_ANYTHING = st.recursive(
    _NUMBERS | st.none() | st.booleans() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@st.composite
def mutations(draw: st.DrawFn) -> dict[str, Any]:
    """The content with one place changed, left out, doubled or renamed."""
    content: dict[str, Any] = copy.deepcopy(CONTENT)
    place: Any = content
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
            break
        place = place[key]
    change = draw(st.sampled_from(["number", "anything", "out", "twice"]))
    if change == "out":
        del place[key]
    elif change == "twice":
        if isinstance(place, dict):
            place[draw(st.text(max_size=8))] = place.pop(key)
        else:
            place.append(place[key])
    else:
        place[key] = draw(_NUMBERS if change == "number" else _ANYTHING)
    return content


def read(path: Path) -> Scenario | None:
    """The scenario of a file, or None where it is refused in one line with its name."""
    try:
        return scenario(str(path))
    except ValueError as refusal:
        said = str(refusal)
    assert said.startswith(f"{path} is not a scenario: ")
    assert "\n" not in said
    return None


@settings(max_examples=200)
@given(content=mutations())
def test_a_file_with_one_change_is_a_scenario_or_refused_in_a_line(
    content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_text(json.dumps(content))
    found = read(path)
    if found is not None:
        assert np.isfinite(optimum.solve(found, 0.5).optimum)


@settings(max_examples=100)
@given(at=st.integers(0, len(TOML) - 1), new=st.text(max_size=2))
def test_a_file_with_one_letter_changed(
    at: int, new: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.toml"
    path.write_text(TOML[:at] + new + TOML[at + 1 :])
    read(path)


def test_a_canonical_name_with_more_users() -> None:
    assert copies(64).name == "S3x64"
    found = scenario("S3x64")
    assert (found.name, found.flows, found.budget) == ("S3x64", 64, 80.0)
    with pytest.raises(ValueError, match="blocks of 32"):
        scenario("S3x40")


def test_a_record_needs_channel_values() -> None:
    with pytest.raises(ValueError, match="channel values must be positive"):
        TraceChannel([np.inf, 1.0], np.zeros((3, 1), int))
    with pytest.raises(ValueError, match="must name matrices"):
        MarkovChannel([1.0, 2.0], MATRIX, cycle=(0.5,))  # type: ignore[arg-type]


def test_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="S1, S2"):
        scenario("S7")
    with pytest.raises(ValueError, match="csi:SEED:USERS"):
        scenario("csi:1")


def test_planners_and_simulator_work_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import pkgutil, thrifty.scheduling as s; "
        "import thrifty.scheduling.optimum, thrifty.scheduling.hidden, thrifty.scheduling.belief, "
        "thrifty.scheduling.occupancy, thrifty.scheduling.clairvoyant, thrifty.scheduling.traces, "
        "thrifty.scheduling.baselines, thrifty.scheduling.environment, thrifty.scheduling.verb"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
