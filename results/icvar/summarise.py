"""Turn the rows of the other scripts into pictures, summary.md and claims.toml.

    python results/icvar/summarise.py [--out FOLDER]

Means over seeds; intervals are 95 % percentile bootstraps over seeds. A claim whose rows are not
there yet is written down as not run.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import HERE, circumstances, read, slope
from numpy.typing import NDArray

from thrifty.report.claims import read_claims
from thrifty.report.figures import INK, LINE_STYLES, MUTED, PALETTE, legend, panel

Floats = NDArray[np.float64]
Rows = list[dict[str, str]]
_RESAMPLES = 2000


def grouped(rows: Rows, *names: str) -> dict[tuple[str, ...], Rows]:
    """Return the rows by the values of some columns; seeds in order in each, of each instance.

    Rows stand in a file in the order in which they were finished.
    """
    found: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in names)].append(row)
    for own in found.values():
        own.sort(key=lambda row: (row.get("instance", ""), int(row["seed"])))
    return dict(found)


def curve(rows: Rows, field: str = "regret") -> tuple[list[int], Floats]:
    """Return the episodes, and the values of every seed there [seeds, points]."""
    start = f"{field}_"
    points = sorted(int(n[len(start) :]) for n in rows[0] if n.startswith(start) and rows[0][n])
    return points, np.array([[float(row[f"{start}{k}"]) for k in points] for row in rows])


def column(rows: Rows, name: str) -> Floats:
    """Return one column."""
    return np.array([float(row[name]) for row in rows])


def bootstrap(
    count: int, statistic: Callable[[NDArray[np.int64]], float]
) -> tuple[float, float, float]:
    """Return a statistic of the seeds, and its interval; it is given the seeds to use."""
    rng = np.random.default_rng(0)
    draws = [statistic(rng.integers(count, size=count)) for _ in range(_RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return statistic(np.arange(count)), float(low), float(high)


def band(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return mean and bootstrap interval at every point, of values [seeds, points]."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(_RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return values.mean(0), low, high


class Summary:
    """What is written: lines of text and claims.

    Args:
        folder: of the CSV files, and of what is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hardware, self.hours = circumstances(folder)
        self.text = ["# Iterated CVaR: what our runs say", ""]
        self.claims: list[dict[str, Any]] = []
        self.seeds: list[int] = []
        """Of the rows at hand."""

    def rows(self, name: str) -> Rows:
        """Return the rows of a CSV file, and note their seeds."""
        rows = read(self.folder / name)
        self.seeds = sorted({int(row["seed"]) for row in rows})
        return rows

    def claim(
        self, text: str, where: str, metric: str, expected: str,
        measured: tuple[float, float, float] | None,
    ) -> None:  # fmt: skip
        """Add a claim with its value and interval."""
        row: dict[str, Any] = {
            "claim": text,
            "where": where,
            "metric": metric,
            "expected": expected,
        }
        row |= {"tolerance": 0, "status": "not run"}
        if measured is not None:
            value, low, high = (round(number, 3) for number in measured)
            bound = float(expected[3:])
            holds = value <= bound if expected.startswith("<=") else value >= bound
            row |= {"measured": value, "interval": [low, high], "seeds": self.seeds}
            row |= {"hardware": self.hardware}
            row["status"] = "holds" if holds else "failed"
        self.claims.append(row)

    def head(self, title: str, about: str, *figures: str) -> None:
        """Begin a part: its title, what its table holds, and its figures by name."""
        self.text += [f"## {title}", "", about, ""]
        self.text += [f"![{title}: {name}]({name}.png)" for name in figures] + [""]

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table."""
        self.text += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        self.text += ["| " + " | ".join(map(str, row)) + " |" for row in rows] + [""]

    def write(self) -> None:
        """Write summary.md and claims.toml."""
        (self.folder / "summary.md").write_text("\n".join(self.text), encoding="utf-8")
        lines = ["# Claims about iterated CVaR learners. Rows: results/icvar/run.sh."]
        for row in self.claims:
            if self.hours is not None and row["status"] != "not run":
                row["hours"] = round(self.hours, 2)
            lines += ["", "[[claims]]", *(f"{k} = {json.dumps(v)}" for k, v in row.items())]
        path = self.folder / "claims.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        read_claims(path)  # refuses what contradicts itself


def steepest(curves: list[tuple[list[int], Floats]]) -> tuple[float, float, float]:
    """Return the largest slope of mean curves, each points and values [seeds, points]."""
    count = min(len(values) for _, values in curves)
    return bootstrap(
        count, lambda seeds: max(slope(p, v[seeds].mean(0).tolist()) for p, v in curves)
    )


def regret(summary: Summary) -> None:
    """Regret over episodes on fixed instances: slopes, controls, and pictures."""
    rows = summary.rows("regret.csv")
    table = []
    curves: dict[str, list[tuple[list[int], Floats]]] = defaultdict(list)
    for (name,), own in grouped(rows, "instance").items():
        figure, axes = panel(3.6)
        for number, ((level, kind), runs) in enumerate(
            grouped(own, "risk_level", "learner").items()
        ):
            points, values = curve(runs)
            mean, low, high = band(values)
            colour = PALETTE[number // 2 % len(PALETTE)]
            style = LINE_STYLES[0 if kind == "optimistic" else 1]
            axes.plot(points, np.maximum(mean, 1e-3), color=colour, linestyle=style, lw=1.5,
                      label=f"alpha {level}, {kind}")  # fmt: skip
            axes.fill_between(points, np.maximum(low, 1e-3), np.maximum(high, 1e-3), color=colour,
                              alpha=0.15, lw=0)  # fmt: skip

            found = steepest([(points, values)])
            uniform = column(runs, "uniform").mean() * points[-1]
            table.append(
                (name, level, kind, f"{mean[-1]:.4g} [{low[-1]:.4g}, {high[-1]:.4g}]",
                 f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]", f"{uniform:.4g}",
                 f"{column(runs, 'neutral').mean() * points[-1]:.4g}")
            )  # fmt: skip
            if kind == "optimistic":
                curves["ICVaR-RM" if name == "inventory" else "ICVaR-L"].append((points, values))
        longest = points[-1]
        axes.plot(points, np.array(points) * column(own, "uniform").mean(), color=INK, lw=1.0,
                  linestyle="--", label="uniform policy, exact, mean of alphas")  # fmt: skip
        axes.plot(points, mean[-1] * np.sqrt(np.array(points) / longest), color=MUTED, lw=0.8,
                  linestyle=":", label="grows like √k")  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("episode")
        axes.set_ylabel("regret of the iterated CVaR")
        legend(figure, axes)
        figure.savefig(summary.folder / f"regret_{name.replace(' ', '_')}.png", dpi=160)
    text = "On every fixed instance and at every alpha regret is far below the uniform policy's"
    metric = "largest mean regret over the uniform policy's exact regret"
    for learner, where in (
        ("ICVaR-L", "theorem 1 (Chen et al.)"),
        ("ICVaR-RM", "theorem 1 (Du et al.)"),
    ):
        summary.claim(
            f"{learner}'s regret grows like sqrt(K) or slower on every instance, at every alpha",
            where,
            "largest log-log slope of mean regret over instances and alphas, last decade",
            "<= 0.6",
            steepest(curves[learner]) if curves[learner] else None,
        )
    if not rows:
        summary.claim(text, "control", metric, "<= 0.1", None)
        return
    names = dict.fromkeys(row["instance"] for row in rows)
    summary.head(
        "Regret on fixed instances",
        "Mean regret of the iterated CVaR after all episodes with its interval, the log-log slope "
        "of the mean over the last decade, and the exact regret of the uniform and of the "
        "risk-neutral policy. Greedy is the same learner without a bonus.",
        *(f"regret_{name.replace(' ', '_')}" for name in names),
        "risk_levels",
    )
    head = ("instance", "alpha", "learner", "regret", "slope", "uniform's", "risk-neutral's")
    summary.table(head, table)
    cells = grouped([row for row in rows if row["learner"] == "optimistic"],
                    "instance", "risk_level")  # fmt: skip
    K = curve(rows)[0][-1]
    shares = np.array([
        column(own, "regret") / (K * column(own, "uniform").mean()) for own in cells.values()
    ])  # fmt: skip
    found = bootstrap(shares.shape[1], lambda seeds: float(shares[:, seeds].mean(1).max()))
    summary.claim(text, "control", metric, "<= 0.1", found)
    dependence(summary, cells)


def dependence(summary: Summary, cells: dict[tuple[str, ...], Rows]) -> None:
    """Draw regret after all episodes over the risk level; cells by instance and level."""
    figure, axes = panel(3.2)
    for number, name in enumerate(dict.fromkeys(name for name, _ in cells)):
        levels = sorted(float(level) for one, level in cells if one == name)
        values = np.array([column(cells[name, str(level)], "regret") for level in levels])
        mean, low, high = band(values.T)
        colour, style = PALETTE[number], LINE_STYLES[number % len(LINE_STYLES)]
        axes.plot(levels, mean, color=colour, linestyle=style, marker="o", markersize=3, label=name)
        axes.fill_between(levels, low, high, color=colour, alpha=0.15, lw=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("risk level alpha")
    axes.set_ylabel("regret after all episodes")
    legend(figure, axes)
    figure.savefig(summary.folder / "risk_levels.png", dpi=160)


def hard_chain(summary: Summary) -> None:
    """The scan over the gap multiplier."""
    rows = summary.rows("hard_chain.csv")
    text = "On the linear hard chain ICVaR-L tells the actions apart where the gap allows it"
    metric = "R(K) over the uniform policy's, at the largest K and the largest valid s"
    if not rows:
        summary.claim(text, "lower bound of the linear case", metric, "<= 0.2", None)
        return
    figure, axes = panel(3.6)
    cells = grouped(rows, "learner", "K")
    for number, ((kind, K), own) in enumerate(cells.items()):
        by_s = {float(s): column(runs, "ratio") for (s,), runs in grouped(own, "s").items()}
        s = sorted(by_s)
        mean, low, high = band(np.array([by_s[one] for one in s]).T)
        colour = PALETTE[0 if kind == "optimistic" else 1]
        style = LINE_STYLES[number % 3 % len(LINE_STYLES)]
        axes.plot(s, mean, color=colour, linestyle=style, marker="o", markersize=3,
                  label=f"{kind}, K={int(K):,}")  # fmt: skip
        axes.fill_between(s, low, high, color=colour, alpha=0.15, lw=0)
    for name, colour in (("uniform", INK), ("worst", MUTED)):
        exact = {float(row["s"]): float(row[f"{name}_ratio"]) for row in rows}
        axes.plot(sorted(exact), [exact[s] for s in sorted(exact)], color=colour, linestyle="--",
                  lw=1.2, label=f"{name} policy, exact")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("gap multiplier s")
    axes.set_ylabel("R(K) / ((d-1) L √(K / α^n))")
    legend(figure, axes)
    figure.savefig(summary.folder / "hard_chain.png", dpi=160)
    summary.head(
        "Linear hard chain, by the multiplier s of its gap",
        "Mean R(K) over (d-1) L sqrt(K / alpha^n) with its interval, beside the exact ratios of "
        "the uniform and the worst policy. Learning shows where s grows and the ratio does not.",
        "hard_chain",
    )
    table = []
    for (kind, K, s_text), own in grouped(rows, "learner", "K", "s").items():
        ratio = column(own, "ratio")
        found = bootstrap(len(ratio), lambda seeds, r=ratio: float(r[seeds].mean()))  # type: ignore[misc]
        table.append((kind, K, s_text, "{:.3g} [{:.3g}, {:.3g}]".format(*found),
                      f"{column(own, 'uniform_ratio').mean():.3g}",
                      f"{column(own, 'worst_ratio').mean():.3g}"))  # fmt: skip
    summary.table(("learner", "K", "s", "ratio", "uniform's", "worst's"), table)
    longest = max(rows, key=lambda row: (int(row["K"]), float(row["s"])))
    last = grouped(rows, "K", "s", "learner")[longest["K"], longest["s"], "optimistic"]
    share = column(last, "ratio") / column(last, "uniform_ratio")
    found = bootstrap(len(share), lambda seeds: float(share[seeds].mean()))
    summary.claim(text, "lower bound of the linear case", metric, "<= 0.2", found)


def classes(summary: Summary) -> None:
    """ICVaR-G: active kernels and the truth among them."""
    rows = summary.rows("classes.csv")
    text = "With the width of theory the true kernel stays in ICVaR-G's sets"
    metric = "share of runs in which it stays at every stage, delta = .01"
    if not rows:
        summary.claim(text, "theorem 2", metric, ">= 0.99", None)
        return
    figure, axes = panel(3.2)
    table = []
    for number, ((constants, level), own) in enumerate(
        grouped(rows, "constants", "risk_level").items()
    ):
        points, active = curve(own, "active")
        mean, low, high = band(active)
        colour, style = PALETTE[number % 3], LINE_STYLES[number // 3 % len(LINE_STYLES)]
        axes.plot(points, mean, color=colour, linestyle=style, label=f"{constants}, alpha {level}")
        axes.fill_between(points, low, high, color=colour, alpha=0.15, lw=0)
        _, truth = curve(own, "truth")
        table.append((constants, level, f"{mean[-1]:.2f}", f"{truth[:, -1].mean():.2f}",
                      f"{column(own, 'regret').mean():.4g}",
                      f"{column(own, 'uniform').mean() * points[-1]:.4g}"))  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("episode")
    axes.set_ylabel("active kernels per stage")
    legend(figure, axes)
    figure.savefig(summary.folder / "classes.png", dpi=160)
    summary.head(
        "ICVaR-G on a class of 60 kernels",
        "Active kernels per stage, the share of runs that kept the truth at every stage, and mean "
        "regret beside the uniform policy's.",
        "classes",
    )
    head = ("width", "alpha", "active at the end", "truth kept", "regret", "uniform's")
    summary.table(head, table)
    theory = [row for row in rows if row["constants"] == "theory"]
    kept = curve(theory, "truth")[1][:, -1]
    found = bootstrap(len(kept), lambda seeds: float(kept[seeds].mean()))
    summary.claim(text, "theorem 2", metric, ">= 0.99", found)


def comparisons(summary: Summary) -> None:
    """ICVaR-HF: regret by the number of annotators, and by how they err."""
    rows = summary.rows("comparisons.csv")
    text = "ICVaR-HF's regret falls with the number m of annotators, alpha = {}"
    metric = "exponent b of regret ~ m^b over m = 1, 5, 20, known kernel, three instances"
    if not rows:
        summary.claim(text.format("1.0"), "theorem 3: 1/sqrt(m)", metric, "<= -0.1", None)
        return
    table = []
    for (level, kind, m), own in grouped(rows, "risk_level", "annotator", "m").items():
        mean = column(own, "regret")
        found = bootstrap(len(mean), lambda seeds, v=mean: float(v[seeds].mean()))  # type: ignore[misc]
        K = int(own[0]["K"])
        table.append((level, kind, m, "{:.4g} [{:.4g}, {:.4g}]".format(*found),
                      f"{column(own, 'uniform').mean() * K:.4g}"))  # fmt: skip
    summary.head(
        "ICVaR-HF: m annotators per query",
        "Mean regret with its interval, known kernel, three instances. The figure is of annotators "
        "as the model assumes; its exponents with their intervals are in claims.toml.",
        "comparisons",
    )
    summary.table(("alpha", "annotators", "m", "regret", "uniform's"), table)
    assumed = [row for row in rows if row["annotator"] == "as assumed"]
    figure, axes = panel(3.0)
    for number, ((level,), own) in enumerate(grouped(assumed, "risk_level").items()):
        by_m = grouped(own, "m")
        labels = sorted(int(key[0]) for key in by_m)
        regrets = np.array([column(by_m[(str(one),)], "regret") for one in labels])

        def exponent(runs: NDArray[np.int64], r: Floats = regrets, m: list[int] = labels) -> float:
            return float(np.polyfit(np.log(m), np.log(r[:, runs].mean(1)), 1)[0])

        mean, low, high = band(regrets.T)
        axes.plot(labels, mean, color=PALETTE[number], marker="o", label=f"alpha {level}")
        axes.fill_between(labels, low, high, color=PALETTE[number], alpha=0.15, lw=0)
        found = bootstrap(regrets.shape[1], exponent)
        summary.claim(text.format(level), "theorem 3: 1/sqrt(m)", metric, "<= -0.1", found)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("annotators per query, m")
    axes.set_ylabel("regret after all episodes")
    legend(figure, axes)
    figure.savefig(summary.folder / "comparisons.png", dpi=160)


def policies(summary: Summary) -> None:
    """The lava grid: values beside the optimum, maps, and distributions of returns."""
    rows = summary.rows("policies.csv")
    text = "ICVaR-L finds the lava grid's best policy at every risk level"
    metric = "largest loss of iterated value over levels and seeds"
    if not rows:
        summary.claim(text, "ours", metric, "<= 0.01", None)
        return
    levels = grouped(rows, "risk_level")
    table = []
    figure, axes = panel(3.2)
    for (level,), own in levels.items():
        mean = {n: column(own, n).mean() for n in ("value", "optimum", "expected_return", "lava")}
        picture = "<br>".join(f"`{line}`" for line in own[0]["picture"].split("/"))
        table.append((level, *(f"{value:.4g}" for value in mean.values()), picture))
    # Levels that found policies with the same distribution (of the first seed) share a line.
    shared = grouped([own[0] for own in levels.values()], "returns")
    parts = {told: [part.split(":") for part in told[0].split()] for told in shared}
    most = max(float(value) for pairs in parts.values() for value, _ in pairs)
    for number, (told, own) in enumerate(shared.items()):
        returns, masses = np.array(parts[told], dtype=float).T
        axes.step([0.0, *returns, 1.05 * most], [0.0, *np.cumsum(masses), 1.0], where="post",
                  color=PALETTE[number % len(PALETTE)],
                  linestyle=LINE_STYLES[number % len(LINE_STYLES)], lw=1.4,
                  label="alpha " + ", ".join(row["risk_level"] for row in own))  # fmt: skip
    axes.set_xlabel("return")
    axes.set_ylabel("probability of at most this return")
    legend(figure, axes)
    figure.savefig(summary.folder / "returns.png", dpi=160)
    summary.head(
        "The lava grid at several risk levels",
        "Means over seeds of the policy found; the map is the first seed's (o: where it walks).",
        "returns",
    )
    summary.table(("alpha", "V_1", "optimum", "expected return", "meets lava", "map"), table)
    loss = np.array([column(own, "optimum") - column(own, "value") for own in levels.values()])
    found = bootstrap(loss.shape[1], lambda seeds: float(loss[:, seeds].max()))
    summary.claim(text, "ours", metric, "<= 0.01", found)


def replay(summary: Summary) -> None:
    """Sessions with a person, replayed from their files."""
    rows = summary.rows("replay.csv")
    text = "A session with a person (scripted) is replayed from its label file to the same policy"
    metric = "share of sessions with the same records and the same policy"
    if not rows:
        summary.claim(text, "ours", metric, ">= 1", None)
        return
    summary.head(
        "Sessions with a person (a script), replayed from their files",
        "Questions asked, lines of the label file, answers taken back, labels learned from, and "
        "whether the replay made the same records and the same policy (1: it did).",
    )
    names = ("seed", "queries", "lines", "undone", "labels", "same_records", "same_policy", "value")
    summary.table(names, [tuple(row[name] for name in names) for row in rows])
    same = column(rows, "same_records") * column(rows, "same_policy")
    found = bootstrap(len(same), lambda seeds: float(same[seeds].mean()))
    summary.claim(text, "ours", metric, ">= 1", found)


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the CSV files")
    options = parser.parse_args()
    summary = Summary(options.out)
    for part in (policies, regret, hard_chain, classes, comparisons, replay):
        part(summary)
    summary.write()


if __name__ == "__main__":
    main()
