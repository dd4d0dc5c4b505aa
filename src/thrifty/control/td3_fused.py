"""TD3's update as programmes of the engine: the same equations as td3.py, on the links alone.

Legend: s, s_m observations at a window's start and end, a the stored action.
"""

from __future__ import annotations

from torch import nn

from thrifty.control.fused import layer_indices, to_arena
from thrifty.control.td3 import TD3
from thrifty.engine.executor import ADAM, POLYAK, TILES
from thrifty.engine.layout import Arena
from thrifty.engine.programme import Programme
from thrifty.engine.update import Update
from thrifty.rl.transitions import Columns

_NOISE, _CLIP, _ONE, _RATE, _TAU, _MINUS_ONE = range(6)  # scalars by number
_CRITIC_LOSS, _ACTOR_LOSS = range(2)
_SMOOTHING = 1  # stream of the target policy's noise


def td3_update(learner: TD3, columns: Columns, *, seed: int = 0, threads: int = 1) -> Update:
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
        targets=("actor", "q1", "q2"),
        normed=("q1", "q2") if c.critic_layer_norm else (),
    )
    arena.join("critic", ("q1", "q2"))
    to_arena(arena, td3_places(learner))
    observations = arena.layers["actor"][0].index.inputs
    actions = arena.layers["actor"][-1].index.out

    critic = Programme(arena, "critic")
    after = critic.slot(observations + actions)  # (s_m, a')
    s_m, a_next = after.part(0, observations), after.part(observations, actions)
    critic.gather(s_m, columns.next_observation.start, 1)
    ret, discount = critic.slot(1), critic.slot(1)
    critic.window(ret, discount)
    quiet = critic.tanh(critic.mlp(s_m, arena.layers["actor_target"]))
    critic.perturb(quiet, critic.normal(actions, _SMOOTHING), _NOISE, _CLIP, into=a_next)
    value = critic.minimum(
        critic.mlp(after, arena.layers["q1_target"]), critic.mlp(after, arena.layers["q2_target"])
    )
    target = critic.multiply_add(value, discount, ret)
    before = critic.slot(observations + actions)  # (s, a)
    critic.gather(before.part(0, observations), columns.observation.start, 0)
    critic.gather(before.part(observations, actions), columns.action.start, 0)
    for head in ("q1", "q2"):
        q = critic.mlp(before, arena.layers[head])
        critic.squared_error(q, target, _CRITIC_LOSS, _ONE)
    critic.minimise()

    actor = Programme(arena, "actor")
    joined = actor.slot(observations + actions)  # (s, pi(s))
    s, a = joined.part(0, observations), joined.part(observations, actions)
    actor.gather(s, columns.observation.start, 0)
    actor.tanh(actor.mlp(s, arena.layers["actor"]), into=a)
    actor.mean(actor.mlp(joined, arena.layers["q1"]), _ACTOR_LOSS, _MINUS_ONE, 0)
    actor.minimise()

    script = (
        (TILES, 0, 0, _CRITIC_LOSS, 1, 0),
        (ADAM, *arena.span["critic"], 0, 1, _RATE),
        (TILES, 1, 0, _ACTOR_LOSS, c.policy_delay, 0),
        (ADAM, *arena.span["actor"], 1, c.policy_delay, _RATE),
        (POLYAK, arena.span["actor_target"][0], 0, arena.trained, c.policy_delay, _TAU),
    )
    return Update(
        arena,
        (critic, actor),
        script,
        scalars=(c.target_noise, c.target_noise_clip, 1.0, c.learning_rate, c.tau, -1.0),
        batch=c.batch_size,
        discount=c.discount,
        n_step=c.n_step,
        n_step_from=c.n_step_delay or 0,
        seed=seed,
        streams=2,
        threads=threads,
    )


def td3_places(learner: TD3) -> dict[str, tuple[nn.Module, str]]:
    """Return where each network of the arena lies in the learner's modules."""
    actor, critic = learner.actor.module, learner.critic.module
    return {
        "actor": (actor, "net"),
        "q1": (critic, "q1"),
        "q2": (critic, "q2"),
        "actor_target": (learner.actor_target, "net"),
        "q1_target": (learner.critic_target, "q1"),
        "q2_target": (learner.critic_target, "q2"),
    }
