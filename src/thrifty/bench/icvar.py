"""Learners of the iterated CVaR by the number of episodes.

One core, after compilation, in processor time, which other work on the machine hardly disturbs.
The constants are the recipes' defaults; plans are made when a determinant has doubled (ICVaR-L), a
confidence set has shrunk (ICVaR-G), or visits have doubled (ICVaR-RM).

Marks: ICVaR-L at S = 12, A = 4, H = 5, d = 5: 1,000,000 episodes within 10 s, and a throughput of
at least 0.8 of that at 10,000 (the cost of an episode is flat in K; early plans weigh more in short
runs). S = 200, A = 5, H = 20, d = 10: 100,000 episodes within 10 minutes. ICVaR-G with 60 kernels
of S = 10, A = 3, H = 5, the level of greatest disagreement at every step: 20,000 episodes/s.
ICVaR-HF with S = 10, A = 4, H = 5, d = 4, known kernel, m = 1 and 20: 3,000 episodes within 5 s.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from thrifty.bench.schema import Row, compare
from thrifty.bench.timing import interleave, summarise
from thrifty.episodic.risk_config import MixtureConfig, RiskConfig
from thrifty.episodic.risk_problem import Problem, make_learner, make_problem
from thrifty.episodic.rollout import Learner
from thrifty.episodic.simulator import new_simulator, next_state, starts
from thrifty.recipes import icvar

LARGE = MixtureConfig(states=200, actions=5, horizon=20, dimension=10)


def measure(
    *,
    rounds: int = 3,
    short: int = 10_000,
    long: int = 1_000_000,
    large: int = 100_000,
    classes: int = 100_000,
    comparisons: int = 3_000,
) -> list[Row]:
    """Time the learners.

    Args:
        rounds: samples of each; the large instance is timed once.
        short: episodes of ICVaR-L's short run.
        long: episodes of ICVaR-L's and ICVaR-RM's long run.
        large: episodes on the large instance.
        classes: episodes of ICVaR-G.
        comparisons: episodes of ICVaR-HF.
    """
    mixture = icvar.l_mixture(risk_level=0.25)
    counting = icvar.rm_inventory(risk_level=0.25)
    runs = {
        ("mixture of 5 kernels, S=12, A=4, H=5", f"ICVaR-L, K={short:,}"): (mixture, short),
        ("mixture of 5 kernels, S=12, A=4, H=5", f"ICVaR-L, K={long:,}"): (mixture, long),
        ("inventory, S=10, A=3, H=8", f"ICVaR-RM, K={long:,}"): (counting, long),
        ("60 kernels, S=10, A=3, H=5", f"ICVaR-G, K={classes:,}"): (icvar.g_class(), classes),
    }
    for m in (1, 20):
        runs["known kernel, S=10, A=4, H=5, d=4", f"ICVaR-HF, m={m}, K={comparisons:,}"] = (
            icvar.hf_features(annotators=m),
            comparisons,
        )
    for config, _ in runs.values():
        _run(config, 100)()  # compiled here
    actions = {"|".join(key): _run(config, K) for key, (config, K) in runs.items()}
    samples = interleave(actions, rounds=rounds, warm_up=0, clock=time.process_time)
    rows = []
    for (case, label), (_, K) in runs.items():
        for statistic, seconds in summarise(samples[f"{case}|{label}"]).items():
            rows += _rows(case, label, statistic, seconds, K)
    start = time.process_time()
    _run(dataclasses.replace(mixture, instance=LARGE), large)()
    seconds = time.process_time() - start
    case = "mixture of 10 kernels, S=200, A=5, H=20"
    rows += _rows(case, f"ICVaR-L, K={large:,}", "median", seconds, large)
    compared = compare(
        [row for row in rows if row.metric == "throughput"],
        implementation=f"ICVaR-L, K={long:,}",
        ratio_to=f"ICVaR-L, K={short:,}",
    )
    return [row for row in rows if row.metric != "throughput"] + compared


def _rows(case: str, label: str, statistic: str, seconds: float, K: int) -> list[Row]:
    return [
        Row(case=case, implementation=label, statistic=statistic, metric=metric, value=v, unit=unit)
        for metric, v, unit in (
            ("processor time of a run", seconds, "s"),
            ("throughput", K / seconds, "episodes per second"),
        )
    ]


def _run(config: RiskConfig, K: int) -> Callable[[], object]:
    problem = make_problem(config)
    return lambda: _episodes(problem, make_learner(config, problem, 0), K)


def _episodes(problem: Problem, learner: Learner, K: int) -> None:
    """Let a learner play; the regret of its policies is not computed."""
    mdp, simulator, k = problem.mdp, new_simulator(problem.mdp, 0), 0
    first = starts(mdp, simulator, 0, K)
    play = getattr(learner, "play", None)
    while k < K:
        if play is not None:
            k += len(play(simulator, k, first[k:]))
            continue
        s = int(first[k])
        for h in range(mdp.H):
            a = learner.act(h, s)
            s_next = int(next_state(simulator, k, h, s, a))
            learner.observe(h, s, a, float(mdp.r[h, s, a]), s_next)
            s = s_next
        learner.end_episode()
        k += 1
