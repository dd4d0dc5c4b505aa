"""The whole of the paper's table as far as it has been run: table_1m.md, and its claims.

    python results/rlx2/evidence_1m.py collect runs/1m   # small copies into results/rlx2/runs-1m
    python results/rlx2/table_1m.py                      # table_1m.md
    python results/rlx2/table_1m.py --claims             # and its rows in claims.toml

The runs are those of run_1m.sh and queue_1m.py. A run's score at a step is the mean of its last ten
evaluations up to there; scores are averaged over seeds, and intervals are 95 % percentile
bootstraps over the seeds of both groups (`summarise.ratio_interval`).
"""

from __future__ import annotations

import argparse

import numpy as np
from agents_1m import AGENTS, COMPARED, ENVIRONMENTS, FINAL, published
from claim_rows import write_rows
from evidence_1m import HERE, copies, keeps_dense, not_below, percent_of, scores_at, text_of

from thrifty.report.run_data import RunData

HEAD = """\
# One million steps beside the published table

Written by `table_1m.py` from the copies in runs-1m.

**The percentages are not the paper's protocol.** The paper trains 3,000,000 steps of the v3 tasks
with eight seeds, and divides by a dense learner of the same length. Ours are 1,000,000 steps of the
v5 tasks with up to three seeds, all time constants a third as long; dense learners run for 300,000
steps. So an agent stands beside the dense learner at 300,000 steps, in the middle of its own run,
and beside RLx2 of the same learner at 1,000,000 steps. The paper's percent of RLx2 is its percent
of dense divided by RLx2's. Ant-v5 has 105 observations, the paper's Ant-v3 111.

In brackets: 95 % percentile bootstraps over seeds. With three seeds they cover about three quarters
of the time, and one seed has none: a spread, not a test.
"""
COLUMNS = (
    "environment", "agent", "return, 300k", "% of dense, 300k", "published % of dense, 3M",
    "return, 1M", "% of RLx2, 1M", "published % of RLx2, 3M",
)  # fmt: skip
LEARNERS = {"td3": "dense", "sac": "sac_dense"}  # RLx2 of each, and what it is measured by

Tasks = dict[str, dict[str, list[RunData]]]


def table(tasks: Tasks) -> list[str]:
    """Return the table as lines: every agent on every environment, whether it was run or not.

    Args:
        tasks: runs by environment and agent, as agents_1m names them.
    """
    generator = np.random.default_rng(0)
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for environment in ENVIRONMENTS:
        agents = tasks.get(environment, {})
        for agent in AGENTS:
            rlx2 = "sac" if agent.startswith("sac") else "td3"
            cells = row(agent, rlx2, agents, environment, generator)
            name = AGENTS[agent].name
            if rlx2 == "sac" and "SAC" not in name:
                name += ", SAC"
            lines.append(f"| {' | '.join([environment, name, *cells])} |")
    return lines


def row(
    agent: str,
    rlx2: str,
    agents: dict[str, list[RunData]],
    environment: str,
    generator: np.random.Generator,
) -> list[str]:
    """Return the cells of one agent on one environment.

    Args:
        agent: whose row it is.
        rlx2: the RLx2 agent of its learner.
        agents: runs of every agent there.
        environment: where.
        generator: draws the resamples.
    """
    runs, dense = agents.get(agent, []), LEARNERS[rlx2]
    of_dense, best = published(agent, environment), published(rlx2, environment)
    of_best = None if of_dense is None or best is None else 100 * of_dense / best
    figures = ["-" if one is None else f"{one:.1f}" for one in (of_dense, of_best)]
    cells = []
    for step, reference, figure in ((COMPARED, dense, figures[0]), (FINAL, rlx2, figures[1])):
        scores = scores_at(runs, step)
        share = percent_of(scores, scores_at(agents.get(reference, []), step), generator)
        if agent == reference and scores:
            share = "100 %"
        if agent == dense and step == FINAL:
            cells += ["-", "-", figure]
        elif scores:
            cells += [text_of(scores, generator), share, figure]
        else:
            cells += ["not run" if not runs else "not yet", "-", figure]
    return cells


def claims(tasks: Tasks) -> list[str]:
    """Return the rows of claims.toml: what the paper's figures say, of the pairs in the queue."""
    generator = np.random.default_rng(0)
    rows = []
    for ours, other, environments in (
        ("td3", "set_plus", ENVIRONMENTS[:2]),
        ("td3", "static_plus", ENVIRONMENTS),
        ("td3", "rigl_replay", ENVIRONMENTS[:2]),
        ("sac", "sac_rigl", ENVIRONMENTS[:2]),
    ):
        name, theirs = AGENTS[ours].name, AGENTS[other].name
        place = {"set_plus": "section 5.2", "static_plus": "section 5.2", "sac_rigl": "table 2"}
        for environment in environments:
            agents = tasks.get(environment, {})
            if other == "sac_rigl":
                rows.append(
                    keeps_dense(
                        environment,
                        ours,
                        agents.get(ours, []),
                        agents.get(LEARNERS[ours], []),
                        generator,
                    )
                )
            figures = published(ours, environment), published(other, environment)
            assert figures[0] is not None
            assert figures[1] is not None
            if figures[0] < figures[1]:
                continue  # then it is not what the paper says
            where = f"{figures[0]} against {figures[1]} % of dense after 3M"
            rows.append(
                not_below(
                    f"{name} is not below {theirs} at equal sparsity on {environment}, 1M steps",
                    f"{place.get(other, 'section 5.3')}: {where}",
                    agents.get(ours, []),
                    agents.get(other, []),
                    generator,
                )
            )
    return rows


def main() -> None:
    """Read the flags; write the table, and the claims where they are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--claims", action="store_true")
    told = parser.parse_args()
    tasks = copies()
    lines = table(tasks)
    (HERE / "table_1m.md").write_text(HEAD + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    if told.claims:
        write_rows("table_1m.py", claims(tasks))


if __name__ == "__main__":
    main()
