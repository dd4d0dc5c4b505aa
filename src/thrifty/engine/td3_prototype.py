"""TD3 as a programme."""
from __future__ import annotations
import numpy as np
from thrifty.engine import executor as ex
from thrifty.engine.layout import Arena, LayerIndex
from thrifty.engine.noise import REPLAY, TARGET, key_of
from thrifty.engine.programme import Programme, Slot


class FusedTD3:
    def __init__(self, learner, replay, seed=0):
        c = learner.config
        self.learner, self.replay, self.config = learner, replay, c
        nets = {}
        def masks(module, prefix):
            out = []
            for name, p in module.named_parameters():
                if name.startswith(prefix) and p.ndim == 2:
                    sp = learner.critic if prefix.startswith("q") else learner.actor
                    m = sp.topology.mask(name).numpy() if sp.topology.names else np.ones(p.shape, bool)
                    out.append(LayerIndex.of(m))
            return out
        nets["actor"] = masks(learner.actor.module, "net")
        nets["q1"] = masks(learner.critic.module, "q1"); nets["q2"] = masks(learner.critic.module, "q2")
        self.arena = A = Arena(nets, ["actor", "q1", "q2"])
        for net, mod, pre in (("actor", learner.actor.module, "net"), ("q1", learner.critic.module, "q1"), ("q2", learner.critic.module, "q2"), ("actor_target", learner.actor_target, "net"), ("q1_target", learner.critic_target, "q1"), ("q2_target", learner.critic_target, "q2")):
            d = dict(mod.named_parameters()); ws = [n for n in d if n.startswith(pre) and n.endswith("weight")]
            for i, n in enumerate(ws):
                A.write(A.params, net, i, d[n].detach().numpy(), d[n.replace("weight", "bias")].detach().numpy())
        self.names = {"actor": "net", "q1": "q1", "q2": "q2"}
        O = nets["actor"][0].inputs; N = nets["actor"][-1].out
        # scalars: 0 noise scale 1 clip 2 one 3 lr 4 tau
        self.scalars = np.array([c.target_noise, c.target_noise_clip, 1.0, c.learning_rate, c.tau, -1.0], np.float64).astype(np.float32)
        # phase 1
        A.span["critic"] = (A.span["q1"][0], A.span["q2"][1])
        p = Programme(A, "critic")
        nxt = p.slot(O + N); s2 = Slot(nxt.row, O); a2 = Slot(nxt.row + O, N)
        p.gather(s2, replay._next_observation.start, 1)
        ret, disc = p.slot(1), p.slot(1); p.window(ret, disc)
        raw = p.tanh(p.mlp(s2, A.layers["actor_target"]))
        noise = p.normal(N, 1)
        p.perturb(raw, noise, 0, 1, a2)
        t = p.minimum(p.mlp(nxt, A.layers["q1_target"]), p.mlp(nxt, A.layers["q2_target"]))
        y = p.multiply_add(t, disc, ret)
        sa = p.slot(O + N)
        p.gather(Slot(sa.row, O), replay._observation.start, 0); p.gather(Slot(sa.row + O, N), replay._action.start, 0)
        q1, q2 = p.mlp(sa, A.layers["q1"]), p.mlp(sa, A.layers["q2"])
        p.squared_error(q1, y, 0, 2); p.squared_error(q2, y, 0, 2)
        p.minimise()
        h1 = p.height
        # phase 2
        r = Programme(A, "actor")
        sa = r.slot(O + N); s = Slot(sa.row, O); a = sa.part(O, N)
        r.gather(s, replay._observation.start, 0)
        z = r.mlp(s, A.layers["actor"]); r.tanh(z, into=a)
        q = r.mlp(sa, A.layers["q1"])
        r.mean(q, 1, 5, 0); r.minimise()
        t1, t2 = p.rows(), r.rows()
        self.table = np.concatenate([t1, t2]); n1, n2 = len(t1), len(t2)
        sc = [[ex.TILES, 0, n1, 0, 1, 0], [ex.ADAM, *A.span["critic"], 1, 1, 3],
              [ex.TILES, n1, n1 + n2, 1, c.policy_delay, 0], [ex.ADAM, *A.span["actor"], 0, c.policy_delay, 3],
              [ex.POLYAK, A.span["actor_target"][0], A.span["actor"][0], A.trained, c.policy_delay, 4]]
        self.script = np.array(sc, np.int64)
        rawt = np.zeros((max(h1, r.height) + 1) * 64 + 16, np.float32)
        off = (-rawt.ctypes.data % 64) // 4
        self.tile = rawt[off:]
        self.keys = np.array([key_of(seed, REPLAY), key_of(seed, TARGET)], np.int64)
        self.steps = np.zeros(2, np.int64); self.losses = np.zeros(2, np.float64); self.counts = np.zeros(2, np.int64)
        self.columns = np.array([replay._reward, replay._terminated, replay._ended, replay._valid], np.int64)
        self.updates = 0; self.totals = np.zeros(2, np.float32); self.temperature = np.zeros(5, np.float32)

    def run(self, count):
        A, c, R = self.arena, self.config, self.replay
        self.updates = ex.run_updates(count, self.updates, self.script, self.table, A.index, A.params, A.grads, A.first_moment, A.second_moment, self.steps, self.scalars, self.losses, self.counts, self.totals, R._data, R.first, R.total, R.environments, self.columns, c.batch_size, c.n_step, c.n_step_delay, c.discount, self.keys, self.temperature, self.tile)
