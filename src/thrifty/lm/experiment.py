"""One pretraining run of a GPT-2, as a stream of records that can stop anywhere.

Each step: draw windows, differentiate the loss in micro-batches, let links be exchanged around one
step of AdamW. Which windows, and every other random number, is a function of seed and step, so the
state is the model's, the optimizer's and the masks'. There is no clock in here.

Record kinds: start, phase (a phase begins), train, topology (an exchange of links), evaluation,
sample, end. FLOPs are those of `ledger`, cumulated, in both conventions.

Reference: Hu et al. 2025, "Mixed sparsity training".
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thrifty.lm import tokens
from thrifty.lm.attention import kept
from thrifty.lm.config import ConstantConfig, PhasesConfig, PretrainingConfig
from thrifty.lm.gpt import GPT
from thrifty.lm.ledger import Convention, Costs, training_flops
from thrifty.lm.optimizer import rate
from thrifty.lm.plan import make_plan
from thrifty.lm.sampling import continued
from thrifty.lm.sparse_model import SparseModel
from thrifty.sparse import Topology, TopologyUpdate
from thrifty.stream import Record, stream

_CONVENTIONS: tuple[Convention, ...] = ("square", "causal")
_SEEDS = 4  # model, first topology, growth, samples; batches take the run's own seed


class Pretraining:
    """A pretraining run.

    Args:
        config: what to run.
        seed: everything random derives from it.

    Attributes:
        config: resolved.
        step: optimizer steps done.
        trained: the model with its masks and its optimizer.
        plan: schedule, attention and phases.

    Raises:
        ValueError: data or a number that cannot work.
    """

    def __init__(self, config: PretrainingConfig, seed: int) -> None:
        if type(seed) is not int or seed < 0:
            raise ValueError(f"the seed must be an integer of at least 0, got {seed!r}")
        self.config = config = config.resolved()
        self._seed = seed
        self._seeds = np.random.SeedSequence(seed).generate_state(_SEEDS, np.uint32).tolist()
        self.tokens = tokens.load(config.data)
        known = self.tokens.vocabulary
        for side in (self.tokens.training, self.tokens.held_out):
            side.check(vocabulary=known.size, context=config.model.context)
        self._lengths = torch.from_numpy(known.lengths)
        self.plan = make_plan(config, known.size)
        self.trained = SparseModel(config, self.plan, known.size, self._seeds)
        self._costs = {name: Costs.of(config.model, known.size, name) for name in _CONVENTIONS}
        self.step = 0
        self._began = self._ended = False
        self._flops = dict.fromkeys(_CONVENTIONS, 0.0)
        self._losses = [0.0, 0.0]  # their sum since the last record, and how many
        self._evaluated: list[float] | None = None  # batches, nats, tokens, bytes; None: not due
        self._sample_due: str | None = None
        self._last: Record = {}
        self._pending: list[Record] = []

    @property
    def model(self) -> GPT:
        """What is trained, in dense form."""
        return self.trained.model

    @property
    def topology(self) -> Topology:
        """Its masks; without names where the run is dense."""
        return self.trained.topology

    # ------------------------------------------------------------------ the stream

    def records(self) -> Iterator[Record | None]:
        """Yield what happens, and None between two pieces of work without news, until the end.

        A piece of work is an optimizer step, a batch of an evaluation, or a sample.
        """
        return stream(self._pending, self._work)

    def _work(self) -> bool:
        """Do the next piece of work; return False where none is left."""
        if not self._began:
            self._began = True
            self._begin()
        elif self._evaluated is not None:
            self._evaluate()
        elif self._sample_due is not None:
            self._sample()
        elif self.step < self.config.steps:
            self.advance()
        elif not self._ended:
            self._ended = True
            self._record("end", **self._last)
        else:
            return False
        return True

    def _begin(self) -> None:
        config = self.config
        shapes = {name: tuple(p.shape) for name, p in self.model.named_parameters()}
        stretches = self.plan.stretches(config.steps, config.model.context)
        nnz = self.topology.nnz
        sparse = self.topology.shapes
        self._record(
            "start",
            algorithm=_name(config),
            environment=config.data,
            steps=config.steps,
            scaling=config.scaling,
            parameters=sum(math.prod(shape) for shape in shapes.values()),
            links=self._costs["square"].links,
            vocabulary=self.tokens.vocabulary.size,
            tokens_per_step=self._tokens_per_step,
            training_tokens=len(self.tokens.training),
            held_out_tokens=len(self.tokens.held_out),
            precision=config.precision,
            device=config.device,
            backend=self.trained.backend,
            backend_reason=self.trained.reason,
            ultra_density=self.plan.phases.phases[1].end if self.plan.phases else None,
            attention=self.plan.patterns[1 if self.plan.phases else 0],
            window=self.plan.window,
            flops_ratio={
                name: training_flops(costs, stretches) for name, costs in self._costs.items()
            },
            dense_flops={
                name: costs.step(costs.links) * self._tokens_per_step * config.steps
                for name, costs in self._costs.items()
            },
            layers=[
                {"layer": name, "shape": list(sparse[name]), "nnz": nnz[name]} for name in sparse
            ],
        )
        self._record("phase", phase=self.plan.phase(1), attention=self.plan.attention(1)[0])
        self._evaluated = [0.0] * 4
        self._sample_due = "start"

    @property
    def _tokens_per_step(self) -> int:
        config = self.config
        return config.batch_size * config.micro_batches * config.model.context

    def advance(self) -> None:
        """Take one optimizer step, and note what is due after it."""
        config, step = self.config, self.step + 1
        density = 1.0 - self.topology.sparsity
        loss = self._differentiate(step)
        pattern, window = self.plan.attention(step)
        update = self.trained.step(step)
        self._count(step, density, kept(pattern, config.model.context, window))
        self.step = step
        self._losses[0] += loss
        self._losses[1] += 1.0
        if update is not None:
            self._exchanged(update)
        if step % (config.record_every or 1) == 0 or step == config.steps:
            self._progress()
        if step < config.steps and self.plan.phase(step + 1) != self.plan.phase(step):
            self._record(
                "phase",
                phase=self.plan.phase(step + 1),
                attention=self.plan.attention(step + 1)[0],
            )
        if step == config.steps or (config.evaluate_every and step % config.evaluate_every == 0):
            self._evaluated = [0.0] * 4
        middle = (config.steps + 1) // 2
        if step in (middle, config.steps):
            self._sample_due = "end" if step == config.steps else "middle"

    def _differentiate(self, step: int) -> float:
        """Leave the mean gradient of the step's micro-batches in place; return the mean loss."""
        config = self.config
        model = self.trained.in_training(step)
        model.pattern, model.window = self.plan.attention(step)
        inputs, targets = self.tokens.training.batch(
            config.batch_size * config.micro_batches,
            config.model.context,
            seed=self._seed,
            step=step,
        )
        total = 0.0
        for ids, wanted in zip(
            inputs.split(config.batch_size), targets.split(config.batch_size), strict=True
        ):
            with self._arithmetic():
                loss = model.loss(ids.to(config.device), wanted.to(config.device))
            (loss / config.micro_batches).backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise ValueError(
                f"training has diverged, the loss is {total} at step {step}: lower "
                "optimizer.learning_rate, or use a longer optimizer.warm_up"
            )
        return total / config.micro_batches

    def _arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.precision == "float32":
            return contextlib.nullcontext()
        device = torch.device(self.config.device).type
        return torch.autocast(device, dtype=torch.bfloat16)

    def _count(self, step: int, density: float, share: float) -> None:
        """Add the FLOPs of a step, with the links and the attention that it had."""
        for name, costs in self._costs.items():
            spent = costs.step(
                density * costs.links, share, dense_gradient=self.plan.takes_dense_gradient(step)
            )
            self._flops[name] += spent * self._tokens_per_step

    # ------------------------------------------------------------------ evaluation and samples

    def _evaluate(self) -> None:
        """Add one batch of held-out windows; the last one makes the record."""
        assert self._evaluated is not None
        config = self.config
        last = self.step == config.steps
        most = len(self.tokens.held_out) if last else config.evaluation_tokens
        strips = self.tokens.held_out.strips(4 * config.batch_size, config.model.context, most)
        number = int(self._evaluated[0])
        ids, wanted = strips[number]
        nats = self._nats(self._seeing(self.trained.in_evaluation()), ids, wanted)
        added = (1.0, nats, wanted.numel(), int(self._lengths[wanted].sum()))
        self._evaluated = [a + b for a, b in zip(self._evaluated, added, strict=True)]
        if number + 1 < len(strips):
            return
        _, nats, count, size = self._evaluated
        if not size:
            raise ValueError(
                f"{self.tokens.held_out.name} holds no text where it is evaluated, only ends of "
                "texts: give other held-out tokens"
            )
        self._evaluated = None
        self._last = {
            "loss": nats / count,
            "perplexity": math.exp(min(nats / count, 700.0)),
            "bits_per_byte": nats / math.log(2.0) / size,
            "tokens": int(count),
        }
        self._record("evaluation", **self._last, **self._spent())

    def _seeing(self, model: GPT) -> GPT:
        """Give a model the attention of the last step."""
        model.pattern, model.window = self.plan.attention(max(1, self.step))
        return model

    @torch.no_grad()
    def _nats(self, model: GPT, ids: Tensor, wanted: Tensor) -> float:
        with self._arithmetic():
            logits = model(ids.to(self.config.device))
        targets = wanted.to(self.config.device).flatten()
        losses = F.cross_entropy(logits.flatten(0, 1).float(), targets, reduction="none")
        return float(losses.double().sum())

    def _sample(self) -> None:
        where, self._sample_due = self._sample_due, None
        if not self.config.sample_tokens:
            return
        generator = torch.Generator().manual_seed(self._seeds[3])
        vocabulary = self.tokens.vocabulary
        drawn = continued(
            self._seeing(self.model),
            [vocabulary.end_of_text],
            self.config.sample_tokens,
            temperature=self.config.temperature,
            generator=generator,
        )
        self._record("sample", where=where, text=vocabulary.decode(drawn))

    # ------------------------------------------------------------------ records

    def _record(self, kind: str, **fields: Any) -> None:
        self._pending.append({"kind": kind, "step": self.step, **fields})

    def _progress(self) -> None:
        loss, steps = self._losses
        self._losses = [0.0, 0.0]
        self._record(
            "train",
            loss=loss / steps,
            learning_rate=rate(self.config, self.plan, self.step),
            density=1.0 - self.topology.sparsity,
            phase=self.plan.phase(self.step),
            tokens=self.step * self._tokens_per_step,
            **self._spent(),
        )

    def _spent(self) -> Record:
        return {f"flops_{name}": value for name, value in self._flops.items()}

    def _exchanged(self, update: TopologyUpdate) -> None:
        layers = update.layers.values()
        self._record(
            "topology",
            drop_fraction=update.drop_fraction,
            density=1.0 - update.sparsity,
            nnz=sum(layer.nnz for layer in layers),
            dropped=sum(layer.dropped for layer in layers),
            grown=sum(layer.grown for layer in layers),
            regrown=sum(layer.regrown for layer in layers),
            survival=update.survival,
        )

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future; complete at every yield."""
        return {
            "step": self.step,
            "began": self._began,
            "ended": self._ended,
            "flops": dict(self._flops),
            "losses": list(self._losses),
            "evaluated": self._evaluated,
            "sample_due": self._sample_due,
            "last": dict(self._last),
            "pending": list(self._pending),
            **self.trained.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to another configuration.
        """
        self.trained.load_state_dict(state)
        self.step = state["step"]
        self._began, self._ended = state["began"], state["ended"]
        self._flops, self._losses = dict(state["flops"]), list(state["losses"])
        evaluated = state["evaluated"]
        self._evaluated = None if evaluated is None else list(evaluated)
        self._sample_due, self._last = state["sample_due"], dict(state["last"])
        self._pending[:] = state["pending"]


def _name(config: PretrainingConfig) -> str:
    sparsity = config.sparsity
    if isinstance(sparsity, PhasesConfig):
        return "GPT-2 with mixed sparsity"
    if isinstance(sparsity, ConstantConfig):
        return f"GPT-2 at sparsity {sparsity.sparsity:g}"
    return "GPT-2"
