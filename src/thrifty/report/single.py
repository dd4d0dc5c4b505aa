"""The sections of a page about one run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from thrifty.report import figures, numbers
from thrifty.report import film as films
from thrifty.report.elements import (
    Column,
    cards,
    code,
    folded,
    note,
    pairs,
    picture,
    pictures,
    section,
    strip,
    table,
)
from thrifty.report.run_data import RunData
from thrifty.stats.curves import final_mean

_LEDGER = (
    ("parameters", "parameters", "weights, target networks included"),
    ("training_flops", "training FLOPs", "per update"),
    ("inference_flops", "inference FLOPs", "per action"),
)


def sections(run: RunData) -> list[str]:
    """All sections of one run, as HTML; what the records lack is said in its place.

    Args:
        run: one run.
    """
    return [
        _headline(run),
        _gait(run),
        _learning(run),
        _topology(run),
        ledger(run),
        reproduce(run),
    ]


def final_return(run: RunData, until: float | None = None) -> float | None:
    """Mean return of the evaluations in the last tenth of a run, at least of the last one.

    Args:
        run: one run.
        until: the step that counts as the end; None is the last evaluation's.

    Returns:
        The mean, or None without any evaluation up to there.
    """
    steps, returns = run.column("evaluation", "return_mean")
    kept = steps <= (math.inf if until is None else until)
    if not kept.any():
        return None
    end = steps[kept][-1] if until is None else until
    late = int((steps[kept] > 0.9 * end).sum())
    return final_mean(returns[kept], max(1, late))


def sparsity(run: RunData, network: str | None = None) -> float | None:
    """Share of zeros over the layers of the start record, of all networks or of one.

    Args:
        run: one run.
        network: its name; None takes all networks together.

    Returns:
        The share, or None where the start record names no such layers.
    """
    layers = [
        layer
        for layer in run.first("start").get("layers") or ()
        if network in (None, layer["network"])
    ]
    size = sum(math.prod(layer["shape"]) for layer in layers)
    return 1.0 - sum(layer["nnz"] for layer in layers) / size if size else None


def ledger_ratio(run: RunData, quantity: str) -> float | None:
    """Sparse over dense for one quantity of the ledger; None where it was not recorded."""
    ratio = ((run.first("start").get("ledger") or {}).get(quantity) or {}).get("ratio")
    return float(ratio) if ratio is not None else None


def speed(run: RunData) -> float | None:
    """Environment steps per second of training time; None without a clock."""
    seconds = run.wall_seconds
    return run.steps / seconds if seconds else None


def command(run: RunData) -> str:
    """The command line that trains this run anew.

    Args:
        run: one run.
    """
    words = ["thrifty", "train", run.recipe]
    arguments = run.config.get("arguments") or {}
    for name, value in arguments.items():
        flag = "--env" if name == "environment" else "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        elif isinstance(value, list | tuple):
            words += [flag, *map(str, value)]
        elif value is not None:
            words += [flag, str(value)]
    words += map(str, run.config.get("overrides") or ())
    if run.seed is not None and "seed" not in arguments:
        words += ["--seed", str(run.seed)]
    threads = run.config.get("threads", 1)
    if threads != 1 and "threads" not in arguments:
        words += ["--threads", str(threads)]
    return shlex.join([*words, "--out", f"runs/{run.name}"])


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings under dotted names.

    Example:
        >>> list(flattened({"a": 1, "b": {"c": 2}}))
        [('a', 1), ('b.c', 2)]
    """
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _headline(run: RunData) -> str:
    final, random = final_return(run), run.random_return
    start = run.first("start")
    names = dict.fromkeys(layer["network"] for layer in start.get("layers") or ())
    by_network = [f"{name} {numbers.share(sparsity(run, name))}" for name in names]
    gain = (
        f"{numbers.signed(final - random, 4)} against a random policy's "
        f"{numbers.significant(random)}"
        if final is not None and random is not None
        else "the random policy was not measured"
    )
    rows = [
        ("return reached", numbers.significant(final, 4), gain),
        ("sparsity", numbers.share(sparsity(run)), ", ".join(by_network)),
        *(
            (f"{label} kept", numbers.share(ledger_ratio(run, key)), f"of the dense twin, {what}")
            for key, label, what in _LEDGER[:2]
        ),
        (
            "training time",
            numbers.duration(run.wall_seconds),
            f"{numbers.count(run.steps)} environment steps",
        ),
        ("speed", numbers.count(speed(run)), "environment steps per second, all included"),
    ]
    if start.get("backend"):
        rows.append(("updates run on", start["backend"], start.get("backend_reason") or ""))
    twin = _dense_twin(run)
    if twin is not None:
        rows.append(twin)
    planned = run.planned_steps
    unfinished = ""
    if not run.finished:
        of = f" of {numbers.count(planned)}" if planned else ""
        unfinished = note(
            f"This run is not finished: its records end at step {numbers.count(run.steps)}{of}."
        )
    return unfinished + cards(rows)


def _dense_twin(run: RunData) -> tuple[str, str, str] | None:
    """How long the same steps would take the dense twin, as measured beside the run."""
    metric = "milliseconds_per_step"
    ours = run.measured(metric, "demo agent, engine")
    dense = run.measured(metric, "dense twin, reference")
    if ours is None or dense is None or run.planned_steps is None:
        return None
    alone = numbers.duration(run.planned_steps * ours / 1000)
    told = (
        f"in the reference, where this agent takes {alone} ({numbers.significant(dense / ours, 2)} "
        "times faster): steps and updates alone, without evaluations, timed side by side on this "
        "machine after training"
    )
    return "the dense twin would take", numbers.duration(run.planned_steps * dense / 1000), told


def _gait(run: RunData) -> str:
    """The film strip of the last gait that was recorded; nothing for what has no limbs."""
    gaits = run.of("gait")
    if not gaits or not gaits[-1].get("frames"):
        return ""
    gait = gaits[-1]
    return section(
        "Gait",
        strip(films.film_strip(gait)),
        note(
            f"From the middle of an evaluation episode after {numbers.count(gait['step'])} steps: "
            f"{films.speed(gait)}. Below each frame: metres travelled along x and seconds since "
            "the episode began."
            + ("" if gait["ground"] is None else " Marks on the ground are 0.5 m apart.")
            + (" Seen from above." if gait["view"] == "above" else "")
        ),
    )


def _learning(run: RunData) -> str:
    learning = picture(figures.learning_curve(run), "learning", "Return over training")
    values = picture(
        figures.value_tricks(run), "values", "Multi-step targets and replay buffer over training"
    )
    return section(
        "Learning",
        pictures([learning, values]),
        "" if learning else note("No evaluation was recorded yet."),
        "" if values else note("Neither n-step lengths nor buffer sizes were recorded."),
        note(
            "The return reached is the mean of the evaluations in the last tenth of the run. The "
            "random policy draws actions uniformly. Training episodes explore. Policy distance: "
            "half the mean square between the oldest stored actions and those that the policy "
            "would take now." + scaling(run)
        ),
    )


def _topology(run: RunData) -> str:
    layers = picture(figures.sparsity_per_layer(run), "sparsity", "Sparsity of each layer")
    changes = picture(figures.topology_change(run), "topology", "Topology change over training")
    return section(
        "Topology",
        pictures([layers, changes]),
        "" if layers else note("The start record names no layers."),
        ""
        if changes
        else note(
            "No topology change was recorded: a dense or a static agent, or a run that was cut "
            "before the first evolution step."
        ),
        note(
            "Layer shapes are inputs × outputs. A link counts as replaced where it grew and had "
            "not just been dropped; the initial links are those of the first mask." + scaling(run)
        ),
    )


def scaling(run: RunData) -> str:
    """What the time constants of a run are scaled to, as a sentence; empty if unknown."""
    return f" Time constants: {run.scaling}." if run.scaling else ""


def ledger(run: RunData, *, training: str = "per update") -> str:
    """Parameters and FLOPs beside the dense twin's, in all and per layer.

    Args:
        run: one run.
        training: what its training FLOPs are counted for.
    """
    start = run.first("start")
    counted = start.get("ledger") or {}
    rows = [
        (
            f"{label} ({training if key == 'training_flops' else what})",
            numbers.count(counted[key].get("dense")),
            numbers.count(counted[key].get("sparse")),
            numbers.share(counted[key].get("ratio")),
        )
        for key, label, what in _LEDGER
        if counted.get(key)
    ]
    heading = "Ledger beside the dense twin"
    if not rows:
        return section(heading, note("The start record holds no ledger."))
    columns = (Column("", False), Column("dense"), Column("this agent"), Column("kept"))
    per_layer = table(
        (
            Column("network", False), Column("layer", False), Column("dense weights"),
            Column("links"), Column("kept"), Column("dense FLOPs"), Column("sparse FLOPs"),
        ),
        (
            (
                row["network"], row["layer"], numbers.count(row["dense_parameters"]),
                numbers.count(row["sparse_parameters"]),
                numbers.share(row["sparse_parameters"] / row["dense_parameters"]),
                numbers.count(row["dense_forward_flops"]),
                numbers.count(row["sparse_forward_flops"]),
            )
            for row in counted.get("rows") or ()
            if row["dense_parameters"]
        ),
    )  # fmt: skip
    return section(
        heading,
        table(columns, rows),
        folded("per layer (FLOPs of one forward pass of one sample)", per_layer, opened=True),
        note("FLOPs are counted for the links that exist; they are not a measurement."),
    )


def reproduce(run: RunData) -> str:
    """The command, the configuration and the circumstances of a run."""
    configuration = flattened(run.config.get("config") or {})
    top = [("recipe", run.recipe), ("seed", run.seed), ("threads", run.config.get("threads"))]
    described = {key: value for key, value in run.environment.items() if key != "sessions"}
    sessions = run.environment.get("sessions") or ()
    return section(
        "Reproduce",
        code(command(run)),
        note(
            "The same seed gives the same records on the same machine and versions."
            + (
                ""
                if "overrides" in run.config
                else " Settings that flags changed one by one were not written down as such: they "
                "stand in the configuration, not in this command."
            )
        ),
        folded("configuration", pairs([*top, *configuration])),
        folded("versions and hardware", pairs(flattened(described)))
        if described
        else note("No environment.json that can be read: versions and hardware are not known."),
        folded(f"sessions ({len(sessions)})", _sessions(sessions)) if sessions else "",
    )


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> str:
    """The processes that worked on the run, one after the other."""
    columns = (
        Column("began (UTC)", False),
        Column("from step"),
        Column("to step"),
        Column("time"),
        Column("threads"),
        Column("ended", False),
    )
    rows = []
    for session in sessions:
        start, end = session.get("start"), session.get("end")
        began = datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d %H:%M") if start else None
        rows.append(
            (
                began or numbers.MISSING,
                numbers.count(session.get("first_step")),
                numbers.count(session.get("last_step")),
                numbers.duration(end - start if start and end else None),
                session.get("threads", numbers.MISSING),
                session.get("status", numbers.MISSING),
            )
        )
    return table(columns, rows)
