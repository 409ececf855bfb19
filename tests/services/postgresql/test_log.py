"""pgbench's log and summary: recorded ones of version 15, and damaged ones."""

import random
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifactory_bench_services.pgbench_log_node import aborted, read_log, read_summary

PREFIX = "transactions"


def test_a_closed_loop_log_is_read_line_by_line(samples):
    log = read_log(samples / "closed", PREFIX, is_open=False)
    lines = [line.split() for line in (samples / "closed/transactions.16468").read_text().splitlines()]
    (thread,) = log.threads
    assert (log.count(), log.damaged, dict(log.words())) == (600, 0, {})
    assert list(thread.client) == [int(line[0]) for line in lines]
    assert [end - sent for end, sent in zip(thread.end_us, thread.sent_us, strict=True)] == [int(line[2]) for line in lines]
    assert list(thread.due_us) == list(thread.sent_us)
    assert thread.end_us[0] == int(lines[0][4]) * 1_000_000 + int(lines[0][5])


def test_an_open_loop_log_has_both_clocks_and_what_was_skipped(samples):
    log = read_log(samples / "open", PREFIX, is_open=True)
    summary = read_summary((samples / "open/summary").read_text())
    assert log.count() == summary["processed"]
    assert log.words() == {"skipped": summary["skipped"]}
    first = log.threads[0]
    assert (first.end_us[0] - first.due_us[0], first.sent_us[0] - first.due_us[0]) == (4506, 128)
    lags = [sent - due for thread in log.threads for due, sent in zip(thread.due_us, thread.sent_us, strict=True)]
    assert min(lags) >= 0
    # Its own average has the lag of the skipped ones in it.
    told = float((samples / "open/summary").read_text().split("schedule lag: avg ")[1].split()[0])
    assert sum(lags) / len(lags) / 1000 == pytest.approx(told, abs=0.2)


def test_failures_have_their_class(samples):
    log = read_log(samples / "deadlock", PREFIX, is_open=False)
    assert log.words() == {"deadlock": 4}
    assert log.count() == 12
    summary = read_summary((samples / "deadlock/summary").read_text())
    assert (summary["failed"], summary["processed"]) == (4, 12)


def test_both_ways_of_reading_agree(samples, tmp_path):
    """A line with a word in it makes the slow way read all lines around it."""
    path = next((samples / "closed").glob("transactions.*"))
    fast = read_log(samples / "closed", PREFIX, is_open=False)
    (tmp_path / "transactions.1").write_text(path.read_text() + "0 301 skipped 0 1700000000 1\n")
    slow = read_log(tmp_path, PREFIX, is_open=False)
    for name in ("client", "due_us", "sent_us", "end_us"):
        assert getattr(slow.threads[0], name) == getattr(fast.threads[0], name)
    assert slow.words() == {"skipped": 1}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_log_never_raises_and_loses_no_other_line(samples, tmp_path, seed):
    chance = random.Random(seed)
    folder = tmp_path / str(seed)
    shutil.copytree(samples / "open", folder, dirs_exist_ok=True)
    path = chance.choice(sorted(folder.glob("transactions.*")))
    lines = path.read_text().splitlines()
    for _ in range(chance.randrange(1, 4)):
        words = chance.choice(["", "x", "1 2", "1 1 -5 0 1 1 1", "1 1 5 0 1 1 900", "1 1 1e9 0 a b c", "\0", "9" * 400])
        lines.insert(chance.randrange(len(lines)), words)
    text = "\n".join(lines) + "\n"
    cut = chance.choice([0, chance.randrange(30)])
    path.write_text(text[: len(text) - cut])
    log = read_log(folder, PREFIX, is_open=True)
    whole = read_log(samples / "open", PREFIX, is_open=True)
    assert whole.count() - 3 <= log.count() <= whole.count()
    assert log.damaged <= 5
    shutil.rmtree(folder)


def test_nothing_is_nothing(tmp_path):
    assert read_log(tmp_path, PREFIX, is_open=False).count() == 0
    (tmp_path / "transactions.1").write_bytes(b"")
    (tmp_path / "transactions.1.1").write_bytes(b"0 1 5 0 17")
    log = read_log(tmp_path, PREFIX, is_open=False)
    assert (log.count(), log.damaged) == (0, 0), "a line that was cut off is left out"
    assert read_summary("") == {}


def test_given_up_connections_are_counted():
    text = (
        "pgbench: error: client 1 aborted in command 0 (SQL) of script 0; x\npgbench: error: client 12 script 0 aborted in c\n"
    )
    assert aborted(text) == 2
    assert aborted("client") == 0
