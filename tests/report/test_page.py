from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from thrifty.report import elements, load_run, write_report
from thrifty.report.page import render
from thrifty.report.single import command, final_return

MakeRun = Any  # the fixture of conftest.py
VOID = {"meta", "br", "hr", "img", "link", "input", "use", "path", "wbr"}


class Page(HTMLParser):
    """The tags, attributes and text of a page; refuses tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def assert_self_contained(html: str) -> None:
    page = Page(html)
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    without = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", without)
    for name, value in page.attributes:
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#")
        assert not name.startswith("on")


def test_the_page_of_one_run(make_run: MakeRun) -> None:
    folder = make_run("rlx2-0")
    path = write_report([folder])
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    assert_self_contained(html)
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert page.tags.count("svg") == 4
    assert "rlx2.td3 on HalfCheetah-v5" in page.text
    assert "random policy" in page.text
    # Of the fixture's 430,080 dense weights 56,144 are left: 13.1 %, so 86.9 % are zero.
    assert "sparsity 86.9 %" in page.text
    assert "training time 2 min 30 s" in page.text
    assert "updates run on reference the engine is not installed" in page.text
    assert "speed 133" in page.text
    assert "thrifty train rlx2.td3 --env HalfCheetah-v5 --steps 20000 --seed 0" in page.text
    assert "evolution.update_every 500" in page.text
    assert "versions.torch 2.13.0" in page.text
    assert "not finished" not in page.text
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json",
        "environment.json",
        "records.jsonl",
        "report.html",
    ]


def test_a_gait_is_shown_as_a_film_strip(make_run: MakeRun) -> None:
    frame = {"time": 2.0, "position": 1.5, "limbs": [[0.0, 0.0, 0.0, 1.0]]}
    gait = {"kind": "gait", "step": 20, "frames": [frame], "radius": [0.1], "limb": [1]}
    gait |= {"ground": 0.0, "view": "side", "return": 7.0, "seconds": 5.0, "distance": 4.0}
    html = write_report([make_run("side", records=[gait])]).read_text(encoding="utf-8")
    assert_self_contained(html)
    assert "Gait 1.50 m 2.00 s" in Page(html).text
    assert "after 20 steps: 4 m in 5 s, 0.8 m/s; the return of this episode is 7." in html
    assert "0.5 m apart" in html
    flat = gait | {"ground": None, "view": "above"}
    page = read(write_report([make_run("above", records=[gait, flat])]))
    assert "Seen from above." in page.text  # the last one counts
    assert "0.5 m apart" not in page.text
    assert "Gait" not in read(write_report([make_run("none", records=[])])).texts


def test_the_dense_twin_is_told_where_it_was_timed(make_run: MakeRun) -> None:
    folder = make_run("timed")
    assert "dense twin would take" not in read(write_report([folder])).text
    rows = [
        {"metric": "milliseconds_per_step", "implementation": name, "statistic": "median"}
        | {"value": value}
        for name, value in (("demo agent, engine", 0.5), ("dense twin, reference", 6.0))
    ]
    (folder / "bench.json").write_text(json.dumps({"rows": rows}))
    # 20,000 steps of 6 ms are 120 s, of 0.5 ms 10 s, and 6 / 0.5 = 12.
    text = read(write_report([folder])).text
    assert "dense twin would take 2 min 0 s" in text
    assert "this agent takes 10.0 s (12 times faster)" in text
    (folder / "bench.json").write_text(json.dumps({"rows": rows[:1]}))
    assert "dense twin would take" not in read(write_report([folder])).text
    (folder / "bench.json").write_text("{")
    assert "dense twin would take" not in read(write_report([folder])).text


def test_the_return_is_the_mean_over_the_last_tenth(make_run: MakeRun) -> None:
    records = [{"kind": "random_policy", "step": 0, "return_mean": -10.0}] + [
        {"kind": "evaluation", "step": step, "return_mean": float(step)} for step in range(31)
    ]
    page = read(write_report([make_run("r", records=records)]))
    # Steps above 0.9 * 30 = 27 are 28, 29, 30: 29; 39 above the random policy's -10.
    assert "return reached 29 +39 against a random policy's −10" in page.text
    run = load_run(make_run("few", records=records[:5]))
    assert final_return(run) == 3.0  # steps 0 to 3: only the last lies above 2.7
    assert final_return(run, until=2.5) == 2.0
    assert final_return(run, until=-1) is None


def test_equal_runs_give_equal_pages(make_run: MakeRun) -> None:
    folders = [make_run(f"r{seed}", seed=seed) for seed in range(2)]
    assert render([load_run(folders[0])]) == render([load_run(folders[0])])
    runs = [load_run(folder) for folder in folders]
    assert render(runs) == render(runs)


@pytest.mark.parametrize(
    "missing", ["start", "random_policy", "train", "evaluation", "topology", "buffer", "end", "all"]
)
def test_a_run_without_some_records_still_gives_a_page(make_run: MakeRun, missing: str) -> None:
    folder = make_run("r")
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if missing not in ("all", json.loads(line)["kind"])]
    (folder / "records.jsonl").write_text("".join(kept))
    html = write_report([folder]).read_text(encoding="utf-8")
    assert_self_contained(html)
    says = {
        "start": ["names no layers", "holds no ledger", "sparsity –"],
        "random_policy": ["the random policy was not measured"],
        "evaluation": ["No evaluation was recorded yet", "return reached –"],
        "topology": ["No topology change was recorded"],
        "end": ["This run is not finished: its records end at step 20k of 20k."],
        "all": ["No evaluation was recorded yet", "Neither n-step", "speed –"],
    }
    for sentence in says.get(missing, []):
        assert sentence in Page(html).text
    write_report([folder, make_run("other")], folder / "both.html")


def test_a_dense_run_gives_a_page(make_run: MakeRun) -> None:
    page = read(write_report([make_run("r", recipe="dense.td3", sparse=False)]))
    assert "sparsity 0 %" in page.text
    assert "No topology change was recorded" in page.text


def test_nothing_in_a_run_becomes_markup(make_run: MakeRun) -> None:
    evil = '<script>alert("x")</script>&amp;\'"$\\frac{$'
    folder = make_run(
        "r",
        recipe=evil,
        environment=evil,
        config={evil: evil, "steps": 5},
        cpu=evil,
    )
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    for record in records:
        if record["kind"] == "start":
            record.update(algorithm=evil, backend=evil, backend_reason=evil)
            for row in record["layers"] + record["ledger"]["rows"]:
                row.update(network=evil, layer=evil)
        if record["kind"] == "topology":
            record["network"] = evil
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "records.jsonl").write_text(lines)
    for folders in ([folder], [folder, make_run("other", cpu=evil + "2", environment=evil)]):
        html = write_report(folders).read_text(encoding="utf-8")
        assert_self_contained(html)
        assert evil in "".join(Page(html).texts)


def test_the_command_is_quoted_and_complete(make_run: MakeRun) -> None:
    folder = make_run("my run", seed=7)
    config = json.loads((folder / "config.json").read_text())
    config["threads"] = 2
    config["arguments"] = {
        "environment": "Foo v1",
        "net_arch": [64, 32],
        "flag": False,
        "other": True,
        "none": None,
    }
    (folder / "config.json").write_text(json.dumps(config))
    assert command(load_run(folder)) == (
        "thrifty train rlx2.td3 --env 'Foo v1' --net-arch 64 32 --no-flag --other "
        "--seed 7 --threads 2 --out 'runs/my run'"
    )


def test_the_command_repeats_the_flags_of_the_run(make_run: MakeRun) -> None:
    folder = make_run("r")
    silent = "were not written down as such"
    assert silent in read(write_report([folder])).text  # a run of before
    config = json.loads((folder / "config.json").read_text())
    config["overrides"] = ["--algorithm.discount", "0.98", "--algorithm.actor-hidden", "16", "16"]
    (folder / "config.json").write_text(json.dumps(config))
    assert command(load_run(folder)) == (
        "thrifty train rlx2.td3 --env HalfCheetah-v5 --steps 20000 --algorithm.discount 0.98 "
        "--algorithm.actor-hidden 16 16 --seed 0 --out runs/r"
    )
    page = read(write_report([folder]))
    assert command(load_run(folder)) in page.text
    assert silent not in page.text


def test_every_group_of_figures_names_the_scaling(make_run: MakeRun) -> None:
    folder = make_run("r")
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    records[0]["scaling"] = "fractions of 20,000 steps"
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "records.jsonl").write_text(lines)
    told = "Time constants: fractions of 20,000 steps."
    for folders in ([folder], [folder, make_run("other", seed=1)]):
        html = write_report(folders).read_text(encoding="utf-8")
        groups = [group for group in html.split("<section")[1:] if "<svg" in group]
        assert groups
        assert all(told in group for group in groups)


def test_the_page_of_several_runs(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [
        make_run(f"{recipe}-{environment}-{seed}", recipe=recipe, environment=environment,
                 seed=seed, final=final + 50 * seed)
        for environment in ("HalfCheetah-v5", "Hopper-v5")
        for recipe, final in (("dense.td3", 1000.0), ("rlx2.td3", 2000.0))
        for seed in range(3)
    ]  # fmt: skip
    path = write_report(folders)
    assert path == tmp_path / "report.html"
    html = path.read_text(encoding="utf-8")
    assert_self_contained(html)
    page = Page(html)
    assert page.tags.count("svg") == 6  # over steps and over time each, and two of both
    assert "HalfCheetah-v5, over steps" in page.text
    assert "difference to dense.td3" in page.text
    assert "dense.td3 (3 runs)" in page.text
    assert "not finished" not in page.text
    assert "differ in more than the seed" not in page.text


def evaluations(values: list[float]) -> list[dict[str, Any]]:
    return [
        {"kind": "evaluation", "step": 10 * i, "return_mean": value, "wall_seconds": 1.0 * i}
        for i, value in enumerate(values, start=1)
    ]


END = {"kind": "end", "step": 30, "return_mean": 0.0, "return_std": 0.0}


def test_the_table_compares_at_the_last_common_step(make_run: MakeRun) -> None:
    long = make_run("long", recipe="a", records=evaluations([2.0, 4.0, 100.0]))
    short = make_run("short", recipe="b", records=evaluations([1.0, 2.0]))
    page = read(write_report([long, short]))
    # At step 20 the returns are 4 and 2. One run each, so no interval. The curves' mean heights
    # from step 10 to 20 are 3 and 1.5.
    assert "a 1 4 one run: none reference 3 " in page.text
    assert "b 1 2 one run: none −2 one run: none 1.5 " in page.text
    assert "compared at step 20, where the shortest end (short)." in page.text
    assert "a on HalfCheetah-v5: not finished: long." in page.text


def test_an_unfinished_run_does_not_pull_the_others_back(make_run: MakeRun) -> None:
    whole = make_run("whole", recipe="a", records=[*evaluations([2.0, 4.0, 9.0]), END])
    dead = make_run("dead", recipe="a", seed=1, records=evaluations([1.0]))
    new = make_run("new", recipe="b", records=evaluations([0.0]))
    page = read(write_report([whole, dead, new]))
    assert "a 1 9 one run: none reference 4.75 " in page.text  # (3 + 6.5) / 2
    assert "b 0 –" in page.text
    assert "left out of the table, because they did not get to step 30: dead, new." in page.text


def test_intervals_of_the_table(make_run: MakeRun) -> None:
    # Final returns {0, 1} and {3, 3}: as in tests/stats, [0, 1], no spread, and 2 to 3 between.
    folders = [
        make_run(f"{recipe}{seed}", recipe=recipe, seed=seed, records=evaluations([value]))
        for recipe, values in (("a", (0.0, 1.0)), ("b", (3.0, 3.0)))
        for seed, value in enumerate(values)
    ]
    page = read(write_report(folders))
    assert "a 2 0.5 [0.0, 1.0] reference" in page.text
    assert "b 2 3 [3.000, 3.000] +2.5 [+2.0, +3.0]" in page.text


def test_runs_that_do_not_compare_are_named(make_run: MakeRun) -> None:
    folders = [
        make_run("a", seed=1, config={"steps": 10, "seed": 1, "buffer": {"minimum": 5}}),
        make_run("b", seed=1, config={"steps": 10, "seed": 2, "buffer": {"minimum": 6}}, cpu="X"),
    ]
    page = read(write_report(folders))
    assert "the runs differ in more than the seed: buffer.minimum." in page.text
    assert "seed 1 occurs more than once" in page.text
    assert "different processors (Some CPU @ 2.80GHz, X)" in page.text


def test_where_the_page_goes(make_run: MakeRun, tmp_path: Path) -> None:
    one, other = make_run("x/one"), make_run("y/other", seed=1)
    out = tmp_path / "new" / "page.html"
    assert write_report([one, other], out) == out
    assert out.is_file()
    assert write_report([one], tmp_path) == tmp_path / "report.html"
    # A run that is named twice counts once.
    assert write_report([one, str(one) + "/"]) == one / "report.html"
    with pytest.raises(ValueError, match="different folders; say where with --out"):
        write_report([one, other])
    with pytest.raises(ValueError, match="at least one run"):
        write_report([])
    (tmp_path / "empty").mkdir()
    for no_run in ("empty", "missing"):
        with pytest.raises(ValueError, match=r"holds no run|does not exist"):
            write_report([tmp_path / no_run])
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ValueError, match=r"cannot be written .*--out"):
        write_report([one], blocked / "page.html")


def test_a_headline_of_several_numbers_breaks_at_its_commas() -> None:
    """One line of three nodes' energies was wider than its card, and the page than the screen."""
    found = elements.cards([("energy", "2.996, 3.003, <3", "budget: 3, 3, 3")])
    assert "<b>2.996, <wbr>3.003, <wbr>&lt;3</b>" in found
    assert "budget: 3, 3, 3" in found
