from __future__ import annotations

from collections import Counter

import pytest
import torch

from thrifty.lm.attention import Pattern
from thrifty.lm.gpt import GPT, GPTConfig
from thrifty.lm.sampling import continued

SHAPE = GPTConfig(layers=1, heads=2, width=16, context=8, padding=8)


def made() -> GPT:
    return GPT(SHAPE, 20, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("pattern", "window"), [("dense", 0), ("local", 3), ("union", 3)])
def test_the_likeliest_token_of_the_last_context_is_taken(pattern: Pattern, window: int) -> None:
    model = made()
    model.pattern, model.window = pattern, window
    drawn = continued(model, [1], 20, temperature=0.0, generator=torch.Generator())
    seen = [1]
    for _ in range(20):  # the whole forward pass over the last 8 tokens
        seen.append(int(model(torch.tensor([seen[-8:]]))[0, -1].argmax()))
    assert drawn == seen[1:]


def test_tokens_are_drawn_as_often_as_the_model_says() -> None:
    model = made()
    with torch.no_grad():
        model.wte.weight.mul_(20.0)  # far from uniform
        chances = (model.next(torch.tensor([[3]]))[0] / 0.7).softmax(-1)
    generator = torch.Generator().manual_seed(0)
    found = Counter(
        continued(model, [3], 1, temperature=0.7, generator=generator)[0] for _ in range(2000)
    )
    for token, chance in enumerate(chances.tolist()):
        # Five standard deviations of a binomial share.
        assert abs(found[token] / 2000 - chance) < 5 * (chance / 2000) ** 0.5 + 1e-3
    assert max(chances) > 0.1


def test_what_cannot_be_continued_is_refused() -> None:
    generator = torch.Generator()
    for ids, temperature, message in (
        ([], 1.0, "a text needs a beginning"),
        ([20], 1.0, "token 20 is none of the model's 20"),  # a padded row is no token
        ([-1], 1.0, "token -1 is none of"),
        ([1], -0.5, r"temperature must be at least 0, got -0\.5"),
    ):
        with pytest.raises(ValueError, match=message):
            continued(made(), ids, 3, temperature=temperature, generator=generator)
    model = made()
    with torch.no_grad():
        model.wpe.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="predicts no numbers: its training has diverged"):
        continued(model, [1], 3, temperature=1.0, generator=generator)
