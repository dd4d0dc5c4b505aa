from __future__ import annotations

from pathlib import Path

import pytest

from thrifty.bench import names, scheduling, schema
from thrifty.bench.schema import NOT_MEASURED

PUBLISHED = """
import gym
from gym import spaces


class scheduler_csi(gym.Env):
    def __init__(self, lamb, user_num=4):
        self.action_dim = user_num
        self.action_space = spaces.Box(-1, 1, (user_num,))

    def reset(self):
        return None

    def step(self, action):
        return sum(float(one) for one in action)
"""


def test_every_case_is_measured_in_the_schema(tmp_path: Path) -> None:
    assert "scheduling" in names()
    rows = scheduling.measure(rounds=2, slots=5, updates={3: (8, 32)})
    schema.write(tmp_path / "rows.json", rows, command="thrifty bench scheduling")
    assert schema.read(tmp_path / "rows.json") == rows
    cases = {row.case for row in rows}
    decisions = {f"RSD4, {users} users" for users in scheduling.USERS}
    decisions |= {"RSD4, 256 users, 90 % cut", "RSD4, 256 users, 95 % cut"}
    updates = {f"3 sequences, width 8, {part} % cut" for part in (0, 80, 90, 95)}
    assert cases == {"4 users", "8 users", "32 users", "S1", "S3", "S5"} | decisions | updates
    gaps = {row.case for row in rows if row.statistic == NOT_MEASURED}
    assert gaps == {"4 users", "8 users", "32 users"}  # the published code is not here
    compared = {row.implementation for row in rows if row.ratio is not None}
    assert compared == {scheduling.VECTOR, "RSD4, engine"}


def test_the_published_code_is_timed_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "scheduler_csi.py").write_text(PUBLISHED)
    rows = scheduling.measure(
        reference=tmp_path, rounds=1, slots=2, published_slots=100, updates={}
    )
    assert {row.implementation for row in rows if row.ratio is not None} == {
        scheduling.VECTOR,
        f"{scheduling.PUBLISHED} (commit unknown)",
    }
    with pytest.raises(ValueError, match=r"has no env/scheduler_csi\.py: name a checkout"):
        scheduling.measure(reference=tmp_path / "env", rounds=1, slots=2)


@pytest.mark.slow
def test_the_marks_are_met() -> None:
    """The low quantiles, which a busy machine disturbs least."""
    measured = scheduling.measure(rounds=10, updates={})
    rows = [row for row in measured if row.statistic == "low"]
    for row in rows:
        assert row.value is not None
        if row.implementation == scheduling.CORE:
            assert row.value <= scheduling.MARKS[int(row.case.split()[0])]
        elif row.implementation == scheduling.VECTOR:
            assert row.ratio is not None
            assert row.ratio <= scheduling.VECTOR_MARK
        elif row.case in scheduling.OPTIMUM_MARKS:
            assert row.value <= 1e3 * scheduling.OPTIMUM_MARKS[row.case]
    took = {row.case: row.value for row in rows if row.metric == "time of a decision"}
    fewer, most = (took[f"RSD4, {users} users"] for users in (128, 256))
    assert fewer is not None
    assert most is not None
    assert most <= scheduling.DECISION_MARK
    assert most <= 2.2 * fewer  # linear in users, as far as a machine's caches let it
    cut = took["RSD4, 256 users, 95 % cut"]
    assert cut is not None
    assert 0.7 * most <= cut <= 1.4 * most  # zeros are multiplied as well
