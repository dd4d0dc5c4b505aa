"""The README says what the results say, and its Python example runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from thrifty.recipes.rlx2 import published_sparsity
from thrifty.report.claims import read_results, stale

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_claims_table_is_the_one_that_the_results_give() -> None:
    assert not stale(README, read_results(ROOT / "results"))


def test_the_first_example_is_short_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    # The same lines on a short run: Pendulum-v1 has three observations.
    for long, short in (("HalfCheetah-v5", "Pendulum-v1"), ("100_000", "300"), ("50_000", "50")):
        assert long in code
        code = code.replace(long, short)
    code = code.replace("evaluate_every=5_000", "evaluate_every=200").replace(
        "np.zeros(17)", "np.zeros(3)"
    )
    exec(compile(code, "README", "exec"), {})


def test_the_stable_baselines3_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("stable_baselines3", reason='needs pip install "thrifty[sb3]"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SB3_LOGDIR", str(tmp_path))
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "sb3" in c]
    code = code.replace("HalfCheetah-v5", "Pendulum-v1").replace("100_000", "120")
    names: dict[str, Any] = {}
    exec(compile(code, "README", "exec"), names)
    found = names["model"].policy.sparsity.topologies
    assert {network: round(one.sparsity, 2) for network, one in found.items()} == {
        "actor": 0.9,
        "critic": 0.85,
    }


# What a block of the page takes from its reader's surroundings, and what makes it short.
OTHERS: dict[str, tuple[str, dict[str, str]]] = {
    "thrifty.QMIX": ("", {"100_000": "200", "20_000": "100", "evaluate(100)": "evaluate(2)"}),
    "sparsify(model": (
        "import torch\n"
        "model = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Linear(64, 1))\n"
        "optimizer = torch.optim.Adam(model.parameters())\n",
        {},
    ),
    "sparse_policy.load": (
        "import numpy as np, thrifty\n"
        "from thrifty.export import export_policy\n"
        "export_policy(thrifty.TD3('Pendulum-v1', learning_starts=20), 'policy.npz')\n"
        "observation = np.zeros(3)\n",
        {},
    ),
    "run_episodes": ("", {"100_000": "500"}),
}


def test_the_other_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    blocks = [code for code in blocks[1:] if "sb3" not in code]
    assert len(blocks) == len(OTHERS)
    for code, (mark, (before, shorter)) in zip(blocks, OTHERS.items(), strict=True):
        assert mark in code
        for long, short in shorter.items():
            assert long in code
            code = code.replace(long, short)
        exec(compile(before + code, "README", "exec"), {})


def measured(name: str, **wanted: object) -> dict[str, Any]:
    """The one row of a benchmark's file with these fields, at the low quantile."""
    rows = json.loads((ROOT / f"benchmarks/{name}.json").read_text())["rows"]
    wanted = {"statistic": "low", **wanted}
    (row,) = [r for r in rows if all(r[key] == value for key, value in wanted.items())]
    return dict(row)


def test_the_engines_figures_are_those_of_the_benchmark() -> None:
    told = " ".join(README.split())
    for per_call, suffix in ((1, ""), (16, ", 16 per call")):
        ratios = [
            "{ratio:.1f}".format_map(
                measured(
                    "td3",
                    case=case,
                    sparsity=sparsity,
                    implementation=f"thrifty engine{suffix}",
                    ratio_to=f"sbx TD3{suffix}",
                )
            )
            for case in ("halfcheetah", "humanoid")
            for sparsity in (0.9, 0.95)
        ]
        if per_call == 1:
            assert "{} times sbx (JAX) at 90 % and {} times at 95 %".format(*ratios[:2]) in told
            assert "{} and {} times on Humanoid's".format(*ratios[2:]) in told
        else:
            assert "both sides {} and {}, {} and {}".format(*ratios) in told


def test_the_figures_of_moving_links_and_of_a_second_core_are_those_of_the_benchmarks() -> None:
    told = " ".join(README.split())
    metric = "share of the time in evolution"
    shares = [measured("td3", metric=metric, sparsity=s)["value"] for s in (0.9, 0.95)]
    assert "every 1,000 updates takes {:.1f} and {:.1f} % of the time".format(*shares) in told
    of_shared = {"implementation": "thrifty engine, shared", "sparsity": 0.95}
    low, median = (measured("td3", **of_shared, statistic=s)["ratio"] for s in ("low", "median"))
    two = measured("loop", implementation="two learners")["ratio"]
    assert f"make {low:.2f} times as many updates (95 %; {median:.2f} by the median)" in told
    assert f"two learners on two cores {two:.2f} times" in told


def test_the_reason_for_the_engine_is_what_was_measured() -> None:
    ratios = [
        row["ratio"]
        for name in ("td3", "sac")
        for row in json.loads((ROOT / f"benchmarks/{name}.json").read_text())["rows"]
        if row["ratio_to"] == "thrifty reference, dense" and row["sparsity"] == 0.8
    ]
    told = " ".join((ROOT / "src/thrifty/control/backend.py").read_text().split())
    assert f"makes {min(ratios):.1f} to {max(ratios):.1f} times the updates of our dense" in told


def test_the_policys_figures_are_those_of_the_benchmark() -> None:
    told = " ".join(README.split())
    case = "HalfCheetah-v5, one observation, 95% sparse"
    for implementation, text, ratio_to in (
        ("thrifty, numba", "an action takes {value:.1f} µs with Numba", "numpy dense"),
        ("thrifty, numpy alone", "{value:.1f} µs with NumPy alone", "numpy dense"),
        ("numpy dense", "{value:.1f} µs of dense NumPy", None),
        ("torch eager dense", "{value:.0f} µs of torch's eager mode", None),
    ):
        row = measured("policy", case=case, implementation=implementation, ratio_to=ratio_to)
        assert text.format_map(row) in told
    size = measured("policy", case=case, implementation="thrifty .npz", statistic="exact")
    assert "the file is {:.1f} % of the dense one".format(100 * size["ratio"]) in told


def test_the_demos_figures_are_those_of_its_runs() -> None:
    told = " ".join(README.split())
    runs = [ROOT / f"results/rlx2/runs/demo-engine-{seed}" for seed in range(3)]
    means = []
    for run in runs:
        returns = json.loads((run / "returns.json").read_text())["returns"]
        assert len(returns) == 10
        means.append(sum(returns) / 10)
    assert "(ten fresh episodes each)" in told
    assert f"returns {means[0]:,.0f} and runs" in told
    assert "seeds 1 and 2 return {:,.0f} and {:,.0f}".format(*means[1:]) in told
    records = [json.loads(line) for line in (runs[0] / "records.jsonl").read_text().splitlines()]
    (gait,) = [record for record in records if record["kind"] == "gait"]
    assert "runs {:.1f} m/s".format(gait["distance"] / gait["seconds"]) in told


@pytest.mark.parametrize(
    ("page", "told", "measured_in"),
    [
        ("README.md", r"One TD3 update .*? one core of an (.*?), `thrifty", "benchmarks/td3.json"),
        ("docs/engine.md", r"batch 256\), one core of an (.*?), 10 %", "benchmarks/td3.json"),
        ("README.md", r"`thrifty bench policy`, 10 % quantile, (.*?)\)", "benchmarks/policy.json"),
        (
            "README.md",
            r"minutes on one core of an (.*?), compilation",
            "results/rlx2/runs/demo-engine-0/environment.json",
        ),
    ],
)
def test_the_processor_is_the_one_that_was_measured_on(
    page: str, told: str, measured_in: str
) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    (processor,) = re.findall(told, text)
    cpu = json.loads((ROOT / measured_in).read_text())["hardware"]["cpu"]
    assert cpu.replace("(R)", "").startswith(processor)


def test_the_sparsities_are_those_of_the_recipes() -> None:
    """TD3's and SAC's, actors and critics, on the four tasks of the paper's table."""
    known = [
        sparsity
        for learner in ("td3", "sac")
        for task in ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5")
        for sparsity in published_sparsity(task, learner)  # type: ignore[arg-type]
    ]
    told = f"TD3 and SAC with {100 * min(known):.0f} to {100 * max(known):.0f} % of"
    for page in ("README.md", "docs/index.md"):
        assert told in (ROOT / page).read_text(encoding="utf-8")


def test_every_file_that_it_links_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
