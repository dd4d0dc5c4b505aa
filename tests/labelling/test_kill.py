"""Killing the server at any moment: no confirmed answer is lost, no answered query comes again."""

from __future__ import annotations

import dataclasses
import http.client
import json
import signal
import threading
import time
from pathlib import Path

from label_client import DRY, WET, Client, ask, lines, process

from thrifty.episodic.label_folder import QUERIES, LabelFolder
from thrifty.episodic.preferences import Query, standing


def test_kill_9_in_the_middle_of_answers(run: Path) -> None:
    """Three servers are killed while answers arrive as fast as they go, a fourth tells the rest."""
    with open(run / QUERIES, "a", encoding="utf-8") as file:  # a long file, in one go
        for number in range(3, 500):
            file.write(json.dumps(dataclasses.asdict(Query(number, number, DRY, WET))) + "\n")
    confirmed: list[int] = []
    for round_ in range(3):
        with process(run) as server:
            client = Client(server.port)
            shown = client.state()["query"]["number"]
            # Nothing confirmed comes again; one answer at most was stored but not confirmed.
            assert shown == len(lines(run))
            assert shown - len(confirmed) <= round_
            killer, before = threading.Timer(0.1 * round_, server.kill), len(confirmed)
            while True:
                try:
                    status, state = client.answer(shown, ("left", "right", "equal")[shown % 3])
                except (OSError, http.client.HTTPException, ValueError):
                    break  # in the middle of a request, or between two
                assert status == 200
                confirmed.append(shown)
                shown = state["query"]["number"]
                if len(confirmed) == before + 2:  # however busy the machine is
                    killer.start()
            killer.join()
    stored = [line["query"] for line in lines(run)]
    assert len(stored) == len(set(stored)), "no query has been answered twice"
    assert set(confirmed) <= set(stored)
    with process(run) as server:
        view = Client(server.port).state()
        assert view["answered"] == len(stored)
        assert view["query"]["number"] not in stored


def test_a_killed_server_leaves_its_seat_and_its_port(run: Path) -> None:
    with process(run) as server:
        assert Client(server.port).answer(0, "left")[0] == 200
        server.kill()
        with process(run, port=server.port) as again:
            client = Client(again.port)
            assert client.state()["answered"] == 1
            assert client.undo(0)[0] == 200  # also of what an earlier server stored


def test_a_line_cut_off_is_told_at_the_start_and_repaired(run: Path) -> None:
    (run / "labels.jsonl").write_text('{"query": 0, "annotator": "ann", "answ')
    with process(run) as server:
        client = Client(server.port)
        assert client.state()["query"]["number"] == 0
        assert client.answer(0, "skip")[0] == 200
        said = server.end(signal.SIGINT)
    assert "labels.jsonl: the last line is broken and left out (38 bytes)" in said
    assert said.endswith("stopped: 1 of 3 questions answered by ann\n")
    assert server.process.returncode == 0
    assert [line["answer"] for line in lines(run)] == ["skip"]


def test_the_learner_goes_on_while_the_person_thinks(run: Path) -> None:
    """A learner asks and collects in one process while a server of another takes the answers."""
    learner = LabelFolder(run)
    with process(run) as server:
        client = Client(server.port)
        started = time.monotonic()
        assert learner.collect(10) == []  # nothing to wait for
        assert learner.waiting(3, 1) == 3
        assert time.monotonic() - started < 1
        for number in range(3):
            assert client.answer(number, "left")[0] == 200
        assert [change.query for change in learner.collect(11)] == [0, 1, 2]
        ask(run, 3, 1)
        assert client.state()["query"]["number"] == 3
    outcomes = {"A": 1.0, "B": 0.0}
    expected = [outcomes[line["answer"]] for line in lines(run)]
    assert [label.outcome for label in standing(learner.labels()).values()] == expected
