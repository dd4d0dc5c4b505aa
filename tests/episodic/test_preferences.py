"""Labels and their files: what counts, what survives a crash, tables, agreement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thrifty.episodic.label_folder import LABELS, QUERIES, LabelFolder
from thrifty.episodic.preferences import (
    Agreement,
    Change,
    Clip,
    Label,
    Query,
    export_csv,
    import_csv,
    standing,
    test_retest,
    unanswered,
)

A, B = Clip((0, 1), (1, 0)), Clip((0, 2), (0, 0))


def query(number: int, episode: int | None = None, repeat_of: int | None = None) -> Query:
    return Query(number, number if episode is None else episode, A, B, repeat_of)


def asked(path: Path, count: int = 3) -> LabelFolder:
    folder = LabelFolder(path)
    for number in range(count):
        folder.ask(query(number))
    return folder


def test_outcomes() -> None:
    expected = {
        "A": 1.0,
        "B": 0.0,
        "equal": 0.5,
        "skip": None,
        "catastrophe A": 0.0,
        "catastrophe B": 1.0,
        "catastrophe both": 0.5,
        "undo": None,
    }
    for answer, outcome in expected.items():
        assert Label(0, "ann", answer).outcome == outcome  # type: ignore[arg-type]


def test_the_first_answer_stands_unless_taken_back() -> None:
    said = [
        Label(0, "ann", "A"),
        Label(0, "bob", "B"),
        Label(0, "ann", "B"),  # ignored
        Label(1, "ann", "skip"),
        Label(0, "bob", "undo"),
        Label(0, "bob", "equal"),
    ]
    found = {key: label.answer for key, label in standing(said).items()}
    assert found == {(0, "ann"): "A", (1, "ann"): "skip", (0, "bob"): "equal"}
    left = unanswered([query(0), query(1), query(2)], said, "bob")
    assert [one.number for one in left] == [1, 2]


def test_labels_reach_the_learner_once_and_in_order(tmp_path: Path) -> None:
    folder, page = asked(tmp_path), LabelFolder(tmp_path)
    assert folder.collect(3) == []
    page.answer(Label(1, "ann", "A"))
    page.answer(Label(0, "ann", "catastrophe A"))
    page.answer(Label(2, "ann", "skip"))
    page.answer(Label(0, "bob", "equal"))
    changes = [Change(1, 1.0, 1), Change(0, 0.0, 1), Change(0, 0.5, 1)]
    assert folder.collect(4) == changes
    assert folder.collect(5) == []
    assert (folder.waiting(3, 1), folder.waiting(3, 2)) == (0, 2)
    page.answer(Label(1, "ann", "undo"))
    page.answer(Label(2, "ann", "undo"))
    assert folder.collect(6) == [Change(1, 1.0, -1)]
    assert folder.waiting(3, 1) == 2


def test_an_annotator_answers_once(tmp_path: Path) -> None:
    folder = asked(tmp_path)
    folder.answer(Label(1, "ann", "A"))
    with pytest.raises(ValueError, match="take that back first"):
        folder.answer(Label(1, "ann", "B"))
    with pytest.raises(ValueError, match="no answer to query 0"):
        folder.answer(Label(0, "ann", "undo"))
    with pytest.raises(ValueError, match="no query 9"):
        folder.answer(Label(9, "ann", "A"))
    assert [label.answer for label in folder.labels()] == ["A"]


@pytest.mark.parametrize("kept", range(1, 40, 7))
def test_a_line_cut_off_is_left_out_removed_and_reported(tmp_path: Path, kept: int) -> None:
    folder = asked(tmp_path)
    folder.answer(Label(0, "ann", "A"))
    whole = (tmp_path / LABELS).read_bytes()
    folder.answer(Label(1, "ann", "B", latency=2.5))
    line = (tmp_path / LABELS).read_bytes()[len(whole) :]
    (tmp_path / LABELS).write_bytes(whole + line[:kept])

    fresh = LabelFolder(tmp_path)
    assert [label.query for label in fresh.labels()] == [0]
    assert "broken and left out" in fresh.reports[0]
    assert [one.number for one in unanswered(fresh.queries(), fresh.labels(), "ann")] == [1, 2]
    fresh.answer(Label(2, "ann", "equal"))  # the rest is not glued to the new line
    assert "removed" in fresh.reports[1]
    assert [label.query for label in LabelFolder(tmp_path).labels()] == [0, 2]


@pytest.mark.parametrize("broken", [b'{"query": 1, "anno\n', b"\0\0\0\0\n", b"[1]\n", b"\n"])
def test_a_broken_last_line_with_its_end_is_left_out_too(tmp_path: Path, broken: bytes) -> None:
    folder = asked(tmp_path)
    folder.answer(Label(0, "ann", "A"))
    with open(tmp_path / LABELS, "ab") as file:
        file.write(broken)
    fresh = LabelFolder(tmp_path)
    assert [label.query for label in fresh.labels()] == [0]
    assert f"broken and left out ({len(broken)} bytes)" in fresh.reports[0]
    fresh.answer(Label(1, "ann", "B"))
    again = LabelFolder(tmp_path)
    assert [label.query for label in again.labels()] == [0, 1]
    assert not again.reports


def test_a_whole_line_without_its_end_counts(tmp_path: Path) -> None:
    folder = asked(tmp_path)
    folder.answer(Label(0, "ann", "A"))
    path = tmp_path / LABELS
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    folder.answer(Label(1, "ann", "B"))
    assert [label.query for label in LabelFolder(tmp_path).labels()] == [0, 1]
    assert not folder.reports


def test_a_broken_line_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = asked(tmp_path)
    for number in range(3):
        folder.answer(Label(number, "ann", "A"))
    lines = (tmp_path / LABELS).read_text().splitlines()
    (tmp_path / LABELS).write_text("\n".join([lines[0], lines[1][:10], lines[2]]) + "\n")
    with pytest.raises(ValueError, match="line 2 is no JSON object"):
        folder.labels()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"query": -1}, "number of a query"),
        ({"query": True}, "number of a query"),
        ({"annotator": " "}, "name of its annotator"),
        ({"answer": "left"}, "must be one of"),
        ({"left": "C"}, "A or B"),
        ({"latency": -1.0}, "latency"),
        ({"latency": "soon"}, "latency"),
        ({"mood": "good"}, "has the fields"),
    ],
)
def test_a_label_that_is_none(tmp_path: Path, entry: dict[str, object], message: str) -> None:
    folder = asked(tmp_path)
    line = {"query": 0, "annotator": "ann", "answer": "A", **entry}
    (tmp_path / LABELS).write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match=rf"labels\.jsonl, line 1: .*{message}"):
        folder.labels()


def test_a_clip_has_an_action_for_every_state() -> None:
    with pytest.raises(ValueError, match="as many actions as states"):
        Clip((0, 1), (0,))


def test_a_second_start_takes_in_the_same_labels_at_the_same_moments(tmp_path: Path) -> None:
    folder, page = LabelFolder(tmp_path), LabelFolder(tmp_path)
    seen = []
    for episode in range(6):
        folder.ask(query(episode))
        if episode in (1, 2, 4):
            page.answer(Label(episode - 1, "ann", "A"))
        seen.append(folder.collect(episode + 1))
    page.answer(Label(5, "ann", "B"))  # after the first learner was gone

    replay = LabelFolder(tmp_path)
    again = []
    for episode in range(6):
        replay.ask(query(episode))
        again.append(replay.collect(episode + 1))
    assert again[:5] == seen[:5]
    # Beyond what the folder tells of (the last query came after episode 5) the news is taken in.
    assert again[5] == [Change(5, 0.0, 1)]
    assert [len(changes) for changes in seen] == [0, 1, 1, 0, 1, 0]

    # From a checkpoint before episode 3: two labels had been taken in.
    middle = LabelFolder(tmp_path)
    middle.rewind(2)
    assert middle.collect(4) == []
    assert middle.collect(5) == seen[4]
    # No query stands twice in the file.
    entries = [json.loads(line) for line in (tmp_path / QUERIES).read_text().splitlines()]
    assert [entry["number"] for entry in entries if "number" in entry] == list(range(6))


def test_a_learner_stopped_while_it_waits_takes_in_what_is_new_after_its_start(
    tmp_path: Path,
) -> None:
    folder, page = LabelFolder(tmp_path), LabelFolder(tmp_path)
    folder.ask(query(0))
    page.answer(Label(0, "ann", "A"))
    assert folder.collect(2) == [Change(0, 1.0, 1)]  # it goes on waiting before episode 2

    page.answer(Label(0, "bob", "B"))
    again = LabelFolder(tmp_path)
    assert again.collect(2) == [Change(0, 1.0, 1)]
    assert again.collect(2) == [Change(0, 0.0, 1)]
    again.ask(query(1, 2))  # the episode is played now
    page.answer(Label(1, "ann", "A"))
    replay, third = LabelFolder(tmp_path, replay=True), LabelFolder(tmp_path)
    assert replay.collect(2) == [Change(0, 1.0, 1), Change(0, 0.0, 1)]
    assert third.collect(2) == [Change(0, 1.0, 1), Change(0, 0.0, 1)]
    assert third.collect(2) == [], "it had not seen the third label when it played this episode"
    assert third.collect(3) == [Change(1, 1.0, 1)]


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    asked(tmp_path)
    with pytest.raises(ValueError, match="no such query 0"):
        LabelFolder(tmp_path).ask(Query(0, 0, B, A))
    with pytest.raises(ValueError, match="no such query 3"):
        LabelFolder(tmp_path, replay=True).ask(query(3))
    with pytest.raises(ValueError, match="had taken in 5"):
        LabelFolder(tmp_path).rewind(5)


def test_table_there_and_back(tmp_path: Path) -> None:
    queries = [query(0), Query(1, 4, B, A), query(2, repeat_of=0)]
    labels = [
        Label(0, "ann, the first", "A", "B", 1.5),
        Label(1, "bob", "catastrophe both"),
        Label(2, "ann, the first", "equal", "A", 0.25),
        Label(1, "bob", "undo"),
    ]
    path = tmp_path / "labels.csv"
    export_csv(path, queries, labels)
    assert import_csv(path) == (queries, labels)

    broken = path.read_text().replace("equal", "perhaps")
    path.write_text(broken)
    with pytest.raises(ValueError, match="line 4: a label's answer must be one of"):
        import_csv(path)
    path.write_text("query,annotator\n1,ann\n")
    with pytest.raises(ValueError, match="lacks the columns A_actions"):
        import_csv(path)


def test_test_retest_rate() -> None:
    queries = [query(0), query(1), query(2, repeat_of=0), query(3, repeat_of=1)]
    labels = [
        Label(0, "ann", "A"),
        Label(1, "ann", "B"),
        Label(2, "ann", "A"),  # as before
        Label(3, "ann", "equal"),  # not as before
        Label(0, "bob", "A"),
        Label(2, "bob", "catastrophe B"),  # the same preference, with a flag
        Label(1, "cat", "skip"),
        Label(3, "cat", "A"),  # nothing to compare with
    ]
    assert test_retest(queries, labels) == Agreement(2 / 3, 3)
    assert test_retest(queries, []) == Agreement(None, 0)
