from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from thrifty.scheduling import compiled_queues
from thrifty.scheduling.arrivals import Arrivals
from thrifty.scheduling.channels import MarkovChannel, TraceChannel, square_wave
from thrifty.scheduling.queueing import Queues, Sight, advance, binomial
from thrifty.scheduling.scenarios import Scenario, csi, scenario


def one_flow(*, attempts: int = 3, hops: int = 1, **changes: object) -> Scenario:
    fields: dict[str, object] = {
        "name": "one",
        "weights": [2.0],
        "attempts": [attempts],
        "distances": [[1.0] * hops],
        "arrivals": Arrivals([1.0], "deterministic"),
        "channel": MarkovChannel([1.0], [[1.0]]),
    }
    return Scenario(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_order_of_a_slot_by_hand() -> None:
    # No energy: a packet that arrives in slot 0 is seen with 2, 1, 0 slots left in slots 1, 2, 3
    # and is lost in slot 3; one arrives in every slot.
    queues = Queues(one_flow(), 1)
    missed = []
    seen = []
    for _ in range(5):
        seen.append(queues.view().queue[0, 0, 0].tolist())
        missed.append(int(queues.step(np.zeros((1, 1, 1, 3))).missed[0, 0]))
    assert seen == [[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]]
    assert missed == [0, 0, 0, 1, 1]


def test_a_sure_delivery_is_charged_and_earns_the_weight() -> None:
    # Attenuation 1e-9: tanh(0.5e9) is 1. One packet a slot, sent at once with energy 0.5.
    queues = Queues(one_flow(distances=[[1e-3]]), 1)
    queues.step(np.full((1, 1, 1, 3), 0.5))
    slot = queues.step(np.full((1, 1, 1, 3), 0.5))
    assert slot.throughput.tolist() == [2.0]
    assert slot.energy.tolist() == [[0.5]]
    assert queues.delays[0, 0].tolist() == [1, 0, 0]


def test_a_packet_takes_one_hop_a_slot() -> None:
    # Sure success at both hops: two slots after arrival it is out, having paid each node once.
    queues = Queues(one_flow(hops=2, distances=[[1e-3, 1e-3]]), 1)
    assert queues.step(np.full((1, 1, 2, 3), 0.5)).energy.tolist() == [[0.0, 0.0]]
    assert queues.step(np.full((1, 1, 2, 3), 0.5)).energy.tolist() == [[0.5, 0.0]]
    last = queues.step(np.full((1, 1, 2, 3), 0.5))
    assert last.energy.tolist() == [[0.5, 0.5]]
    assert last.delivered.tolist() == [[1]]
    assert queues.delays[0, 0].tolist() == [0, 1, 0]


def test_a_packet_that_reaches_the_last_hop_too_late_is_lost() -> None:
    queues = Queues(one_flow(attempts=1, hops=2, distances=[[1e-3, 1e-3]]), 1)
    queues.step(np.ones((1, 1, 2, 1)))
    slot = queues.step(np.ones((1, 1, 2, 1)))
    assert (slot.delivered.sum(), slot.missed.sum(), slot.success.sum()) == (0, 1, 1)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**31),
    name=st.sampled_from(["S1", "S2", "S4", "S5"]),
    kind=st.sampled_from(["poisson", "bernoulli"]),
)
def test_the_compiled_slot_is_the_reference(seed: int, name: str, kind: str) -> None:
    of = scenario(name)
    of = dataclasses.replace(of, arrivals=Arrivals(np.full(of.flows, 0.7), kind))
    fast, plain = (Queues(of, 3, compiled=compiled) for compiled in (True, False))
    energies = np.random.default_rng(seed)
    for queues in (fast, plain):
        queues.reset(seed)
    for _ in range(12):
        energy = energies.random(fast.queue.shape)
        one, other = fast.step(energy), plain.step(energy)
        for field, a, b in zip(one._fields, one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, err_msg=field)
        for field in ("queue", "channel", "delays", "missed"):
            np.testing.assert_array_equal(getattr(fast, field), getattr(plain, field))


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), hops=st.integers(1, 3))
def test_energy_and_packets_are_conserved_packet_by_packet(seed: int, hops: int) -> None:
    """Each packet is an object here; the simulator tells only how many of a cell got through."""
    generator = np.random.default_rng(seed)
    flows = 3
    of = Scenario(
        name="some",
        weights=generator.integers(1, 5, flows),
        attempts=generator.integers(1, 6, flows),
        distances=generator.uniform(0.5, 1.5, (flows, hops)),
        arrivals=Arrivals(generator.uniform(0, 3, flows)),
        channel=csi(1, 4).channel,
    )
    queues = Queues(of, 1)
    queues.reset(seed)
    packets: list[list[int]] = []  # flow, hop, slots left
    born = delivered = missed = 0
    for _ in range(15):
        energy = generator.random(queues.queue.shape)
        paid = np.zeros(hops)
        for flow, hop, left in packets:
            paid[hop] += energy[0, flow, hop, left]
        slot = queues.step(energy)
        lucky = slot.success[0].copy()
        worth, kept = 0.0, []
        for flow, hop, left in packets:
            through = lucky[flow, hop, left] > 0
            lucky[flow, hop, left] -= through
            if through and hop == hops - 1:
                worth += of.weights[flow]
                delivered += 1
            elif left == 0:
                missed += 1
            else:
                kept.append([flow, hop + through, left - 1])
        assert not lucky.any()  # no more successes than packets
        packets = kept
        for flow, count in enumerate(slot.arrived[0]):
            packets += [[flow, 0, int(of.attempts[flow]) - 1] for _ in range(count)]
            born += int(count)
        np.testing.assert_allclose(slot.energy[0], paid, atol=1e-12)
        assert slot.throughput[0] == worth
        counted = np.zeros(queues.queue.shape[1:], dtype=int)
        for flow, hop, left in packets:
            counted[flow, hop, left] += 1
        np.testing.assert_array_equal(queues.queue[0], counted)
    assert born == delivered + missed + len(packets)
    assert (queues.delivered.sum(), queues.missed.sum()) == (delivered, missed)


def test_random_numbers_do_not_depend_on_decisions() -> None:
    shy, bold = Queues(scenario("S1"), 4), Queues(scenario("S1"), 4)
    for _ in range(30):
        one = shy.step(np.zeros(shy.queue.shape))
        other = bold.step(np.ones(bold.queue.shape))
        np.testing.assert_array_equal(one.arrived, other.arrived)
        np.testing.assert_array_equal(shy.channel, bold.channel)


@given(
    u=st.floats(0.0, 0.999999),
    n=st.integers(0, 60),
    p=st.floats(0.0, 1.0),
)
def test_inversion_of_the_binomial(u: float, n: int, p: float) -> None:
    # By definition, unless u is within rounding of one of the probabilities.
    ours = int(binomial(np.array([u]), np.array([n]), np.array([p]))[0])
    at = binom.cdf(np.arange(n + 1), n, p)
    assume(np.min(np.abs(at - u)) > 1e-12)
    assert ours == int(np.argmax(at > u))


@pytest.mark.parametrize(("count", "chance"), [(5000, 0.3), (20000, 0.9), (1000, 0.0005)])
def test_many_packets_in_a_cell(count: int, chance: float) -> None:
    """Where the first probability would underflow: the compiled numbers are the quantiles."""
    uniforms = np.linspace(0.001, 0.999, 41)[:, None, None, None]
    shape = uniforms.shape
    queue = np.full(shape, count)
    success = np.zeros(shape, dtype=np.int64)
    compiled_queues.advance(
        queue, np.zeros(shape), np.full(shape, chance), uniforms, np.zeros((41, 1), int),
        np.array([1]), success, np.zeros((2, 41, 1), int), np.zeros((41, 1, 1)),
        np.zeros((41, 1, 1), int),
    )  # fmt: skip
    np.testing.assert_array_equal(success.ravel(), binom.ppf(uniforms.ravel(), count, chance))


def test_the_reference_of_a_slot_changes_nothing_given() -> None:
    queue = np.array([[[[1, 2]]]])
    out = advance(queue, np.ones(queue.shape), np.zeros(queue.shape), np.zeros(queue.shape),
                  np.array([[4]]), np.array([2]))  # fmt: skip
    assert queue.tolist() == [[[[1, 2]]]]
    assert out.queue.tolist() == [[[[2, 4]]]]
    assert out.missed.tolist() == [[1]]


def run_in(queues: Queues, slots: int) -> tuple[np.ndarray, list[np.ndarray | None]]:
    true, seen = [], []
    for _ in range(slots):
        true.append(queues.channel.copy())
        view = queues.view().channel
        seen.append(None if view is None else view.copy())
        queues.step(np.zeros(queues.queue.shape))
    return np.stack(true), seen


def test_what_is_seen_of_the_channel() -> None:
    of = scenario("S4")
    assert run_in(Queues(of, 2, sight=Sight(kind="hidden")), 2)[1] == [None, None]
    true, seen = run_in(Queues(of, 2, sight=Sight(kind="delayed", delay=3)), 20)
    np.testing.assert_array_equal(np.stack(seen)[3:], true[:-3])  # type: ignore[arg-type]
    exact, same = run_in(Queues(of, 2, sight=Sight(kind="noisy", confusion=0.0)), 20)
    np.testing.assert_array_equal(exact, np.stack(same))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["S1", "S2", "S4", "S5"])
@pytest.mark.parametrize("start", ["stationary", "uniform"])
def test_every_sight_meets_the_same_channel(name: str, start: str) -> None:
    of = scenario(name)
    sights = (
        Sight(),
        Sight(kind="hidden"),
        Sight(kind="delayed", delay=2),
        Sight(kind="noisy", confusion=0.2),
    )
    first, *others = [run_in(Queues(of, 4, sight=one, start=start), 10)[0] for one in sights]
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("late", [1, 3])
def test_what_a_delayed_sight_shows_at_first_led_to_the_first_slot(late: int) -> None:
    """Of two states in so many slots, exactly: the long-run chance of one, times the way there."""
    channel = MarkovChannel([1.0, 3.0, 4.0], [[0.7, 0.3, 0], [0.1, 0.6, 0.3], [0.5, 0, 0.5]])
    of = dataclasses.replace(scenario("S1"), channel=channel)
    queues = Queues(of, 5000, sight=Sight(kind="delayed", delay=late))
    seen = queues.view().channel
    assert seen is not None
    pairs = np.bincount((3 * seen + queues.channel).ravel(), minlength=9)
    ways = np.linalg.matrix_power(channel.kernels[0, 0, 0], late)
    law = (channel.stationary()[0, 0, 0][:, None] * ways).ravel()
    assert np.all(pairs[law == 0] == 0)
    possible = law > 0
    assert chisquare(pairs[possible], law[possible] * pairs.sum()).pvalue > 1e-4


def test_a_delayed_sight_of_a_state_that_the_long_run_leaves() -> None:
    channel = MarkovChannel([1.0, 3.0], [[1.0, 0.0], [1.0, 0.0]])  # into the first, for ever
    of = dataclasses.replace(scenario("S1"), channel=channel)
    queues = Queues(of, 50, sight=Sight(kind="delayed", delay=2), start="uniform")
    assert 0 < queues.channel.mean() < 1
    np.testing.assert_array_equal(queues.view().channel, queues.channel)


def test_energies_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 4, 1, 7\).*got \(2, 4\)"):
        Queues(scenario("S1"), 2).step(np.zeros((2, 4)))


def test_a_noisy_channel_errs_as_often_as_it_says() -> None:
    sight = Sight(kind="noisy", confusion=0.3)
    true, seen = run_in(Queues(scenario("S1"), 50, sight=sight), 100)
    noisy = np.stack(seen)  # type: ignore[arg-type]
    # 20,000 draws: standard error of a frequency of 0.3 is 0.0033; 4 of them.
    assert np.mean(noisy != true) == pytest.approx(0.3, abs=0.013)
    wrong = noisy[(true == 0) & (noisy != true)]
    assert chisquare(np.bincount(wrong, minlength=4)[1:]).pvalue > 1e-4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "blurred"}, "full, hidden"),
        ({"kind": "delayed"}, "delay"),
        ({"delay": 2}, "delay"),
        ({"kind": "noisy"}, "confusion"),
        ({"confusion": 0.1}, "confusion"),
    ],
)
def test_a_bad_sight_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sight(**fields)  # type: ignore[arg-type]


def test_a_bad_confusion_is_refused() -> None:
    with pytest.raises(ValueError, match="eps"):
        Sight(kind="noisy", confusion=1.5).matrix(4)
    with pytest.raises(ValueError, match="stochastic"):
        Sight(kind="noisy", confusion=np.ones((4, 4))).matrix(4)


def test_channels_of_all_kinds_move_as_they_say() -> None:
    trace = np.random.default_rng(0).integers(0, 4, (7, 4))
    of = dataclasses.replace(scenario("S1"), channel=TraceChannel([1.0, 2, 3, 4], trace))
    true, _ = run_in(Queues(of, 1, clock=2), 10)
    np.testing.assert_array_equal(true[:, 0, :, 0], trace[(np.arange(10) + 2) % 7])
    of = dataclasses.replace(scenario("S1"), channel=square_wave([1.0, 2.0], 6))
    true, _ = run_in(Queues(of, 1, clock=0), 12)
    assert true[1:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1]  # out of slot 0, 1, ...


def test_one_draw_for_all_links_correlates_them() -> None:
    of = scenario("S3")
    together = dataclasses.replace(of.channel, common=True)
    true, _ = run_in(Queues(dataclasses.replace(of, channel=together), 3), 20)
    assert np.all(true == true[:, :, :1])


def test_stationary_starts_have_the_long_run_law() -> None:
    queues = Queues(scenario("S1"), 20000)
    law = scenario("S1").channel.stationary()[0, 0, 0]  # type: ignore[union-attr]
    counts = np.bincount(queues.channel.ravel(), minlength=4)
    assert chisquare(counts, law * counts.sum()).pvalue > 1e-4
    uniform = Queues(scenario("S1"), 20000, start="uniform")
    assert chisquare(np.bincount(uniform.channel.ravel(), minlength=4)).pvalue > 1e-4


def test_bad_queues_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one environment"):
        Queues(scenario("S1"), 0)
    with pytest.raises(ValueError, match="stationary or uniform"):
        Queues(scenario("S1"), 1, start="random")
