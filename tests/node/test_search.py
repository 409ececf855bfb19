"""The decisions of a search, against servers whose capacity is known by construction."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.node.knee import CONFIRMATIONS, Sweep, knee_of, steps
from aifactory_bench.node.search import (
    AGAIN,
    CLIENT_BOUND,
    FAIL,
    PASS,
    UNDECIDED,
    Asked,
    Outcome,
    Search,
    judge,
    longest_s,
    most_trials,
    wilson,
)

MANY = 10_000_000
"""Requests of a trial that leaves nothing to chance."""


def asked(find="rate", least=1.0, most=1000.0, **changes):
    values = {
        "find": find,
        "least": least,
        "most": most,
        "whole": find == "concurrency",
        "slo": {"latency": 0.03},
        "attainment": 0.99,
        "trial_s": 10.0,
        "warmup_s": 2.0,
        "precision": 0.05,
        "steps": 10,
    }
    return Asked(**{**values, **changes})


def step(capacity):
    """A server that meets the SLO up to a value, and beyond it never."""
    return lambda value: 1.0 if value <= capacity else 0.0


def queue(service_s, slo_s):
    """One server of fixed service time and Poisson arrivals: the share of waits within the SLO, by the known approximation."""

    def share(rate):
        used = rate * service_s
        return 0.0 if used >= 1 else 1 - math.exp(-2 * (1 - used) / used * (slo_s - service_s) / service_s)

    return share


def queue_capacity(service_s, slo_s, attainment):
    """The rate at which `queue` is exactly at the wanted share."""
    return 1 / service_s / (1 + math.log(1 / (1 - attainment)) * service_s / (2 * (slo_s - service_s)))


def run(search, share, trusted=math.inf, requests=MANY):
    """Make trials until it is over; return them with their verdicts."""
    made = []
    while (trial := search.next_trial()) is not None:
        assert trial.number == len(made) + 1
        met = requests * share(trial.value)
        untrusted = "the generator sent late" if trial.value > trusted else ""
        made.append((trial, search.tell(Outcome(met, requests, untrusted=untrusted))))
        assert len(made) < 1000
    return made


def bound(of):
    values, confirmations = most_trials(of)
    return 2 * values + confirmations


# the interval


@given(st.integers(1, 10_000), st.data())
def test_the_bounds_are_where_the_share_would_be_just_as_far_from_the_truth(of, data):
    """Wilson's defining equation: at each bound the distance is 1.96 of its own standard errors."""
    met = data.draw(st.integers(0, of))
    for edge in wilson(met, of):
        if 0 < edge < 1:
            assert abs(met / of - edge) == pytest.approx(1.959964 * math.sqrt(edge * (1 - edge) / of), rel=1e-4)


def test_known_bounds():
    """Tabulated values; and nothing is known of nothing."""
    assert wilson(98, 100) == pytest.approx((0.9300, 0.9945), abs=1e-4)
    assert wilson(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert wilson(10, 10) == (pytest.approx(0.7225, abs=1e-4), 1.0)
    assert wilson(0, 0) == (0.0, 1.0)


# one verdict


@pytest.mark.parametrize(
    ("outcome", "final", "expected"),
    [
        (Outcome(1000, 1000), False, PASS),
        (Outcome(900, 1000), False, FAIL),
        (Outcome(100, 100), False, UNDECIDED),  # 96.3 % to 100 %
        (Outcome(100, 100), True, PASS),
        (Outcome(98, 100), True, FAIL),
        (Outcome(1000, 1000, achieved_share=0.97), False, FAIL),
        (Outcome(1000, 1000, achieved_share=0.98), False, PASS),
        (Outcome(0, 0), True, FAIL),
        (Outcome(0, 1000, untrusted="late"), False, CLIENT_BOUND),
        (Outcome(1000, 1000, achieved_share=0.5, untrusted="late"), True, CLIENT_BOUND),
    ],
)
def test_verdicts(outcome, final, expected):
    """The generator is asked first, then the backlog, then the interval."""
    assert judge(asked(), outcome, 0.98, final=final).name == expected


def test_a_verdict_says_what_decided():
    """An estimate that alone decided is marked."""
    estimated = judge(asked(), Outcome(98, 100, why="latency p99 44 ms, limit 30 ms"), 0.98, final=True)
    assert estimated.estimated
    assert estimated.why == "undecided: 98.00% met the SLO (93.00% to 99.45%); latency p99 44 ms, limit 30 ms"
    backlog = judge(asked(), Outcome(100, 100, achieved_share=0.9), 0.98, final=True)
    assert backlog.why == "achieved 90.0% of what was offered, 98% are needed: the backlog grows"


# the whole search

_LEAST = st.floats(0.01, 100.0)
_RATIO = st.floats(1.5, 100_000.0)


@given(_LEAST, _RATIO, st.floats(0.0, 1.0), st.floats(0.005, 0.5))
def test_the_capacity_is_found_within_the_precision(least, ratio, place, precision):
    """Whatever lies between least and most; with never more trials than were budgeted, and all of them between the two."""
    of = asked(least=least, most=least * ratio, precision=precision)
    capacity = least * ratio**place
    search = Search(of)
    made = run(search, step(capacity))
    assert len(made) <= bound(of)
    assert all(of.least <= trial.value <= of.most for trial, _ in made)
    if search.status == "limit":
        assert capacity >= of.most * (1 - 1e-9)
    else:
        assert search.status == "found"
        assert search.value <= capacity < search.value * (1 + precision) * (1 + 1e-9)
        assert made[-1][0].confirms
        assert made[-1][0].value == search.value
        assert search.returned == made[-1][0].number


@given(st.integers(1, 50), st.integers(2, 3000), st.data())
def test_whole_numbers_are_found_exactly_or_within_the_precision(least, more, data):
    """Concurrency: what was found passed, and the next number up, or one within the precision, did not."""
    of = asked("concurrency", least=float(least), most=float(least + more))
    capacity = data.draw(st.integers(least, least + more - 1))
    search = Search(of)
    made = run(search, step(capacity))
    assert len(made) <= bound(of)
    assert all(trial.value == int(trial.value) for trial, _ in made)
    assert search.status == "found"
    assert search.value <= capacity
    assert search.high == search.value + 1 or search.high <= search.value * 1.05


@given(st.floats(0.001, 0.1), st.floats(1.5, 20.0), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_capacity_of_a_queue_is_found(service_s, patience, attainment):
    """A smooth curve of attainment, as a queue has."""
    slo_s = service_s * patience
    capacity = queue_capacity(service_s, slo_s, attainment)
    of = asked(least=capacity / 37, most=capacity * 50, attainment=attainment)
    search = Search(of)
    run(search, queue(service_s, slo_s))
    assert search.value <= capacity * 1.0001
    assert search.high > capacity * 0.9999
    assert search.high <= search.value * 1.05 * 1.0001


def test_noise_moves_the_result_little():
    """Trials of 10 s with what chance makes of their share: no result is far off, and few are off at all."""
    capacity = queue_capacity(0.01, 0.03, 0.95)
    found = []
    for seed in range(200):
        dice = random.Random(seed)
        search = Search(asked(most=200.0, attainment=0.95))
        while (trial := search.next_trial()) is not None:
            requests = max(1, round(trial.value * 10 * (3 if trial.confirms else trial.length)))
            share = queue(0.01, 0.03)(trial.value)
            met = sum(dice.random() < share for _ in range(requests))
            search.tell(Outcome(met, requests))
        if search.value is not None:
            found.append(search.value / capacity)
    assert len(found) >= 190
    assert 0.95 < sorted(found)[len(found) // 2] < 1.05
    assert min(found) > 0.75
    assert max(found) < 1.15


@given(_RATIO, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_bound_generator_is_never_taken_for_the_servers_limit(ratio, server, generator):
    """A capacity is reported only if the server failed below what the generator can do."""
    of = asked(most=ratio)
    capacity, trusted = ratio**server, ratio**generator
    search = Search(of)
    made = run(search, step(capacity), trusted=trusted)
    assert len(made) <= bound(of)
    if search.value is not None:
        assert search.border.name == FAIL
        assert search.high > capacity
        assert search.high <= trusted
    elif search.at_least is not None:
        assert search.at_least <= min(capacity, trusted)
        assert search.status in ("client_bound", "limit")
    if search.status == "client_bound":
        assert search.value is None
        assert "the generator" in search.summary()["why"]


def test_a_bound_generator_ends_the_growth_and_the_rest_is_searched_below():
    """The server fails at 60/s, the generator at 70/s: what lies between is told apart."""
    search = Search(asked())
    made = run(search, step(60.0), trusted=70.0)
    assert [trial.value for trial, _ in made[:8]] == [1, 2, 4, 8, 16, 32, 64, pytest.approx(45.25, abs=0.01)]
    assert search.status == "found"
    search = Search(asked())
    made = run(search, step(80.0), trusted=70.0)
    assert search.status == "client_bound"
    # 128/s is tried twice, and never anything above.
    assert [(trial.value, trial.length) for trial, _ in made[7:9]] == [(128.0, 1.0), (128.0, AGAIN)]
    assert max(trial.value for trial, _ in made) == 128.0
    assert 70 / 1.05 < search.at_least <= 70
    assert search.summary()["why"].endswith("the generator was the limit, not the server: the generator sent late")


def test_one_trial_that_is_not_to_be_trusted_is_forgiven():
    """A stall passes; the trial is made again, longer, and the search goes on."""
    search = Search(asked())
    search.tell(Outcome(MANY, MANY))
    search.tell(Outcome(MANY, MANY, untrusted="stood still"))
    again = search.next_trial()
    assert (again.value, again.length) == (2.0, AGAIN)
    search.tell(Outcome(MANY, MANY))
    assert search.next_trial().value == 4.0


def test_an_undecided_trial_is_made_again_once():
    """Twice as long; then the estimate decides."""
    search = Search(asked())
    assert search.tell(Outcome(10, 10)).name == UNDECIDED
    again = search.next_trial()
    assert (again.number, again.value, again.length) == (2, 1.0, AGAIN)
    verdict = search.tell(Outcome(20, 20))
    assert (verdict.name, verdict.estimated) == (PASS, True)
    assert search.next_trial().value == 2.0


def test_nothing_passes():
    """Not even the least value; no measurement of a duration is made for it."""
    search = Search(asked())
    made = run(search, step(0.5))
    assert [trial.number for trial, _ in made] == [1]
    assert (search.status, search.value, search.at_least) == ("none", None, None)
    assert search.summary()["why"].startswith("not even the least, 1/s, met the SLO: 0.00% met the SLO")


def test_the_generator_is_bound_from_the_start():
    """No word about the server."""
    search = Search(asked())
    run(search, step(100.0), trusted=0.5)
    assert (search.status, search.value, search.at_least) == ("client_bound", None, None)


def test_everything_passes():
    """The limit is said to lie above."""
    search = Search(asked(most=100.0))
    made = run(search, step(1e9))
    assert [trial.value for trial, _ in made] == [1, 2, 4, 8, 16, 32, 64, 100, 100]
    assert (search.status, search.value, search.at_least) == ("limit", None, 100.0)
    assert "up to `most`, 100/s" in search.summary()["why"]


@pytest.mark.parametrize("good", [1, 2, 3, 4, 5])
def test_a_result_that_is_not_confirmed_goes_down_step_by_step(good):
    """Three steps at most; then there is no result."""
    search = Search(asked(most=10.0))
    confirmations = []
    while (trial := search.next_trial()) is not None:
        passes = trial.value <= 6
        if trial.confirms:
            confirmations.append(trial.value)
            passes = len(confirmations) == good
        search.tell(Outcome(MANY * passes, MANY))
    for one, other in pairwise(confirmations):
        assert other == pytest.approx(one / 1.05)
    assert len(confirmations) == min(good, 4)
    if good <= 4:
        assert search.value == confirmations[-1]
        assert search.high == pytest.approx(search.value * 1.05, rel=0.05)
    else:
        assert (search.status, search.value, search.at_least) == ("unconfirmed", None, None)
        assert "failed over the whole duration" in search.summary()["why"]


def test_a_confirmation_that_is_not_to_be_trusted_is_made_again():
    """At the same value; in the end what passed in a trial is known to be met, and not more."""
    search = Search(asked(most=10.0))
    tries = 0
    while (trial := search.next_trial()) is not None:
        tries += trial.confirms
        search.tell(Outcome(MANY * (trial.value <= 6), MANY, untrusted="late" if trial.confirms else ""))
    assert tries == 4
    assert (search.status, search.value) == ("client_bound", None)
    assert 5.7 < search.at_least <= 6


def test_it_is_over_when_it_is_over():
    """Nothing more is taken."""
    search = Search(asked())
    run(search, step(5.0))
    assert search.next_trial() is None
    with pytest.raises(ValueError, match="is over"):
        search.tell(Outcome(1, 1))


@given(_RATIO, st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(10, 2000))
def test_no_search_takes_longer_than_its_budget(ratio, server, generator, requests):
    """Counted with drains as long as a backlog can make them."""
    of = asked(most=ratio)
    search = {"find": "rate", "least": 1.0, "most": ratio, "slo": {"latency": 0.03}, "attainment": 0.99}
    search |= {"trial_s": 10.0, "warmup_s": 2.0, "precision": 0.05, "steps": 10}
    budget_s = longest_s(search, warmup_s=5.0, duration_s=30.0, timeout_s=10.0)
    made = run(Search(of), step(ratio**server), trusted=ratio**generator, requests=requests)
    took_s = sum(5 + 30 if trial.confirms else 2 + 10 * trial.length for trial, _ in made)
    assert took_s + len(made) * (10 + 10) <= budget_s


def test_a_search_is_read_from_a_load():
    """Least values that a recipe leaves out: 1/s, or what the replicas need."""
    data = {"find": "rate", "least": None, "most": 100.0, "slo": {"latency": 0.03}, "attainment": 0.99}
    data |= {"trial_s": 10.0, "warmup_s": 2.0, "precision": 0.05, "steps": 10}
    assert Asked.from_load({"process": "poisson", "search": data}).least == 1.0
    assert Asked.from_load({"process": "poisson", "search": {**data, "most": 0.5}}).least == 0.25
    found = Asked.from_load({"process": "closed", "search": {**data, "find": "concurrency", "most": 64}}, least_whole=4)
    assert (found.least, found.whole, found.quantity) == (4, True, "concurrency")
    assert Asked.from_load({"process": "poisson", "search": {**data, "slo": {}}, "slo": {"ttft": 0.2}}).slo == {"ttft": 0.2}
    assert [found.text(12), asked().text(43.128), asked().text(12_345.6)] == ["12 in flight", "43.13/s", "12,346/s"]


# the knee


def closed_loop(best, base_s=0.1, most=1000):
    """Throughput and latency of a server that serves `best` at once and makes all others wait."""
    return [(min(n, best) / base_s, max(1.0, n / best) * base_s * 1e6) for n in range(1, most)]


@given(st.integers(2, 30))
def test_the_knee_of_a_closed_loop_is_where_the_server_is_full(best):
    """Not one step off, where nothing is noise."""
    assert knee_of(closed_loop(best, most=4 * best)) == best - 1


def test_what_has_no_knee():
    """Straight lines, flat ones with noise, too few points, and an end in the knee itself."""
    assert knee_of([(n, 100.0 * n) for n in range(1, 10)]) is None
    assert knee_of([(n, 100.0 + n % 3) for n in range(1, 10)]) is None
    assert knee_of([(1, 1), (2, 10)]) is None
    assert knee_of([(5.0, 7.0)] * 5) is None
    assert knee_of(closed_loop(8, most=8)) is None


def sweep(of, server, trusted=math.inf):
    made, machine = [], Sweep(of)
    while (trial := machine.next_trial()) is not None:
        throughput, latency_us = server(trial.value)
        untrusted = "late" if trial.value > trusted else ""
        share = min(1.0, throughput / trial.value) if not of.whole else None
        machine.tell(Outcome(0, 0, share, untrusted, "", throughput, latency_us))
        made.append(trial)
    return machine, made


def saturating(capacity):
    """Open loop: the latency of a queue, and beyond the capacity as long as a trial lets it grow."""

    def server(rate):
        longest_us = 1e6  # a queue at the edge has no time to become endless in one trial
        if rate >= capacity:
            return capacity, longest_us + (1 - capacity / rate) * 10e6
        return rate, min(longest_us, 10_000 / (1 - rate / capacity))

    return server


@given(st.floats(5.0, 800.0))
def test_a_sweep_finds_the_knee_just_below_the_capacity(capacity):
    """The last step or two before it; then it is confirmed, and steps far beyond are left out."""
    of = asked("knee", most=10_000.0, steps=20)
    machine, made = sweep(of, saturating(capacity))
    factor = 10_000 ** (1 / 19)
    assert machine.status == "found"
    assert capacity / factor**2 < machine.value <= capacity * factor
    assert made[-1].confirms
    assert made[-1].value == machine.value
    assert sum(trial.value > capacity for trial in made[:-1]) <= 3


def test_a_sweep_ends_where_the_generator_does():
    """A knee that came before is one; otherwise nothing is said of the server."""
    of = asked("knee", most=1000.0, steps=10)
    machine, made = sweep(of, saturating(5000.0), trusted=101.0)
    assert (machine.status, machine.value) == ("client_bound", None)
    assert machine.at_least == pytest.approx(100.0)
    assert [trial.length for trial in made[-2:]] == [1.0, AGAIN]
    assert "the generator was the limit" in machine.summary()["why"]
    machine, _ = sweep(of, saturating(30.0), trusted=101.0)
    assert machine.status == "found"
    machine, made = sweep(of, saturating(5000.0))
    assert (machine.status, machine.value, machine.at_least) == ("none", None, None)
    assert "hardly bends up to 1,000/s" in machine.summary()["why"]


def test_a_knee_is_confirmed_twice_at_most():
    """A knee stands, whatever becomes of the measurement at it."""
    of = asked("knee", most=1000.0, steps=10)
    machine = Sweep(of)
    confirmations = 0
    while (trial := machine.next_trial()) is not None:
        confirmations += trial.confirms
        throughput, latency_us = saturating(30.0)(trial.value)
        machine.tell(Outcome(0, 0, throughput / trial.value, "late" if trial.confirms else "", "", throughput, latency_us))
    assert confirmations == CONFIRMATIONS
    assert machine.value is not None
    with pytest.raises(ValueError, match="is over"):
        machine.tell(Outcome(1, 1))


@given(st.integers(1, 20), st.integers(2, 5000), st.integers(4, 40))
def test_steps_rise_from_least_to_most(least, more, count):
    """Whole numbers each once."""
    rates = steps(asked("knee", least=float(least), most=float(least + more), steps=count))
    assert (rates[0], rates[-1], len(rates)) == (least, least + more, count)
    whole = steps(asked("knee", least=float(least), most=float(least + more), steps=count, whole=True))
    for values in (rates, whole):
        assert all(one < other for one, other in pairwise(values))
    assert (whole[0], whole[-1]) == (least, least + more)
