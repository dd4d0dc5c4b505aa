"""Turn the rows of the other scripts into pictures, summary.md and claims.toml.

    python results/lsvi_ucb_plus/summarise.py

Means over seeds; intervals are 95 % percentile bootstraps over seeds. A claim is written down as
not run until all of its rows are there: every cell, every seed, all episodes. Rows of more than one
(lambda, beta) or length, which a repeated tuning or a trial leaves, are refused, not mixed.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from hard_instance import EPISODES, KINDS, SIZES, cells, scale
from measure import BETAS, FAMILIES, HERE, REGULARISERS, SEEDS, circumstances, read
from weighted import KINDS as LEARNERS

from thrifty.report.claims import read_claims
from thrifty.report.figures import INK, LINE_STYLES, MUTED, PALETTE, legend, panel
from thrifty.stats import bootstrap_interval, mean

FAILED = 3.0  # a seed's regret above that many medians
LENGTH = 30_000  # episodes of a run of weighted.py
NAMES = {"unweighted": "LSVI-UCB", "weighted": "LSVI-UCB+"}
Rows = list[dict[str, Any]]


def interval(values: Any) -> tuple[float, float]:
    """Return the bootstrap interval of a mean over seeds."""
    found = bootstrap_interval(values, mean, generator=np.random.default_rng(0))
    return float(found.low), float(found.high)


def alike(rows: Rows, names: tuple[str, ...], where: str) -> None:
    """Refuse rows that differ in what one result has once."""
    found = {tuple(row[name] for name in names) for row in rows}
    if len(found) > 1:
        raise SystemExit(
            f"{where} has rows of several ({', '.join(names)}): {sorted(found)}; "
            "remove those of an earlier tuning or a trial"
        )


def scan() -> dict[tuple[str, int, int, int], dict[int, list[float]]]:
    """Return R(K) / ((d-1) sqrt(H^3 K)) of every seed in order, by learner and cell, then by s."""
    ratios: Any = defaultdict(lambda: defaultdict(list))
    rows = sorted(read(HERE / "hard_instance.csv"), key=lambda row: int(row["seed"]))
    for kind in KINDS:
        own = [row for row in rows if row["learner"] == kind]
        alike(own, ("regulariser", "beta"), f"hard_instance.csv, {kind}")
    for row in rows:
        cell = (row["learner"], int(row["d"]), int(row["H"]), int(row["K"]))
        ratios[cell][int(row["s"])].append(float(row["regret"]) / scale(row))
    return dict(ratios)


def whole_scan(kind: str) -> dict[tuple[int, int, int], dict[int, Any]]:
    """Return the ratios [seeds] of a learner by cell, then by s; nothing while rows are missing."""
    ratios: Any = defaultdict(dict)
    found = scan()
    for cell in cells(EPISODES):
        place = (cell["d"], cell["H"], cell["K"])
        values = np.array(found.get((kind, *place), {}).get(cell["s"], []))
        if len(values) != len(SEEDS):
            return {}
        ratios[place][cell["s"]] = values
    return dict(ratios)


def control(name: str) -> dict[tuple[int, int, int], dict[int, float]]:
    """Return a control's ratio by cell, then by s."""
    ratios: Any = defaultdict(dict)
    for row in read(HERE / "hard_controls.csv"):
        cell = (int(row["d"]), int(row["H"]), int(row["K"]))
        ratios[cell][int(row["s"])] = float(row[name])
    return dict(ratios)


def draw_scan() -> None:
    """One picture per (d, H): the ratio over s for every K, with the controls."""
    ratios, uniform, worst = scan(), control("uniform"), control("worst")
    episodes = sorted({cell[3] for cell in ratios})
    for d, H in SIZES:
        figure, axes = panel(3.6)
        for index, kind in enumerate(KINDS):
            for number, K in enumerate(episodes):
                found = ratios.get((kind, d, H, K), {})
                s = sorted(found)
                bands = np.array([interval(found[one]) for one in s])
                colour, style = PALETTE[index], LINE_STYLES[number % len(LINE_STYLES)]
                axes.plot(s, [np.mean(found[one]) for one in s], color=colour, linestyle=style,
                          marker="o", markersize=3, label=f"{NAMES[kind]}, K={K:,}")  # fmt: skip
                axes.fill_between(s, bands[:, 0], bands[:, 1], color=colour, alpha=0.15, lw=0)
        for name, ratio, colour in (("uniform", uniform, INK), ("worst", worst, MUTED)):
            longest = ratio[d, H, max(episodes)]
            axes.plot(list(longest), list(longest.values()), color=colour, linestyle="--", lw=1.2,
                      label=f"{name} policy, exact, K={max(episodes):,}")  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("gap multiplier s")
        axes.set_ylabel("R(K) / ((d-1) √(H³ K))")
        legend(figure, axes)
        figure.savefig(HERE / f"hard_instance_d{d}_H{H}.png", dpi=160)


def draw_curves() -> None:
    """One picture per family: regret over episodes on both axes logarithmic."""
    rows = read(HERE / "curves.csv")
    for name in dict.fromkeys(row["family"] for row in rows):
        figure, axes = panel(3.4)
        own = [row for row in rows if row["family"] == name]
        points = sorted(int(key[7:]) for key in own[0] if key.startswith("regret_"))
        for index, kind in enumerate(dict.fromkeys(row["learner"] for row in own)):
            curves = np.array(
                [
                    [float(row[f"regret_{k}"]) for k in points]
                    for row in own
                    if row["learner"] == kind
                ]
            )
            bands = np.array([interval(curves[:, at]) for at in range(len(points))])
            axes.plot(points, curves.mean(axis=0), color=PALETTE[index], lw=1.6,
                      label=NAMES.get(kind, kind))  # fmt: skip
            axes.fill_between(
                points, bands[:, 0], bands[:, 1], color=PALETTE[index], alpha=0.2, lw=0
            )
        gap = float(own[0]["uniform"])
        axes.plot(points, gap * np.array(points), color=INK, linestyle="--", lw=1.2,
                  label="uniform policy, exact")  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("episode")
        axes.set_ylabel("regret")
        legend(figure, axes)
        figure.savefig(HERE / f"curves_{name.replace(' ', '_').replace('=', '')}.png", dpi=160)


def weighted() -> dict[str, dict[str, Rows]]:
    """Return the evaluation rows by family and learner; no family whose learners lack seeds."""
    found: Any = defaultdict(lambda: defaultdict(list))
    for row in read(HERE / "weighted.csv"):
        found[row["family"]][row["learner"]].append(row)
    for name, kinds in found.items():
        for kind, rows in kinds.items():
            alike(rows, ("K", "regulariser", "beta"), f"weighted.csv, {name}, {kind}")
            rows.sort(key=lambda row: int(row["seed"]))
    played = {
        name: {tuple(row["seed"] for row in kinds.get(kind, [])) for kind in LEARNERS}
        for name, kinds in found.items()
    }
    return {name: dict(found[name]) for name in FAMILIES if len(played.get(name, ())) == 1}


def whole(kinds: dict[str, Rows]) -> bool:
    """Whether the learners have all episodes and seeds of a family."""
    rows = kinds.get("weighted", [])
    return [int(row["seed"]) for row in rows] == list(SEEDS) and int(rows[0]["K"]) == LENGTH


def ratio(one: Rows, two: Rows) -> tuple[float, float, float]:
    """Return mean regret of one over two, with a bootstrap interval over the common seeds."""
    above = np.array([float(row["regret"]) for row in one])
    below = np.array([float(row["regret"]) for row in two])
    draws = np.random.default_rng(0).integers(len(above), size=(10_000, len(above)))
    resampled = above[draws].mean(axis=1) / below[draws].mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(above.mean() / below.mean()), float(low), float(high)


def told(rows: Rows) -> str:
    """Return mean and median regret, the seeds that failed, and the pair; * is the grid's edge."""
    regrets = np.array([float(row["regret"]) for row in rows])
    failed = int((regrets > FAILED * np.median(regrets)).sum())
    pair = marked(rows[0]["regulariser"], rows[0]["beta"])
    text = f"{regrets.mean():,.0f}, median {np.median(regrets):,.0f}"
    return text + (f", {failed} failed" if failed else "") + f" ({pair})"


def marked(regulariser: object, beta: object) -> str:
    """Return a pair as text, with a * at what is the edge of its grid."""
    pair = []
    for value, grid in ((regulariser, REGULARISERS), (beta, BETAS)):
        edge = float(str(value)) in (min(grid), max(grid))
        pair.append(f"{value}*" if edge else str(value))
    return ", ".join(pair)


def weighted_table() -> list[str]:
    """Where weighting helps, as a Markdown table."""
    lines = [
        "| family | LSVI-UCB (lambda, beta) | LSVI-UCB+ (lambda, beta) | the same, not monotone "
        "| LSVI-UCB+ over LSVI-UCB: means, 95 % | medians | weighting "
        "| of the uniform policy's, LSVI-UCB and LSVI-UCB+ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, kinds in weighted().items():
        cells = [told(kinds[kind]) for kind in ("unweighted", "weighted", "weighted, not monotone")]
        value, low, high = ratio(kinds["weighted"], kinds["unweighted"])
        above, below = (
            float(np.median([float(row["regret"]) for row in kinds[kind]]))
            for kind in ("weighted", "unweighted")
        )
        verdict = "helps" if high < 1 else "harms" if low > 1 else "no difference shown"
        shares = []
        for kind in ("unweighted", "weighted"):
            rows = kinds[kind]
            total = [float(row["uniform"]) * int(row["K"]) for row in rows]
            shares.append(f"{np.mean([float(r['regret']) for r in rows]) / np.mean(total):.1%}")
        cells += [f"{value:.2f} [{low:.2f}, {high:.2f}]", f"{above / below:.2f}", verdict]
        cells += [" and ".join(shares)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def scan_table() -> list[str]:
    """The cells of the scan, as a Markdown table."""
    ratios, uniform = scan(), control("uniform")
    found = {(kind, *place) for kind in KINDS for place in uniform if (kind, *place) in ratios}
    lines = [
        "| learner | d | H | K | largest R(K) / ((d-1) sqrt(H^3 K)), at s | share of the uniform "
        "policy's at the largest s |",
        "|---|---|---|---|---|---|",
    ]
    for kind, d, H, K in sorted(found):
        of_s = {s: float(np.mean(values)) for s, values in ratios[kind, d, H, K].items()}
        top, last = max(of_s, key=lambda s, of_s=of_s: of_s[s]), max(of_s)
        part = of_s[last] / uniform[d, H, K][last]
        name, top_text = NAMES[kind], f"{of_s[top]:.3f} at {top}"
        lines.append(f"| {name} | {d} | {H} | {K:,} | {top_text} | {part:.0%} at {last} |")
    return lines


def resampled(statistic: Callable[[Any], float]) -> tuple[float, float]:
    """Return the bootstrap interval of a statistic of seeds' indices, the same in every cell."""
    draws = np.random.default_rng(0).integers(len(SEEDS), size=(2_000, len(SEEDS)))
    low, high = np.quantile([statistic(draw) for draw in draws], [0.025, 0.975])
    return float(low), float(high)


def scan_claims() -> list[dict[str, Any]]:
    """The two marks of the scan, for each learner."""
    uniform = control("uniform")
    claims = []
    for kind in KINDS:
        ratios = whole_scan(kind)

        def spread(seeds: Any, ratios: Any = ratios) -> float:
            tops = [max(one[seeds].mean() for one in of.values()) for of in ratios.values()]
            return float(max(tops) / min(tops))

        def share(seeds: Any, ratios: Any = ratios) -> float:
            last = {place: max(of) for place, of in ratios.items() if place[2] == max(EPISODES)}
            return float(
                max(ratios[at][s][seeds].mean() / uniform[at][s] for at, s in last.items())
            )

        every = np.arange(len(SEEDS))
        claims += [
            {
                "claim": f"{NAMES[kind]} with one (lambda, beta) on the hard instance: R(K) / "
                "((d-1) sqrt(H^3 K)) has the same order in all nine cells",
                "where": "abstract: regret of order H d sqrt(T), T = H K",
                "metric": "largest over smallest of the cells' maxima over s, means of 10 seeds",
                "expected": "<= 2",
                "measured": spread(every) if ratios else None,
                "interval": list(resampled(spread)) if ratios else None,
            },
            {
                "claim": f"{NAMES[kind]} learns: regret on the hard instance at the largest valid "
                "s, K = 100,000",
                "where": "ours: every policy has a flat ratio at small s, so that alone shows "
                "nothing",
                "metric": "share of the uniform policy's regret, worst of three (d, H), means of "
                "10 seeds",
                "expected": "<= 0.2",
                "measured": share(every) if ratios else None,
                "interval": list(resampled(share)) if ratios else None,
            },
        ]
    return claims


def weighted_claims() -> list[dict[str, Any]]:
    """Whether weighting helps on the families made for it; summary.md has all eight.

    It does where all of the interval is below 1: a few seeds on which the other learner fails pull
    a mean, and show nothing.
    """
    claims = []
    kinds_of = weighted()
    for name in ("lottery d=8", "lottery d=20"):
        measured = None
        if whole(kinds_of.get(name, {})):
            measured = ratio(kinds_of[name]["weighted"], kinds_of[name]["unweighted"])
        claims.append(
            {
                "claim": "Weighting by variance lowers regret, both learners tuned over (lambda, "
                f"beta): {name}",
                "where": "abstract: minimax optimal by variance-weighted regression",
                "metric": "mean regret of LSVI-UCB+ over LSVI-UCB's, 30,000 episodes, 10 seeds: "
                "upper end of the 95 % interval",
                "expected": "<= 0.99",
                "measured": None if measured is None else measured[2],
                "interval": None if measured is None else list(measured[1:]),
            }
        )
    return claims


def write_claims() -> None:
    """Write claims.toml, its status following from the numbers."""
    hardware, hours = circumstances(HERE)
    lines = ["# Claims about LSVI-UCB+ (Hu et al., ICML 2022). Rows: results/lsvi_ucb_plus/run.sh."]
    for claim in scan_claims() + weighted_claims():
        measured = None if claim["measured"] is None else round(claim["measured"], 3)
        bound = float(claim["expected"].removeprefix("<= "))
        status = "not run" if measured is None else "holds" if measured <= bound else "failed"
        row: dict[str, Any] = {**claim, "tolerance": 0, "status": status}
        if measured is not None:
            row |= {"measured": measured, "seeds": list(SEEDS)}
            row["hardware"] = hardware
            if claim.get("interval"):
                row["interval"] = [round(end, 3) for end in claim["interval"]]
            if hours is not None:
                row["hours"] = round(hours, 2)
        lines += ["", "[[claims]]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in row.items() if value is not None]
    path = HERE / "claims.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    read_claims(path)  # refuses what contradicts itself


def main() -> None:
    """Write everything."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    text = ["# LSVI-UCB+: what our runs say", ""]
    if read(HERE / "hard_controls.csv"):  # written last
        draw_scan()
        chosen = json.loads((HERE / "hard_chosen.json").read_text())
        text += ["Hard instance, (lambda, beta) chosen on tuning seeds: "]
        text[-1] += ", ".join(f"{NAMES[kind]} ({marked(*pair)})" for kind, pair in chosen.items())
        text[-1] += "; * is the edge of the grid, beyond which nothing was tried."
        text += ["", *scan_table(), ""]
    if read(HERE / "weighted.csv"):
        rows = read(HERE / "weighted.csv")
        episodes, seeds = int(rows[0]["K"]), len({row["seed"] for row in rows})
        text += [f"Mean regret after {episodes:,} episodes, {seeds} seeds; both learners tuned per"]
        text += ["family on other seeds and other draws of the instance:", ""]
        text += [*weighted_table(), ""]
        text += ["A failed seed has more than three times the median. * is the edge of the grid,"]
        text += ["beyond which nothing was tried. Weighting helps or harms where the interval of"]
        text += ["the means lies on one side of 1; a few failed seeds can decide it.", ""]
    if read(HERE / "curves.csv"):
        draw_curves()
    (HERE / "summary.md").write_text("\n".join(text), encoding="utf-8")
    write_claims()


if __name__ == "__main__":
    main()
