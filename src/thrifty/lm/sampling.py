"""Text from a model: one token after the other, drawn from what it predicts."""

from __future__ import annotations

import torch

from thrifty.lm.gpt import GPT

__all__ = ["continued"]


@torch.no_grad()
def continued(
    model: GPT, ids: list[int], tokens: int, *, temperature: float, generator: torch.Generator
) -> list[int]:
    """Continue token ids with tokens drawn from softmax(logits / temperature).

    The model sees the last `context` tokens, through the attention that it has now.

    Args:
        model: in any mode; not changed.
        ids: the beginning, at least one token.
        tokens: how many to draw.
        temperature: at least 0; 0 takes the likeliest token.
        generator: draws; CPU.

    Returns:
        The drawn ids, without the beginning.

    Raises:
        ValueError: no beginning, a token beyond the vocabulary, a negative temperature, or a model
            whose training has diverged.
    """
    if not ids:
        raise ValueError("a text needs a beginning: give at least the end-of-text token")
    wrong = [i for i in ids if not 0 <= i < model.vocabulary]
    if wrong:
        raise ValueError(f"token {wrong[0]} is none of the model's {model.vocabulary}")
    if not temperature >= 0.0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    device = model.wte.weight.device
    seen, begun = list(ids), len(ids)
    for _ in range(tokens):
        window = torch.tensor([seen[-model.config.context :]], device=device)
        logits_V = model.next(window)[0].float().cpu()
        if logits_V.isnan().any():
            raise ValueError("the model predicts no numbers: its training has diverged")
        if temperature == 0.0:
            seen.append(int(logits_V.argmax()))
            continue
        chances_V = (logits_V / temperature).softmax(-1)
        seen.append(int(torch.multinomial(chances_V, 1, generator=generator)))
    return seen[begun:]
