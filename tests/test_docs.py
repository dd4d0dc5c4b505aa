"""The pages: their code runs, their commands exist, and the site is built without the network."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from thrifty import cli, flags
from thrifty.report import load_run
from thrifty.report.claims import read_results
from thrifty.runs.naming import resolve
from thrifty.runs.tasks import circumstances
from thrifty.sweeps.plan import read_seeds, read_settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
RECIPES = "thrifty.recipes"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_block_says_what_it_is() -> None:
    known = {"python", "sh", "text"}
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        opening = set(fences[::2])
        assert opening <= known, page.name
        assert set(fences[1::2]) <= {""}, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for code in blocks(page, "python"):
        if "from transformers import" in code and importlib.util.find_spec("transformers") is None:
            continue  # an extra: hf
        exec(compile(code, str(page), "exec"), {"__name__": page.stem})


def commands() -> list[Any]:
    lines = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    lines.append(pytest.param(words, id=f"{page.stem}: {' '.join(words)}"))
    return lines


@pytest.mark.parametrize("words", commands())
def test_a_command_of_a_page_is_one(words: list[str]) -> None:
    program, *rest = words
    if program == "pip":
        (verb, what) = rest
        assert verb == "install"
        name, _, extras = what.partition("[")
        assert name in ("thrifty", ".")
        assert set(filter(None, extras.rstrip("]").split(","))) <= set(EXTRAS)
        return
    assert program == "thrifty"
    verb, *rest = rest
    assert verb in cli._VERBS
    if verb == "train":
        recipe, *told = rest
        assert flags.read_train(resolve(recipe, RECIPES), told, prog="thrifty train").config
        return
    # Read as the command line reads it, and not called.
    call = flags.read_call(cli._VERBS[verb][0], rest, prog=f"thrifty {verb}")
    if verb == "sweep":
        assert read_seeds(call.keywords["seeds"])
        for chosen in read_settings(call.keywords["settings"]):
            for recipe in call.args[0]:
                name, *own = shlex.split(recipe)
                told = own + [word for key, value in chosen for word in (f"--{key}", value)]
                flags.read_train(resolve(name, RECIPES), told, prog="thrifty sweep")
    if verb == "describe":
        resolve(rest[0], RECIPES)


def test_the_flags_of_ours_that_do_as_published_code_does_exist() -> None:
    text = (ROOT / "docs" / "published_code.md").read_text(encoding="utf-8")
    told = re.findall(r"`(--[^`]+)`", text)
    assert len(told) >= 8
    for flag in told:
        of_sac = "critic-score" in flag or "action-scale" in flag
        recipe = "rlx2.sac" if of_sac else "rlx2.td3"
        if "monotone" in flag:
            recipe = "lsvi_ucb_plus.river_swim"
        words = [*shlex.split(flag), *([] if "lsvi" in recipe else ["--env", "Pendulum-v1"])]
        flags.read_train(resolve(recipe, RECIPES), words, prog="thrifty train")


def test_what_is_generated_is_there(generated: ModuleType) -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        made = generated.on_page_markdown(text)
        assert "\n::: " not in made
        for title in re.findall(r'title="(.*?), line (\d+)"', made):
            line = (ROOT / title[0]).read_text(encoding="utf-8").splitlines()[int(title[1]) - 1]
            assert re.match(r"\s*(@|def |class )", line), title


def test_code_is_shown_without_its_docstring(generated: ModuleType) -> None:
    shown = generated.code("thrifty.sparse.schedule:Cosine.drop_fraction")
    assert shown.startswith('```python title="src/thrifty/sparse/schedule.py, line ')
    assert '"""' not in shown
    assert "math.cos(math.pi * step / self.update_until)" in shown


def test_a_script_that_a_page_names_is_there() -> None:
    """Also in a table, where no link leads to it."""
    told = []
    for page in [*PAGES, ROOT / "README.md", ROOT / "benchmarks" / "README.md"]:
        for words in re.findall(
            r"`((?:python )?(?:results|benchmarks|examples)/[^`<]+)`", page.read_text()
        ):
            program, *rest = shlex.split(words)
            path = ROOT / (rest[0] if program == "python" else program)
            assert path.exists(), f"{page.name}: {words}"
            if path.suffix == ".sh" and program != "python":
                assert os.access(path, os.X_OK), f"{page.name}: {words}"
            told.append(path)
    assert len(told) > 20


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"[\w-]+\.md", nav)) == {page.name for page in PAGES}


def test_the_extras_are_all_told() -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    told = {
        name for row in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"\w+", row)
    }
    assert told == set(EXTRAS) - {"all"}


def test_the_runs_that_claims_rest_on_are_there() -> None:
    claims = read_results(ROOT / "results")
    named = [(claim.paper, run) for claim in claims for run in claim.runs]
    assert named
    assert [run for paper, run in named if not (ROOT / "results" / paper / run).exists()] == []


def test_the_demos_hours_are_those_of_its_claims() -> None:
    told = re.search(
        r"^\| the demo, three seeds .*\| ([\d.]+) \|$",
        (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    claims = read_results(ROOT / "results")
    assert told
    assert {float(told[1])} == {one.hours for one in claims if "The demo agent" in one.claim}


@pytest.mark.parametrize("paper", ["icvar", "lsvi_ucb_plus", "rlx2", "rsd4"])
def test_the_hours_of_a_script_are_those_that_were_noted(paper: str) -> None:
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    told = re.search(
        rf"`results/{paper}/run.sh[^`]*` \| (?:about )?([\d.]+) \|$", page, re.MULTILINE
    )
    _, hours = circumstances(ROOT / "results" / paper)
    if paper == "rlx2":  # whose runs are folders; the demo's own, without those before the engine
        folders = (ROOT / "results" / paper / "runs").glob("*-[0-9]")
        kept = [folder for folder in folders if not re.fullmatch(r"demo-\d", folder.name)]
        hours = sum(load_run(folder).wall_seconds or 0.0 for folder in kept) / 3600
    assert told
    assert float(told[1]) == pytest.approx(hours, rel=0.07)


def test_what_was_measured_names_no_folder_of_a_machine() -> None:
    for path in (ROOT / "benchmarks").glob("*.json"):
        words = shlex.split(json.loads(path.read_text(encoding="utf-8"))["command"])
        assert not any(word.startswith("/") for word in words), path.name


def test_the_six_papers_are_cited() -> None:
    yaml = pytest.importorskip("yaml", reason='needs pip install "thrifty[docs]"')
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = citation["version"]
    assert f"## {version}" in changes
    assert ("date-released" in citation) == (f"## {version} (unreleased)" not in changes)
    papers = {
        one["identifiers"][0]["value"].removeprefix("arXiv:"): len(one["authors"])
        for one in citation["references"]
    }
    assert papers == {
        "2205.15043": 5,
        "2206.11489": 3,
        "2208.14074": 5,
        "2307.02842": 6,
        "2409.19391": 5,
        "2408.11746": 3,
    }


def test_the_site_is_built_and_refers_to_nothing_outside(
    tmp_path: Path,
) -> None:
    pytest.importorskip("material", reason='needs pip install "thrifty[docs]"')
    site = tmp_path / "site"
    # A process without a network: every connection fails.
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('no network here')\n"
        "socket.socket.connect = refuse\n"
        "from mkdocs.__main__ import cli\n"
        "cli(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html"}
    assert pages == {f"{page.stem}.html" for page in PAGES}
    for path in site.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        loaded = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?(https?:[^\"\s>]+)", html
        )
        assert loaded == [], path.name
    assert "def drop_fraction" in re.sub("<.*?>", "", (site / "rlx2.html").read_text())
    assert not list(site.rglob("*.py"))
