"""ICVaR-HF: planning over plausible rewards, learning from labels, sessions as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thrifty.episodic import EpisodicMDP, evaluate, optimal
from thrifty.episodic.annotators import SimulatedAnnotator, SimulatedSource
from thrifty.episodic.cvar import iterated_cvar
from thrifty.episodic.icvar_g import ICVaRG
from thrifty.episodic.icvar_hf import ICVaRHF
from thrifty.episodic.label_folder import LabelFolder
from thrifty.episodic.preferences import Label, Query, unanswered
from thrifty.episodic.reward_model import clip_features, plausible_reward
from thrifty.episodic.rollout import Rollout

S, A, H, D = 6, 3, 4, 3


def instance(seed: int = 0) -> tuple[EpisodicMDP, np.ndarray]:
    """A random MDP, and the simplex features in which its rewards are linear."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(S, 0.3), (S, A))
    features = rng.dirichlet(np.full(D, 0.5), (S, A))
    return EpisodicMDP.from_arrays(P, features @ rng.random(D), horizon=H), features


def source(mdp: EpisodicMDP, annotators: int, seed: int = 0, scale: float = 1.0) -> SimulatedSource:
    annotator = SimulatedAnnotator(r=mdp.r, scale=scale)
    return SimulatedSource(annotator, annotators=annotators, seed=seed)


def play(learner: ICVaRHF, episodes: int, seed: int = 0) -> Rollout:
    rollout = Rollout(learner.mdp, learner, seed)
    while rollout.episodes < episodes:
        rollout.advance(episodes - rollout.episodes)
    return rollout


def test_a_constant_in_the_reward_changes_no_policy() -> None:
    # Features lie in the simplex, so w + c adds c to every reward.
    mdp, features = instance()
    w = np.array([0.3, -0.2, 0.5])
    np.testing.assert_allclose(
        plausible_reward(w + 4.0, features), plausible_reward(w, features), atol=1e-12
    )
    low = EpisodicMDP.from_arrays(mdp.P[0], 0.5 * mdp.r[0], horizon=H)
    high = EpisodicMDP.from_arrays(mdp.P[0], 0.5 * mdp.r[0] + 0.5, horizon=H)
    plans = [optimal(one, iterated_cvar(0.3)) for one in (low, high)]
    np.testing.assert_array_equal(plans[0].policy, plans[1].policy)
    np.testing.assert_allclose(plans[1].V[0] - plans[0].V[0], 0.5 * H)


@pytest.mark.parametrize("level", [1.0, 0.3])
def test_it_plays_the_most_hopeful_plausible_reward(level: float) -> None:
    mdp, features = instance(1)
    learner = ICVaRHF(mdp, features, source(mdp, 1), risk_level=level, candidates=12)
    play(learner, 40)
    learner.collect()
    learner._due = True
    rng = np.random.default_rng([0, 0, learner.switches])
    learner.prepare()
    points = learner.model.candidates(12, learner.radius, rng)
    assert learner.reference is not None
    compared = clip_features(np.eye(S * A).reshape(S, A, -1), learner.reference)
    best, policy = -np.inf, np.zeros(0)
    for w in points:  # one exact plan for each
        r = plausible_reward(w, features)
        plan = optimal(EpisodicMDP.from_arrays(mdp.P[0], r, horizon=H), iterated_cvar(level))
        hope = plan.V[0, 0] - compared @ r.ravel()
        if hope > best:
            best, policy = hope, plan.policy
    np.testing.assert_array_equal(learner.policy(), policy)


def test_many_labels_recover_the_learner_that_knows_the_reward() -> None:
    # Transitions from a class of 15 kernels, 500 annotators per query: both find the optimum.
    mdp, features = instance(3)
    kernels = np.random.default_rng(5).dirichlet(np.full(S, 0.3), (15, S, A))
    kernels[4] = mdp.P[0]
    known = ICVaRG(mdp, kernels, risk_level=0.4, gamma2=5.0)
    told = ICVaRHF(
        mdp,
        features,
        source(mdp, 500),
        risk_level=0.4,
        transitions=ICVaRG(mdp, kernels, risk_level=0.4, gamma2=5.0),
        annotators=500,
        scale=1.0,
    )
    rollout = Rollout(mdp, known, 0)
    while rollout.episodes < 1500:
        rollout.advance(1500 - rollout.episodes)
    play(told, 1500)
    operator = iterated_cvar(0.4)
    star = optimal(mdp, operator).V[0, 0]
    for learner in (known, told):
        assert evaluate(mdp, learner.policy(), operator)[0, 0] == pytest.approx(star, abs=0.01)
    # The reward itself was found, up to a constant and to noise.
    w = np.linalg.lstsq(features.reshape(-1, D), mdp.r[0].ravel(), rcond=None)[0]
    centred = (told.model.w - told.model.w.mean()) - (w - w.mean())
    assert np.abs(centred).max() < 0.1


@pytest.mark.parametrize("rule", ["fixed", "best"])
def test_it_learns_from_one_annotator(rule: Any) -> None:
    mdp, features = instance(3)
    learner = ICVaRHF(
        mdp, features, source(mdp, 1, scale=4.0), risk_level=0.5, scale=4.0, reference=rule
    )
    play(learner, 2000)
    operator = iterated_cvar(0.5)
    star, random = optimal(mdp, operator).V[0, 0], evaluate(mdp, np.zeros((H, S), int), operator)
    reached = evaluate(mdp, learner.policy(), operator)[0, 0]
    assert star - reached <= 0.2 * (star - random[0, 0])
    # Labels were predicted better than by guessing, before they were learned from.
    assert learner.log_loss is not None
    assert learner.log_loss < np.log(2.0)


def test_no_query_is_asked_about_which_the_set_agrees() -> None:
    mdp, features = instance(4)
    sources = source(mdp, 20), source(mdp, 20)
    eager = ICVaRHF(mdp, features, sources[0], risk_level=1.0, annotators=20)
    calm = ICVaRHF(mdp, features, sources[1], risk_level=1.0, annotators=20, threshold=0.3)
    asked: list[float] = []
    send = calm._send

    def watched(query: Query) -> None:
        X = clip_features(features, query.A) - clip_features(features, query.B)
        asked.append(2.0 * calm.radius * calm.model.width(X))
        send(query)

    calm._send = watched  # type: ignore[method-assign]
    play(eager, 600)
    play(calm, 600)
    assert min(asked) >= 0.3
    assert 0 < sources[1].position < 0.8 * sources[0].position


def test_resume_is_bit_equal() -> None:
    mdp, features = instance(5)
    kernels = np.random.default_rng(5).dirichlet(np.full(S, 0.3), (8, S, A))
    kernels[2] = mdp.P[0]

    def make() -> ICVaRHF:
        transitions = ICVaRG(mdp, kernels, risk_level=0.4)
        return ICVaRHF(
            mdp, features, source(mdp, 3), risk_level=0.4, annotators=3, transitions=transitions,
            reference="best", repeat_every=5,
        )  # fmt: skip

    whole = play(make(), 200)
    half = play(make(), 83)
    rest = Rollout(mdp, make(), 0)
    rest.load_state_dict(half.state_dict())
    while rest.episodes < 200:
        rest.advance(1)
    one, two = whole.learner.state_dict(), rest.learner.state_dict()
    np.testing.assert_array_equal(one["policy"], two["policy"])
    np.testing.assert_array_equal(one["model"]["hessian"], two["model"]["hessian"])
    np.testing.assert_array_equal(
        one["transitions"]["tables"]["loss"], two["transitions"]["tables"]["loss"]
    )
    assert (one["switches"], one["growth"]) == (two["switches"], two["growth"])


class Session:
    """A person who answers a few of the open queries now and then, the better clip each time."""

    def __init__(self, path: Path, mdp: EpisodicMDP, seed: int) -> None:
        self.folder = LabelFolder(path)
        self.judge = SimulatedAnnotator(r=mdp.r, scale=50.0)
        self.rng = np.random.default_rng(seed)

    def answer_some(self) -> None:
        waiting = unanswered(self.folder.queries(), self.folder.labels(), "ann")
        for query in waiting[: int(self.rng.integers(0, 4))]:
            answer = "A" if self.judge.probability(query.A, query.B) > 0.5 else "B"
            if self.rng.random() < 0.1:
                answer = "skip"
            self.folder.answer(Label(query.number, "ann", answer))  # type: ignore[arg-type]
        said = self.folder.labels()
        if said and self.rng.random() < 0.2 and said[-1].answer != "undo":
            self.folder.answer(Label(said[-1].query, "ann", "undo"))


def with_people(folder: LabelFolder, mdp: EpisodicMDP, features: np.ndarray) -> ICVaRHF:
    return ICVaRHF(mdp, features, folder, risk_level=0.5, scale=4.0, repeat_every=4, queue=4)


def test_a_session_is_replayed_from_its_files_to_the_same_policy(tmp_path: Path) -> None:
    mdp, features = instance(6)
    learner = with_people(LabelFolder(tmp_path), mdp, features)
    person, rollout = Session(tmp_path, mdp, 1), Rollout(mdp, learner, 0)
    middle: dict[str, Any] = {}
    for episode in range(80):
        rollout.advance(1)
        person.answer_some()
        if episode == 30:
            middle = rollout.state_dict()
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert learner.model.labels > 20
    assert any(query.repeat_of is not None for query in learner.source.queries())  # type: ignore[attr-defined]

    replay, resumed = (
        Rollout(mdp, with_people(LabelFolder(tmp_path, replay=True), mdp, features), 0)
        for _ in range(2)
    )
    resumed.load_state_dict(middle)
    for other in (replay, resumed):
        while other.episodes < 80:
            other.advance(1)
        np.testing.assert_array_equal(other.learner.policy(), learner.policy())
        found = other.learner.model  # type: ignore[attr-defined]
        np.testing.assert_array_equal(found.hessian, learner.model.hessian)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_it_goes_on_with_what_it_has_and_asks_no_more_than_the_queue_holds(tmp_path: Path) -> None:
    mdp, features = instance(7)
    learner = ICVaRHF(mdp, features, LabelFolder(tmp_path), risk_level=0.5, queue=3)
    rollout = play(learner, 50)
    folder = LabelFolder(tmp_path)
    assert len(folder.queries()) == 3
    assert learner.blocked
    folder.answer(Label(0, "ann", "A"))
    while rollout.episodes < 100:
        rollout.advance(1)
    assert learner.model.labels == 1.0
    assert len(folder.queries()) == 4, "one answer made place for one more"
    assert learner.blocked


def test_people_are_asked_about_two_clips_once_and_waited_for_when_nothing_new_comes_up(
    tmp_path: Path,
) -> None:
    # A deterministic chain: a policy's clip is the same whenever it is played.
    P = np.zeros((S, A, S))
    P[np.arange(S)[:, None], np.arange(A), (np.arange(S)[:, None] + np.arange(A)) % S] = 1.0
    _, features = instance(8)
    mdp = EpisodicMDP.from_arrays(P, features @ np.array([0.1, 0.9, 0.4]), horizon=H)
    judge = SimulatedAnnotator(r=mdp.r, scale=50.0)
    pairs = {}
    for distinct in (False, True):
        (tmp_path / str(distinct)).mkdir()
        folder = LabelFolder(tmp_path / str(distinct))
        learner = ICVaRHF(
            mdp, features, folder, risk_level=0.5, scale=4.0, reference="best", distinct=distinct
        )
        rollout, waited = Rollout(mdp, learner, 0), 0
        while rollout.episodes < 60:
            rollout.advance(1)
            learner.collect()
            if learner.blocked:
                waited += 1
                for query in unanswered(folder.queries(), folder.labels(), "ann"):
                    better = judge.probability(query.A, query.B) > 0.5
                    folder.answer(Label(query.number, "ann", "A" if better else "B"))
                learner.collect()
                assert not learner.blocked
        pairs[distinct] = [frozenset((query.A, query.B)) for query in folder.queries()]
        if distinct:
            assert waited > 0, "a single question is waited for, though the queue holds ten"
    assert len(pairs[True]) == len(set(pairs[True])) > 1
    assert len(pairs[False]) > len(set(pairs[False])), "the case meant here did not arise"


def test_bad_input() -> None:
    mdp, features = instance()
    for settings, message in (
        ({"radius": -1.0}, "radius"),
        ({"threshold": float("nan")}, "threshold"),
        ({"candidates": 0}, "candidates"),
        ({"annotators": 0}, "annotators"),
        ({"queue": 0}, "queue"),
        ({"reference": "first"}, "reference"),
        ({"repeat_every": -1}, "repeat_every"),
        ({"scale": 0.0}, "scale"),
    ):
        with pytest.raises(ValueError, match=message):
            ICVaRHF(mdp, features, source(mdp, 1), risk_level=0.5, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="risk_level"):
        ICVaRHF(mdp, features, source(mdp, 1), risk_level=-0.5)
    for wrong in (features[:-1], features[..., :0]):
        with pytest.raises(ValueError, match="features must be"):
            ICVaRHF(mdp, wrong, source(mdp, 1), risk_level=0.5)
    other = ICVaRG(mdp, mdp.P[:1], risk_level=0.4)
    with pytest.raises(ValueError, match="same risk_level"):
        ICVaRHF(mdp, features, source(mdp, 1), risk_level=0.5, transitions=other)
