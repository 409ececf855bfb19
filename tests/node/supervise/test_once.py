"""A job that brings something into place: it ends when its command does, and those behind it begin then."""

import signal
from collections.abc import Callable
from typing import Any


def test_it_is_completed_when_its_command_is(service: Callable[..., Any]) -> None:
    job = service(once=True).start("sh", "-c", 'echo copied > "$AFB_RUN_DIR/copied"; echo all is there')
    record = job.end()
    assert (record["outcome"], record["text"]) == ("completed", "all is there")
    assert (job.run.folder / "copied").exists()
    assert [event["name"] for event in job.events("phase")] == ["start", "prepare", "stop"]
    assert job.events("published") == []


def test_a_command_that_fails_fails_it(service: Callable[..., Any]) -> None:
    record = service(once=True).start("sh", "-c", "echo no room >&2; exit 3").end()
    assert (record["outcome"], record["text"], record["exit_code"]) == ("failed", "no room", 3)
    record = service("silent", once=True).start("sh", "-c", "exit 3").end()
    assert "sh ended with exit code 3" in record["text"]


def test_a_service_waits_for_it(service: Callable[..., Any]) -> None:
    before = service("before", once=True)
    after = service(spec={"after": {before.spec.token: 1}}).server()
    after.wait_for("phase")
    assert after.events("started") == []
    before.start("true")
    assert before.end()["outcome"] == "completed"
    after.wait_for("published")
    after.signal(signal.SIGTERM)
    assert after.end()["phases_s"]["queue"] > 0


def test_it_can_be_stopped(service: Callable[..., Any]) -> None:
    job = service(once=True).start("sleep", "600")
    job.wait_for("started")
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"
    assert job.child_pids() == []
