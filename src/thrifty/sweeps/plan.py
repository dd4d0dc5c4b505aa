"""How the command line of a sweep becomes its runs: recipes, times settings, times seeds.

Seeds stand outermost, so a sweep that is stopped at any time leaves a balanced table. Everything is
checked before anything is written: the flags, every configuration (one experiment of each is
built), and what the folders hold.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from thrifty import flags
from thrifty.runs import Run
from thrifty.runs.claim import holds_run
from thrifty.runs.naming import resolve, run_name
from thrifty.runs.worker import Job

_SPAN = re.compile(r"(\d+)(?:-(\d+))?")
_MOST_SEEDS = 10_000
_COMMA = re.compile(r""",(?=(?:[^"']|"[^"]*"|'[^']*')*$)""")  # outside quotes
_OF_THE_SWEEP = {
    "seed": "--seeds 0-9 names the seeds",
    "out": "--out names the folder that holds all runs",
    "threads": "a run of a sweep has one thread",
    "tensorboard": "it belongs to thrifty train",
    "quiet": "it belongs to the sweep as a whole",
}

Setting = tuple[str, str]  # flag without dashes, and its words as they were told


def read_seeds(text: str) -> list[int]:
    """Return the seeds that a text such as "0-4,7" names, in its order, each once.

    Raises:
        ValueError: not such a text.

    Example:
        >>> read_seeds("0-2,7")
        [0, 1, 2, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        span = _SPAN.fullmatch(part.strip())
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (1, 0)
        if not 0 <= last - first < _MOST_SEEDS:
            raise ValueError(f"seeds {text!r} cannot be read: write 0-9, or 0,3,5, or both: 0-4,7")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def read_settings(told: Sequence[str]) -> list[tuple[Setting, ...]]:
    """Return every combination of the values of settings such as "env=Hopper-v5,Ant-v5".

    Values are separated by commas outside quotes; one of several words ("256 256") becomes several
    words of the flag.

    Raises:
        ValueError: no name, no value, or a name twice.

    Example:
        >>> read_settings(["steps=9", "env=A,B"])
        [(('steps', '9'), ('env', 'A')), (('steps', '9'), ('env', 'B'))]
    """
    names: list[str] = []
    choices: list[list[Setting]] = []
    for one in told:
        name, equals, values = one.partition("=")
        name = name.strip().lstrip("-")
        parts = [part.strip() for part in _COMMA.split(values)]
        if not (name and equals and all(parts)):
            raise ValueError(f"--set {one!r} cannot be read: write --set name=value,value")
        if _spelled(name) in map(_spelled, names):
            raise ValueError(f"--set {name} stands twice: write --set {name}=value,value once")
        if name in _OF_THE_SWEEP:
            raise ValueError(f"{name} cannot be set: {_OF_THE_SWEEP[name]}")
        names.append(name)
        choices.append([(name, part) for part in parts])
    return list(itertools.product(*choices))


def plan(
    recipes: Sequence[str],
    *,
    seeds: Sequence[int],
    settings: Sequence[tuple[Setting, ...]],
    out: Path,
    namespace: str,
    checking: Callable[[int, int], None] = lambda number, total: None,
) -> list[Job]:
    """Return the jobs of a sweep, checked; nothing is written.

    Args:
        recipes: names, each perhaps with flags of its own: "rlx2.rigl --learner sac".
        seeds: of every run.
        settings: of every recipe, from `read_settings`.
        out: the folder in which the runs' folders lie.
        namespace: where recipes live, see `thrifty.runs.naming.resolve`.
        checking: called with number and total before each configuration is checked.

    Raises:
        ValueError: no recipe, flags that do not fit one, a configuration that cannot work, or a
            folder that holds something else.
    """
    if not recipes:
        raise ValueError("a sweep needs a recipe: `thrifty list` names them")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: choose another --out")
    columns = [
        (words, chosen) for chosen in settings for words in dict.fromkeys(map(_words, recipes))
    ]
    runs: list[list[Run]] = []
    for number, ((name, *own), chosen) in enumerate(columns, start=1):
        checking(number, len(columns))
        runs.append(_column(name, own, chosen, seeds=seeds, out=out, namespace=namespace))
    jobs = [
        Job(directory=str(run.directory.resolve()), document=run.document(), namespace=namespace)
        for same_seed in zip(*runs, strict=True)
        for run in same_seed
    ]
    names = [job.name for job in jobs]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"the sweep holds {twice[0]} twice: name each run once")
    return jobs


def _words(recipe: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(recipe))
    except ValueError as error:
        raise ValueError(f"recipe {recipe!r} cannot be read ({error}): check its quotes") from None
    if not words:
        raise ValueError("a recipe is empty: `thrifty list` names them")
    return words


def _column(
    recipe: str,
    own: Sequence[str],
    chosen: Sequence[Setting],
    *,
    seeds: Sequence[int],
    out: Path,
    namespace: str,
) -> list[Run]:
    """The runs of one recipe with one choice of settings, of all seeds."""
    function = resolve(recipe, namespace)
    of_its_own = [_spelled(name) for name, _ in _settings_of(own)]
    for name, _ in chosen:
        if _spelled(name) in of_its_own:
            raise ValueError(
                f"{name} stands twice, in the flags of {recipe} and in --set: write it once"
            )
    words = [*own, *(word for setting in chosen for word in _flag(*setting))]
    if any(word in ("-h", "--help") for word in words):
        raise ValueError(f"help is not part of a sweep: thrifty train {recipe} --help shows it")
    command = flags.read_train(function, words, prog=f"thrifty train {recipe}")
    for name, reason in _OF_THE_SWEEP.items():
        if getattr(command.options, name) != getattr(flags.TrainOptions(), name):
            raise ValueError(f"{name} cannot be set: {reason}")
    told = dict(_settings_of(own)) | dict(chosen)
    runs = [
        Run(
            recipe=recipe,
            arguments=command.arguments,
            config=command.config,
            seed=seed,
            directory=out / run_name(recipe, told, seed),
            overrides=command.overrides,
        )
        for seed in seeds
    ]
    begun = [holds_run(run.directory, run.document(), run.completed) for run in runs]
    if not any(begun):  # else this configuration has been built before
        command.config.build(seeds[0])
    return runs


def _spelled(name: str) -> str:
    """The one spelling of a flag that may be written in several."""
    name = name.replace("_", "-")
    return "environment" if name == "env" else name


def _flag(name: str, value: str) -> list[str]:
    """One setting as words of a command line; tyro's switches have no value."""
    if value.lower() in ("true", "false"):
        head, dot, tail = name.rpartition(".")
        return [f"--{name}" if value.lower() == "true" else f"--{head}{dot}no-{tail}"]
    try:
        return [f"--{name}", *shlex.split(value)]
    except ValueError as error:
        raise ValueError(
            f"--set {name}={value} cannot be read ({error}): check its quotes"
        ) from None


def _settings_of(own: Sequence[str]) -> list[Setting]:
    """Flags of a recipe's own as settings: "--learner sac --no-x" is learner=sac, no-x=."""
    settings: list[Setting] = []
    for word in own:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            settings.append((name, value))
        elif settings:
            name, value = settings[-1]
            settings[-1] = (name, f"{value} {word}".strip())
    return settings
