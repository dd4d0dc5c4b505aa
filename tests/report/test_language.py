from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thrifty.cli import main
from thrifty.lm import bpe, tokens
from thrifty.lm.gpt import GPTConfig
from thrifty.recipes import mst
from thrifty.report import load_run, write_report
from thrifty.report.language import _replaced, is_language
from thrifty.runs import Run, execute

MakeRun = Callable[..., Path]
TEXT = "a <b>bold</b> text & more of it. " * 40


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    vocabulary = bpe.learn([TEXT], size=262)
    data = tmp_path / "data"
    data.mkdir()
    for side in ("train", "val"):
        tokens.write(data / f"{side}.bin", [TEXT], vocabulary)
    vocabulary.write(data / "merges.txt")

    def make(recipe: str = "mst", *, stop: int | None = None, **changes: Any) -> Path:
        config = getattr(mst, recipe)(steps=60)
        config = dataclasses.replace(
            config,
            data=str(data),
            batch_size=1,
            evaluation_tokens=64,
            evaluate_every=20,
            model=GPTConfig(layers=1, heads=1, width=16, context=16),
            **changes,
        )
        if recipe == "mst":
            config = dataclasses.replace(
                config, sparsity=dataclasses.replace(config.sparsity, flops=0.5, update_every=5)
            )
        directory = tmp_path / (recipe if stop is None else f"{recipe}-{stop}")
        run = Run(
            recipe=f"mst.{recipe}",
            arguments={"steps": 60},
            config=config,
            seed=0,
            directory=directory,
        )
        execute(run, callbacks=[lambda record: stop is None or record["step"] < stop])
        return directory

    return make


def test_a_page_of_one_run(trained: MakeRun) -> None:
    folder = trained()
    assert is_language(load_run(folder))
    text = write_report([folder]).read_text(encoding="utf-8")
    assert text.count("<figure>") == 5
    for word in ("bits per byte", "warm-up", "ultra", "restoration", "union", "Ledger", "Samples"):
        assert word in text
    assert "<b>bold" not in text  # a sample is text
    plain = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    assert not re.search(r"\bnan\b|\bNone\b", plain)
    assert "60 optimizer steps" in text


def test_links_that_the_density_grows_replace_none() -> None:
    # 100 links, 30 dropped, 60 grown, 10 of them just dropped: 20 in the place of others, 130 now.
    change = {"dropped": 30, "grown": 60, "regrown": 10, "nnz": 130}
    assert _replaced(change) == 20 / 130
    # 100 links, 60 dropped, 30 grown, all new: 70 now.
    assert _replaced({"dropped": 60, "grown": 30, "regrown": 0, "nnz": 70}) == 30 / 70


def test_a_dense_and_an_unfinished_run(trained: MakeRun) -> None:
    text = write_report([trained("dense", stop=30)]).read_text(encoding="utf-8")
    assert "not finished" in text
    assert "No link was exchanged" in text
    assert text.count("<figure>") == 4


def test_several_runs(trained: MakeRun, tmp_path: Path) -> None:
    page = write_report([trained(), trained("dense")], tmp_path / "all.html")
    text = page.read_text(encoding="utf-8")
    assert text.count("<figure>") == 3
    assert "mst.dense" in text


def test_runs_of_one_recipe_are_told_apart_by_their_settings(
    trained: MakeRun, tmp_path: Path
) -> None:
    """A sweep with `--set sparsity.flops=0.5,0.25`: each has its name and its line."""
    one = trained()
    two = shutil.copytree(one, tmp_path / "two")
    for folder, flops in ((one, "0.5"), (two, "0.25")):
        document = json.loads((folder / "config.json").read_text())
        document["overrides"] = ["--sparsity.flops", flops]
        (folder / "config.json").write_text(json.dumps(document))
    text = write_report([one, two], tmp_path / "all.html").read_text(encoding="utf-8")
    for flops in ("0.5", "0.25"):
        assert f"mst.mst (sparsity.flops={flops})</td>" in text
        assert text.count(f"mst.mst (sparsity.flops={flops})") > 1


def test_a_run_is_exported_for_hugging_face(
    trained: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from thrifty.lm import weights

    folder = trained("dense")
    assert main(["export", str(folder), "--out", str(tmp_path / "gpt")]) == 0
    assert "written" in capsys.readouterr().out
    assert weights.load(tmp_path / "gpt").config.width == 16
    assert (tmp_path / "gpt" / "vocab.json").exists()
    assert main(["export", str(folder), "--out", str(tmp_path / "gpt")]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


def test_samples_are_printed_unless_quiet(
    tmp_path: Path, trained: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_run(trained()).config["config"]["data"]
    flags = ["--steps", "4", "--data", data, "--batch-size", "1", "--model.context", "16"]
    flags += ["--model.width", "8", "--model.layers", "1", "--sample-tokens", "3"]
    for name, more, shown in (("loud", [], 3), ("quiet", ["--quiet"], 0)):
        assert main(["train", "mst.dense", *flags, *more, "--out", str(tmp_path / name)]) == 0
        assert capsys.readouterr().out.count("--- a sample at the ") == shown
