"""Recorded channels and arrivals: reading them, fitting chains to them, scenarios that replay them.

Channel logs are CSV files with the columns ``Timestamp`` (to the second, 2019.12.16_13.40.04) and
``CQI`` (channel quality indicator, 0 to 15); event counts are CSV files with the columns
``timestamp`` (2015-02-26 21:42:53, evenly spaced) and ``value``. The package ships none. A scenario
that pairs the two has sources that do not belong together and should be labelled so.

A second with a value is a slot. Loggers skip a second now and then (one in ten of the 5G dataset):
up to ``LONGEST_STEP`` seconds from one value to the next are one slot as well. Where more pass, the
log breaks: it is read as several stretches, and no transition is counted from one to the next.

Reference:
    The formats are those of the 5G production dataset (Raca et al., MMSys 2020) and of the Numenta
    anomaly benchmark's tweet counts.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling.arrivals import Arrivals, recorded
from thrifty.scheduling.channels import MarkovChannel, TraceChannel
from thrifty.scheduling.scenarios import VALUES_5G, Scenario

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLASSES = (13, 10, 7)
"""Least CQI of the classes 0, 1 and 2; class 3 is below."""
LONGEST_STEP = 5
"""Seconds from one value of a log to the next that still are one slot."""
_CLOCK = "%Y.%m.%d_%H.%M.%S"
_MISSING = ("", "-")
_HIGHEST_CQI = 15
_COMPANIES = ("CRM", "IBM", "UPS", "KO")
_SHARES = (1, 1, 1, 3)  # KO is mentioned three times as often as suits one user


def read_cqi(path: Path, *, drop_missing: bool = False) -> list[Ints]:
    """Return the CQI of a log, one value for each second that it has (the last of that second).

    Args:
        path: a CSV file.
        drop_missing: leave rows without a CQI out instead of refusing the file.

    Returns:
        The log's unbroken stretches in order [T] each, mostly a single one.

    Raises:
        ValueError: no CSV file; a column, a time or a value is missing, the time goes back, or a
            value is no CQI; with file and row.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        log = _cqi(lines, str(path), drop_missing)
    if not log:
        raise ValueError(f"{path} has no row with a CQI")
    return log


def read_cqi_logs(path: Path, *, drop_missing: bool = False) -> dict[str, list[Ints]]:
    """Return all logs of a folder or a zip archive by their path in it, sorted.

    With ``drop_missing`` a log without any CQI is left out as well.

    Raises:
        ValueError: as in :func:`read_cqi`, or no CSV file there.
    """
    found: dict[str, list[Ints]] = {}
    if path.is_dir():
        for file in sorted(path.rglob("*.csv")):
            with file.open(encoding="utf-8", newline="") as lines:
                name = str(PurePosixPath(file.relative_to(path)))
                found[name] = _cqi(lines, str(file), drop_missing)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                hidden = any(part.startswith((".", "__")) for part in PurePosixPath(name).parts)
                if name.endswith(".csv") and not hidden:
                    with archive.open(name) as raw:
                        text = io.TextIOWrapper(raw, encoding="utf-8", newline="")
                        found[name] = _cqi(text, f"{path}:{name}", drop_missing)
    else:
        raise ValueError(f"{path} is neither a folder nor a zip archive")
    found = {name: log for name, log in found.items() if log or not drop_missing}
    if not found or not all(found.values()):
        raise ValueError(f"{path} holds no CSV file with a CQI, or one without")
    return found


def _cqi(lines: Iterable[str], name: str, drop_missing: bool) -> list[Ints]:
    stretches: list[list[int]] = []
    last, before = "", datetime.datetime.min
    for row, (time, text) in _columns(lines, name, "Timestamp", "CQI"):
        if text in _MISSING and drop_missing:
            continue
        hint = "; drop_missing=True leaves such rows out" if text in _MISSING else ""
        value = _number(text, f"{name}, row {row}: CQI", hint)
        if not 0 <= value <= _HIGHEST_CQI:
            raise ValueError(f"{name}, row {row}: a CQI lies in 0..{_HIGHEST_CQI}, got {text}")
        if time == last:
            stretches[-1][-1] = value
            continue
        try:
            now = datetime.datetime.strptime(time, _CLOCK)
        except ValueError:
            said = repr(time) if time else "nothing"
            raise ValueError(
                f"{name}, row {row}: Timestamp is like 2019.12.16_13.40.04, got {said}"
            ) from None
        if now < before:
            raise ValueError(f"{name}, row {row}: the time goes back, from {last} to {time}")
        if not stretches or now - before > datetime.timedelta(seconds=LONGEST_STEP):
            stretches.append([])
        stretches[-1].append(value)
        last, before = time, now
    return [np.array(stretch, dtype=np.int64) for stretch in stretches]


def read_counts(path: Path) -> Ints:
    """Return the event counts of a file, one for each row [T].

    Raises:
        ValueError: no CSV file; a column, a time or a value is missing, the rows are not evenly
            spaced in time, or a value is no whole number >= 0; with file and row.
    """
    counts: list[int] = []
    times: list[datetime.datetime] = []
    with path.open(encoding="utf-8", newline="") as lines:
        for row, (time, text) in _columns(lines, str(path), "timestamp", "value"):
            counts.append(_number(text, f"{path}, row {row}: value"))
            if counts[-1] < 0:
                raise ValueError(f"{path}, row {row}: a count is at least 0, got {text}")
            try:
                times.append(datetime.datetime.fromisoformat(time))
                uneven = len(times) > 2 and times[-1] - times[-2] != times[1] - times[0]
            except (ValueError, TypeError):  # the latter: a time zone here and none there
                said = repr(time) if time else "nothing"
                raise ValueError(
                    f"{path}, row {row}: timestamp is like 2015-02-26 21:42:53, got {said}"
                ) from None
            if uneven:
                raise ValueError(
                    f"{path}, row {row}: {times[-1] - times[-2]} after the row before, but the "
                    f"first two rows are {times[1] - times[0]} apart: counts are evenly spaced"
                )
    if not counts:
        raise ValueError(f"{path} has no rows")
    return np.array(counts, dtype=np.int64)


def _columns(
    lines: Iterable[str], name: str, *columns: str
) -> Iterator[tuple[int, tuple[str, ...]]]:
    try:
        reader = csv.DictReader(lines)
        missing = [one for one in columns if one not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"{name} has no column {', '.join(missing)}")
        for row, entries in enumerate(reader, start=2):  # row 1 is the heading
            yield row, tuple((entries[one] or "").strip() for one in columns)
    except (UnicodeDecodeError, csv.Error) as problem:
        raise ValueError(f"{name} is no CSV file in UTF-8: {problem}") from None


def _number(text: str, place: str, hint: str = "") -> int:
    try:
        value = float(text)
        if value != round(value):
            raise ValueError
    except (ValueError, OverflowError):
        said = "it is missing" if text in _MISSING else f"got {text!r}"
        raise ValueError(f"{place} must be a whole number, {said}{hint}") from None
    return int(value)


def classes(cqi: Ints, bounds: Sequence[int] = CLASSES) -> Ints:
    """Return the channel states of CQI values, 0 is best.

    Args:
        cqi: values [T].
        bounds: least CQI of every class but the last, falling.

    Example:
        >>> classes(np.array([15, 12, 7, 3])).tolist()
        [0, 1, 2, 3]
    """
    return np.asarray((cqi[..., None] < np.array(bounds)).sum(axis=-1))


def split(trace: Ints, train: float = 0.8) -> tuple[Ints, Ints]:
    """Return the earlier and the later part of a trace: fit on one, test on the other.

    Raises:
        ValueError: a fraction that leaves one of them empty.
    """
    cut = int(len(trace) * train)
    if not 0 < cut < len(trace):
        raise ValueError(f"train={train} leaves one part of {len(trace)} slots empty")
    return trace[:cut], trace[cut:]


def kernel(logs: Sequence[Ints], states: int, *, prior: float = 0.0) -> Floats:
    """Return the transition matrix estimated from state sequences [states, states].

    Args:
        logs: sequences; no transition is counted from the end of one to the next.
        states: C.
        prior: transitions taken as seen between any two states.

    Raises:
        ValueError: a state that was never left, without a prior.
    """
    counts = np.full((states, states), float(prior))
    for log in logs:
        np.add.at(counts, (log[:-1], log[1:]), 1.0)
    total = counts.sum(axis=1, keepdims=True)
    if np.any(total == 0):
        never = np.flatnonzero(total[:, 0] == 0).tolist()
        raise ValueError(f"the states {never} are never left in these logs: give a prior")
    return np.asarray(counts / total)


def replay(
    name: str,
    *,
    counts: Ints,
    states: Ints,
    weights: Any,
    attempts: Any,
    distances: Any,
    values: Sequence[float] = VALUES_5G,
    budget: Any = None,
) -> Scenario:
    """Return the scenario that replays recorded arrivals and channels.

    Args:
        name: say where they come from, and whether they belong together.
        counts: packets that arrive at the end of each slot [T, F].
        states: channel state of every slot [T, F].
        weights: as in :class:`~thrifty.scheduling.scenarios.Scenario`, as are those below.
        attempts: K [F].
        distances: d [F].
        values: channel value of every state.
        budget: E_0.

    Raises:
        ValueError: the two records differ in length.
    """
    if len(counts) != len(states):
        raise ValueError(
            f"records of {len(counts)} and {len(states)} slots: cut them to one length"
        )
    return Scenario(
        name=name,
        weights=weights,
        attempts=attempts,
        distances=distances,
        arrivals=recorded(counts),
        channel=TraceChannel(values, states),
        budget=budget,
    )


def fitted(scenario: Scenario, *, logs: Sequence[Sequence[Ints]], counts: Ints) -> Scenario:
    """Return the chain scenario that stands for a replayed one, each flow with a matrix of its own.

    Args:
        scenario: from :func:`replay`; only its sizes are read.
        logs: state sequences to fit each flow's matrix on; keep them apart from what is replayed.
            A tenth of a transition between any two states is taken as seen besides.
        counts: packets in each slot to take the mean arrivals from [T, F].
    """
    channel = scenario.channel
    matrices = [kernel(own, channel.states, prior=0.1) for own in logs]
    return dataclasses.replace(
        scenario,
        name=f"chain fitted to {scenario.name}",
        arrivals=Arrivals(counts.mean(axis=0)),
        channel=MarkovChannel(channel.values, np.stack(matrices)[None, :, None]),
    )


def public_traces(folder: Path, *, slots: int = 3000) -> tuple[Scenario, Scenario]:
    """Return a scenario of recorded traffic on recorded channels, and its chain fitted before.

    Tweets that mention four companies arrive over the four longest unbroken stretches of the 5G
    dataset. The last ``slots`` slots of each record are replayed, all that came before is fitted
    on. The two sources have nothing to do with each other.

    Args:
        folder: holds ``5g/5G-production-dataset.zip`` and ``tweets/Twitter_volume_*.csv``.
        slots: to replay.

    Raises:
        ValueError: a file is not there, or too short.
    """
    archive = folder / "5g" / "5G-production-dataset.zip"
    files = [folder / "tweets" / f"Twitter_volume_{name}.csv" for name in _COMPANIES]
    missing = [str(file) for file in (archive, *files) if not file.is_file()]
    if missing:
        raise ValueError(f"the public traces need {missing[0]}")
    logs = read_cqi_logs(archive, drop_missing=True)
    stretches = sorted((one for log in logs.values() for one in log), key=len)
    longest = [classes(stretch) for stretch in stretches[-len(files) :]]
    tweets = [read_counts(file) // share for file, share in zip(files, _SHARES, strict=True)]
    shortest = min(map(len, [*longest, *tweets]))
    if not 0 < slots < shortest:
        raise ValueError(f"slots must lie in 1..{shortest - 1}, got {slots}")
    length = min(map(len, tweets))
    counts = np.stack([one[-length:] for one in tweets], axis=1)
    scenario = replay(
        "tweets x 5G CQI, unrelated sources",
        counts=counts[-slots:],
        states=np.stack([log[-slots:] for log in longest], axis=1),
        weights=[4, 3, 2, 1],
        attempts=[4, 6, 8, 5],
        distances=[1.0, 1.1, 1.2, 1.3],
    )
    before = [[log[:-slots]] for log in longest]
    return scenario, fitted(scenario, logs=before, counts=counts[:-slots])
