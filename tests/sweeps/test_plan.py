"""A sweep's command line: seeds, settings, names, and what is refused while nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from thrifty.runs import Run, execute
from thrifty.runs.naming import names, run_name
from thrifty.sweeps.plan import plan, read_seeds, read_settings

RECIPES = "thrifty.recipes"


def planned(out: Path, *recipes: str, seeds: str = "0", settings: tuple[str, ...] = ()) -> Any:
    return plan(
        recipes,
        seeds=read_seeds(seeds),
        settings=read_settings(settings),
        out=out,
        namespace=RECIPES,
    )


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", [3]), ("0-3", [0, 1, 2, 3]), ("5,1", [5, 1]), ("0-2,2,7", [0, 1, 2, 7])],
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "-1", "3-1", "1,,2", "0-9999999", "1-2-3", "0.5"])
def test_seeds_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="write 0-9, or 0,3,5"):
        read_seeds(text)


def test_settings_are_every_combination() -> None:
    assert read_settings([]) == [()]
    assert read_settings(["a=1,2", "b=x"]) == [
        (("a", "1"), ("b", "x")),
        (("a", "2"), ("b", "x")),
    ]
    # A comma inside quotes belongs to the value.
    assert read_settings(["--grow='f(a,b)',random"]) == [
        (("grow", "'f(a,b)'"),),
        (("grow", "random"),),
    ]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (["env"], "write --set name=value,value"),
        (["=x"], "write --set name=value,value"),
        (["env=A,,B"], "write --set name=value,value"),
        (["a=1", "a=2"], "--set a stands twice"),
        (["env=A", "environment=B"], "--set environment stands twice"),  # the last would win
        (["learning-starts=1", "learning_starts=2"], "--set learning_starts stands twice"),
        (["seed=1,2"], "seed cannot be set: --seeds 0-9"),
        (["out=x"], "out cannot be set"),
    ],
)
def test_settings_that_cannot_be_read(told: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings(told)


def test_names_tell_runs_apart() -> None:
    assert run_name("rlx2.td3", {"env": "Ant-v5"}, 1) == "rlx2.td3-Ant-v5-seed1"
    assert run_name("a.b", {"y": "2", "x": "1", "environment": "E"}, 0) == "a.b-E-x=1-y=2-seed0"
    # What a file name cannot hold is replaced, and a digest keeps the two apart.
    one, two = (run_name("lab:f", {"grow": text}, 0) for text in ("a*b", "a/b"))
    assert one != two
    assert one.startswith("lab_f-grow=a_b-")
    long = run_name("a.b", {"x": "1" * 300}, 12)
    assert len(long) <= 150
    assert long.endswith("-seed12")
    assert long != run_name("a.b", {"x": "1" * 299}, 12)


def test_a_plan_is_seed_by_seed_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "new" / "sweep"
    jobs = planned(
        out,
        "icvar.rm_inventory",
        "icvar.rm_chain --gap 0.1",
        seeds="0-1",
        settings=("risk-level=0.2,0.3",),
    )
    assert [job.name for job in jobs] == [
        f"icvar.{name}-risk-level={level}-seed{seed}"
        for seed in (0, 1)
        for level in ("0.2", "0.3")
        for name in ("rm_inventory", "rm_chain-gap=0.1")
    ]
    assert not (tmp_path / "new").exists()
    (chain,) = [job for job in jobs if job.name == "icvar.rm_chain-gap=0.1-risk-level=0.3-seed1"]
    assert chain.document["arguments"] == {"steps": 30_000, "risk_level": 0.3, "gap": 0.1}
    assert (chain.document["seed"], chain.document["threads"], chain.steps) == (1, 1, 30_000)
    json.dumps(chain.document)


def test_switches_and_fields_of_the_configuration_are_settings(tmp_path: Path) -> None:
    (job,) = planned(
        tmp_path,
        "lsvi_ucb_plus.river_swim",
        settings=("algorithm.monotone=false", "algorithm.beta=0.5", "steps=100"),
    )
    assert job.document["config"]["algorithm"]["monotone"] is False
    assert job.document["config"]["algorithm"]["beta"] == 0.5
    assert job.name == (
        "lsvi_ucb_plus.river_swim-algorithm.beta=0.5-algorithm.monotone=false-steps=100-seed0"
    )


# mst.gpt2 and mst.gpt2_published ask for a corpus on the disk.
@pytest.mark.parametrize("recipe", [name for name in names(RECIPES) if "gpt2" not in name])
def test_every_recipe_can_be_swept(recipe: str, tmp_path: Path) -> None:
    environment = recipe.startswith("rlx2.")
    (job,) = planned(tmp_path, recipe, settings=("env=Pendulum-v1",) if environment else ())
    assert job.document["recipe"] == recipe
    assert job.steps > 0


@pytest.mark.parametrize(
    ("recipes", "settings", "message"),
    [
        ([], (), "a sweep needs a recipe"),
        (["rlx2.td4"], (), "did you mean rlx2.td3"),
        (["''"], (), "there is no recipe"),
        (["icvar.l_lava '"], (), "check its quotes"),
        (["icvar.l_lava --help"], (), "thrifty train icvar.l_lava --help"),
        (["icvar.l_lava --seed 3"], (), "seed cannot be set"),
        (["icvar.l_lava"], ("env=Hopper-v5",), "unrecognized options: --env"),
        (["icvar.l_lava"], ("risk-level=2",), "risk"),
        (["icvar.l_lava"], ("slip='0.1",), "--set slip='0.1 cannot be read .*: check its quotes"),
        (["icvar.l_lava", "rlx2.td3"], ("steps=many",), "--steps: invalid literal"),
        (["rlx2.td3"], ("env=Hopper-v5,NoSuchTask-v0",), "NoSuchTask"),
        (["icvar.l_lava"], ("slip=0.01,0.01",), "the sweep holds .* twice"),
        (
            ["icvar.l_lava", "icvar.l_lava --slip 0.02"],
            ("slip=0.01",),
            "slip stands twice, in the flags of icvar.l_lava and in --set",
        ),
        (["rlx2.td3 --env=Ant-v5"], ("environment=Hopper-v5",), "environment stands twice"),
    ],
)
def test_a_mistake_is_refused(
    recipes: list[str], settings: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        planned(tmp_path / "out", *recipes, settings=settings)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (job,) = planned(tmp_path, "icvar.rm_inventory", settings=("steps=10",))
    Path(job.directory).mkdir()
    (Path(job.directory) / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        planned(tmp_path, "icvar.rm_inventory", settings=("steps=10",))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file: choose another --out"):
        planned(tmp_path / "file", "icvar.rm_inventory")


def test_a_run_of_the_same_name_with_another_configuration_is_refused(tmp_path: Path) -> None:
    (job,) = planned(tmp_path, "icvar.rm_inventory", settings=("steps=10",))
    from thrifty.recipes import icvar

    execute(
        Run(
            recipe="icvar.rm_inventory",
            arguments={"steps": 11, "risk_level": 0.2},
            config=icvar.rm_inventory(steps=11),
            seed=0,
            directory=Path(job.directory),
        )
    )
    with pytest.raises(ValueError, match="holds another run"):
        planned(tmp_path, "icvar.rm_inventory", settings=("steps=10",))
