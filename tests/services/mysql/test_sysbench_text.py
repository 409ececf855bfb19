"""What sysbench printed: recorded runs agree with themselves, and damaged ones never make numbers up."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import sysbench_node
from aifactory_bench_services.sysbench import SysbenchClient, SysbenchParameters
from aifactory_bench_services.sysbench_text_node import parse, whole

SAMPLES = Path(__file__).parent / "samples"
WHOLE = ["read-write", "rate", "rate-too-high", "deadlocks"]
BROKEN = ["queue-full", "server-killed", "server-absent"]


def sample(name):
    return (SAMPLES / f"sysbench-1.0.20-{name}.txt").read_text()


def client_of(load, **parameters):
    return SysbenchClient("bench", SysbenchParameters(**parameters), load=load)


@pytest.mark.parametrize("name", WHOLE)
def test_a_recorded_run_agrees_with_itself(name):
    output = parse(sample(name))
    histogram = output.histogram()
    total = output.total
    assert histogram.count == output.events > 0
    assert histogram.min_us == pytest.approx(total["latency_min"] * 1e6)
    assert histogram.max_us == pytest.approx(total["latency_max"] * 1e6)
    assert histogram.mean_us == pytest.approx(total["latency_avg"] * 1e6)
    assert histogram.percentile_us(99) == pytest.approx(total["latency_pct"] * 1e6, rel=0.02), "a bucket is 1.8 % wide"
    assert sum(whole(second, "events") for second in output.seconds) <= output.events
    assert Histogram.from_json(histogram.to_json()) == histogram


def test_errors_are_told_apart_and_add_up():
    output = parse(sample("deadlocks"))
    assert output.errors == {1213: 181}
    assert output.failures == 181
    assert output.events == 2951


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("queue-full", "the event queue is full"),
        ("server-killed", "lost connection to server during query"),
        ("server-absent", "can't connect to server"),
    ],
)
def test_a_run_that_failed_has_no_total_and_its_last_words(name, words):
    output = parse(sample(name))
    assert output.total == {}
    assert words in output.words.lower()


def test_rate_that_cannot_be_followed_leaves_a_queue(context_of, outcome_of, load, checked):
    """What was due and never sent is counted, and with it the rate is seen not to be achieved."""
    client = client_of(load(process="poisson", rate_per_s=60000.0, connections=1, duration_s=2.0), workload="oltp_point_select")
    context = context_of(client)
    measurement = checked(sysbench_node.reduce(context, outcome_of(sample("rate-too-high"))))
    assert measurement.status == "ok"
    assert measurement.offered_per_s == 60000
    due = measurement.counts.ok + measurement.counts.skipped
    assert due == pytest.approx(120_000, rel=0.02)
    assert measurement.counts.skipped > 15_000
    assert measurement.metrics["queue_length_max"]["value"] >= measurement.counts.skipped


def without_seconds(text, *numbers):
    """Take reports out, as they are where the end of the run was quicker."""
    places = [number for number, line in enumerate(text.splitlines()) if line.startswith('{"afb": "second"')]
    gone = {places[number] for number in numbers}
    return "\n".join(line for number, line in enumerate(text.splitlines()) if number not in gone)


@pytest.mark.parametrize("missing", [(1,), (0, 1)])
def test_a_queue_of_which_no_report_tells_is_reckoned_from_the_rate(context_of, outcome_of, load, checked, missing):
    client = client_of(load(process="poisson", rate_per_s=60000.0, connections=1, duration_s=2.0), workload="oltp_point_select")
    text = without_seconds(sample("rate-too-high"), *missing)
    measurement = checked(sysbench_node.reduce(context_of(client), outcome_of(text)))
    assert measurement.counts.skipped == pytest.approx(24_512, abs=5 * 120_000**0.5)
    assert "reckoned from the rate" in measurement.absent["counts.backlog"]


def test_a_missing_report_alone_is_no_queue(context_of, outcome_of, load):
    """1422 came where 1500 were to be expected: that is chance. With all reports nothing is reckoned."""
    client = client_of(load(process="poisson", rate_per_s=500.0, duration_s=3.0), workload="oltp_point_select")
    for missing in ((2,), (1, 2), (0, 1, 2)):
        measurement = sysbench_node.reduce(context_of(client), outcome_of(without_seconds(sample("rate"), *missing)))
        assert measurement.counts.skipped == 0
        assert "about 0 transactions" in measurement.absent["counts.backlog"]
    assert "counts.backlog" not in sysbench_node.reduce(context_of(client), outcome_of(sample("rate"))).absent


def test_a_transaction_that_was_begun_anew_was_due_once(context_of, outcome_of, load, checked):
    client = client_of(load(process="poisson", rate_per_s=1475.0, duration_s=2.0), workload="oltp_read_write")
    measurement = checked(sysbench_node.reduce(context_of(client), outcome_of(sample("deadlocks"))))
    assert sum(vars(measurement.counts).values()) == measurement.counts.ok == 2951
    assert measurement.metrics["retries_deadlock"]["value"] == measurement.metrics["retries"]["value"] == 181
    assert measurement.phase_counts["warmup"]["ok"] == 181, "attempts, which the server has counted"


def test_open_loop_counts_from_the_schedule(context_of, outcome_of, load, checked):
    client = client_of(load(process="poisson", rate_per_s=500.0, duration_s=3.0), workload="oltp_point_select")
    measurement = checked(sysbench_node.reduce(context_of(client), outcome_of(sample("rate"))))
    clocks = measurement.latency["transaction"]
    assert clocks["send"] is None
    assert Histogram.from_json(clocks["schedule"]).count == measurement.counts.ok
    assert "latency.send" in measurement.absent
    assert "latency.schedule" not in measurement.absent
    assert measurement.process == "poisson"
    assert len(measurement.slices) == 3


def test_what_a_killed_server_left_is_cut_and_says_why(context_of, outcome_of, load, checked):
    client = client_of(load(duration_s=5.0), workload="oltp_point_select")
    measurement = checked(sysbench_node.reduce(context_of(client), outcome_of(sample("server-killed"), exit_code=1)))
    assert measurement.status == "cut"
    assert "exit code 1" in measurement.reason
    assert "Lost connection" in measurement.reason
    assert measurement.window_s == pytest.approx(2.0, abs=0.01)
    assert measurement.counts.ok > 0
    assert measurement.latency == {}
    assert "latency" in measurement.absent


@pytest.mark.parametrize("name", ["queue-full", "server-absent"])
def test_what_counted_nothing_has_failed(context_of, outcome_of, load, name):
    measurement = sysbench_node.reduce(context_of(client_of(load())), outcome_of(sample(name), exit_code=1))
    assert measurement.status == "failed"
    assert measurement.reason.startswith("tool output is not a success: exit code 1: FATAL: ")


@pytest.mark.parametrize("name", WHOLE)
def test_exit_code_0_alone_is_no_success(context_of, outcome_of, load, name):
    """A report that was cut off before its total, whatever the exit code."""
    text = sample(name)
    cut = text[: text.index('{"afb": "total"')]
    measurement = sysbench_node.reduce(context_of(client_of(load(duration_s=3.0))), outcome_of(cut))
    assert measurement.status == "cut"
    measurement = sysbench_node.reduce(context_of(client_of(load())), outcome_of(""))
    assert measurement.status == "failed"
    assert "counted 0 transactions" in measurement.reason


def test_a_distribution_that_lost_a_line_is_none(context_of, outcome_of, load):
    lines = sample("read-write").splitlines()
    del lines[next(number for number, line in enumerate(lines) if " |***" in line)]
    measurement = sysbench_node.reduce(context_of(client_of(load(duration_s=3.0))), outcome_of("\n".join(lines)))
    assert measurement.latency == {}
    assert measurement.histogram_quality == "none"
    assert "its histogram holds" in measurement.absent["latency"]


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_damaged_output_never_raises_and_never_makes_numbers_up(data):
    text = sample(data.draw(st.sampled_from(WHOLE + BROKEN)))
    random_ = random.Random(data.draw(st.integers(0, 2**32)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = random_.randrange(len(text) + 1)
        end = min(len(text), at + random_.choice((1, 3, 40, 900)))
        text = random_.choice((text[:at], text[:at] + text[end:], text[:at] + "9e99-{nan" + text[end:], text[end:] + text[:at]))
    output = parse(text)
    histogram = output.histogram()
    assert Histogram.from_json(histogram.to_json()) == histogram
    assert histogram.count == sum(output.buckets.values())
    assert output.events >= 0
    assert output.failures >= 0


def test_a_server_that_hangs_makes_the_window_no_longer(context_of, outcome_of, load, checked):
    """After two seconds nothing came; the tool reported zeros until it was stopped, long after the second that was asked."""
    client = client_of(load(duration_s=1.0), workload="oltp_point_select")
    text = sample("server-killed")
    text += "".join(
        f'{{"afb": "second", "time_interval": 1.0, "time_total": {second}.0, "events": 0, "reads": 0}}\n'
        for second in range(3, 73)
    )
    first = parse(text).seconds[0]
    measurement = checked(sysbench_node.reduce(context_of(client), outcome_of(text, timed_out=True, exit_code=-9)))
    assert measurement.status == "cut"
    assert measurement.window_s == 1.0
    assert measurement.achieved_per_s == first["events"]
    assert measurement.phases_s["drain"] == 71.0
    assert measurement.metrics["queries_per_s"]["value"] == pytest.approx(first["events"], rel=0.01)
