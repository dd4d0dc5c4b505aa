"""Teams for people: learn, predict, save, load, run folders, reports."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import thrifty
from thrifty.agents import load_run_policy
from thrifty.cli import main
from thrifty.marl.skirmish import Skirmish

SMALL: dict[str, Any] = {
    "n_envs": 4,
    "train_freq": 32,
    "batch_size": 4,
    "policy_kwargs": {"hidden": 8, "mixer_embed": 4},
}


def made(kind: Any = None, env: Any = "skirmish", **changes: Any) -> Any:
    return (kind or thrifty.QMIX)(env, **SMALL | changes)


@pytest.mark.parametrize("name", ["QMIX", "VDN", "WQMIX", "RES"])
def test_every_team_learns_and_predicts(name: str) -> None:
    team = made(getattr(thrifty, name))
    assert team.learn(400).num_timesteps == 400
    assert team.learner.updates > 0
    assert team.learner.name == {"WQMIX": "OW-QMIX"}.get(name, name)
    assert team.sparsity == pytest.approx(0.9, abs=0.01)
    actions, memory = team.predict(np.zeros((3, 24)))
    assert actions.shape == (3,)
    masks = np.zeros((2, 3, 9), bool)
    masks[..., 4] = True
    several, _ = team.predict(np.zeros((2, 3, 24)), action_masks=masks, deterministic=False)
    assert several.tolist() == [[4, 4, 4], [4, 4, 4]]
    _, later = team.predict(np.zeros((3, 24)), memory)
    assert not later.hidden.equal(memory.hidden)
    result = team.evaluate(6)
    assert len(result.returns) == len(result.lengths) == len(result.wins) == 6
    assert team.evaluate(6) == result


def test_a_team_is_shown_by_its_environment_steps_and_sparsity() -> None:
    team = thrifty.VDN("matrix_game", sparsity=0.0, seed=0)
    assert repr(team) == "VDN('matrix_game', 0 steps, sparsity 0.000)"


def test_a_team_in_a_file_goes_on_exactly(tmp_path: Path) -> None:
    one, two = made(seed=3), made(seed=3)
    records: list[Any] = []
    two.learn(800, records.append)

    def stop(record: dict[str, Any]) -> bool:
        return record["step"] < 400

    one.learn(800, stop)
    path = one.save(tmp_path / "team")
    assert path.name == "team.npz"
    again = thrifty.QMIX.load(tmp_path / "team")
    rest: list[Any] = []
    again.resume(rest.append)
    assert rest
    assert rest == records[-len(rest) :]
    with pytest.raises(ValueError, match=r"use thrifty\.QMIX\.load"):
        thrifty.VDN.load(path)


def test_a_function_makes_the_environment(tmp_path: Path) -> None:
    def fight(copies: int, seed: int) -> Skirmish:
        return Skirmish(copies, seed, size=2)

    team = made(env=fight).learn(200)
    assert team.environment == "skirmish"
    assert team.predict(np.zeros((2, 16)))[0].shape == (2,)
    path = team.save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="given by a function"):
        thrifty.QMIX.load(path)
    assert thrifty.QMIX.load(path, env=fight).num_timesteps == 200


@pytest.mark.parametrize("seed", [0, 7])
def test_an_evaluation_plays_games_that_training_has_not_seen(seed: int) -> None:
    begun: list[int] = []

    def fight(copies: int, seed: int) -> Skirmish:
        begun.append(seed)
        return Skirmish(copies, seed)

    team = made(env=fight, seed=seed).learn(200)
    seen, begun[:] = set(begun), []
    team.evaluate(10, seed=seed)
    assert len(begun) == len(set(begun)) == 3
    assert not seen & set(begun)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: made(topology="mesh"), "unknown topology 'mesh'"),
        (lambda: made(tricks="rlx2"), "unknown tricks 'rlx2'"),
        (lambda: made(policy_kwargs={"width": 3}), r"unknown keys \['width'\]"),
        (lambda: made(policy_kwargs={"next_value": "mean"}), "next_value is 'mean': expected"),
        (lambda: made(policy_kwargs={"hidden": 2.5}), "hidden is 2.5: expected int"),
        (lambda: made(buffer_size=3), "replay_episodes must be more than batch_episodes"),
        (lambda: made(env="chess"), "no multi-agent environment 'chess'"),
        (lambda: made().learn(0), "total_timesteps must be at least 1"),
        (lambda: made().learn(8).learn(8, evaluate_every=-1), "evaluate_every must be at least 0"),
        (lambda: made().resume(), "nothing to resume"),
        (lambda: made().evaluate(0), "at least one episode"),
        (lambda: made().predict(np.zeros((3, 25))), r"expected \(3, 24\)"),
        # On the engine a wrong memory would be read beyond its end.
        (
            lambda: made().predict(np.zeros((5, 3, 24)), made().predict(np.zeros((3, 24)))[1]),
            "not the memory of 5 games",
        ),
        (
            lambda: made().predict(np.zeros((3, 24)), action_masks=np.zeros((3, 9), bool)),
            "without any action",
        ),
        (
            lambda: made().predict(np.zeros((3, 24)), action_masks=np.ones((3, 8), bool)),
            "action_masks have shape",
        ),
    ],
)
def test_what_cannot_work_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


TRAIN = (
    *("train", "mast.mast", "--env", "skirmish", "--steps", "800", "--parameters", "own"),
    *("--environments", "4", "--train-every", "16", "--evaluation-episodes", "4", "--quiet"),
    *("--algorithm.hidden", "8", "--algorithm.batch-episodes", "3"),
    *("--algorithm.recent-batch", "1", "--algorithm.mixing.update-every", "9"),
)


def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TRAIN, "--out", "a"]) == 0
    assert main(["evaluate", "a", "--episodes", "4"]) == 0
    out = capsys.readouterr().out
    assert "skirmish: mean return" in out
    assert "games won:" in out
    assert main(["report", "a"]) == 0
    page = (tmp_path / "a" / "report.html").read_text()
    for words in ("An episode", "win rate", "Density of each layer of value.agents", "Ledger by"):
        assert words in page
    for what in ("Games won", "Return"):
        for axis in ("environment steps", "wall time"):
            assert f"{what} over {axis}" in page
    # The ledger counts a step of one episode, in both ways of counting.
    assert "training FLOPs (per step of a minibatch" in page
    assert "per update" not in page
    assert page.count("<circle") > 20
    shutil.copytree("a", "b")
    assert main(["report", "a", "b"]) == 0
    assert main(["evaluate", "a", "--episodes", "1", "--video"]) == 0
    assert "video: a/episode.gif (return" in capsys.readouterr().out
    with Image.open("a/episode.gif") as video:
        assert video.n_frames > 2  # type: ignore[attr-defined]
    assert main(["evaluate", "a", "--episodes", "1", "--video", "b/c.gif"]) == 0
    assert (tmp_path / "b" / "c.gif").exists()
    assert main(["export", "a", "--out", "p.npz"]) == 2
    assert "holds a team" in capsys.readouterr().err
    assert isinstance(load_run_policy("a"), thrifty.QMIX)
    assert main(["resume", "a", "--quiet"]) == 0  # finished already


@pytest.mark.parametrize(
    ("recipe", "learner", "kind"),
    [("dense", "vdn", "VDN"), ("tiny", "cw_qmix", "WQMIX"), ("rlx2", "res", "RES")],
)
def test_a_run_gives_back_its_team(
    recipe: str, learner: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", f"mast.{recipe}", "--env", "predator_prey", "--steps", "300", "--quiet"]
    words += ["--learner", learner, "--evaluate-every", "0", "--out", str(out)]
    assert main([*words, "--algorithm.batch-episodes", "2"]) == 0
    assert type(load_run_policy(out)).__name__ == kind
    assert main(["report", str(out)]) == 0
    assert "No evaluation was recorded yet" in (out / "report.html").read_text()
    capsys.readouterr()
