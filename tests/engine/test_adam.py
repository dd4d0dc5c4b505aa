"""Adam as a torch optimizer against torch's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from thrifty.engine.adam import Adam


def parameters(sizes: list[int], seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(size, generator=generator)) for size in sizes]


def feed(both: list[list[nn.Parameter]], generator: torch.Generator) -> None:
    for pair in zip(*both, strict=True):
        gradient = torch.randn(pair[0].shape, generator=generator)
        for parameter in pair:
            parameter.grad = gradient.clone()


def close(one: list[nn.Parameter], other: list[nn.Parameter]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 70), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
    st.sampled_from([(0.9, 0.999), (0.0, 0.5), (0.5, 0.99)]),
)
def test_it_is_torchs(sizes: list[int], seed: int, betas: tuple[float, float]) -> None:
    both = [parameters(sizes, seed) for _ in range(2)]
    ours = Adam(both[0], lr=3e-3, betas=betas)
    theirs = torch.optim.Adam(both[1], lr=3e-3, betas=betas)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        feed(both, generator)
        kept = both[0][0].grad
        assert kept is not None
        before = kept.clone()
        ours.step()
        theirs.step()
        assert torch.equal(kept, before)  # gradients are the caller's
    close(*both)


def test_groups_schedulers_hooks_and_closures_work() -> None:
    both = [parameters([5, 7], 1) for _ in range(2)]
    optimizers: list[torch.optim.Optimizer] = []
    called: list[str] = []
    for make, (first, second) in zip((Adam, torch.optim.Adam), both, strict=True):
        groups: list[dict[str, Any]] = [{"params": [first]}, {"params": [second], "lr": 0.1}]
        optimizers.append(make(groups, lr=0.01))
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, 0.5) for o in optimizers]
    generator = torch.Generator().manual_seed(0)
    for number in range(4):
        feed(both, generator)
        if number == 1:
            for pair in both:
                pair[0].grad = None  # nothing moves, and its moments wait
        if number == 2:
            optimizers[0].register_step_pre_hook(lambda *_: called.append("before"))
            optimizers[0].register_step_post_hook(lambda *_: called.append("after"))
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
    close(*both)
    assert called == ["before", "after"] * 2

    def loss() -> Tensor:
        value: Tensor = (both[0][0] ** 2).sum()
        value.backward()
        return value

    optimizers[0].zero_grad()
    expected = float((both[1][0].detach() ** 2).sum())
    assert float(optimizers[0].step(loss).detach()) == pytest.approx(expected)
    assert not torch.equal(both[0][0], both[1][0])


@pytest.mark.parametrize(("first", "then"), [(Adam, torch.optim.Adam), (torch.optim.Adam, Adam)])
def test_its_state_goes_to_torchs_and_back(first: Any, then: Any) -> None:
    both = [parameters([6], 2) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    here, there = first(both[0], lr=0.02), first(both[1], lr=0.02)
    feed(both, generator)
    here.step()
    there.step()
    moved = then(both[1], lr=0.5)
    moved.load_state_dict(copy.deepcopy(there.state_dict()))
    for _ in range(3):
        feed(both, generator)
        here.step()
        moved.step()
    close(*both)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="lr must be at least 0, got -1"):
        Adam([nn.Parameter(torch.ones(1))], lr=-1)
    with pytest.raises(ValueError, match="betas must lie in"):
        Adam([nn.Parameter(torch.ones(1))], betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="eps must be at least 0"):
        Adam([nn.Parameter(torch.ones(1))], eps=-1e-8)
    wide = nn.Parameter(torch.ones(2, dtype=torch.float64))
    wide.grad = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"got torch\.float64 on cpu: use torch\.optim\.Adam"):
        Adam([wide]).step()
    plain = torch.optim.Adam([nn.Parameter(torch.ones(1))], weight_decay=0.1)
    ours = Adam([nn.Parameter(torch.ones(1))])
    ours.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="this Adam has no weight_decay"):
        ours.step()
