from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from thrifty.lm.gpt import GPT, GPTConfig, linear_matrices
from thrifty.lm.ledger import matrix_shapes
from thrifty.sparse import layer_shapes

SMALL = GPTConfig(layers=2, heads=2, width=8, context=6)


def made(config: GPTConfig = SMALL, vocabulary: int = 11, seed: int = 0) -> GPT:
    return GPT(config, vocabulary, torch.Generator().manual_seed(seed))


def test_logits_depend_on_what_came_before_and_on_nothing_after() -> None:
    model = made()
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    logits = model(ids)
    assert logits.shape == (1, 5, 11)
    changed = model(torch.tensor([[1, 2, 9, 4, 5]]))
    torch.testing.assert_close(changed[:, :2], logits[:, :2])
    assert (changed[:, 2:] - logits[:, 2:]).abs().amax(-1).min() > 1e-6
    torch.testing.assert_close(model.next(ids), logits[:, -1])


def test_initial_weights_are_gpt2s() -> None:
    model = made(GPTConfig(layers=3, heads=4, width=64, context=64), 500)
    deviation = {n: float(p.detach().std()) for n, p in model.named_parameters() if p.dim() == 2}
    for name, value in deviation.items():
        into_stream = name.endswith(("out.weight", "down.weight"))
        # 4,096 numbers at least: the deviation is within 5 %.
        expected = 0.02 / math.sqrt(6) if into_stream else 0.02
        assert value == pytest.approx(expected, rel=0.05), name
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))
    # At first every token is about as likely as any other: the loss is log V.
    loss = model.loss(torch.randint(500, (4, 64)), torch.randint(500, (4, 64)))
    assert float(loss.detach()) == pytest.approx(math.log(500), abs=0.1)


def test_the_loss_is_the_mean_cross_entropy() -> None:
    model = made()
    ids, targets = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 7], [4, 0]])
    chances = model(ids).softmax(-1)
    picked = chances.gather(-1, targets[..., None])
    torch.testing.assert_close(model.loss(ids, targets), -picked.log().mean())


def test_padded_rows_are_no_tokens() -> None:
    padded = GPTConfig(layers=1, heads=1, width=8, context=4, padding=8)
    model = made(padded, 11)
    assert model.wte.weight.shape == (16, 8)
    assert model(torch.tensor([[10]])).shape[-1] == 11
    F.cross_entropy(model(torch.tensor([[3]]))[0], torch.tensor([4])).backward()
    assert not model.wte.weight.grad[11:].any()


def test_without_biases_there_are_none() -> None:
    model = made(GPTConfig(layers=1, heads=1, width=8, context=4, biases=False))
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]


def test_the_sparse_matrices_are_those_of_the_ledger() -> None:
    config = GPTConfig(layers=2, heads=2, width=8, context=6, padding=4)
    chosen = layer_shapes(made(config), where=linear_matrices)
    assert {name: tuple(shape) for name, shape in chosen.items()} == matrix_shapes(config, 11)


def test_shapes_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide 8"):
        GPTConfig(heads=3, width=8)
    with pytest.raises(ValueError, match="layers must be at least 1, got 0"):
        GPTConfig(layers=0)
    with pytest.raises(ValueError, match="7 positions are more than the context 6"):
        made()(torch.zeros(1, 7, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one token, got 0"):
        made(vocabulary=0)
