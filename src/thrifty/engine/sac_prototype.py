"""SAC as a programme."""
from __future__ import annotations
import numpy as np
from thrifty.engine import executor as ex
from thrifty.engine.layout import Arena, LayerIndex
from thrifty.engine.noise import PATH, POLICY, REPLAY, key_of
from thrifty.engine.programme import Programme, Slot

NOISE, CLIP, ONE, RATE, TAU, MINUS, HALF, LOW, HIGH, ALPHA = range(10)


class FusedSAC:
    def __init__(self, learner, replay, seed=0):
        c = learner.config
        self.learner, self.replay, self.config = learner, replay, c
        nets = {}
        def masks(sp, prefix):
            return [LayerIndex.of(sp.topology.mask(n).numpy() if sp.topology.names else np.ones(p.shape, bool)) for n, p in sp.module.named_parameters() if n.startswith(prefix) and p.ndim == 2]
        nets["actor"] = masks(learner.actor, "net"); nets["q1"] = masks(learner.critic, "q1"); nets["q2"] = masks(learner.critic, "q2")
        self.arena = A = Arena(nets, ["q1", "q2"])
        for net, mod, pre in (("actor", learner.actor.module, "net"), ("q1", learner.critic.module, "q1"), ("q2", learner.critic.module, "q2"), ("q1_target", learner.critic_target, "q1"), ("q2_target", learner.critic_target, "q2")):
            d = dict(mod.named_parameters()); ws = [n for n in d if n.startswith(pre) and n.endswith("weight")]
            for i, n in enumerate(ws):
                A.write(A.params, net, i, d[n].detach().numpy(), d[n.replace("weight", "bias")].detach().numpy())
        O = nets["actor"][0].inputs; N = nets["actor"][-1].out // 2
        low, high = c.log_std_bounds
        self.scalars = np.array([0, 0, 1, c.learning_rate, c.tau, -1, .5, low, high, c.entropy_coefficient], np.float32)
        A.span["critic"] = (A.span["q1"][0], A.span["q2"][1])

        def policy(p, s, noise, into=None):
            out = p.mlp(s, A.layers["actor"])
            mean, raw = out.part(0, N), out.part(N, N)
            log_std = p.bound_log_std(raw, LOW, HIGH)
            x = p.sample(mean, log_std, noise)
            action = p.tanh(x, into=into)
            return action, p.log_density(noise, log_std, x, action)

        p = Programme(A, "critic")
        nxt = p.slot(O + N); s2 = Slot(nxt.row, O); a2 = Slot(nxt.row + O, N)
        y, disc = p.slot(1), p.slot(1); p.window(y, disc)
        for k in range(c.n_step):
            s = p.gather(p.slot(O), replay._next_observation.start, 2 + k)
            action, log_pi = policy(p, s, p.normal(N, 1, k))
            p.subtract_scaled(y, p.path_discount(p.slot(1), k), log_pi, ALPHA)
            p.blend(action, a2, k)
        p.gather(s2, replay._next_observation.start, 1)
        t = p.minimum(p.mlp(nxt, A.layers["q1_target"]), p.mlp(nxt, A.layers["q2_target"]))
        t = p.multiply_add(t, disc, y)
        sa = p.slot(O + N)
        p.gather(Slot(sa.row, O), replay._observation.start, 0); p.gather(Slot(sa.row + O, N), replay._action.start, 0)
        for q in ("q1", "q2"):
            p.squared_error(p.mlp(sa, A.layers[q]), t, 0, HALF)
        p.minimise()
        r = Programme(A, "actor")
        sa = r.slot(O + N); s = Slot(sa.row, O); a = sa.part(O, N)
        r.gather(s, replay._observation.start, 0)
        _, log_pi = policy(r, s, r.normal(N, 2), into=a)
        q = r.minimum(r.mlp(sa, A.layers["q1"]), r.mlp(sa, A.layers["q2"]))
        r.mean(log_pi, 1, ALPHA, 0); r.mean(q, 1, MINUS, 1); r.minimise()
        t1, t2 = p.rows(), r.rows()
        self.table = np.concatenate([t1, t2]); n1, n2 = len(t1), len(t2)
        self.script = np.array([[ex.TILES, 0, n1, 0, 1, 0], [ex.ADAM, *A.span["critic"], 1, 1, RATE],
              [ex.TILES, n1, n1 + n2, 1, 1, 0], [ex.ADAM, *A.span["actor"], 0, 1, RATE],
              [ex.TEMPERATURE, 0, ALPHA, 2, 1, RATE],
              [ex.POLYAK, A.span["q1_target"][0], A.span["q1"][0], A.span["critic"][1] - A.span["critic"][0], 1, TAU]], np.int64)
        raw = np.zeros((max(p.height, r.height) + 1) * 64 + 16, np.float32)
        self.tile = raw[(-raw.ctypes.data % 64) // 4:]
        self.keys = np.array([key_of(seed, REPLAY), key_of(seed, PATH), key_of(seed, POLICY)], np.int64)
        self.steps = np.zeros(3, np.int64); self.losses = np.zeros(2, np.float64); self.counts = np.zeros(2, np.int64)
        self.columns = np.array([replay._reward, replay._terminated, replay._ended, replay._valid], np.int64)
        self.updates = 0; self.totals = np.zeros(2, np.float32)
        self.temperature = np.array([np.log(c.entropy_coefficient), 0, 0, 0, learner.target_entropy], np.float32)

    def run(self, count):
        A, c, R = self.arena, self.config, self.replay
        self.updates = ex.run_updates(count, self.updates, self.script, self.table, A.index, A.params, A.grads, A.first_moment, A.second_moment, self.steps, self.scalars, self.losses, self.counts, self.totals, R._data, R.first, R.total, R.environments, self.columns, c.batch_size, c.n_step, c.n_step_delay, c.discount, self.keys, self.temperature, self.tile)
