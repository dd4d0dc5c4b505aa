from __future__ import annotations

import hashlib
import lzma
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thrifty.lm import bpe, corpus


def test_the_most_frequent_pair_is_merged_first_and_ties_go_to_lower_bytes() -> None:
    # Words: "low" 3 times, " low" once, " lot" once. Pairs: (l,o) 5, (o,w) 4, (" ",l) 2, (o,t) 1.
    # After lo: (lo,w) 4; then low: (" ",low) 1, (" ",lo) 1, (lo,t) 1; " lo" is the lowest.
    vocabulary = bpe.learn(["low", "low", "low low lot"], size=257 + 3)
    assert vocabulary.merges == ((b"l", b"o"), (b"lo", b"w"), (b" ", b"lo"))
    ids = vocabulary.encode("low lot")
    assert [vocabulary.tokens[i] for i in ids] == [b"low", b" lo", b"t"]


def test_merges_apply_by_rank_not_by_length() -> None:
    # "aab": (a,b) has the lower rank, so a+ab; greedy from the left would give aa+b.
    vocabulary = bpe.Vocabulary([(b"a", b"b"), (b"a", b"a"), (b"aa", b"b")])
    assert [vocabulary.tokens[i] for i in vocabulary.encode("aab")] == [b"a", b"ab"]


@settings(max_examples=25)
@given(st.text(max_size=40))
def test_decoding_gives_back_any_text(text: str) -> None:
    for vocabulary in (bpe.embedded(), bpe.gpt2()):
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_ids_have_gpt2s_order_and_known_values() -> None:
    # As published for GPT-2; the two last have white space and numbers.
    vocabulary = bpe.gpt2()
    assert vocabulary.size == 50257
    assert vocabulary.end_of_text == 50256
    assert vocabulary.encode("Hello world").tolist() == [15496, 995]
    assert vocabulary.encode("it's  1984\n\n x").tolist() == [270, 338, 220, 12844, 628, 2124]


def test_the_merges_of_gpt2_are_the_published_file() -> None:
    packed = (resources.files("thrifty.lm") / "data" / "gpt2_merges.txt.xz").read_bytes()
    assert (
        hashlib.sha256(lzma.decompress(packed)).hexdigest()
        == "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
    )


def test_another_implementation_agrees_on_the_same_merges(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = bpe.embedded()
    vocabulary.write(tmp_path / "merges.txt")
    lines = (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    shown = bpe._shown()
    ids = {"".join(shown[b] for b in token): i for i, token in enumerate(vocabulary.tokens[:-1])}
    other = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=ids, merges=[tuple(line.split(" ")) for line in lines])
    )
    other.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = corpus.sides(corpus.embedded())[1][0].text[:50_000]
    text += "\n  éß 中文 ½ x² ١٢ don't WE'LL \t\u2003 tabs\u00a0and  spaces  \x1c\x85"
    assert vocabulary.encode(text).tolist() == other.encode(text).ids


def test_a_file_of_merges_is_read_back_and_its_damage_named(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt"
    bpe.embedded().write(path)
    assert bpe.Vocabulary.read(path).merges == bpe.embedded().merges
    path.write_text("#version: 0.2\na b\na b c\n")
    with pytest.raises(ValueError, match=r"merges\.txt holds no merges: line 3"):
        bpe.Vocabulary.read(path)
    path.write_text("ab c\n")
    with pytest.raises(ValueError, match="made of tokens not known yet"):
        bpe.Vocabulary.read(path)
    with pytest.raises(ValueError, match="cannot be read"):
        bpe.Vocabulary.read(tmp_path / "none.txt")


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="token 258 is none of this vocabulary's 258"):
        bpe.Vocabulary([(b"a", b"b")]).decode([258])
    with pytest.raises(ValueError, match="257 to 65,536 tokens, not 256"):
        bpe.learn(["a"], size=256)


def test_lengths_count_bytes() -> None:
    vocabulary = bpe.embedded()
    text = "Thou art — gone"
    assert vocabulary.lengths[vocabulary.encode(text)].sum() == len(text.encode())
    assert vocabulary.lengths[vocabulary.end_of_text] == 0
    assert vocabulary.encode(text).dtype == np.uint16


@pytest.mark.slow
def test_the_embedded_vocabulary_was_learned_on_the_training_side() -> None:
    training, _ = corpus.sides(corpus.embedded())
    again = bpe.learn([text.text for text in training], size=bpe.embedded().size)
    assert again.merges == bpe.embedded().merges
