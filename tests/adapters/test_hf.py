from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from thrifty.adapters.hf import linear_matrices, sparse_training
from thrifty.lm import weights
from thrifty.lm.gpt import GPT, GPTConfig
from thrifty.lm.gpt import linear_matrices as our_matrices
from thrifty.sparse import (
    Phase,
    Phases,
    TopologyEvolution,
    er,
    gradient,
    layer_shapes,
    sparsify,
    subset,
    top,
)

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

STEPS, BATCH = 24, 4
# So many links that no neuron loses all of its outputs, where the gradients of its inputs would all
# be 0; and no links dropped one step after others grew, whose first step of Adam has one length for
# all of them. Ties go to the lower index, which is another link in their transposed matrices.
SCHEDULE = Phases(
    (Phase(8, 1.0, 0.6, 3.0), Phase(8, 0.6, 0.6), Phase(8, 0.6, 0.8)),
    update_every=4,
    density_every=4,
)
SHAPE = GPTConfig(layers=2, heads=2, width=16, context=12)
VOCABULARY = 40


class Windows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """The tokens of both loops, in the same order."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(VOCABULARY, (STEPS * BATCH, 12), generator=generator)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"input_ids": self.ids[i], "labels": self.ids[i]}


def exact_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """In float64: both models' own losses round to float32, which Adam and ties would magnify."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def ours() -> GPT:
    return GPT(SHAPE, VOCABULARY, torch.Generator().manual_seed(3)).double()


def theirs(folder: Path) -> Any:
    weights.save(ours(), folder)
    return transformers.GPT2LMHeadModel.from_pretrained(folder).double()


def trainer(model: Any, callback: Any, folder: Path, **settings: Any) -> Any:
    arguments = transformers.TrainingArguments(
        **{
            "output_dir": str(folder),
            "max_steps": STEPS,
            "per_device_train_batch_size": BATCH,
            "max_grad_norm": 0,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            "save_strategy": "no",
            "dataloader_pin_memory": False,
            **settings,
        }
    )

    class InOrder(transformers.Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(Windows())

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    return InOrder(
        model,
        arguments,
        train_dataset=Windows(),
        callbacks=[callback],
        optimizers=(optimizer, constant),
        compute_loss_func=lambda outputs, ids, **_: exact_loss(outputs.logits, ids),
    )


def our_loop() -> tuple[GPT, Any]:
    model = ours()
    topology = sparsify(model, sparsity=SCHEDULE, allocate=er, initial=subset, where=our_matrices)
    evolution = TopologyEvolution(topology, SCHEDULE, grow=top(gradient))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    for ids in Windows().ids.split(BATCH):
        optimizer.zero_grad()
        exact_loss(model(ids), ids).backward()
        evolution.step(optimizer, clip_norm=0.5)
    return model, topology


def test_the_trainer_does_what_our_loop_does(tmp_path: Path) -> None:
    model = theirs(tmp_path / "model")
    callback = sparse_training(SCHEDULE, clip_norm=0.5, grow=top(gradient))
    trainer(model, callback, tmp_path / "out").train()
    plain, topology = our_loop()
    assert callback.evolution.steps == STEPS
    assert list(callback.topology.nnz.values()) == list(topology.nnz.values())
    assert callback.topology.sparsity == pytest.approx(0.2, abs=1e-3)
    weights.save(plain.float(), tmp_path / "plain")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "plain").double()
    for (name, one), two in zip(model.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-6, msg=name)


@pytest.mark.parametrize("start", [1.0, 0.5])
def test_masks_are_held_saved_and_restored(tmp_path: Path, start: float) -> None:
    # From .5 on the first masks cut links that those of the checkpoint hold.
    schedule = Phases((Phase(STEPS, start, 0.5),), update_every=4, density_every=4)
    whole = theirs(tmp_path / "model")
    first = sparse_training(schedule, seed=4)
    trainer(whole, first, tmp_path / "whole", save_strategy="steps", save_steps=11).train()
    resumed, second = theirs(tmp_path / "model"), sparse_training(schedule, seed=4)
    place = tmp_path / "whole" / "checkpoint-11"
    again = trainer(resumed, second, tmp_path / "again", resume_from_checkpoint=str(place))
    again.train(resume_from_checkpoint=str(place))
    assert second.evolution.steps == STEPS
    for name in first.topology.names:
        assert torch.equal(first.topology.mask(name), second.topology.mask(name))
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


def test_masks_of_another_checkpoint_are_refused(tmp_path: Path) -> None:
    for seed in (4, 5):
        trainer(
            theirs(tmp_path / "model"),
            sparse_training(SCHEDULE, seed=seed),
            tmp_path / str(seed),
            save_strategy="steps",
            save_steps=11,
        ).train()
    again = trainer(theirs(tmp_path / "model"), sparse_training(SCHEDULE), tmp_path / "4")
    with pytest.raises(ValueError, match="belongs to another checkpoint"):
        again.train(resume_from_checkpoint=str(tmp_path / "5" / "checkpoint-11"))


def test_cut_links_stay_cut(tmp_path: Path) -> None:
    schedule = Phases((Phase(STEPS, 0.3, 0.3),), update_every=5)
    model, callback = theirs(tmp_path / "model"), sparse_training(schedule)
    trainer(model, callback, tmp_path / "out", max_steps=8).train()
    assert callback.topology.sparsity == pytest.approx(0.7, abs=1e-3)
    assert callback.last_update.step == 5
    for name in callback.topology.names:
        mask = callback.topology.mask(name)
        assert not callback.topology.weight(name)[~mask].any()


def test_the_trainers_own_clipping_is_refused(tmp_path: Path) -> None:
    model = theirs(tmp_path / "model")
    with pytest.raises(ValueError, match="give TrainingArguments max_grad_norm=0"):
        trainer(model, sparse_training(SCHEDULE), tmp_path / "out", max_grad_norm=1.0).train()


def test_a_checkpoint_without_masks_is_refused(tmp_path: Path) -> None:
    model = theirs(tmp_path / "model")
    trainer(
        model, sparse_training(SCHEDULE), tmp_path, save_strategy="steps", save_steps=11
    ).train()
    (tmp_path / "checkpoint-11" / "masks.npz").unlink()
    with pytest.raises(ValueError, match=r"masks\.npz is missing"):
        trainer(theirs(tmp_path / "model"), sparse_training(SCHEDULE), tmp_path).train(
            resume_from_checkpoint=str(tmp_path / "checkpoint-11")
        )


def test_their_matrices_are_ours(tmp_path: Path) -> None:
    found = layer_shapes(theirs(tmp_path), where=linear_matrices)
    own = layer_shapes(ours(), where=our_matrices)
    assert [sorted(shape) for shape in found.values()] == [sorted(s) for s in own.values()]
