"""The maximum-likelihood estimate of rewards, its ellipsoid, and simulated annotators."""

from __future__ import annotations

import numpy as np
import pytest

from thrifty.episodic.annotators import SimulatedAnnotator, SimulatedSource
from thrifty.episodic.preferences import Clip, Query
from thrifty.episodic.reward_model import (
    RewardModel,
    clip_features,
    plausible_reward,
    sigmoid,
)


def labelled(
    seed: int, n: int, *, d: int = 3, scale: float = 0.7, regulariser: float = 0.1
) -> tuple[RewardModel, np.ndarray, np.ndarray, np.ndarray]:
    """A model with n labels of a random truth, the truth, the differences and the outcomes."""
    rng = np.random.default_rng(seed)
    w, X = rng.normal(size=d), rng.normal(size=(n, d))
    outcomes = (rng.random(n) < sigmoid(scale * (X @ w))).astype(float)
    model = RewardModel(d, scale=scale, regulariser=regulariser)
    for x, outcome in zip(X, outcomes, strict=True):
        model.add(x, outcome)
    return model, w, X, outcomes


@pytest.mark.parametrize("n", [0, 1, 5, 300])
def test_gradient_is_zero_at_the_estimate(n: int) -> None:
    model, _, _, _ = labelled(0, n)
    model.fit()
    assert np.abs(model.gradient()).max() < 1e-12 * (1 + n)
    # The Hessian is that of the estimate: finite differences of the gradient.
    w, step = model.w.copy(), 1e-6
    for i in range(3):
        model.w = w + step * np.eye(3)[i]
        high = model.gradient()
        model.w = w - step * np.eye(3)[i]
        np.testing.assert_allclose(
            (model.gradient() - high) / (2 * step), model.hessian[i], rtol=1e-4
        )
    model.w = w


def test_separable_labels_have_an_estimate() -> None:
    # All answers alike: without the penalty the estimate would be infinite. By hand, d = 1, X = 1,
    # scale 1: n sigmoid(-w) = regulariser w.
    model = RewardModel(1, scale=1.0, regulariser=0.5)
    for _ in range(50):
        model.add(np.ones(1), 1.0)
    model.fit()
    w = float(model.w[0])
    assert 50 * float(sigmoid(np.array(-w))) == pytest.approx(0.5 * w)


def test_swapping_clips_and_answers_changes_nothing() -> None:
    model, _, X, outcomes = labelled(1, 80)
    swapped = RewardModel(3, scale=0.7, regulariser=0.1)
    for x, outcome in zip(X, outcomes, strict=True):
        swapped.add(-x, 1.0 - outcome)
    model.fit()
    swapped.fit()
    np.testing.assert_allclose(model.w, swapped.w, atol=1e-9)
    np.testing.assert_allclose(model.hessian, swapped.hessian, atol=1e-9)


def test_equal_is_half_a_label_each_way_and_labels_can_be_taken_back() -> None:
    one, two, three = (RewardModel(2, scale=1.0) for _ in range(3))
    X = np.array([1.0, -2.0])
    one.add(X, 0.5, count=2.0)
    two.add(X, 1.0)
    two.add(X, 0.0)
    three.add(X, 1.0, count=3.0)
    three.add(X, 1.0, count=-2.0)
    three.add(X, 0.0)
    for model in (one, two, three):
        model.add(np.array([0.5, 0.5]), 1.0)
        model.fit()
    np.testing.assert_allclose(one.w, two.w, atol=1e-12)
    np.testing.assert_allclose(one.w, three.w, atol=1e-12)
    assert one.labels == three.labels == 3.0


def test_truth_is_in_the_ellipsoid_as_often_as_promised() -> None:
    # For many labels |w - w^|^2_Hess is chi-squared with d = 3: 95 % lie below 7.815. Of 200 runs
    # 190 are expected; 180 is three standard deviations lower.
    inside = 0
    for seed in range(200):
        model, w, _, _ = labelled(seed, 400, regulariser=1e-3)
        model.fit()
        error = model.w - w
        inside += float(error @ model.hessian @ error) <= 7.815
    assert 180 <= inside <= 199


def test_candidates_lie_on_the_ellipsoid_and_the_width_is_its_support() -> None:
    model, _, _, _ = labelled(2, 50)
    model.fit()
    points = model.candidates(2000, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(points[0], model.w)
    away = points[1:] - model.w
    norms = np.sqrt(np.einsum("ni,ij,nj->n", away, model.hessian, away))
    np.testing.assert_allclose(norms, 0.5, atol=1e-12)
    X = np.array([1.0, -0.5, 2.0])
    assert (away @ X).max() <= 0.5 * model.width(X) + 1e-12
    assert (away @ X).max() == pytest.approx(0.5 * model.width(X), rel=0.02)


def test_the_ellipsoid_shrinks_with_every_label() -> None:
    model, _, _, _ = labelled(3, 0)
    X, before = np.array([1.0, 0.0, 0.0]), model.growth()
    model.add(X, 1.0)
    # scale^2 / 4 is added in the direction of X: log(1 + .49 / 4 / .1).
    assert model.growth() - before == pytest.approx(np.log(1 + 0.49 / 4 / 0.1))


def test_log_loss_by_hand() -> None:
    model, X = RewardModel(1, scale=2.0), np.array([1.0])
    assert model.loss(X, 1.0) == pytest.approx(np.log(2.0))  # w = 0 guesses
    model.w = np.array([1.0])
    p = float(sigmoid(np.array(2.0)))
    assert model.loss(X, 1.0) == pytest.approx(-np.log(p))
    assert model.loss(X, 0.25) == pytest.approx(-0.25 * np.log(p) - 0.75 * np.log(1 - p))


def test_plausible_reward() -> None:
    features = np.array([[[1.0], [2.0]], [[3.0], [1.5]]])
    np.testing.assert_allclose(
        plausible_reward(np.array([0.8]), features), [[0.0, 0.8], [1.0, 0.4]]
    )


def test_state_comes_back() -> None:
    model, _, _, _ = labelled(4, 30)
    model.fit()
    model.add(np.ones(3), 1.0)
    other = RewardModel(3, scale=0.7, regulariser=0.1)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.hessian, model.hessian)
    for one in (model, other):
        one.fit()
    np.testing.assert_array_equal(other.w, model.w)
    with pytest.raises(ValueError, match="3 reward features, the learner 2"):
        RewardModel(2, scale=1.0).load_state_dict(model.state_dict())


@pytest.mark.parametrize("bad", [{"scale": 0.0}, {"scale": 1.0, "regulariser": 0.0}])
def test_numbers_out_of_range(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        RewardModel(2, **bad)


R = np.array([[0.0, 1.0], [0.5, 0.25]])
A = Clip((0, 1, 0), (1, 0, 1))  # rewards 1, .5, 1
B = Clip((0, 0, 1), (0, 0, 1))  # rewards 0, 0, .25


def test_clip_features() -> None:
    np.testing.assert_allclose(clip_features(R[..., None], A), [2.5])


def test_annotators_by_hand() -> None:
    honest = SimulatedAnnotator(r=R, scale=2.0)
    p = float(sigmoid(np.array(2.0 * 2.25)))
    assert honest.probability(A, B) == pytest.approx(p)
    assert honest.probability(B, A) == pytest.approx(1 - p)
    flipping = SimulatedAnnotator(r=R, scale=2.0, flip=0.1)
    assert flipping.probability(A, B) == pytest.approx(0.9 * p + 0.1 * (1 - p))
    lapsing = SimulatedAnnotator(r=R, scale=2.0, lapse=0.2)
    assert lapsing.probability(A, B) == pytest.approx(0.8 * p + 0.1)
    # Worst third of A's steps: .5; of B's: 0; times three steps.
    averse = SimulatedAnnotator(r=R, scale=2.0, risk_level=1 / 3)
    assert averse.probability(A, B) == pytest.approx(float(sigmoid(np.array(2.0 * 1.5))))
    staged = SimulatedAnnotator(r=np.stack([R, 0 * R, 0 * R]), scale=1.0)
    assert staged.probability(A, B) == pytest.approx(float(sigmoid(np.array(1.0))))


def test_an_intransitive_annotator_goes_in_circles() -> None:
    # Equal rewards, styles 0, 1, 2: every one is beaten by the one before it.
    annotator = SimulatedAnnotator(r=np.zeros((1, 3)), scale=1.0, cycle=2.0)
    clips = [Clip((0,), (action,)) for action in range(3)]
    for i in range(3):
        ahead = annotator.probability(clips[i], clips[(i + 1) % 3])
        assert ahead == pytest.approx(float(sigmoid(np.array(2.0))))
        assert annotator.probability(clips[(i + 1) % 3], clips[i]) == pytest.approx(1 - ahead)


def test_a_source_answers_by_query_alone() -> None:
    annotator = SimulatedAnnotator(r=R, scale=0.2)
    one, two = (SimulatedSource(annotator, annotators=2000, seed=1) for _ in range(2))
    (first,) = one.ask(Query(0, 0, A, B))
    (second,) = one.ask(Query(7, 3, A, B))
    assert two.ask(Query(7, 5, A, B))[0].outcome == second.outcome
    assert (first.labels, second.labels, one.position) == (2000, 2000, 2)
    # 2,000 coins of probability .611: a standard deviation is .011.
    assert first.outcome == pytest.approx(annotator.probability(A, B), abs=0.04)
    assert one.collect(2) == []


def test_annotators_out_of_range() -> None:
    with pytest.raises(ValueError, match="flip"):
        SimulatedAnnotator(r=R, scale=1.0, flip=1.5)
    with pytest.raises(ValueError, match="scale"):
        SimulatedAnnotator(r=R, scale=-1.0)
    with pytest.raises(ValueError, match="risk_level"):
        SimulatedAnnotator(r=R, scale=1.0, risk_level=0.0)
    with pytest.raises(ValueError, match="at least 1 annotator"):
        SimulatedSource(SimulatedAnnotator(r=R, scale=1.0), annotators=0)
