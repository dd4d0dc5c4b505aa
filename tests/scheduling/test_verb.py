from __future__ import annotations

import json
from pathlib import Path

import pytest

from thrifty.cli import main


def test_one_optimum_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimum", "S1", "--budget", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["optimum"] == pytest.approx(14.3008, abs=1e-4)
    assert found["multiplier"] == pytest.approx(0.34351, abs=1e-5)
    assert found["energy"] == pytest.approx(10.0)


def test_a_hidden_channel_has_its_own_bound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimum", "S2", "--budget", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["optimum"] == pytest.approx(33.239, abs=1e-3)
    assert found["hidden_at_most"] == pytest.approx(32.015, abs=1e-3)


@pytest.mark.parametrize("budget", ["3", "3,3,3"])
def test_one_number_or_one_for_each_node(budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimum", "S5", "--budget", budget, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["optimum"] == pytest.approx(12.0742, abs=1e-4)
    assert found["multiplier"] == pytest.approx([0.825, 0.857, 0.950], abs=1e-3)


def test_the_two_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimum", "csi:1:4", "--budget", "50", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["multiplier"] == 0.0
    assert found["slack"] == pytest.approx(50 - 38.332, abs=1e-3)
    assert main(["optimum", "S1", "--budget", "0"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split() == ["optimum", "0", "weighted", "packets", "per", "slot"]
    assert shown[2].endswith("price of energy")


def test_the_frontier(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimum", "S1", "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["frontier"]
    values = [point["optimum"] for point in points]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(20.033, abs=1e-3)
    assert main(["optimum", "S5"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "multiplier" in shown[1]
    assert len(shown) == 2 + len(points)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["S1", "--budget", "-1"], "budget"),
        (["S1", "--budget", "ten"], "'ten' is not a number"),
        (["S5", "--budget", "3,3"], "3 nodes"),
        (["S6", "--budget", "3"], "no scenario 'S6'"),
        (["csi:a:b"], "csi:SEED:USERS"),
    ],
)
def test_a_mistake_gets_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimum", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_file_with_a_bad_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.json"
    content = {
        "weights": [1], "attempts": [2], "distances": [1.0], "arrivals": {"rates": [1.0]},
        "channel": {"values": [1.0, 2.0], "kernels": [[0.5, 0.6], [0.5, 0.5]]},
    }  # fmt: skip
    path.write_text(json.dumps(content))
    assert main(["optimum", str(path), "--budget", "1"]) == 2
    assert "not stochastic" in capsys.readouterr().err
