from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from thrifty.lm import bpe, safetensors, weights
from thrifty.lm.gpt import GPT, GPTConfig

SIZE = 300


def made(**changes: Any) -> GPT:
    shape = {"layers": 2, "heads": 2, "width": 16, "context": 24, **changes}
    model = GPT(GPTConfig(**shape), SIZE, torch.Generator().manual_seed(0))
    with torch.no_grad():  # biases and norms that are not what they start as
        for number, parameter in enumerate(model.parameters()):
            noise = torch.Generator().manual_seed(number)
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise))
    return model


def test_what_was_saved_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    model = made(padding=64)
    again = weights.load(weights.save(model, tmp_path / "new"))
    ids = torch.randint(SIZE, (2, 24), generator=torch.Generator().manual_seed(1))
    assert again.wte.weight.shape == (SIZE, 16)  # 320 padded rows were cut
    assert torch.equal(again(ids), model(ids))


@pytest.mark.parametrize("biases", [True, False])
def test_hugging_face_reads_ours_and_gives_the_same_logits(tmp_path: Path, biases: bool) -> None:
    transformers = pytest.importorskip("transformers")
    model = made(padding=64, biases=biases)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(weights.save(model, tmp_path)).eval()
    ids = torch.randint(SIZE, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), atol=1e-5, rtol=1e-5)
    assert weights.load(tmp_path, biases=biases).config.biases == biases


def test_we_read_hugging_faces_and_give_the_same_logits(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=SIZE, n_positions=24, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path)
    ids = torch.randint(SIZE, (2, 24))
    with torch.no_grad():
        torch.testing.assert_close(
            weights.load(tmp_path)(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5
        )


def test_a_head_of_its_own_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=SIZE, n_positions=24, n_embd=16, n_layer=1, n_head=2, tie_word_embeddings=False
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="another GPT-2: tie_word_embeddings is False"):
        weights.load(tmp_path)


def test_the_tokenizer_travels_with_the_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    vocabulary = bpe.learn(["to be or not to be"] * 3, size=262)
    model = GPT(
        GPTConfig(layers=1, heads=1, width=4, context=4), vocabulary.size, torch.Generator()
    )
    weights.save(model, tmp_path, vocabulary)
    theirs = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    text = "not to be, or\n to"
    assert theirs(text)["input_ids"] == vocabulary.encode(text).tolist()
    assert theirs.eos_token_id == vocabulary.end_of_text


def test_the_file_is_what_the_package_writes(tmp_path: Path) -> None:
    package = pytest.importorskip("safetensors.torch")
    tensors = {
        "a": torch.arange(6.0).view(2, 3),
        "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "c": torch.tensor([True, False]),
        "d": torch.zeros(0, 4, dtype=torch.float64),
        "e": torch.tensor(7),
    }
    safetensors.write(tmp_path / "ours", tensors, {"format": "pt"})
    package.save_file(tensors, tmp_path / "theirs")
    for found in (package.load_file(tmp_path / "ours"), safetensors.read(tmp_path / "theirs")):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.write(path, {"a": torch.ones(4)}, {})
    whole = path.read_bytes()
    for damaged in (
        b"",
        whole[:6],
        whole[:-4],
        whole[:20],
        b"\xff" * 8 + whole[8:],
        whole.replace(b'"F32"', b'"F99"'),
        whole.replace(b"[4]", b"[9]"),
        whole.replace(b"[4]", b"-44"),
        whole.replace(b"[0, 16]", b"[8, 24]"),
        whole.replace(b"{", b"[", 1),
    ):
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.safetensors") as caught:
            safetensors.read(path)
        assert "\n" not in str(caught.value)


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no model"):
        weights.load(tmp_path)
    weights.save(made(), tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    for changes, message in (
        ({"model_type": "bert"}, "holds no GPT-2"),
        ({"activation_function": "relu"}, "another GPT-2: activation_function is relu"),
        ({"tie_word_embeddings": False}, "another GPT-2: tie_word_embeddings is False"),
        ({"n_layer": None}, r"n_layer in its config\.json is no number"),
        ({"vocab_size": "300"}, r"vocab_size in its config\.json is no number"),
        ({"n_embd": 32}, r"does not fit its config\.json"),
        ({"n_layer": 3}, r"lacks the weight h\.2"),
    ):
        path.write_text(json.dumps({**settings, **changes}))
        with pytest.raises(ValueError, match=message):
            weights.load(tmp_path)
    path.write_text(json.dumps(settings))
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(ValueError, match=r"has no model\.safetensors: write one file"):
        weights.load(tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"has biases .* load it with biases=True"):
        weights.load(tmp_path, biases=False)
