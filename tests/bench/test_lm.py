from __future__ import annotations

from pathlib import Path

import pytest

from thrifty.bench import lm, names
from thrifty.bench.schema import NOT_MEASURED, Row
from thrifty.cli import main
from thrifty.lm.gpt import GPTConfig

SMALL = GPTConfig(layers=1, heads=2, width=256, context=8, biases=False)


def measured(reference: Path | None = None) -> list[Row]:
    return lm.measure(rounds=1, model=SMALL, batch=1, block=16, whole=20, reference=reference)


# A model with the interface of nanoGPT's model.py that is used, and nothing else.
NANOGPT = """
from dataclasses import dataclass
import torch

@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    bias: bool

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = torch.nn.Embedding(config.vocab_size, config.n_embd)

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.AdamW(self.parameters(), lr=learning_rate)

    def forward(self, ids, targets):
        logits = self.wte(ids) @ self.wte.weight.t()
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.view(-1))
"""


def test_every_pair_has_its_ratio_and_nothing_is_made_up() -> None:
    rows = measured()
    assert "lm" in names()
    steps = [row for row in rows if row.ratio is not None and row.metric == lm.STEP]
    # Four sparse steps, two dense arithmetics, two statistics.
    assert len(steps) == 4 * 2 * 2
    assert {row.ratio_to for row in steps} == {lm.DENSE, lm.DENSE_BF16}
    assert {row.sparsity for row in steps} == {0.75, 0.875, 0.9}
    runs = [row for row in rows if row.metric == lm.RUN]
    assert [row.ratio is None for row in runs] == [True, False, False]
    missing = [row.implementation for row in rows if row.statistic == NOT_MEASURED]
    assert len(missing) == 2  # nanoGPT, and a GPU


def test_a_checkout_of_nanogpt_is_measured_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(NANOGPT)
    rows = measured(tmp_path)
    beside = [row for row in rows if row.ratio_to == lm.NANOGPT]
    assert [row.statistic for row in beside] == ["low", "median"]
    assert {row.implementation for row in beside} == {lm.DENSE}
    assert not [r for r in rows if r.implementation == lm.NANOGPT and r.statistic == NOT_MEASURED]


def test_a_folder_without_a_model_is_no_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"is no checkout of nanoGPT: it has no model\.py"):
        measured(tmp_path)
    assert main(["bench", "kernels", "--reference", str(tmp_path)]) == 2
    assert "the benchmark kernels takes no --reference" in capsys.readouterr().err
