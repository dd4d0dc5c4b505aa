"""One training run of a scheduling agent, as a stream of records that can stop anywhere.

All environments play a slot, the learner updates every few slots; prices move as the multiplier's
mode says. After the last slot the policy is frozen (the averaged networks), the price is calibrated
on episodes with training seeds, and the policy is tested once on episodes of other seeds, beside
the exact optimal table on the same arrivals, channels and uniforms.

Record kinds: start, progress, evaluation, calibration, curve, test, end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from thrifty.scheduling import optimum
from thrifty.scheduling.assessment import Assessment, block
from thrifty.scheduling.config import SchedulingConfig, check_config
from thrifty.scheduling.features import Features
from thrifty.scheduling.multiplier import Calibration, Multiplier
from thrifty.scheduling.policy import PolicyScheduler
from thrifty.scheduling.queueing import Queues
from thrifty.scheduling.rsd4 import RSD4
from thrifty.scheduling.scenarios import node_budget, scenario
from thrifty.scheduling.sequences import Episodes
from thrifty.scheduling.sight import sight_of
from thrifty.stream import Record, Sums, add, means, stream

Floats = NDArray[np.float64]

_EVALUATION = 64  # environments of an evaluation while training


class SchedulingExperiment:
    """A run of one agent on one scenario.

    Args:
        config: what to run.
        seed: everything random derives from it.

    Raises:
        ValueError: a scenario or a number that cannot work.
    """

    def __init__(self, config: SchedulingConfig, seed: int) -> None:
        if type(seed) is not int or seed < 0:
            raise ValueError(f"the seed must be an integer of at least 0, got {seed!r}")
        check_config(config)
        self.config = config
        self.scenario = scenario(config.scenario)
        self.sight = sight_of(config.sight, self.scenario)
        given = self.scenario.budget if config.budget is None else config.budget
        if given is None:
            raise ValueError(f"{self.scenario.name} has no budget: give one, such as --budget 10")
        self.budget = node_budget(given, self.scenario.hops)
        if not self.budget.min() > 0:
            raise ValueError("training needs a budget above 0 at every node")
        seeds = np.random.SeedSequence(seed).generate_state(5, np.uint32).tolist()
        self._training_seed, self._test_seed = seeds[0], seeds[1]
        whole = config.algorithm.critic == "users"
        features = Features(self.scenario, self.sight, queue=whole or self.sight.kind != "full")
        self.learner = RSD4(
            config.algorithm, features, seed=seeds[2], updates=config.steps // config.update_every
        )
        self._top = optimum.highest_price(self.scenario)
        self.multiplier = Multiplier(config.multiplier, self._top, self.budget)
        self._explore = np.random.default_rng(seeds[3])
        self._prices = np.random.default_rng(seeds[4])
        self._draws = torch.Generator().manual_seed(seeds[4])
        together = config.environments
        rounds = max(2, round(config.capacity / (together * self.scenario.flows)))
        self.episodes = Episodes(
            rounds * together, together, config.episode, self.scenario.flows,
            self.scenario.hops, features.cells,
        )  # fmt: skip
        self.queues = Queues(self.scenario, together, sight=self.sight)
        self.assessment = Assessment(self.scenario, self.sight, self.budget, self._test_seed)
        self.step = 0
        self._slot = 0  # of the episode under way
        self._number = 0  # of episodes begun
        self._acting: PolicyScheduler | None = None
        self._episode_prices = np.tile(self.multiplier.prices, (together, 1))
        self._random = True
        self._began = self._ended = False
        self._evaluation_due = False
        self._sums: Sums = {}
        self._counted = 0  # slots since the last record, and what they brought
        self._spent = np.zeros(self.scenario.hops)
        self._earned = 0.0
        self._calibration = Calibration(self.budget, self.multiplier.prices, self._top)
        self.calibrated = False
        """Whether a price that meets the budget was found, after training."""
        self._trials = 0
        self._stored_memory: dict[str, Any] | None = None
        self._pending: list[Record] = []

    @property
    def price(self) -> Floats:
        """The calibrated price of energy at each node [H]; while training, the present one."""
        found = self._calibration if self.calibrated else self.multiplier
        return found.prices.copy()

    # ------------------------------------------------------------------ the stream

    def records(self) -> Iterator[Record | None]:
        """Yield what happens, and None between pieces of work without news, until the end.

        A piece of work is a slot of all environments with its update, or a block of measured
        episodes.
        """
        return stream(self._pending, self._work)

    def _work(self) -> bool:
        """Do the next piece of work; return False where none is left."""
        if not self._began:
            self._began = True
            self._begin()
        elif self._evaluation_due:
            self._evaluation_due = False
            self._evaluate()
        elif self.step < self.config.steps:
            self._advance()
        elif not self._ended:
            self._finish()
        else:
            return False
        return True

    def _begin(self) -> None:
        best = optimum.solve(self.scenario, self.budget)
        self._record(
            "start",
            algorithm=self.learner.name,
            environment=self.scenario.name,
            steps=self.config.steps,
            users=self.scenario.flows,
            nodes=self.scenario.hops,
            sight=self.sight.kind,
            budget=self.budget.tolist(),
            optimum=best.optimum,
            optimal_multiplier=best.multiplier.tolist(),
            multiplier_mode=self.config.multiplier.mode,
            frontier=optimum.trade_off(self.scenario, float(self.budget.sum())).tolist(),
            ledger=self.learner.ledger(),
            backend=self.learner.backend,
            backend_reason=self.learner.backend_reason,
        )

    def _advance(self) -> None:
        """Play one slot everywhere, learn, and note what is due after it."""
        config = self.config
        if self._slot == 0:
            self._begin_episode()
        elif self._acting is None:
            self._replay_episode()
        assert self._acting is not None
        self._play(None)
        self.step += 1
        learns = self._number > config.warm_up
        if self._slot == config.episode:
            self._close_episode()
        if learns and self.step % config.update_every == 0:
            self._update()
        every = config.evaluate_every
        self._evaluation_due = bool(every) and learns and self.step % every == 0
        if self.step % config.record_every == 0:
            self._progress()

    def _begin_episode(self) -> None:
        self._number += 1
        self._random = self._number <= self.config.warm_up
        self._episode_prices = self.multiplier.draw(self.config.environments, self._prices)
        self._enter_episode()
        self.episodes.see(0, self.queues.view())

    def _enter_episode(self) -> None:
        self.queues.reset(self._training_seed + self._number)
        self._acting = PolicyScheduler(
            self.learner,
            self._episode_prices,
            explore=self._explore,
            random=self._random,
            only=1 + self._number % self.config.algorithm.actors,
        )
        self._acting.reset(self.config.environments)

    def _play(self, executed: NDArray[np.float32] | None) -> None:
        """Play a slot with the policy's energies, or with those executed before."""
        assert self._acting is not None
        view = self.queues.view()
        if executed is not None:
            self.queues.step(executed.reshape(view.queue.shape).astype(np.float64))
            self._slot += 1
            return
        energy = self._acting.energies(view)
        slot = self.queues.step(energy)
        self._acting.observe(slot)
        self.episodes.did(self._slot, energy, slot.success)
        self._slot += 1
        self.episodes.see(self._slot, self.queues.view())
        self._spent = self._spent + slot.energy.mean(axis=0)
        self._earned += float(slot.throughput.mean())
        self._counted += 1

    def _replay_episode(self) -> None:
        """Bring queues back to where a stored run stopped, by the energies it executed."""
        played, memory = self._slot, self._stored_memory
        self._enter_episode()
        assert self._acting is not None
        self._slot = 0
        for slot in range(played):
            self._play(self.episodes.executed(slot))
        assert memory is not None, "stored with the slot"
        self._acting.load_state_dict(memory)
        if not self.episodes.agrees(self._slot, self.queues.view()):
            raise ValueError("the episode under way does not come back: use the versions it ran on")

    def _close_episode(self) -> None:
        self.episodes.close()
        self._slot, self._acting = 0, None
        energy = self.queues.spent.sum(axis=1).mean(axis=0) / self.config.episode
        if not self._random:
            self.multiplier.after_episode(energy)

    def _update(self) -> None:
        many = self.config.algorithm.sequences
        batch = self.episodes.draw(many, self._draws)
        prices = torch.from_numpy(self.multiplier.draw(many, self._prices)).float()
        add(self._sums, self.learner.update(batch, prices))

    # ------------------------------------------------------------------ records

    def _record(self, kind: str, **fields: Any) -> None:
        self._pending.append({"kind": kind, "step": self.step, **fields})

    def _progress(self) -> None:
        sums, self._sums = self._sums, {}
        slots = max(1, self._counted)
        self._record(
            "progress",
            updates=self.learner.updates,
            multiplier=self.multiplier.prices.tolist(),
            energy=(self._spent / slots).tolist(),
            throughput=self._earned / slots,
            **means(sums),
        )
        self._counted, self._earned = 0, 0.0
        self._spent = np.zeros_like(self._spent)

    def _policy(self, prices: Any) -> PolicyScheduler:
        return PolicyScheduler(self.learner, prices)

    def _training_block(self, number: int) -> int:
        """A seed for measured episodes that are no test."""
        return int(self._training_seed) + 1_000_000 + number

    def _evaluate(self) -> None:
        prices = self.multiplier.prices
        seed = self._training_block(self.step)
        found = self.assessment.run(self._policy(prices), _EVALUATION, seed)
        self._record(
            "evaluation",
            multiplier=prices.tolist(),
            **self.assessment.summary(found),
        )
        self.multiplier.after_evaluation(found.energy)

    def _finish(self) -> None:
        """Calibrate, draw the curve, test, end: one piece of it at a time."""
        config, assessment = self.config, self.assessment
        if not self.calibrated:
            self._calibrate()
        elif len(assessment.curve) < config.curve_points:
            assessment.curve_point(self._policy, self._curve_price(len(assessment.curve)))
            if len(assessment.curve) == config.curve_points:
                self._record("curve", points=assessment.curve)
        elif assessment.tested < config.test_episodes:
            done = assessment.test(self._policy(self._calibration.prices), config.test_episodes)
            if done is not None:
                self._record("test", multiplier=self._calibration.prices.tolist(), **done)
        else:
            self._ended = True
            self._record("end", multiplier=self._calibration.prices.tolist())

    def _calibrate(self) -> None:
        """One block of a trial; trials are short at first, then on all episodes."""
        total = self.config.calibration_episodes
        if self._trials == 0:
            self._calibration = Calibration(self.budget, self.multiplier.prices, self._top)
        short = self._trials < _SHORT_TRIALS
        wanted = min(total, block(self.scenario)) if short else total
        if not total:
            self.calibrated = True
            return
        prices = self._calibration.prices.copy()
        energy = self.assessment.spend(
            self._policy(prices), wanted, self._training_block(10_000_000)
        )
        if energy is None:
            return  # more blocks of this trial to come
        if self._trials == _SHORT_TRIALS:
            self._calibration.resample()
        self._trials += 1
        gap = self._calibration.gap(energy)
        self._record(
            "calibration",
            multiplier=prices.tolist(),
            energy=energy.tolist(),
            episodes=wanted,
            gap=gap,
        )
        last = self._trials >= _SHORT_TRIALS + _LONG_TRIALS
        if not short:
            self._calibration.count(energy)
        if not short and (gap < _CLOSE or last):
            self._calibration.settle()
            self.calibrated = True
        else:
            self._calibration.move(energy)

    def _curve_price(self, number: int) -> Floats:
        low, high = self.config.multiplier.low, self.config.multiplier.high
        part = number / max(1, self.config.curve_points - 1)
        level = low * (high / low) ** part * self._top
        middle = np.exp(np.log(self._calibration.prices).mean())
        return np.asarray(self._calibration.prices / middle * level)

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future; complete at every yield."""
        acting = None if self._acting is None else self._acting.state_dict()
        if self._acting is None and self._slot:
            acting = self._stored_memory
        return {
            "step": self.step,
            "slot": self._slot,
            "number": self._number,
            "random": self._random,
            "began": self._began,
            "ended": self._ended,
            "evaluation_due": self._evaluation_due,
            "episode_prices": self._episode_prices.copy(),
            "acting": acting,
            "learner": self.learner.state_dict(),
            "episodes": self.episodes.state_dict(),
            "multiplier": self.multiplier.state_dict(),
            "explore": self._explore.bit_generator.state,
            "prices": self._prices.bit_generator.state,
            "draws": self._draws.get_state(),
            "sums": dict(self._sums),
            "counted": self._counted,
            "spent": self._spent.copy(),
            "earned": self._earned,
            "calibration": self._calibration.state_dict(),
            "calibrated": self.calibrated,
            "trials": self._trials,
            "assessment": self.assessment.state_dict(),
            "pending": list(self._pending),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state; queues under way are replayed at the next slot."""
        self.step, self._slot = state["step"], state["slot"]
        self._number, self._random = state["number"], state["random"]
        self._began, self._ended = state["began"], state["ended"]
        self._evaluation_due = state["evaluation_due"]
        self._episode_prices = np.array(state["episode_prices"])
        self._acting, self._stored_memory = None, state["acting"]
        self.learner.load_state_dict(state["learner"])
        self.episodes.load_state_dict(state["episodes"])
        self.multiplier.load_state_dict(state["multiplier"])
        self._explore.bit_generator.state = state["explore"]
        self._prices.bit_generator.state = state["prices"]
        self._draws.set_state(state["draws"])
        self._sums = {name: tuple(value) for name, value in state["sums"].items()}
        self._counted = state["counted"]
        self._spent, self._earned = np.array(state["spent"]), state["earned"]
        self._calibration.load_state_dict(state["calibration"])
        self.calibrated, self._trials = state["calibrated"], state["trials"]
        self.assessment.load_state_dict(state["assessment"])
        self._pending[:] = state["pending"]


_SHORT_TRIALS, _LONG_TRIALS = 4, 8
_CLOSE = 0.003  # of the budget: a trial on all episodes that is not tried again
