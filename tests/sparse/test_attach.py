"""`attach` against the explicit loop: same masks, weights and moments, bit by bit."""

from __future__ import annotations

import copy
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from thrifty.sparse import Cosine, Static, Topology, TopologyEvolution, random, sparsify, split
from thrifty.sparse import gradient as gradient_score

STEPS = 14
Parts = tuple[nn.Module, Topology, torch.optim.Optimizer, TopologyEvolution]


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=generator), torch.randn(8, 2, generator=generator)


def start(make: Callable[..., torch.optim.Optimizer] = torch.optim.Adam, **options) -> Parts:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2))
    topology = sparsify(model, sparsity=0.6)
    optimizer = make(model.parameters(), **{"lr": 0.02, **options})
    grow = split((gradient_score, 3), (random, 1))
    schedule = Cosine(0.6, update_every=3, update_until=30)
    return model, topology, optimizer, TopologyEvolution(topology, schedule, grow=grow)


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    inputs, targets = batch(step)
    return nn.functional.mse_loss(model(inputs), targets)


def everything(parts: Parts) -> list[torch.Tensor]:
    model, topology, optimizer, evolution = parts
    moments = [
        value
        for parameter in model.parameters()
        for value in optimizer.state[parameter].values()
        if isinstance(value, torch.Tensor)
    ]
    masks = [topology.mask(name) for name in topology.names]
    return [*masks, *model.parameters(), *moments, torch.tensor(evolution.steps)]


def assert_equal(ours: Parts, theirs: Parts) -> None:
    pairs = list(zip(everything(ours), everything(theirs), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert ours[3].last_update is not None  # the comparison includes evolution steps
    assert ours[3].last_update == theirs[3].last_update
    assert ours[3].last_update.survival < 1.0


def explicit(steps: list[int] | None = None, **options) -> Parts:
    """Run the loop that calls evolution.step itself."""
    parts = start(**options)
    model, _, optimizer, evolution = parts
    for step in range(STEPS) if steps is None else steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        evolution.step(optimizer)
    return parts


OPTIMIZERS = {
    "Adam": {"make": torch.optim.Adam},
    "AdamW": {"make": torch.optim.AdamW},
    "fused": {"make": torch.optim.Adam, "fused": True},
    "SGD": {"make": torch.optim.SGD, "momentum": 0.9},
    "RMSprop": {"make": torch.optim.RMSprop},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_plain_loop(name: str) -> None:
    options = OPTIMIZERS[name]
    parts = start(**options)
    model, _, optimizer, evolution = parts
    evolution.attach(optimizer)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
    assert_equal(parts, explicit(**options))


@pytest.mark.parametrize("keyword", [False, True])
def test_a_closure(keyword: bool) -> None:
    parts = start()
    model, _, optimizer, evolution = parts
    evolution.attach(optimizer)
    for step in range(STEPS):

        def closure(step: int = step) -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            return loss

        loss = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
        assert float(loss.detach()) > 0.0  # the optimizer gives back the closure's loss
    assert_equal(parts, explicit())


def test_gradient_accumulation() -> None:
    def accumulate(model: nn.Module, step: int) -> None:
        for micro in range(4):
            (loss_of(model, 4 * step + micro) / 4).backward()

    explicit_parts, parts = start(), start()
    parts[3].attach(parts[2])
    for step in range(STEPS):
        for model, _, optimizer, evolution in (explicit_parts, parts):
            optimizer.zero_grad()
            accumulate(model, step)
            if evolution is parts[3]:
                optimizer.step()
            else:
                evolution.step(optimizer)
    assert_equal(parts, explicit_parts)
    # One evolution per optimizer step, not per micro-batch, with the mean gradient as its score.
    assert parts[3].steps == STEPS


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], object]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, total_iters=4),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[4]
    ),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, total_iters=20),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.1, step_size_up=3),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
}


def test_no_scheduler_of_torch_is_forgotten() -> None:
    found = {
        name
        for name, kind in vars(lr_scheduler).items()
        if inspect.isclass(kind)
        and issubclass(kind, lr_scheduler.LRScheduler)
        and kind is not lr_scheduler.LRScheduler
        and not name.startswith("_")
    }
    assert found == set(SCHEDULERS)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_learning_rate_scheduler(name: str) -> None:
    runs = []
    for attached in (False, True):
        parts = start(torch.optim.SGD, momentum=0.9)
        model, _, optimizer, evolution = parts
        if attached:
            evolution.attach(optimizer)
        scheduler = SCHEDULERS[name](optimizer)
        rates = []
        for step in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            if attached:
                optimizer.step()
            else:
                evolution.step(optimizer)
            if name == "ReduceLROnPlateau":
                scheduler.step(1.0)
            else:
                scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        assert len(set(rates)) > 1
        runs.append((parts, rates))
    assert_equal(runs[1][0], runs[0][0])
    assert runs[1][1] == runs[0][1]


@pytest.mark.parametrize("name", ["SGD", "fused"])
@pytest.mark.parametrize("unscale_first", [False, True])
def test_grad_scaler_with_an_injected_inf(name: str, unscale_first: bool) -> None:
    # Step 5 is an evolution step (the 6th): its gradient becomes inf, so it must not happen at
    # all, and the next batch makes the 6th step. Scales are powers of two, hence exact.
    options = OPTIMIZERS[name]
    parts = start(**options)
    model, _, optimizer, evolution = parts
    assert getattr(optimizer, "_step_supports_amp_scaling", False) == (name == "fused")
    evolution.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(STEPS):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        if step == 5:
            model[0].weight.grad[0, 0] = torch.inf
            before = copy.deepcopy(everything(parts))
        if unscale_first:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        if step == 5:
            after = everything(parts)
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert scaler.get_scale() == 2.0**9
    theirs = explicit([step for step in range(STEPS) if step != 5], **options)
    assert_equal(parts, theirs)


def test_the_score_of_a_fused_optimizer_is_unscaled() -> None:
    seen: list[torch.Tensor] = []

    def spy(state):
        seen.append(state.grad.clone())
        return state.weight.abs()

    for scaled in (False, True):
        model, topology, optimizer, _ = start(fused=True)
        schedule = Cosine(0.6, update_every=1, update_until=30)
        TopologyEvolution(topology, schedule, drop=spy).attach(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
        scaler.scale(loss_of(model, 0)).backward()
        scaler.step(optimizer)
    assert len(seen) == 4  # two layers a run: ERK keeps the last one full
    assert all(torch.equal(a, b) for a, b in zip(seen[:2], seen[2:], strict=True))


def compiled_equals_explicit(backend: str) -> None:
    torch._dynamo.reset()
    parts = start()
    model, topology, optimizer, evolution = parts
    compiled = torch.compile(model, backend=backend)
    evolution.attach(optimizer)
    theirs = start()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(compiled, step).backward()
        optimizer.step()
        theirs[2].zero_grad()
        loss_of(theirs[0], step).backward()
        theirs[3].step(theirs[2])
        for name in topology.names:
            assert torch.equal(topology.mask(name), theirs[1].mask(name))
            # A compiler may sum in another order.
            torch.testing.assert_close(
                topology.weight(name), theirs[1].weight(name), rtol=1e-4, atol=1e-5
            )
    assert evolution.last_update is not None
    assert evolution.last_update.step == 12


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, when imported
def test_torch_compile() -> None:
    compiled_equals_explicit("aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, when imported
def test_torch_compile_to_machine_code() -> None:
    if shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler, and there is no g++")
    compiled_equals_explicit("inductor")


def test_lbfgs_decides_once_a_step_and_masks_every_gradient() -> None:
    parts = start(torch.optim.LBFGS, lr=0.5, max_iter=5, line_search_fn="strong_wolfe")
    model, topology, optimizer, evolution = parts
    evolution.attach(optimizer)
    losses = []
    for _ in range(STEPS):
        # What the step must decide: from the dense gradient at its start.
        copy_model = copy.deepcopy(model)
        copy_topology = topology.on(copy_model)
        by_hand = TopologyEvolution(copy_topology, evolution.schedule, grow=evolution.grow)
        by_hand.load_state_dict(evolution.state_dict())
        copy_model.zero_grad()
        loss_of(copy_model, 0).backward()
        by_hand.step(torch.optim.SGD(copy_model.parameters(), lr=0.0))

        calls = 0
        old = {name: topology.mask(name).clone() for name in topology.names}

        def closure(old: dict[str, torch.Tensor] = old) -> torch.Tensor:
            nonlocal calls
            if calls:  # what the previous call of this step has left
                for name in topology.names:
                    assert not bool(topology.grad(name)[~old[name]].any())
            calls += 1
            optimizer.zero_grad()
            loss = loss_of(model, 0)
            loss.backward()
            return loss

        losses.append(float(optimizer.step(closure).detach()))
        assert calls > 1
        for name in topology.names:
            assert torch.equal(topology.mask(name), copy_topology.mask(name))
            assert not bool(topology.weight(name)[~topology.mask(name)].any())
    assert evolution.steps == STEPS
    assert losses[-1] < losses[0] / 2


def test_attach_is_explicit_and_removable() -> None:
    model, topology, optimizer, evolution = start()
    with evolution.attach(optimizer) as handle:
        with pytest.raises(ValueError, match="attached already"):
            evolution.attach(optimizer)
        with pytest.raises(ValueError, match=r"call optimizer\.step"):
            evolution.step(optimizer)
        assert len(optimizer._optimizer_step_pre_hooks) == 1
        assert len(optimizer._optimizer_step_post_hooks) == 1
    handle.remove()  # twice is harmless
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    loss_of(model, 0).backward()
    optimizer.step()
    assert evolution.steps == 0
    assert bool(topology.weight("0.weight")[~topology.mask("0.weight")].any())
    evolution.attach(optimizer)
    optimizer.step()
    assert evolution.steps == 1


def test_what_cannot_be_attached_is_refused() -> None:
    model, topology, optimizer, _ = start()
    skipping = TopologyEvolution(topology, Static(0.6), on_update="skip")
    with pytest.raises(ValueError, match=r"call evolution\.step\(optimizer\) in your loop"):
        skipping.attach(optimizer)
    half = torch.optim.SGD(model[0].parameters())
    with pytest.raises(ValueError, match=r"layer 2\.weight is not among"):
        TopologyEvolution(topology, Static(0.6)).attach(half)


def test_a_topology_without_names_passes_everything_through() -> None:
    outcomes = []
    for attached in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(6, 2)
        optimizer = torch.optim.LBFGS(model.parameters())
        evolution = TopologyEvolution(sparsify(model, sparsity=0.0), Static(0.0))
        if attached:
            evolution.attach(optimizer)

        def closure(model=model, optimizer=optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, 0)
            loss.backward()
            return loss

        optimizer.step(closure)
        outcomes.append(model.weight.detach())
    assert torch.equal(*outcomes)


def test_two_processes_agree_under_ddp(tmp_path: Path) -> None:
    # Each rank differentiates half a batch; DDP averages. Masks, weights and moments of the ranks
    # are compared by the worker itself right after each evolution step, before any forward.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    source = Path(__file__).resolve().parents[2] / "src"
    workers = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ddp_worker.py")), str(tmp_path)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")]),
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [worker.communicate(timeout=120)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)
    results = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert results[0] == results[1]
    assert results[0]["compared_after_steps"] == [3, 6, 9, 12]

    # The same in one process over the whole batch, in float64: the same links.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    topology = sparsify(model, sparsity=0.6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    grow = split((gradient_score, 3), (random, 1))
    schedule = Cosine(0.6, update_every=3, update_until=30)
    evolution = TopologyEvolution(topology, schedule, grow=grow)
    for step in range(STEPS):
        inputs, targets = (tensor.double() for tensor in batch(step))
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        evolution.step(optimizer)
    masks = {name: topology.mask(name).int().tolist() for name in topology.names}
    assert results[0]["masks"] == masks
    assert evolution.last_update is not None
    assert evolution.last_update.survival < 1.0
