"""The command line: verbs only. What a verb does lies elsewhere; here it is named and explained.

A user's mistake is answered with one line and exit status 2 (``THRIFTY_DEBUG=1`` adds the
traceback), Ctrl-C with a checkpoint and exit status 130.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import inspect
import json
import os
import shlex
import signal
import sys
import threading
import traceback
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from thrifty import flags
from thrifty.sweeps.verb import sweep

if TYPE_CHECKING:
    from thrifty.runs import Run

_RECIPES = "thrifty.recipes"

Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Folders = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint=""),
]
File = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0, 2 (mistake) or 130 (Ctrl-C).

    Args:
        argv: what follows ``thrifty``; the process's own arguments if left out.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    here = os.getcwd()
    if not {"", here} & set(sys.path):  # `python -m thrifty` has it there, the installed script not
        sys.path.insert(0, here)  # so that a recipe of one's own is found in the current folder
    try:
        return _dispatch(words)
    except SystemExit as end:  # --help, which has been printed
        return int(end.code or 0)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as problem:
        if os.environ.get("THRIFTY_DEBUG"):
            traceback.print_exc()
        print(f"error: {' '.join(str(problem).split())}", file=sys.stderr)
        return 2


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"thrifty {importlib.metadata.version('thrifty')}")
        return 0
    verb, *rest = words
    if verb not in _VERBS:
        near = difflib.get_close_matches(verb, _VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_VERBS)}"
        raise ValueError(f"there is no verb {verb!r}: {hint}")
    if verb == "train":
        return _train(rest)
    command, example = _VERBS[verb]
    about = (inspect.getdoc(command) or "").split("\n\nArgs:")[0]  # they are shown as flags
    description = f"{about}\n\nExample: {example}"
    status = flags.read_call(command, rest, prog=f"thrifty {verb}", description=description)()
    assert isinstance(status, int)
    if verb == "sweep" and status == 130:
        print(f"go on with: {shlex.join(['thrifty', *words])}")
    return status


def _overview() -> str:
    lines = ["thrifty: learning with less compute, fewer samples, less energy, less risk", ""]
    for verb, (command, example) in _VERBS.items():
        about = (inspect.getdoc(command) or "").splitlines()[0]
        lines += [f"  {verb:<9} {about}", f"            $ {example}"]
    lines += ["", "`thrifty VERB --help` explains a verb, `thrifty train RECIPE --help` a recipe."]
    return "\n".join(lines)


def _list(paper: Annotated[str, tyro.conf.arg(metavar="PAPER")] = "", /) -> int:
    """Name all recipes, or those of one paper, each with one line.

    Args:
        paper: what their names begin with, such as rlx2; all if left out.
    """
    from thrifty.runs.naming import names, resolve

    known = [name for name in names(_RECIPES) if name.startswith(paper)]
    if not known:
        raise ValueError(f"no recipe begins with {paper!r}: `thrifty list` names them all")
    for name in known:
        about = (inspect.getdoc(resolve(name, _RECIPES)) or "").split("\n\n")[0]
        print(f"{name:<{max(map(len, known))}}  {' '.join(about.split())}")
    return 0


def _describe(recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]) -> int:
    """Explain a recipe: what it is, what to expect, and its whole configuration.

    Args:
        recipe: as `thrifty list` names it, or package.module:function of your own.
    """
    from thrifty.runs.configuration import resolved, to_json
    from thrifty.runs.naming import resolve

    function = resolve(recipe, _RECIPES)
    print(f"{recipe}\n\n{inspect.getdoc(function) or ''}\n")
    config = flags.read_train(function, [], prog=f"thrifty train {recipe}").config
    shown = json.dumps(to_json(resolved(config)), indent=2)
    print(f"Configuration with the default arguments:\n{shown}")
    return 0


def _train(words: list[str]) -> int:
    """Train an agent by a recipe; with --out, repeating the command goes on where it stopped."""
    from thrifty.runs import Run
    from thrifty.runs.naming import default_directory, resolve

    if not words or words[0] in ("-h", "--help"):
        print("usage: thrifty train RECIPE [flags]; `thrifty list` names the recipes,")
        print("`thrifty train RECIPE --help` explains the flags of one.")
        print(f"\nExample: {_VERBS['train'][1]}")
        return 0
    recipe, *rest = words
    function = resolve(recipe, _RECIPES)
    command = flags.read_train(function, rest, prog=f"thrifty train {recipe}")
    options, arguments = command.options, command.arguments
    most = 4 * (os.cpu_count() or 1)
    if options.threads > most:
        raise ValueError(f"threads {options.threads} are too many here: give 1 to {most}")
    run = Run(
        recipe=recipe,
        arguments=arguments,
        config=command.config,
        seed=options.seed,
        directory=options.out or default_directory(recipe, arguments, options.seed),
        threads=options.threads,
        overrides=command.overrides,
    )
    return _execute(run, tensorboard=options.tensorboard, quiet=options.quiet)


def _resume(run: Folder, /, *, tensorboard: bool = False, quiet: bool = False) -> int:
    """Go on with a run from its last checkpoint.

    Args:
        run: the run's folder.
        tensorboard: also write TensorBoard event files into the run's folder.
        quiet: no progress bar.
    """
    from thrifty.runs import read_run

    return _execute(read_run(run, _RECIPES), tensorboard=tensorboard, quiet=quiet)


def _demo(*, out: Path = Path("runs/demo"), quiet: bool = False) -> int:
    """Train a sparse agent on HalfCheetah-v5 for a few minutes and write its report.

    Args:
        out: the run's folder; a finished run there is not trained again.
        quiet: no progress bar.
    """
    from thrifty.recipes import rlx2
    from thrifty.runs import Run

    run = Run(recipe="rlx2.demo", arguments={}, config=rlx2.demo(), seed=0, directory=out)
    status = _execute(run, quiet=quiet)
    if status:
        return status
    measured = out / "bench.json"
    if not measured.exists():
        from thrifty.bench import demo, schema

        print("timing the dense reference beside it, some seconds")
        schema.write(measured, demo.measure(), command="thrifty demo")
    return _report((out,))


def _execute(run: Run, *, tensorboard: bool = False, quiet: bool = False) -> int:
    """Work on a run, and tell how it ended and what can be done next."""
    from thrifty.runs import execute

    folder = shlex.quote(str(run.directory))
    if getattr(getattr(run.config, "algorithm", None), "annotator", None) == "person":
        print(f"answer its questions with: thrifty label {folder}", flush=True)
    with contextlib.ExitStack() as stack:
        callbacks: list[Any] = [] if quiet else [_show_sample]
        if tensorboard:
            from thrifty.runs.tensorboard import TensorBoard

            callbacks.append(stack.enter_context(TensorBoard(run.directory / "tensorboard")))
        outcome = execute(run, callbacks=callbacks, progress=not quiet)
    if outcome.status != "done":
        print(f"stopped at step {outcome.step}; go on with: thrifty resume {folder}")
        return 130
    if outcome.steps_executed_from == outcome.step:
        print(f"{folder} is finished already ({outcome.step} steps)")
    else:
        print(f"done: {outcome.step} steps in {outcome.wall_seconds:.0f} s, in {folder}")
    print(f"report with: thrifty report {folder}")
    return 0


def _show_sample(record: dict[str, Any]) -> None:
    """Print the text that a language model has written."""
    if record["kind"] == "sample":
        title = f"a sample at the {record['where']}, after {record['step']} steps"
        print(f"--- {title} ---\n{record['text']}\n", flush=True)


def _export(
    run: Folder, /, *, out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("policy.npz")
) -> int:
    """Write a trained policy to one small file that acts without thrifty, or a GPT-2 to a folder.

    Args:
        run: the run's folder, or a file that agent.save wrote.
        out: policy.npz keeps the links alone and needs NumPy only, policy.onnx is dense; a name
            without a suffix is a folder for a language model, as Hugging Face reads it.
    """
    from thrifty.export import export_language_model, export_policy

    if not out.suffix:
        print(f"written: {export_language_model(run, out)}")
        return 0
    done = export_policy(run, out)
    share = done.size / done.dense_size
    print(f"written: {done.path}, {done.size:,} bytes ({share:.0%} of its dense weights)")
    return 0


def _evaluate(
    run: Folder,
    /,
    *,
    episodes: int = 10,
    seed: int = 0,
    video: Annotated[tuple[()] | tuple[Path] | None, tyro.conf.arg(metavar="[FILE]")] = None,
) -> int:
    """Play a trained agent without exploration and print its returns, or what a scheduler brings.

    Args:
        run: the run's folder.
        episodes: how many.
        seed: of the episodes.
        video: also draw one episode, as an animated picture (GIF) in FILE or in the run's folder.
    """
    from thrifty.agents import TeamAgent, TrainedScheduler, load_run_policy

    if seed < 0:
        raise ValueError(f"seed {seed} is negative: give an integer >= 0")
    policy = load_run_policy(run)
    if isinstance(policy, TrainedScheduler):
        if video is not None:
            raise ValueError(f"a scheduler is not filmed: leave --video out; thrifty report {run}")
        print(policy.told(policy.evaluate(episodes, seed=seed, progress_bar=True)))
        return 0
    pictures = None
    if isinstance(policy, TeamAgent) and video is not None:
        pictures = policy.film(seed=seed)  # before the minutes that playing may take
    evaluation = policy.evaluate(episodes, seed=seed)
    print(f"{policy.environment}: mean return {evaluation.return_mean:.1f} ", end="")
    print(f"(standard deviation {evaluation.return_std:.1f}, {episodes} episodes)")
    won = getattr(evaluation, "win_rate", None)
    if won is not None:
        print(f"games won: {won:.0%}")
    if video is not None:
        from thrifty.playback import draw_team, record_episode

        path = video[0] if video else run / "episode.gif"
        if pictures is not None:
            draw_team(pictures, path)
            total = pictures["return"]
        else:
            assert not isinstance(policy, TeamAgent)
            total = record_episode(policy, policy.environment, path, seed=seed)
        print(f"video: {path} (return {total:.1f})")
    return 0


def _report(runs: Folders = (), /, *, out: File = None, csv: File = None) -> int:
    """Write one self-contained HTML page about one run, or comparing several.

    Args:
        runs: the runs' folders, or a sweep's, which stands for all runs in it.
        out: the file; in the run's folder, or in the one that holds all runs, if left out.
        csv: also write a table with one row a run.
    """
    from thrifty.report import write_report

    print(f"report: {write_report(runs, out, csv)}")
    if csv is not None:
        print(f"table: {csv}")
    return 0


def _claims(
    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")] = Path(
        "results"
    ),
    *,
    write: File = None,
    check: File = None,
) -> int:
    """Check the claims in results/<paper>/claims.toml against what was measured, and show them.

    Args:
        results: the folder that holds a folder for each paper.
        write: put the table between the two marks of this Markdown file (README.md).
        check: only tell whether that file's table is fresh; exit status 1 where it is not.
    """
    from thrifty.report import claims

    return claims.show(results, write=write, check=check)


def _label(
    run: Folder, /, *, annotator: str = "person", port: int = 8642, browser: bool = True
) -> int:
    """Answer a run's questions (which of two clips is better?) on a local page.

    Args:
        run: the run's folder; its training may go on meanwhile, or be over.
        annotator: whose answers these are. A question has one answer of each annotator.
        port: of the page, on this machine only; 0 for any free one.
        browser: open the page in the browser.
    """
    from thrifty.labelling import LabelServer, Session

    session = Session(run, annotator)
    with LabelServer(session, port=port).open() as server:
        for line in session.reports:
            print(line)
        print(f"{annotator} answers at {server.url}; stop with Ctrl-C at any moment", flush=True)
        if browser:  # some browsers keep the caller waiting
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        # A script's background job starts with SIGINT ignored; this page stops there as well.
        stops = (signal.SIGINT, signal.SIGTERM)
        earlier = {number: signal.signal(number, signal.default_int_handler) for number in stops}
        with contextlib.suppress(KeyboardInterrupt):
            server.serve()
        for number, handler in earlier.items():
            signal.signal(number, handler)
    view = session.view()
    print(f"stopped: {view['answered']} of {view['asked']} questions answered by {annotator}")
    return 0


def _bench(
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")],
    *,
    json: File = None,
    reference: File = None,
) -> int:
    """Measure speed beside a yardstick; see `thrifty bench list`.

    Args:
        name: of the benchmark, or list.
        json: a file for the rows, with versions, hardware and load.
        reference: a checkout to measure beside ours: of JaxMARL for marl, of nanoGPT for lm, of
            RSD4 for scheduling.
    """
    from rich.console import Console

    from thrifty import bench
    from thrifty.bench import schema

    if name == "list":
        print("\n".join(bench.names()))
        return 0
    measure = bench.find(name)
    if json is not None:
        schema.check_writable(json)  # before the minutes that measuring takes
    given = {} if reference is None else {"reference": reference}
    if given and "reference" not in inspect.signature(measure).parameters:
        raise ValueError(f"the benchmark {name} takes no --reference: leave it out")
    rows = measure(**given)
    Console().print(schema.tables(rows))
    if json is not None:
        command = f"thrifty bench {name}{' --reference PATH' if given else ''} --json {json}"
        schema.write(json, rows, command=command)
        print(f"written: {json}")
    return 0


def _optimum(
    scenario: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SCENARIO")],
    *,
    budget: Annotated[str | None, tyro.conf.arg(metavar="E", help_behavior_hint="")] = None,
    json: bool = False,
) -> int:
    """Print the exact optimum of a scheduling scenario, or its whole trade-off curve.

    Args:
        scenario: S1 to S5, csi:SEED:USERS (the official generator), or a TOML or JSON file.
        budget: average energy per slot, for several nodes one number or 3,3,3; the curve if left
            out.
        json: print JSON.
    """
    from thrifty.scheduling import verb

    print(verb.shown(verb.answer(scenario, budget), as_json=json))
    return 0


_VERBS: dict[str, tuple[Any, str]] = {
    "list": (_list, "thrifty list"),
    "describe": (_describe, "thrifty describe rlx2.td3"),
    "train": (
        _train,
        "thrifty train rlx2.td3 --env Hopper-v5 --seed 1 --steps 100000 --out runs/x",
    ),
    "sweep": (
        sweep,
        "thrifty sweep rlx2.td3 rlx2.rigl --seeds 0-9 --set env=Hopper-v5,Walker2d-v5 --workers 4",
    ),
    "resume": (_resume, "thrifty resume runs/x"),
    "evaluate": (_evaluate, "thrifty evaluate runs/x --episodes 10 --video"),
    "export": (_export, "thrifty export runs/x --out policy.npz"),
    "report": (_report, "thrifty report runs/x runs/y --out report.html"),
    "claims": (_claims, "thrifty claims results --write README.md"),
    "label": (_label, "thrifty label runs/x --annotator ann"),
    "optimum": (_optimum, "thrifty optimum S1 --budget 10"),
    "demo": (_demo, "thrifty demo"),
    "bench": (_bench, "thrifty bench env_loop --json env_loop.json"),
}
