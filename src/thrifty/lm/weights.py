"""GPT-2's weights in Hugging Face's layout: a folder with config.json and model.safetensors.

Hugging Face keeps the weights of linear layers as [in, out], ours are [out, in]. The tied head is
not stored. Padded rows are cut on saving. A model without biases is saved with biases of 0, which
GPT-2 there always has, and computes the same; `load(..., biases=False)` takes them off again.

The masks are not stored: after restoration there are none, and cut links are zeros otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thrifty.lm import safetensors
from thrifty.lm.bpe import Vocabulary
from thrifty.lm.gpt import GPT, GPTConfig

__all__ = ["load", "save"]

_LINEAR = {"qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
_NORMS = {"norm1": "ln_1", "norm2": "ln_2"}
_SIZES = {"layers": "n_layer", "heads": "n_head", "width": "n_embd", "context": "n_positions"}
_FIXED = {  # what GPT computes; a file that says otherwise is another model
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
}


def save(model: GPT, folder: Path | str, vocabulary: Vocabulary | None = None) -> Path:
    """Write a model as Hugging Face's `GPT2LMHeadModel.from_pretrained` reads it.

    Args:
        model: any; cut links are saved as the zeros that they are.
        folder: made if missing.
        vocabulary: also writes vocab.json and merges.txt, for `GPT2Tokenizer`.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    own = model.state_dict()
    tensors = {}
    for name, (ours, transposed) in _names(model.config.layers).items():
        value = own.get(ours)
        if value is None:  # a bias that the model does not have; one number per output
            value = torch.zeros(len(own[ours.replace("bias", "weight")]))
        if ours == "wte.weight":
            value = value[: model.vocabulary]
        tensors[f"transformer.{name}"] = value.T if transposed else value
    end = model.vocabulary - 1
    settings: dict[str, Any] = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: getattr(model.config, ours) for ours, theirs in _SIZES.items()},
        **_FIXED,
        "vocab_size": model.vocabulary,
        "bos_token_id": end,
        "eos_token_id": end,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }
    safetensors.write(folder / "model.safetensors", tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    if vocabulary is not None:
        vocabulary.write(folder / "merges.txt")
        ids = {token: i for i, token in enumerate(vocabulary.spelled)}
        (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    return folder


def load(folder: Path | str, *, biases: bool = True) -> GPT:
    """Read a GPT-2 that Hugging Face, or `save`, wrote.

    Args:
        folder: with config.json and model.safetensors.
        biases: whether the model has biases; without, those in the file must be 0.

    Returns:
        The model, float32, on the CPU.

    Raises:
        ValueError: no such folder, another kind of model, or weights that are missing or do not
            fit.
    """
    folder = Path(folder)
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ValueError(f"{folder} holds no model, its config.json: {problem}") from None
    if not isinstance(settings, dict) or settings.get("model_type") != "gpt2":
        raise ValueError(f"{folder} holds no GPT-2: its config.json says another model_type")
    for name, value in _FIXED.items():
        if settings.get(name, value) != value:
            raise ValueError(f"{folder} holds another GPT-2: {name} is {settings[name]}")
    for name in (*_SIZES.values(), "vocab_size"):
        if type(settings.get(name)) is not int:
            raise ValueError(f"{folder} holds no GPT-2: {name} in its config.json is no number")
    if not (folder / "model.safetensors").exists():
        raise ValueError(
            f"{folder} has no model.safetensors: write one file of it, with "
            'save_pretrained(folder, max_shard_size="100GB")'
        )
    config = GPTConfig(**{ours: settings[theirs] for ours, theirs in _SIZES.items()}, biases=biases)
    model = GPT(config, settings["vocab_size"], torch.Generator().manual_seed(0))
    stored = {
        name.removeprefix("transformer."): tensor
        for name, tensor in safetensors.read(folder / "model.safetensors").items()
    }
    own = model.state_dict()
    taken: dict[str, Tensor] = {}
    for name, (ours, transposed) in _names(config.layers).items():
        if name not in stored:
            raise ValueError(f"{folder} lacks the weight {name}")
        value = stored[name].T if transposed else stored[name]
        if ours not in own:
            if value.any():
                raise ValueError(f"{folder} has biases ({name}): load it with biases=True")
            continue
        if value.shape != own[ours].shape:
            raise ValueError(
                f"{folder} has {name} in shape {tuple(stored[name].shape)}, which does not fit its "
                "config.json"
            )
        taken[ours] = value.to(torch.float32)
    model.load_state_dict(taken)
    return model


def _names(layers: int) -> dict[str, tuple[str, bool]]:
    """Their name of every weight -> ours, and whether it is transposed; biases always named."""
    names = {"wte.weight": ("wte.weight", False), "wpe.weight": ("wpe.weight", False)}
    for layer in range(layers):
        for part in ("weight", "bias"):
            for ours, theirs in _NORMS.items():
                names[f"h.{layer}.{theirs}.{part}"] = (f"blocks.{layer}.{ours}.{part}", False)
            for ours, theirs in _LINEAR.items():
                transposed = part == "weight"
                names[f"h.{layer}.{theirs}.{part}"] = (f"blocks.{layer}.{ours}.{part}", transposed)
    return names | {f"ln_f.{part}": (f"norm.{part}", False) for part in ("weight", "bias")}
