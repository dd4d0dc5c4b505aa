from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from thrifty.rl import Replay
from thrifty.rl.transitions import adapt_capacity
from thrifty.runs import load_state, save_state
from thrifty.runs.rows import StoredRows

GAMMA = 0.9


class Row(NamedTuple):
    """One transition as plain numbers."""

    observation: np.ndarray
    action: np.ndarray
    policy_action: np.ndarray
    reward: float
    next_observation: np.ndarray
    terminated: bool
    truncated: bool
    valid: bool


def store(replay: Replay, rows: list[Row]) -> None:
    """Add one row of every environment."""
    replay.add(
        **{
            name: np.array([getattr(row, name) for row in rows])
            for name in Row._fields
            if name != "valid"
        },
        valid=None if all(row.valid for row in rows) else np.array([row.valid for row in rows]),
    )


def random_stream(seed: int, environments: int, steps: int, invalid: bool) -> list[list[Row]]:
    """Random episodes of several environments; with ``invalid`` a reset row follows each end."""
    rng = np.random.default_rng(seed)
    before = [Row(*(np.zeros(2),) * 3, 0.0, np.zeros(2), False, False, True)] * environments
    stream = []
    for _ in range(steps):
        now = []
        for last in before:
            resets = invalid and last.valid and (last.terminated or last.truncated)
            observation, following = rng.normal(size=(2, 2)).astype(np.float32)
            action, policy_action = rng.uniform(-1, 1, (2, 1)).astype(np.float32)
            now.append(
                Row(
                    observation,
                    action,
                    policy_action,
                    float(np.float32(rng.normal())),
                    following,
                    not resets and rng.random() < 0.2,
                    not resets and rng.random() < 0.2,
                    not resets,
                )
            )
        stream.append(now)
        before = now
    return stream


def loop_window(rows: list[Row], n: int) -> tuple[float, float, np.ndarray, list[float]]:
    """Return, bootstrap discount, last state and path discounts, as the definition reads."""
    total, path = 0.0, []
    for k, row in enumerate(rows[:n]):
        total += GAMMA**k * row.reward
        bootstrap = 0.0 if row.terminated else GAMMA ** (k + 1)
        path.append(bootstrap)
        if row.terminated or row.truncated:
            break
    return total, bootstrap, rows[len(path) - 1].next_observation, path


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    environments=st.integers(1, 3),
    steps=st.integers(1, 25),
    capacity=st.integers(3, 40),
    n=st.integers(1, 5),
    invalid=st.booleans(),
    dropped=st.integers(0, 10),
)
def test_windows_do_what_a_loop_does(
    seed: int, environments: int, steps: int, capacity: int, n: int, invalid: bool, dropped: int
) -> None:
    stream = random_stream(seed, environments, steps, invalid)
    replay = Replay(capacity, 2, 1, environments)
    for rows in stream:
        store(replay, rows)
    assert replay.total == environments * steps
    kept = min(steps, capacity // environments)  # steps of all environments in the ring
    assert len(replay) == environments * kept
    replay.drop_oldest(min(dropped, len(replay) - environments))
    live = [
        r
        for r in range(replay.first, replay.total)
        if stream[r // environments][r % environments].valid
    ]
    if not live:
        return
    batch = replay.windows(np.array(live), n_step=n, discount=GAMMA)
    for b, r in enumerate(live):
        later = [rows[r % environments] for rows in stream[r // environments :]]
        total, bootstrap, last, path = loop_window(later, n)
        assert batch.n_step_return[b].item() == pytest.approx(total, abs=1e-5)
        assert batch.discount[b].item() == pytest.approx(bootstrap, abs=1e-6)
        assert batch.observation[b].tolist() == later[0].observation.tolist()
        assert batch.action[b].tolist() == later[0].action.tolist()
        assert batch.next_observation[b].tolist() == last.tolist()
        padded = path + [0.0] * (n - len(path))
        assert batch.path_discount[:, b].tolist() == pytest.approx(padded, abs=1e-6)
        for k in range(len(path)):
            expected = later[k].next_observation.tolist()
            assert batch.path_observation[k, b].tolist() == expected


def add(replay: Replay, number: float, **fields: Any) -> None:
    """Add row ``number``: observation (number, number), reward number, reaching number + 1."""
    e = replay.environments
    values = {
        "observation": np.full((e, 2), number),
        "action": np.zeros((e, 1)),
        "policy_action": np.zeros((e, 1)),
        "reward": np.full(e, number),
        "next_observation": np.full((e, 2), number + 1),
        "terminated": np.zeros(e, bool),
        "truncated": np.zeros(e, bool),
    }
    replay.add(**{**values, **fields})


@pytest.mark.parametrize(("terminated", "bootstrap"), [(False, 0.25), (True, 0.0)])
def test_time_limits_bootstrap_and_terminations_do_not(terminated: bool, bootstrap: float) -> None:
    replay = Replay(10, 2, 1)
    end = np.array([True])
    add(replay, 1)
    add(replay, 2, **{"terminated" if terminated else "truncated": end})
    add(replay, 10)
    add(replay, 20)
    batch = replay.windows(np.array([0, 2, 3]), n_step=3, discount=0.5)
    # 1 + 2/2, cut at the end of the episode; 10 + 20/2 and 20, cut at the newest transition.
    assert batch.n_step_return.tolist() == [2.0, 20.0, 20.0]
    assert batch.discount.tolist() == [bootstrap, 0.25, 0.5]
    assert batch.next_observation[:, 0].tolist() == [3.0, 21.0, 21.0]


def test_nothing_reaches_beyond_the_newest_transition_of_a_ring() -> None:
    replay = Replay(3, 2, 1)
    for number in range(5):  # rows 2, 3, 4 live; row 5 would lie where row 2 is
        add(replay, number)
    batch = replay.windows(np.array([3, 4]), n_step=3, discount=1.0)
    assert batch.n_step_return.tolist() == [7.0, 4.0]
    assert batch.next_observation[:, 0].tolist() == [5.0, 5.0]


def test_windows_stop_where_episodes_were_broken_off() -> None:
    replay = Replay(8, 2, 1, environments=2)
    add(replay, 1)
    replay.end_episodes()
    add(replay, 2)
    batch = replay.windows(np.array([0, 1, 2, 3]), n_step=3, discount=0.5)
    assert batch.n_step_return.tolist() == [1.0, 1.0, 2.0, 2.0]
    assert batch.discount.tolist() == [0.5, 0.5, 0.5, 0.5]  # bootstrapped: nothing terminated


def test_a_batch_shares_no_memory_with_the_store() -> None:
    replay = Replay(2, 2, 1)
    add(replay, 1)
    batch = replay.windows(np.array([0]), n_step=1, discount=0.5)
    add(replay, 2)
    add(replay, 3)
    assert batch.observation.tolist() == [[1.0, 1.0]]
    assert batch.path_observation.tolist() == [[[2.0, 2.0]]]


def test_samples_are_uniform_over_live_valid_rows() -> None:
    replay = Replay(12, 2, 1)
    for number in range(20):  # rows 8 .. 19 live after the ring has turned
        add(replay, number, valid=np.array([number % 5 != 0]))
    replay.drop_oldest(1)  # rows 9 .. 19, of which 10 and 15 are no transitions
    draws = 9_000
    rng = np.random.default_rng(0)
    batch = replay.sample(draws, n_step=1, discount=GAMMA, rng=rng)
    rows, counts = np.unique(batch.observation[:, 0].numpy(), return_counts=True)
    assert rows.tolist() == [9, 11, 12, 13, 14, 16, 17, 18, 19]
    # Binomial with p = 1/9: mean 1000, standard deviation 29.8; five of them.
    assert np.abs(counts - 1000).max() < 150


def test_equal_generators_draw_equal_samples() -> None:
    replay = Replay(12, 2, 1)
    for number in range(5):
        add(replay, number)
    one, two = (
        replay.sample(7, n_step=2, discount=GAMMA, rng=np.random.default_rng(3)) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_batch_in_another_type() -> None:
    replay = Replay(12, 2, 1)
    add(replay, 1)
    batch = replay.windows(np.array([0]), n_step=2, discount=GAMMA)
    double = batch.to(torch.device("cpu"), torch.float64)
    assert {tensor.dtype for tensor in double} == {torch.float64}
    assert double.observation.shape == (1, 2)
    assert double.path_observation.shape == (2, 1, 2)
    assert double.path_discount.shape == (2, 1)


def test_an_empty_store_cannot_be_sampled() -> None:
    with pytest.raises(ValueError, match="empty replay"):
        Replay(4, 2, 1).sample(1, n_step=1, discount=0.9, rng=np.random.default_rng(0))


def test_capacity_is_whole_steps_of_all_environments() -> None:
    assert Replay(10, 2, 1, environments=3).capacity == 9
    with pytest.raises(ValueError, match="raise buffer_size"):
        Replay(2, 2, 1, environments=3)


# ---------------------------------------------------------------- state


@pytest.mark.parametrize("journalled", [True, False])
def test_the_state_goes_through_a_file(tmp_path: Path, journalled: bool) -> None:
    stream = random_stream(0, 2, 12, invalid=True)
    replay = Replay(10, 2, 1, environments=2)
    journal = tmp_path / "journal" if journalled else None
    for rows in stream[:4]:
        store(replay, rows)
    save_state(tmp_path / "a.npz", replay.state_dict(), journal=journal)
    for rows in stream[4:]:
        store(replay, rows)
    replay.drop_oldest(3)
    save_state(tmp_path / "b.npz", replay.state_dict(), journal=journal)
    again = Replay(10, 2, 1, environments=2)
    again.load_state_dict(load_state(tmp_path / "b.npz", journal=journal))
    assert (again.first, again.total, len(again)) == (16, 24, 8)
    assert np.array_equal(again.rows(16, 24), replay.rows(16, 24))
    for one, two in zip(batch_of(replay), batch_of(again), strict=True):
        assert torch.equal(one, two)


def batch_of(replay: Replay) -> list[Tensor]:
    """A sample; what lies beyond a window is old storage, and counts for nothing."""
    batch = replay.sample(50, n_step=3, discount=GAMMA, rng=np.random.default_rng(0))
    last = (batch.path_discount > 0).sum(dim=0)  # one more where the window terminates
    inside = torch.arange(3)[:, None] <= (last - (batch.discount > 0).to(last.dtype))
    return [*batch._replace(path_observation=batch.path_observation * inside[:, :, None])]


def test_rows_come_in_order_also_around_the_ring() -> None:
    replay = Replay(4, 2, 1)
    for number in range(6):
        add(replay, number)
    assert replay.rows(2, 6)[:, 0].tolist() == [2, 3, 4, 5]
    assert replay.rows(3, 5)[:, 0].tolist() == [3, 4]
    with pytest.raises(AssertionError):
        replay.rows(1, 3)


def test_a_foreign_state_is_refused() -> None:
    state = Replay(4, 2, 1).state_dict()
    with pytest.raises(ValueError, match="capacity 4 for 1 environments, this one 6 for 1"):
        Replay(6, 2, 1).load_state_dict(state)
    with pytest.raises(ValueError, match="other observation or action sizes"):
        Replay(4, 3, 1).load_state_dict(state)


@pytest.mark.parametrize(("first", "total"), [(-1, 2), (3, 2), (0, 5)])
def test_a_damaged_count_of_transitions_is_refused(first: int, total: int) -> None:
    state = Replay(4, 2, 1).state_dict()
    rows = Replay(4, 2, 1).matrix
    state["rows"] = StoredRows(first, total, rows[: max(total - first, 0)])
    with pytest.raises(ValueError, match=f"transitions {first} to {total}.*file is damaged"):
        Replay(4, 2, 1).load_state_dict(state)


# ---------------------------------------------------------------- dynamic capacity


def zero(observation: Tensor) -> Tensor:
    return torch.zeros(len(observation), 1)


def disagreeing(count: int) -> Replay:
    """20 rows, the first ``count`` with the stored action 1, the others 0."""
    replay = Replay(100, 2, 1)
    for number in range(20):
        add(replay, number, policy_action=np.full((1, 1), float(number < count)))
    return replay


# Rows 0 .. 5 store 1, the policy says 0, the four oldest are compared:
# first row 0 1 2: distance 1/2; first 3: 3/8; first 4: 1/4; first 5: 1/8.
# A tenth of 20, 18, 17, 16 rows is 2, 1, 1, 1: first 2, 3, 4, 5.
@pytest.mark.parametrize(
    ("threshold", "minimum", "repeat", "size", "cuts"),
    [
        (0.2, 5, True, 15, 4),  # until 1/8
        (0.25, 5, True, 16, 3),  # 1/4 is accepted
        (0.5, 5, True, 20, 0),  # accepted at once
        (0.2, 17, True, 17, 2),  # the minimum stops it
        (0.2, 19, True, 19, 1),  # the cut itself is shortened to the minimum
        (0.2, 20, True, 20, 0),
        (0.2, 500, True, 20, 0),
        (0.2, 5, False, 18, 1),  # published: one cut per check
        (0.2, 19, False, 18, 1),  # published: below the minimum
        (0.2, 20, False, 20, 0),
    ],
)
def test_capacity_rule_by_hand(
    threshold: float, minimum: int, repeat: bool, size: int, cuts: int
) -> None:
    replay = disagreeing(6)
    change = adapt_capacity(
        replay, zero, threshold=threshold, minimum=minimum, oldest=4, repeat=repeat
    )
    assert change == (0.5, 20, size, cuts)
    assert (replay.first, replay.total) == (20 - size, 20)


def test_distance_is_half_the_mean_square_over_rows_and_dimensions() -> None:
    replay = Replay(10, 1, 2)
    for number, stored in enumerate([(1.0, 0.0), (-0.5, 0.5)]):
        replay.add(
            observation=np.full((1, 1), number),
            action=np.full((1, 2), 9.0),  # what was done does not count
            policy_action=np.array([stored]),
            reward=np.zeros(1),
            next_observation=np.zeros((1, 1)),
            terminated=np.zeros(1, bool),
            truncated=np.zeros(1, bool),
        )

    def policy(observation: Tensor) -> Tensor:
        return torch.cat([observation, observation], dim=1)  # (0, 0), (1, 1)

    # ((1 + 0) + (2.25 + 0.25)) / 4 / 2
    assert adapt_capacity(replay, policy, minimum=1, threshold=9).distance == pytest.approx(0.4375)
    # Of the oldest row alone: (1 + 0) / 2 / 2.
    change = adapt_capacity(replay, policy, minimum=1, threshold=9, oldest=1)
    assert change.distance == pytest.approx(0.25)


def test_rows_that_are_no_transitions_do_not_enter_the_distance() -> None:
    replay = Replay(10, 2, 1)
    for number in range(4):
        add(
            replay,
            number,
            policy_action=np.full((1, 1), 1.0 if number == 1 else 100.0 * (number == 0)),
            valid=np.array([number != 0]),
        )
    # Rows 1, 2, 3 store 1, 0, 0: (1 + 0 + 0) / 3 / 2.
    change = adapt_capacity(replay, zero, minimum=1, threshold=9)
    assert change.distance == pytest.approx(1 / 6)


@settings(max_examples=30)
@given(
    environments=st.integers(1, 3),
    steps=st.integers(1, 30),
    minimum=st.integers(1, 100),
    oldest=st.integers(1, 30),
    cut=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_capacity_laws(
    environments: int, steps: int, minimum: int, oldest: int, cut: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sizes, smaller = {}, {}
    stored = rng.integers(0, 2, (steps, environments, 1)).astype(np.float32)
    for repeat in (True, False):
        replay = Replay(60, 2, 1, environments)
        for policy_action in stored:
            add(replay, 0.0, policy_action=policy_action)
        before = len(replay)
        change = adapt_capacity(
            replay, zero, threshold=0.2, minimum=minimum, oldest=oldest, cut=cut, repeat=repeat
        )
        sizes[repeat] = len(replay)
        assert change.size_before == before
        assert change.size == len(replay)
        assert change.size % environments == 0
        assert (change.cuts > 0) == (change.size < before)
        if change.distance <= 0.2 or before <= minimum:
            assert change.cuts == 0
        if repeat:
            assert change.size >= min(before, minimum)
            after = adapt_capacity(replay, zero, threshold=9, minimum=1, oldest=oldest).distance
            # It stops for a reason: accepted, at the minimum, or a cut is no whole step.
            small = min(int(cut * change.size), change.size - minimum) < environments
            assert after <= 0.2 or change.size <= minimum or small
        else:
            assert change.cuts <= 1
            assert change.size >= before - int(cut * before)
        smaller[repeat] = change.cuts
    assert smaller[True] >= smaller[False] or sizes[True] >= minimum
