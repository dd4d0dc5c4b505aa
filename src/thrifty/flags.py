"""How a command line becomes a run: the recipe's own arguments first, then every scalar field.

A recipe is a function; what it is told (environment, steps) decides what it returns, so its
arguments are read first. The configuration that it returns gives the remaining flags their names,
their help and their defaults: ``--algorithm.discount 0.98`` sets ``config.algorithm.discount``.
Whatever is structural (another network, another schedule) is a recipe of one's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import re
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

_MARKERS = (tyro.conf.AvoidSubcommands,)
_OUT = "(default: runs/RECIPE-ENVIRONMENT-seedN, numbered where that exists)"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """What belongs to one run and not to its recipe."""

    seed: int = 0
    """The one seed: same seed, same machine, same records."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint=_OUT)] = None
    """The run's folder."""
    threads: int = 1
    """Compute threads of torch. Small networks gain nothing from a second one."""
    tensorboard: bool = False
    """Also write TensorBoard event files into the run's folder (extra: tensorboard)."""
    quiet: bool = False
    """No progress bar."""


@dataclasses.dataclass(frozen=True)
class TrainCommand:
    """A read command line.

    Attributes:
        options: what belongs to the run.
        arguments: what the recipe was called with.
        config: what it returned, with the fields that flags have changed.
        overrides: the words of those flags, such as ("--algorithm.discount", "0.98").
    """

    options: TrainOptions
    arguments: dict[str, Any]
    config: Any
    overrides: tuple[str, ...] = ()


def read_call(
    function: Callable[..., Any], words: Sequence[str], *, prog: str, description: str | None = None
) -> functools.partial[Any]:
    """Read the words of a verb into a call of its function, which is not made yet.

    So only the reading is silenced: what the function writes to standard error is seen.

    Raises:
        ValueError: words that do not fit, in one line with the nearest ones that do.
        SystemExit: of status 0, after ``--help``.
    """

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> functools.partial[Any]:
        return functools.partial(function, *arguments, **options)

    call = read(called, words, prog=prog, description=description)
    assert isinstance(call, functools.partial)
    return call


def read(
    kind: Callable[..., Any],
    flags: Sequence[str],
    *,
    prog: str,
    description: str | None = None,
    default: Any = None,
    known_only: bool = False,
) -> Any:
    """Read flags into ``kind`` (a dataclass or a function, which is then called) by tyro.

    Raises:
        ValueError: flags that do not fit, in one line with the nearest ones that do.
        SystemExit: of status 0, after ``--help``.
    """
    said = io.StringIO()
    more: dict[str, Any] = {} if default is None else {"default": default}
    if known_only:
        more["return_unknown_args"] = True
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                kind,
                args=list(flags),
                prog=prog,
                description=description,
                config=_MARKERS,
                **more,
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise ValueError(f"{_one_line(said.getvalue())} (see {prog} --help)") from None


def read_train(recipe: Callable[..., Any], flags: Sequence[str], *, prog: str) -> TrainCommand:
    """Read the flags of ``thrifty train RECIPE``.

    Args:
        recipe: a function of keyword arguments that returns a configuration.
        flags: what follows the recipe on the command line.
        prog: how help and messages call the command.

    Raises:
        ValueError: flags that do not fit, or values that recipe or configuration refuse.
        SystemExit: of status 0, after ``--help``.
    """
    names = list(inspect.signature(recipe).parameters)
    if "environment" in names:
        flags = [_long(flag) for flag in flags]
    wants_help = any(flag in ("-h", "--help") for flag in flags)
    words = [flag for flag in flags if flag not in ("-h", "--help")]
    told, rest = read(_arguments(recipe, names), words, prog=prog, known_only=True)
    arguments = {name: getattr(told, name) for name in names}
    config = recipe(**arguments)
    if not dataclasses.is_dataclass(config) or not hasattr(config, "build"):
        raise ValueError(
            f"{prog}: the recipe returned {type(config).__name__}, not a configuration "
            "(a frozen dataclass with steps and build(seed))"
        )
    # For the help only: arguments that are no field of the configuration as well.
    fields = {field.name for field in dataclasses.fields(config)}
    kind = _arguments(recipe, [name for name in names if name not in fields])
    shown = kind(**{name: arguments[name] for name in names if name not in fields})
    parts = {"options": TrainOptions(), "arguments": shown, "config": config}
    flat = dataclasses.make_dataclass(
        "Flags",
        [(name, Annotated[type(part), tyro.conf.arg(name="")]) for name, part in parts.items()],
    )
    try:
        read_all = read(
            flat,
            [*rest, "--help"] if wants_help else rest,
            prog=prog,
            description=_describe(recipe, names),
            default=flat(**parts),
        )
    except ValueError as problem:
        stray = re.search(r"unrecognized options: (\S+-v\d+) ", str(problem))
        if "environment" in names and stray:  # an environment id without its flag
            raise ValueError(f"{problem}; perhaps you meant --env {stray[1]}") from None
        raise
    _, overrides = read(TrainOptions, rest, prog=prog, known_only=True)
    return TrainCommand(
        options=read_all.options,
        arguments=arguments,
        config=read_all.config,
        overrides=tuple(overrides),
    )


def _describe(recipe: Callable[..., Any], names: Sequence[str]) -> str:
    about = inspect.getdoc(recipe) or ""
    return about + "\n\n--env is short for --environment." if "environment" in names else about


def _long(flag: str) -> str:
    return "--environment" + flag[5:] if flag == "--env" or flag.startswith("--env=") else flag


def _arguments(recipe: Callable[..., Any], names: Sequence[str]) -> type[Any]:
    """A dataclass with the named parameters of a recipe, and its docstring to take help from."""
    hints = typing.get_type_hints(recipe, include_extras=True)
    parameters = inspect.signature(recipe).parameters
    fields: list[Any] = []
    for name in names:
        if name not in hints:
            raise ValueError(f"the recipe's argument {name!r} needs a type hint to become a flag")
        default = parameters[name].default
        required = default is inspect.Parameter.empty
        fields.append((name, hints[name]) if required else (name, hints[name], default))
    kind = dataclasses.make_dataclass("Arguments", fields, kw_only=True, frozen=True)
    kind.__doc__ = inspect.getdoc(recipe)
    return kind


def _one_line(box: str) -> str:
    """What tyro says in a box, as one line: the message, and the flags it believes were meant."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    # The title's line counts as a rule; where the output is ASCII, the rule below the title.
    rules = [n for n, line in enumerate(lines) if line.startswith(("─", "---"))]
    if len(rules) < 2:
        return " ".join(box.split())
    message = " ".join(line for line in lines[rules[0] + 1 : rules[1]] if line)
    message = message.removeprefix("Error parsing ").removeprefix("config.").rstrip(".")
    near = [line.split()[0] for line in lines[rules[1] :] if re.match(r"--\w", line)]
    if near and message.startswith("Unrecognized"):
        message += f"; perhaps you meant {' or '.join(near)}"
    return message[:1].lower() + message[1:]
