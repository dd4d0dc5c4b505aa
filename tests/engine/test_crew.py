from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thrifty.engine import crew
from thrifty.engine.links import Links
from thrifty.engine.sparse_mlp import sparse_mlp


@pytest.fixture
def two_threads() -> Iterator[None]:
    earlier = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(earlier)


@given(st.integers(0, 5000), st.sampled_from([1, 16, 64]), st.integers(1, 5))
def test_parts_cover_a_batch_once(batch: int, unit: int, threads: int) -> None:
    shares = crew.parts(batch, unit, threads)
    assert [begin for begin, _ in shares] == [0, *(end for _, end in shares[:-1])]
    assert shares[-1][1] == batch
    assert all(begin % unit == 0 for begin, _ in shares)
    assert 1 <= len(shares) <= threads
    assert len(shares) == 1 or all(end - begin > crew.LEAST - unit for begin, end in shares)


def test_calls_run_in_threads_of_their_own_and_their_errors_arrive() -> None:
    seen: list[str] = []
    crew.run([lambda: seen.append(threading.current_thread().name) for _ in range(2)])
    assert len(set(seen)) == 2

    def fails() -> None:
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        crew.run([fails, lambda: None])


def gradients(x: torch.Tensor, values: torch.Tensor, links: Links) -> list[torch.Tensor]:
    inputs = [x.clone().requires_grad_(), values.clone().requires_grad_()]
    biases = torch.zeros(links.biases, requires_grad=True)
    y = sparse_mlp(*inputs, biases, links)
    y.square().sum().backward()
    return [y.detach(), *(t.grad for t in (*inputs, biases) if t.grad is not None)]


def test_a_perceptron_on_two_threads_is_that_on_one(two_threads: None) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = [torch.rand(shape, generator=generator) < 0.3 for shape in ((50, 40), (30, 50))]
    links = Links.of([mask.numpy() for mask in masks], [True, True], [True, False])
    values = torch.randn(links.values, generator=generator)
    x = torch.randn(1100, 40, generator=generator)  # parts of 512 and 588: tiles, and a rest
    two, again = gradients(x, values, links), gradients(x, values, links)
    torch.set_num_threads(1)
    one = gradients(x, values, links)
    assert len(one) == 4
    for a, b, c in zip(one, two, again, strict=True):
        assert torch.equal(b, c)
        torch.testing.assert_close(a, b, atol=1e-2, rtol=1e-5)  # sums of squares of thousands
