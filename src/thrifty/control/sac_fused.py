"""SAC's update as programmes of the engine: the same equations as sac.py, on the links alone.

The temperature takes its step last, from the log densities that the actor's phase computes; both
losses use the one before, as in the reference.
"""

from __future__ import annotations

import math

from torch import nn

from thrifty.control.fused import layer_indices, to_arena
from thrifty.control.sac import SAC
from thrifty.engine.executor import ADAM, POLYAK, TEMPERATURE, TILES
from thrifty.engine.layout import Arena
from thrifty.engine.programme import Programme, Slot
from thrifty.engine.update import Update
from thrifty.rl.transitions import Columns

# Scalars by number.
_RATE, _TAU, _MINUS_ONE, _HALF, _LOW, _HIGH, ALPHA, _BEFORE_TANH, _SHIFT = range(9)
_CRITIC_LOSS, _ACTOR_LOSS = range(2)
_PATH, _POLICY = 1, 2  # streams of the fresh actions at next states and at s


def sac_update(learner: SAC, columns: Columns, *, seed: int = 0, threads: int = 1) -> Update:
    """Return the learner's update on an arena of its own, with the learner's present weights.

    Args:
        learner: the reference; not changed.
        columns: of the replay that the update will read.
        seed: of its random numbers.
        threads: that share an update.

    Raises:
        ValueError: the learner has layers that the engine lacks.
    """
    c = learner.config
    arena = Arena(
        {
            "actor": layer_indices(learner.actor, "net"),
            "q1": layer_indices(learner.critic, "q1"),
            "q2": layer_indices(learner.critic, "q2"),
        },
        targets=("q1", "q2"),
        normed=("q1", "q2") if c.critic_layer_norm else (),
    )
    arena.join("critic", ("q1", "q2"))
    to_arena(arena, sac_places(learner))
    observations = arena.layers["actor"][0].index.inputs
    actions = arena.layers["actor"][-1].index.out // 2
    before_tanh = c.pre_tanh_scale if c.action_scale == "pre_tanh" else 1.0

    def policy(p: Programme, s: Slot, noise: Slot, into: Slot | None = None) -> tuple[Slot, Slot]:
        """Fresh actions at s and their log densities."""
        output = p.mlp(s, arena.layers["actor"])
        if before_tanh != 1.0:
            output = p.scale(output, _BEFORE_TANH)
        mean, raw = output.part(0, actions), output.part(actions, actions)
        bounded = p.bound_log_std if c.log_std_squash == "tanh" else p.clamp
        log_std = bounded(raw, _LOW, _HIGH)
        x = p.sample(mean, log_std, noise)
        action = p.tanh(x, into=into)
        if c.squash_epsilon:
            return action, p.shifted_log_density(noise, log_std, x, _SHIFT)
        return action, p.log_density(noise, log_std, x, action)

    critic = Programme(arena, "critic")
    after = critic.slot(observations + actions)  # (s_m, a~_m)
    s_m, a_m = after.part(0, observations), after.part(observations, actions)
    soft_return, discount = critic.slot(1), critic.slot(1)
    critic.window(soft_return, discount)
    for k in range(c.n_step):
        s_k = critic.gather(critic.slot(observations), columns.next_observation.start, 2 + k)
        action, log_pi = policy(critic, s_k, critic.normal(actions, _PATH, k))
        weight = critic.path_discount(critic.slot(1), k)
        critic.subtract_scaled(soft_return, weight, log_pi, ALPHA)
        critic.blend(action, a_m, k)
    critic.gather(s_m, columns.next_observation.start, 1)
    value = critic.minimum(
        critic.mlp(after, arena.layers["q1_target"]), critic.mlp(after, arena.layers["q2_target"])
    )
    target = critic.multiply_add(value, discount, soft_return)
    before = critic.slot(observations + actions)  # (s, a)
    critic.gather(before.part(0, observations), columns.observation.start, 0)
    critic.gather(before.part(observations, actions), columns.action.start, 0)
    for head in ("q1", "q2"):
        q = critic.mlp(before, arena.layers[head])
        critic.squared_error(q, target, _CRITIC_LOSS, _HALF)
    critic.minimise()

    actor = Programme(arena, "actor")
    joined = actor.slot(observations + actions)  # (s, a~)
    s, a = joined.part(0, observations), joined.part(observations, actions)
    actor.gather(s, columns.observation.start, 0)
    _, log_pi = policy(actor, s, actor.normal(actions, _POLICY), into=a)
    value = actor.minimum(
        actor.mlp(joined, arena.layers["q1"]), actor.mlp(joined, arena.layers["q2"])
    )
    actor.mean(log_pi, _ACTOR_LOSS, ALPHA, 0)
    actor.mean(value, _ACTOR_LOSS, _MINUS_ONE, 1)
    actor.minimise()

    begin, end = arena.span["critic"]
    script = [
        (TILES, 0, 0, _CRITIC_LOSS, 1, 0),
        (ADAM, begin, end, 0, 1, _RATE),
        (TILES, 1, 0, _ACTOR_LOSS, 1, 0),
        (ADAM, *arena.span["actor"], 1, 1, _RATE),
        (POLYAK, arena.span["q1_target"][0], begin, end - begin, 1, _TAU),
    ]
    if c.learn_entropy_coefficient:
        script.append((TEMPERATURE, 0, ALPHA, 2, 1, _RATE))
    log_alpha = float(learner.log_alpha.detach())
    alpha = math.exp(log_alpha)
    return Update(
        arena,
        (critic, actor),
        script,
        scalars=(
            *(c.learning_rate, c.tau, -1.0, 0.5),
            *(*c.log_std_bounds, alpha, before_tanh, c.squash_epsilon),
        ),
        batch=c.batch_size,
        discount=c.discount,
        n_step=c.n_step,
        n_step_from=c.n_step_delay or 0,
        seed=seed,
        streams=3,
        temperature=(log_alpha, learner.target_entropy),
        threads=threads,
    )


def sac_places(learner: SAC) -> dict[str, tuple[nn.Module, str]]:
    """Return where each network of the arena lies in the learner's modules."""
    actor, critic = learner.actor.module, learner.critic.module
    return {
        "actor": (actor, "net"),
        "q1": (critic, "q1"),
        "q2": (critic, "q2"),
        "q1_target": (learner.critic_target, "q1"),
        "q2_target": (learner.critic_target, "q2"),
    }
