"""What an annotator is shown and where answers go, without a server."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from label_client import DRY, WET, ask, lines

from thrifty.episodic.label_folder import LabelFolder
from thrifty.episodic.lava_grid import LavaGrid
from thrifty.episodic.preferences import Change, Query
from thrifty.labelling import Conflict, Session, UnknownQuery, left_side
from thrifty.labelling.scene import grid
from thrifty.labelling.session import CHOICES

CLIPS = {
    "A": {"states": DRY.states, "actions": DRY.actions},
    "B": {"states": WET.states, "actions": WET.actions},
}


def query_with_left(side: str, annotator: str = "ann") -> int:
    return next(n for n in range(100) if left_side(annotator, n) == side)


def test_the_left_side_is_a_fair_coin_of_query_and_annotator() -> None:
    n = 2000
    ann, bob = ([left_side(name, i) == "A" for i in range(n)] for name in ("ann", "bob"))
    four_sigma = 4 * (0.25 * n) ** 0.5  # of a fair coin's count: 89
    assert abs(sum(ann) - n / 2) < four_sigma
    assert abs(sum(bob) - n / 2) < four_sigma
    same = sum(a == b for a, b in zip(ann, bob, strict=True))
    assert abs(same - n / 2) < four_sigma  # one annotator's sides tell nothing of another's
    runs = sum(a == b for a, b in itertools.pairwise(ann))
    assert abs(runs - n / 2) < four_sigma


@pytest.mark.parametrize("left", ["A", "B"])
def test_the_sides_shown_are_the_sides_stored(run: Path, left: str) -> None:
    number = query_with_left(left)
    ask(run, 3, 97)
    session = Session(run, "ann")
    for earlier in range(number):
        session.answer(earlier, "skip")
    right = "B" if left == "A" else "A"
    shown = session.view()["query"]
    assert shown == {"number": number, "left": CLIPS[left], "right": CLIPS[right]}
    session.answer(number, "left", 2.5)
    assert lines(run)[-1] == {
        "query": number,
        "annotator": "ann",
        "answer": left,
        "left": left,
        "latency": 2.5,
    }


@pytest.mark.parametrize("left", ["A", "B"])
def test_every_answer_is_stored_in_terms_of_a_and_b(run: Path, left: str) -> None:
    ask(run, 3, 97)
    right = "B" if left == "A" else "A"
    expected = {
        "left": left,
        "right": right,
        "equal": "equal",
        "skip": "skip",
        "catastrophe left": f"catastrophe {left}",
        "catastrophe right": f"catastrophe {right}",
        "catastrophe both": "catastrophe both",
    }
    assert set(CHOICES) == set(expected)
    session, number = Session(run, "ann"), query_with_left(left)
    for choice, stored in expected.items():
        session.answer(number, choice)
        assert lines(run)[-1]["answer"] == stored
        assert session.view()["last"] == {"query": number, "answer": choice}
        session.undo(number)


def test_progress_and_undo(run: Path) -> None:
    session = Session(run, "ann")
    assert session.view().items() >= {"asked": 3, "answered": 0, "last": None}.items()
    session.answer(0, "left")
    session.answer(1, "skip")
    assert session.view()["answered"] == 2
    assert session.view()["query"]["number"] == 2
    with pytest.raises(Conflict, match="query 0 is not the one answered last"):
        session.undo(0)
    session.undo(1)
    assert session.view()["query"]["number"] == 1
    session.undo(0)  # and the one before
    view = session.view()
    assert (view["answered"], view["last"], view["query"]["number"]) == (0, None, 0)
    with pytest.raises(Conflict):
        session.undo(0)
    # Nothing is removed from the file: it tells what happened.
    assert [line["answer"] for line in lines(run)][1:] == ["skip", "undo", "undo"]
    session.answer(0, "equal")
    assert Session(run, "ann").view()["last"] == {"query": 0, "answer": "equal"}  # a new server


def test_undo_after_a_restart_takes_back_the_answer_given_last(run: Path) -> None:
    first = Session(run, "ann")
    for number in (0, 1, 2):
        first.answer(number, "equal")
    first.undo(2)
    first.undo(1)
    first.answer(2, "skip")  # the order of answering is not the order of asking
    first.answer(1, "skip")
    assert Session(run, "ann").view()["last"] == {"query": 1, "answer": "skip"}


def test_what_cannot_be_answered(run: Path) -> None:
    session = Session(run, "ann")
    for number in (3, -1, 10**30):
        with pytest.raises(ValueError, match="query"):
            session.answer(number, "left")
    with pytest.raises(UnknownQuery):
        session.undo(3)
    for choice in ("A", "undo", "", "LEFT", "catastrophe"):
        with pytest.raises(ValueError, match="an answer is one of left, "):
            session.answer(0, choice)
    for latency in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="latency"):
            session.answer(0, "left", latency)
    session.answer(0, "left")
    with pytest.raises(Conflict, match="query 0 has been answered"):
        session.answer(0, "right")
    assert len(lines(run)) == 1


def test_annotators_do_not_see_each_other(run: Path) -> None:
    """m labels of a query are m annotators: each is asked everything, and undoes only their own."""
    ann, bob = Session(run, "ann"), Session(run, "bob")
    ann.answer(0, "equal")
    bob.answer(0, "equal")
    assert ann.view()["query"]["number"] == bob.view()["query"]["number"] == 1
    ann.undo(0)
    assert (ann.view()["answered"], bob.view()["answered"]) == (0, 1)
    learner = LabelFolder(run)
    assert learner.collect(9) == [Change(0, 0.5, 1), Change(0, 0.5, 1), Change(0, 0.5, -1)]


def test_new_questions_appear_and_repeats_are_not_betrayed(run: Path) -> None:
    session = Session(run, "ann")
    for number in range(3):
        session.answer(number, "equal")
    assert session.view()["query"] is None
    LabelFolder(run).ask(Query(3, 9, DRY, WET, repeat_of=0))
    assert session.view()["asked"] == 4
    assert session.view()["query"].keys() == {"number", "left", "right"}


def test_a_run_that_is_finished_can_still_be_answered(run: Path) -> None:
    session = Session(run, "ann")
    assert session.view()["finished"] is False
    (run / "DONE").write_text("{}")
    assert session.view()["finished"] is True
    session.answer(0, "left")


def test_a_broken_last_line_is_left_out_and_reported(run: Path) -> None:
    Session(run, "ann").answer(0, "left")
    with open(run / "labels.jsonl", "ab") as file:
        file.write(b'{"query": 1, "annot')  # power failure
    session = Session(run, "ann")
    assert session.view()["answered"] == 1
    assert any("broken" in line for line in session.reports)
    session.answer(1, "skip")
    assert [line["query"] for line in lines(run)] == [0, 1]


def test_a_damaged_file_is_an_error_in_one_line(run: Path) -> None:
    (run / "labels.jsonl").write_bytes(b"nonsense\n{}\n")
    with pytest.raises(ValueError, match=r"labels\.jsonl, line 1 is no JSON object"):
        Session(run, "ann")


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "two\nlines", "\0"])
def test_a_name_that_does_not_do(run: Path, name: str) -> None:
    with pytest.raises(ValueError, match="an annotator's name has 1 to 64 printable characters"):
        Session(run, name)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="holds no run"):
            Session(folder, "ann")
    assert not list(tmp_path.iterdir())


def test_the_scene_of_a_lava_grid(run: Path) -> None:
    # The default grid by hand: 6 columns, lava in row 0, the rim above it in row 1.
    assert Session(run, "ann").view()["scene"] == {
        "kind": "grid",
        "rows": 3,
        "columns": 6,
        "start": 0,
        "goal": [5],
        "lava": [1, 2, 3, 4],
        "rim": [7, 8, 9, 10],
        "moves": [[1, 0], [0, 1], [-1, 0], [0, -1]],
    }


def test_a_scene_follows_the_sizes_in_the_configuration(run: Path) -> None:
    document = json.loads((run / "config.json").read_text())
    document["config"]["instance"] = {"kind": "lava_grid", "width": 4, "height": 5, "slip": 0.2}
    (run / "config.json").write_text(json.dumps(document))
    scene = Session(run, "ann").view()["scene"]
    assert scene == grid(LavaGrid(width=4, height=5, horizon=8))
    assert (scene["rows"], scene["columns"], scene["goal"]) == (5, 4, [3])


@pytest.mark.parametrize("config", [{}, {"instance": "x"}, {"instance": {"kind": "chain"}}])
def test_other_runs_show_states_and_actions(run: Path, config: object) -> None:
    (run / "config.json").write_text(json.dumps({"config": config}))
    assert Session(run, "ann").view()["scene"] == {"kind": "steps"}
    (run / "config.json").unlink()  # a folder that a script of one's own asks in
    assert Session(run, "ann").view()["scene"] == {"kind": "steps"}


@pytest.mark.parametrize("algorithm", [{"kind": "icvar_l"}, {"annotator": "simulated"}])
def test_a_run_that_asks_nobody_is_refused(tmp_path: Path, algorithm: dict[str, str]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"config": {"algorithm": algorithm}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"asks nobody: .*--annotator person"):
        Session(tmp_path, "ann")
    asking = {"config": {"algorithm": {"annotator": "person"}}}  # and has not asked yet
    config.write_text(json.dumps(asking), encoding="utf-8")
    assert Session(tmp_path, "ann").view()["asked"] == 0
