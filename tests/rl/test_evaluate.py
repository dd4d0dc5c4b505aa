from __future__ import annotations

import numpy as np
import pytest

from thrifty.rl import Environments, evaluate_policy, random_policy, run_episode
from toy_environments import Count


def still(observation: np.ndarray) -> np.ndarray:
    return np.zeros((len(observation), 1), np.float32)


def test_returns_and_lengths_by_hand() -> None:
    result = evaluate_policy(Environments(lambda: Count(4)), still, 3)
    assert result.returns == [10.0] * 3  # 1 + 2 + 3 + 4
    assert result.lengths == [4] * 3
    assert (result.return_mean, result.return_std) == (10.0, 0.0)


def test_mean_and_standard_deviation_by_hand() -> None:
    lengths = iter([2, 4])

    class Growing(Count):
        def reset(self, **options: object) -> object:
            self.length = next(lengths, 4)
            return super().reset(**options)

    environments = Environments(Growing)
    environments.restart = lambda episode=0: None  # type: ignore[method-assign]
    result = evaluate_policy(environments, still, 2)
    assert (result.returns, result.lengths) == ([3.0, 10.0], [2, 4])
    assert (result.return_mean, result.return_std) == (6.5, 3.5)


def test_every_evaluation_sees_the_same_episodes() -> None:
    environments = Environments("Pendulum-v1", seed=5)
    seen: list[np.ndarray] = []

    def watching(observation: np.ndarray) -> np.ndarray:
        seen.append(observation.copy())
        return np.full((1, 1), 0.1, np.float32)

    one = evaluate_policy(environments, watching, 2)
    environments.step(still(environments.observation))  # whatever happened in between
    two = evaluate_policy(environments, watching, 2)
    assert one == two
    assert np.array_equal(seen[:400], seen[400:])
    assert not np.array_equal(seen[0], seen[200])  # but its episodes differ
    assert one != evaluate_policy(Environments("Pendulum-v1", seed=6), watching, 2)


def test_the_random_control_is_uniform_and_seeded() -> None:
    count = Count(500, low=0.0, high=2.0)
    environments = Environments(count)
    one = evaluate_policy(environments, random_policy(1, seed=1), 4)
    taken = np.array(count.actions)
    # 2,000 uniform draws in [0, 2]: the mean's standard error is 0.577 / sqrt(2000) = 0.013.
    assert abs(taken.mean() - 1.0) < 0.065
    assert (taken.min() < 0.01, taken.max() > 1.99) == (True, True)
    count.actions.clear()
    assert evaluate_policy(environments, random_policy(1, seed=1), 4) == one
    assert np.array_equal(np.array(count.actions), taken)
    count.actions.clear()
    evaluate_policy(environments, random_policy(1, seed=2), 4)
    assert not np.array_equal(np.array(count.actions), taken)


def test_an_evaluation_can_be_taken_up_between_episodes() -> None:
    whole = evaluate_policy(Environments("Pendulum-v1"), still, 3)
    environments = Environments("Pendulum-v1")
    assert [run_episode(environments, still, number)[0] for number in (2, 0, 1)] == [
        whole.returns[2],
        *whole.returns[:2],
    ]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least one episode"):
        evaluate_policy(Environments(Count), still, 0)
    with pytest.raises(ValueError, match="count=1"):
        evaluate_policy(Environments(Count, count=2), still, 1)
