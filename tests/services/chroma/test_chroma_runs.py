"""From recipe to verdict with a real server, also when the server does not live that long."""

import os
import signal
import time
from pathlib import Path

OF_THE_MACHINE = {"lateness", "observation_age", "generator_stalled", "client_bound", "rate_not_achieved", "low_n"}
"""Reasons that a machine with other work gives, rightly."""
RECIPE = """\
schema: aifactory-bench/1
name: chroma-test
services:
  vectors: {kind: chroma}
clients:
  load:
    kind: chroma-load
    target: vectors
    replicas: REPLICAS
    parameters: {vectors: 500, dimension: 16, clusters: 10, queries: 40, operations: {query: 9, insert: 1}, insert_batch: 5}
    load: {process: closed, concurrency: 4, warmup: 200ms, duration: DURATION}
"""


def servers_of(folder: Path) -> list[int]:
    """Return the process ids of Chroma servers of a run: `python chroma run --path ...`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if command[2:4] == [b"run", b"--path"] and any(part.startswith(os.fsencode(folder)) for part in command):
                found.append(int(entry.name))
    return found


def test_a_run_is_measured_and_both_sides_agree(run_recipe):
    """Generators insert under ids of their own: what the collection grew by is what all of them wrote."""
    run = run_recipe(RECIPE.replace("REPLICAS", "2").replace("DURATION", "1500ms"))
    summary = run.wait()
    (measurement,) = [each for point in summary.points for each in point.measurements]
    assert {reason.code for reason in measurement.reasons} <= OF_THE_MACHINE, measurement.reasons
    assert measurement.counts["error"] == measurement.counts["timeout"] == 0
    assert measurement.metrics["recall_at_k"]["value"] > 0.98
    assert measurement.metrics["vectors_inserted_per_s"]["value"] > 0
    assert not servers_of(run.folder)


def test_a_server_that_is_killed_ends_the_run(run_recipe):
    """Within 5 s of its death, with a reason, nothing valid and nothing left running."""
    run = run_recipe(RECIPE.replace("REPLICAS", "1").replace("DURATION", "30s"))
    deadline = time.monotonic() + 40
    while not any('"measure"' in path.read_text() for path in run.folder.glob("jobs/*load*/0/events.jsonl")):
        assert time.monotonic() < deadline, "the load did not begin"
        time.sleep(0.05)
    time.sleep(0.5)
    (pid,) = servers_of(run.folder)
    os.kill(pid, signal.SIGKILL)
    died = time.monotonic()
    summary = run.wait()
    assert time.monotonic() - died < 5
    assert summary.verdict != "valid"
    (measurement,) = [each for point in summary.points for each in point.measurements]
    assert measurement.verdict == "invalid"
    assert any("vectors" in reason.text for reason in measurement.reasons)
    assert not servers_of(run.folder)
