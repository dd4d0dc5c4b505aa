from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from batches import SPEC, batch, episode

from thrifty.marl.episodes import EpisodeReplay, Rows
from thrifty.runs import load_state, save_state


def filled(count: int, capacity: int = 10) -> EpisodeReplay:
    """Episodes whose first reward is their number."""
    rng, rows = np.random.default_rng(0), Rows(SPEC)
    replay = EpisodeReplay(capacity, rows)
    for number in range(count):
        one = episode(rng, 1 + number % 4, terminated=False)
        one[0, rows.reward] = number
        replay.add(one)
    return replay


def numbers(replay: EpisodeReplay, count: int, **kind: int) -> set[int]:
    drawn = replay.sample(count, np.random.default_rng(1), **kind)
    return {int(value) for value in drawn.reward[0]}


def test_the_oldest_makes_room() -> None:
    replay = filled(25)
    assert len(replay) == 10
    assert numbers(replay, 400) == set(range(15, 25))


def test_the_newest_are_a_buffer_of_their_own() -> None:
    replay = filled(10)
    assert numbers(replay, 0, recent=200, among=3) == {7, 8, 9}
    assert numbers(replay, 0, recent=200, among=99) == set(range(10))
    both = replay.sample(24, np.random.default_rng(2), recent=8, among=2)
    assert both.reward.shape[1] == 32
    assert {int(v) for v in both.reward[0, 24:]} <= {8, 9}


def test_a_batch_is_padded_after_each_end() -> None:
    one = batch()
    assert one.filled.sum(0).tolist() == [6, 3, 1, 4]
    assert one.terminated.sum(0).tolist() == [1, 0, 1, 0]
    assert one.terminated[5, 0] == one.terminated[0, 2] == 1
    assert one.observation.shape == (7, 4, 2, 4)
    assert one.state.shape == (7, 4, 5)
    # Step 2 of the third episode is padding: everything is available there, nothing happened.
    assert bool(one.available[2, 2].all())
    assert not one.observation[2, 2].any()
    assert not one.reward[1:, 2].any()
    # What was seen at the end of an episode is there: the row after its last step.
    assert bool(one.observation[3, 1].any())
    assert not one.filled[3, 1]


def test_actions_taken_were_available() -> None:
    one = batch(3)
    taken = one.available[:-1].gather(-1, one.action.unsqueeze(-1)).squeeze(-1)
    assert bool((taken | (one.filled == 0).unsqueeze(-1)).all())


def test_a_checkpoint_appends_what_is_new(tmp_path: Path) -> None:
    path, journal = tmp_path / "state.npz", tmp_path / "journal"
    replay = filled(7)
    stored = save_state(path, {"replay": replay}, journal=journal)
    first = {file.name for file in journal.iterdir()}
    rng = np.random.default_rng(9)
    for _ in range(6):
        replay.add(episode(rng, 3, terminated=True))
    save_state(path, {"replay": replay}, journal=journal, stored=stored)
    assert first <= {file.name for file in journal.iterdir()}
    again = EpisodeReplay(10, Rows(SPEC))
    again.load(load_state(path, journal=journal)["replay"])
    assert (again.first, again.total, len(again)) == (replay.first, replay.total, len(replay))
    mine, theirs = (one.sample(50, np.random.default_rng(3)) for one in (replay, again))
    for left, right in zip(mine, theirs, strict=True):
        assert left.equal(right)


def test_an_empty_replay_can_be_stored(tmp_path: Path) -> None:
    save_state(tmp_path / "a.npz", {"replay": EpisodeReplay(10, Rows(SPEC))})
    again = EpisodeReplay(10, Rows(SPEC))
    again.load(load_state(tmp_path / "a.npz")["replay"])
    assert len(again) == 0


def test_rows_of_another_environment_are_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "a.npz", {"replay": filled(3)})
    other = EpisodeReplay(10, Rows(SPEC._replace(state_dim=6)))
    with pytest.raises(ValueError, match="belongs to another configuration"):
        other.load(load_state(tmp_path / "a.npz")["replay"])
    with pytest.raises(ValueError, match="replay_episodes must be at least 1"):
        EpisodeReplay(0, Rows(SPEC))
