from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy_pretraining import SPARSITIES, STEPS, toy

from thrifty.lm import bpe, tokens
from thrifty.lm.config import OptimizerConfig, PhasesConfig
from thrifty.lm.gpt import GPT
from thrifty.lm.learning_rate import cosine
from thrifty.lm.ledger import Costs, training_flops


def finished(config: Any, seed: int = 1) -> tuple[Any, list[dict[str, Any]]]:
    experiment = config.build(seed)
    return experiment, [record for record in experiment.records() if record is not None]


def test_a_dense_run_is_a_plain_pytorch_loop_bit_for_bit(data: str) -> None:
    config = toy(data, "dense")
    experiment, records = finished(config, seed=5)

    stream = tokens.load(data)
    seed = int(np.random.SeedSequence(5).generate_state(4, np.uint32)[0])
    model = GPT(config.model, stream.vocabulary.size, torch.Generator().manual_seed(seed))
    decaying = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.dim() == 2]
    others = [p for p in model.parameters() if not any(p is q for q in decaying)]
    optimizer = torch.optim.AdamW(
        [
            {"params": decaying, "weight_decay": 0.1},
            {"params": others, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
        fused=True,
    )
    losses = []
    for step in range(1, STEPS + 1):
        inputs, targets = stream.training.batch(4, 16, seed=5, step=step)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * cosine(step, steps=STEPS, warm_up=2, least=0.1)
        optimizer.zero_grad()
        total = 0.0
        for half in (slice(0, 2), slice(2, 4)):
            logits = model(inputs[half])
            loss = F.cross_entropy(logits.flatten(0, 1), targets[half].flatten())
            (loss / 2).backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_([*decaying, *others], 1.0)
        optimizer.step()
        losses.append(total / 2)
    for (name, ours), theirs in zip(
        experiment.model.named_parameters(), model.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    trained = [record["loss"] for record in records if record["kind"] == "train"]
    assert trained == [sum(losses[i : i + 10]) / 10 for i in range(0, STEPS, 10)]
    assert losses[-1] < 0.7 * losses[0]  # it learns


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_what_a_run_tells(data: str, sparsity: str) -> None:
    experiment, records = finished(toy(data, sparsity))
    kinds = Counter(record["kind"] for record in records)
    assert kinds["start"] == kinds["end"] == 1
    assert kinds["train"] == 4
    assert kinds["evaluation"] == 3  # at 0, 20 and the end
    assert [r["where"] for r in records if r["kind"] == "sample"] == ["start", "middle", "end"]
    phases = [record["phase"] for record in records if record["kind"] == "phase"]
    changes = [record for record in records if record["kind"] == "topology"]
    if sparsity.startswith("mst"):
        assert phases == ["warm-up", "ultra", "restoration"]
        assert changes[-1]["density"] == 1.0
        assert experiment.topology.sparsity == 0.0
    else:
        assert phases == ["all"]
        assert len(changes) == (7 if sparsity in ("rigl", "set") else 0)
    loss = [record["loss"] for record in records if record["kind"] == "evaluation"]
    assert loss[-1] < loss[0]


@pytest.mark.parametrize(("on_update", "taken"), [("step", STEPS), ("skip", STEPS - 7)])
def test_the_published_reading_takes_no_step_where_links_are_exchanged(
    data: str, on_update: Any, taken: int
) -> None:
    sparsity = dataclasses.replace(SPARSITIES["rigl"], on_update=on_update)
    experiment, _ = finished(toy(data, sparsity=sparsity))
    states = experiment.trained.optimizer.state.values()
    assert {int(state["step"]) for state in states} == {taken}  # at 5, 10, ... 35 none


@pytest.mark.parametrize("regrown", ["zero", "keep"])
def test_the_published_reading_keeps_the_value_of_a_link_regrown_at_once(
    data: str, regrown: Any
) -> None:
    sparsity = dataclasses.replace(SPARSITIES["set"], sparsity=0.5, regrown=regrown)
    experiment = toy(data, sparsity=sparsity).build(1)
    change = next(r for r in experiment.records() if r is not None and r["kind"] == "topology")
    topology = experiment.topology
    zeros = sum(
        int((parameter.detach()[topology.mask(name)] == 0.0).sum())
        for name, parameter in experiment.model.named_parameters()
        if name in topology.names
    )
    assert change["regrown"] > 50
    assert zeros == change["grown"] - (change["regrown"] if regrown == "keep" else 0)


def test_the_flops_of_a_run_are_those_of_its_plan(data: str) -> None:
    config = toy(data, "mst").resolved()
    experiment, records = finished(config)
    start, end = records[0], [r for r in records if r["kind"] == "train"][-1]
    for convention in ("square", "causal"):
        planned = start["flops_ratio"][convention] * start["dense_flops"][convention]
        # The plan has densities, the run whole links of 4,000.
        assert end[f"flops_{convention}"] == pytest.approx(planned, rel=1e-3)
    assert start["flops_ratio"]["square"] == pytest.approx(0.5)
    costs = Costs.of(config.model, experiment.tokens.vocabulary.size, "square")
    again = training_flops(costs, experiment.plan.stretches(STEPS, 16))
    assert start["flops_ratio"]["square"] == again


def test_evaluation_counts_bits_of_bytes(data: str) -> None:
    experiment, records = finished(toy(data, "dense"))
    last = [record for record in records if record["kind"] == "evaluation"][-1]
    model, held_out = experiment.model, experiment.tokens.held_out
    vocabulary = experiment.tokens.vocabulary
    nats = size = count = 0.0
    for ids, targets in held_out.strips(1, 16, 10**9):
        logits = model(ids).detach().double().log_softmax(-1)
        nats -= float(logits.gather(-1, targets[..., None]).sum())
        size += sum(len(vocabulary.tokens[i]) for i in targets.flatten().tolist())
        count += targets.numel()
    assert last["tokens"] == count == (len(held_out) - 1) // 16 * 16
    assert last["loss"] == pytest.approx(nats / count, rel=1e-6)
    assert last["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-6)
    assert last["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-5)


def test_attention_is_sparse_in_the_ultra_phase_only(data: str) -> None:
    experiment = toy(data, "mst").build(0)
    seen = []
    for _ in experiment.records():
        if not seen or seen[-1][0] != experiment.step:
            seen.append((experiment.step, experiment.model.pattern))
    patterns = dict(seen)
    # 10 % of 40 steps warm up, 70 % are ultra-sparse: steps 5 to 32.
    assert [patterns[step] for step in (4, 5, 32, 33)] == ["dense", "union", "union", "dense"]
    assert experiment.model.window == 0


def test_every_phase_may_have_an_attention_of_its_own(data: str) -> None:
    sparsity = PhasesConfig(
        density=0.3,
        tail=0.1,
        warm_up_attention="fixed",
        attention="local",
        restoration_attention="strided",
        window=3,
    )
    experiment, records = finished(toy(data, "mst", sparsity=sparsity))
    told = [
        (record["phase"], record["attention"]) for record in records if record["kind"] == "phase"
    ]
    assert told == [
        ("warm-up", "fixed"),
        ("ultra", "local"),
        ("restoration", "strided"),
        ("tail", "strided"),
    ]
    assert experiment.plan.attention(STEPS) == ("strided", 3)
    # Counted step by step in the run, by stretches in the plan.
    planned = records[0]["flops_ratio"]["square"] * records[0]["dense_flops"]["square"]
    spent = [record for record in records if record["kind"] == "train"][-1]["flops_square"]
    assert spent == pytest.approx(planned, rel=1e-3)
    dense = toy(
        data, "mst", sparsity=PhasesConfig(density=0.3, tail=0.1, attention="local", window=3)
    )
    first = next(iter(dense.build(1).records()))
    assert first is not None
    assert records[0]["flops_ratio"]["square"] < first["flops_ratio"]["square"]


def test_micro_batches_add_up_to_one_batch(data: str) -> None:
    whole, _ = finished(toy(data, "mst", batch_size=4, micro_batches=1))
    parts, _ = finished(toy(data, "mst", batch_size=1, micro_batches=4))
    for one, two in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=2e-3, rtol=0.0)


def test_half_precision_learns_alike(data: str) -> None:
    _, exact = finished(toy(data, "dense"))
    _, half = finished(toy(data, "dense", precision="bfloat16"))
    assert half[-1]["loss"] == pytest.approx(exact[-1]["loss"], rel=0.05)
    assert half[-1]["loss"] != exact[-1]["loss"]


@pytest.mark.parametrize("backend", ["dense", "engine"])
def test_clipping_sees_masked_gradients(data: str, backend: str) -> None:
    # After one step Adam's first moment is .1 of the gradient it got. Its norm is the largest
    # allowed; had the gradients of cut links been there when it was clipped, it would be less.
    optimizer = OptimizerConfig(clip_norm=1e-3)
    experiment = toy(data, "static", backend=backend, optimizer=optimizer).build(0)
    experiment.advance()
    state = experiment.trained.optimizer.state
    got = torch.cat([state[p]["exp_avg"].flatten() for p in experiment.model.parameters()]) / 0.1
    assert float(got.norm()) == pytest.approx(1e-3, rel=1e-4)
    for name in experiment.topology.names:
        moment = state[experiment.model.get_parameter(name)]["exp_avg"]
        assert not moment[~experiment.topology.mask(name)].any()


def test_seeds_make_different_runs_and_equal_seeds_equal_ones(data: str) -> None:
    config = toy(data, "mst", steps=8)
    one, two, other = (finished(config, seed)[1] for seed in (3, 3, 4))
    assert one == two
    assert one[-1]["loss"] != other[-1]["loss"]


REWARMED = {"restoration_learning_rate": "rewarmed"}


@pytest.mark.parametrize(
    ("part", "changed", "beside"),
    [
        ("sparsity", {"warm_up": 0.2}, {}),
        ("sparsity", {"restoration": 0.3}, {}),
        ("sparsity", {"tail": 0.1}, {}),
        ("sparsity", {"initial_density": 0.5}, {}),
        ("sparsity", {"final_density": 0.5}, {}),
        ("sparsity", {"density": 0.2}, {}),
        ("sparsity", {"attention": "local"}, {}),
        ("sparsity", {"warm_up_attention": "local"}, {}),
        ("sparsity", {"restoration_attention": "local"}, {}),
        ("sparsity", {"window": 3}, {}),
        ("sparsity", {"drop_fraction": 0.1}, {}),
        ("sparsity", {"grow": "gradient"}, {}),
        ("sparsity", {"grow": "random"}, {}),
        ("sparsity", {"update_every": 8}, {}),
        ("sparsity", {"density_every": 1}, {}),
        ("sparsity", REWARMED, {}),
        ("sparsity", {**REWARMED, "rewarmed_peak": 0.9}, REWARMED),
        ("optimizer", {"moments": "keep"}, {}),
        ("optimizer", {"clip_norm": 0.1}, {}),
        ("optimizer", {"beta1": 0.8}, {}),
        ("optimizer", {"beta2": 0.99}, {}),
        ("optimizer", {"weight_decay": 0.0}, {}),
        ("optimizer", {"least": 0.5}, {}),
        ("optimizer", {"warm_up": 8}, {}),
    ],
)
def test_no_choice_is_ignored(
    data: str, part: str, changed: dict[str, Any], beside: dict[str, Any]
) -> None:
    config = toy(
        data,
        steps=20,
        micro_batches=1,
        evaluate_every=0,
        sample_tokens=0,
        sparsity=PhasesConfig(density=0.3, update_every=5, density_every=2),
        optimizer=OptimizerConfig(learning_rate=1e-2, clip_norm=0.3),
    )
    losses = []
    for changes in (beside, changed):
        own = dataclasses.replace(getattr(config, part), **changes)
        losses.append(finished(dataclasses.replace(config, **{part: own}))[1][-1]["loss"])
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"data": "nowhere"}, "'nowhere' is no corpus"),
        ({"device": "mps:9x"}, "device 'mps:9x' cannot be used here"),
        ({"sparsity": PhasesConfig(flops=0.01)}, "can be reached"),
        ({"sparsity": PhasesConfig(flops=1.5)}, r"sparsity\.flops must lie in \(0, 1\], got 1\.5"),
        ({"sparsity": PhasesConfig(density=0.0)}, r"sparsity\.density must lie in \(0, 1\]"),
        ({"sparsity": PhasesConfig(warm_up=0.9)}, "must leave something for the ultra phase"),
        ({"sparsity": PhasesConfig(window=0)}, r"sparsity\.window must be at least 1"),
        ({"optimizer": OptimizerConfig(clip_norm=0.0)}, "clip_norm must be more than 0"),
        ({"optimizer": OptimizerConfig(beta1=1.5)}, r"beta1 must lie in \[0, 1\], got 1\.5"),
    ],
)
def test_what_cannot_work_is_refused(data: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(toy(data), **changes).build(0)


def test_a_corpus_without_text_is_refused(tmp_path: Path) -> None:
    vocabulary = bpe.learn(["ab ab"], size=258)
    for side in ("train", "val"):
        np.full(100, vocabulary.end_of_text, dtype="<u2").tofile(tmp_path / f"{side}.bin")
    vocabulary.write(tmp_path / "merges.txt")
    with pytest.raises(ValueError, match="val holds no text where it is evaluated"):
        finished(toy(str(tmp_path), "dense"))


def test_a_loss_that_explodes_says_what_to_do(data: str) -> None:
    experiment = toy(data, "dense").build(0)
    with torch.no_grad():
        experiment.model.wte.weight.fill_(math.nan)
    with pytest.raises(ValueError, match=r"loss is nan at step 1: lower optimizer\.learning_rate"):
        experiment.advance()
