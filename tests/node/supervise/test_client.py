"""A client under supervise: waiting for its services, watching `measure` and them, and caring for the lease."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.node.endpoint import Endpoint, publish
from aifactory_bench.node.spec import FileSpec, TargetSpec


def published(job: Any, token: str = "afb-r1-hello-1", replica: int = 0, port: int = 7) -> None:
    """Publish an endpoint as a service's supervise would."""
    endpoint = Endpoint(
        service="hello", replica=replica, host="127.0.0.1", port=port, url=f"tcp://127.0.0.1:{port}", token=token
    )
    publish(job.run.endpoint(token, replica), endpoint)
    job.run.secret(token).write_text("s3cret")


def ended(job: Any, token: str, outcome: str, text: str, rank: int = 0) -> None:
    """Write the record of another job's rank."""
    paths = job.run.job(token).rank(rank)
    paths.folder.mkdir(parents=True, exist_ok=True)
    paths.exit.write_text(json.dumps({"v": 1, "outcome": outcome, "text": text}))


def test_a_service_and_its_client(service: Callable[..., Any], client: Callable[..., Any]) -> None:
    """The client waits for the endpoint, measures, ends; then the service ends by itself."""
    load = client(plan={"seconds": 0.2}).start()
    server = service(clients={load.spec.token: 1}).server()
    record = load.end()
    assert record["outcome"] == "completed"
    assert load.paths.rank(0).measurement("p0000-r1").exists()
    assert load.events("endpoints") == [{"main": [f"tcp://127.0.0.1:{server.wait_for('published')['port']}"]}]
    assert "measuring" in record["log_tail"]
    assert server.end()["outcome"] == "completed"
    assert load.child_pids() == server.child_pids() == []


def test_what_was_measured_before_is_not_measured_again(client: Callable[..., Any]) -> None:
    job = client(points=2)
    for point in ("p0000-r1", "p0001-r1"):
        path = job.paths.rank(0).measurement(point)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert job.start().end()["outcome"] == "completed"
    assert job.events("started") == []


@pytest.mark.parametrize("has_endpoint", [False, True])
def test_a_service_that_has_ended_is_not_waited_for(client: Callable[..., Any], has_endpoint: bool) -> None:
    """The client's text quotes what became of the service."""
    job = client(wait_timeout_s=60)
    if has_endpoint:
        published(job)
    ended(job, "afb-r1-hello-1", "failed", "hello ended with exit code 7, before it was ready")
    record = job.start().end()
    assert record["outcome"] == "no_endpoint"
    assert "hello (rank 0) has ended: failed: hello ended with exit code 7" in record["text"]


def test_an_endpoint_that_never_comes(client: Callable[..., Any]) -> None:
    targets = {"main": TargetSpec(service="hello", token="afb-r1-hello-1", replicas=2)}
    job = client(wait_timeout_s=0.5, targets=targets)
    published(job, replica=0)
    record = job.start().end()
    assert record["outcome"] == "no_endpoint"
    assert "no endpoint of hello (rank 1) within 0.5 s" in record["text"]


def test_a_damaged_endpoint(client: Callable[..., Any]) -> None:
    job = client()
    path = job.run.endpoint("afb-r1-hello-1", 0)
    path.parent.mkdir(parents=True)
    path.write_text('{"v": 1, "port": ')
    record = job.start().end()
    assert record["outcome"] == "no_endpoint"
    assert str(path) in record["text"]


def test_files_and_environment_know_the_endpoints(client: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    """What tells of no endpoint is there when `measure` starts, the rest when it begins."""
    files = [FileSpec("tool.conf", ["host @{endpoint.main.0.host}", "password @{endpoint.main.0.secret}"])]
    job = client(
        spec={"files": files, "environment": {"URL": "@{endpoint.main.0.url}", "RANK": "@{rank}"}}, plan={"seconds": 600}
    )
    published(job, port=4711)
    pid = job.start().wait_for("started")["pid"]
    assert (job.paths.rank(0).work / "tool.conf").read_text() == "host 127.0.0.1\npassword s3cret\n"
    assert b"RANK=0" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    log = job.paths.rank(0).log
    wait_until(lambda: "tcp://127.0.0.1:4711" in log.read_text(), "the url")
    job.signal(signal.SIGTERM)
    job.end()


@pytest.mark.parametrize(("number", "outcome"), [(signal.SIGTERM, "stopped"), (signal.SIGUSR1, "timeout")])
def test_what_was_measured_is_kept_on_a_stop(
    client: Callable[..., Any], wait_until: Callable[..., None], number: int, outcome: str
) -> None:
    job = client(plan={"seconds": 600})
    published(job)
    job.start()
    log = job.paths.rank(0).log
    wait_until(lambda: log.exists() and "measuring" in log.read_text(), "the measurement")
    job.signal(number)
    record = job.end()
    assert (record["outcome"], record["exit_code"]) == (outcome, 0)
    assert job.paths.rank(0).measurement("p0000-r1").exists()


def test_a_stop_while_waiting(client: Callable[..., Any]) -> None:
    job = client(wait_timeout_s=60).start()
    job.wait_for("phase")
    job.signal(signal.SIGTERM)
    record = job.end()
    assert record["outcome"] == "stopped"
    assert job.events("started") == []


@pytest.mark.parametrize("code", [0, 1, 9])
def test_measure_that_leaves_points_out(client: Callable[..., Any], code: int) -> None:
    """Whatever its exit status: without its measurements a client has failed."""
    job = client(plan={"exit": code}, points=2)
    published(job)
    record = job.start().end()
    assert (record["outcome"], record["exit_code"]) == ("failed", code)
    assert f"measure ended with exit code {code}" in record["text"]
    assert "its last line: measuring" in record["text"]
    assert "not measured: p0000-r1, p0001-r1" in record["text"]


def test_a_service_that_dies_is_quoted(client: Callable[..., Any]) -> None:
    job = client(plan={"exit": 3, "seconds": 0.5})
    published(job)
    job.start().wait_for("started")
    ended(job, "afb-r1-hello-1", "failed", "killed by SIGKILL, while it was serving")
    record = job.end()
    assert record["outcome"] == "failed"
    assert "has ended: failed: killed by SIGKILL" in record["text"]


@pytest.mark.slow
def test_measure_that_does_not_notice_a_dead_service_is_stopped(client: Callable[..., Any]) -> None:
    job = client(plan={"seconds": 600})
    published(job)
    job.start().wait_for("started")
    ended(job, "afb-r1-hello-1", "failed", "gone")
    record = job.end()
    assert record["outcome"] == "failed"
    assert "the client had not ended 10 s later" in record["text"]


def test_the_lease_is_kept_while_a_client_lives(client: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    """From its start, not only from the load on."""
    job = client(spec={"lease_s": 2.0}, wait_timeout_s=60).start()
    texts: set[str] = set()

    def seen() -> bool:
        if job.run.lease.exists():
            texts.add(job.run.lease.read_text())
        return len(texts) >= 3

    wait_until(seen, "three different texts of the lease")
    job.signal(signal.SIGTERM)
    job.end()
    last = job.run.lease.read_text()
    time.sleep(0.7)
    assert job.run.lease.read_text() == last


def test_an_external_service_is_asked(client: Callable[..., Any], modules: Path, tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, str(modules / "server.py"), "0", "127.0.0.1"], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    try:
        port = _listening_port(server.pid)
        targets = {"main": TargetSpec(service="hello", token="", replicas=1, url=f"tcp://127.0.0.1:{port}")}
        job = client(targets=targets).start()
        assert job.end()["outcome"] == "completed"
        assert job.events("endpoints") == [{"main": [f"tcp://127.0.0.1:{port}"]}]
    finally:
        server.kill()
        server.wait()


def _listening_port(pid: int) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        sockets = {
            os.readlink(entry)[8:-1] for entry in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(entry).startswith("socket:")
        }
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                return int(fields[1].split(":")[1], 16)
        time.sleep(0.05)
    raise AssertionError("the server does not listen")


@pytest.mark.parametrize(("url", "text"), [("tcp://127.0.0.1:1", "did not answer in 0.3 s"), ("tcp://host", "names no port")])
def test_an_external_service_that_is_not_there(client: Callable[..., Any], url: str, text: str) -> None:
    targets = {"main": TargetSpec(service="hello", token="", replicas=1, url=url)}
    record = client(targets=targets, wait_timeout_s=0.3).start().end()
    assert record["outcome"] == "no_endpoint"
    assert text in record["text"]


def test_a_client_takes_no_command(client: Callable[..., Any]) -> None:
    record = client().start("true").end()
    assert record["outcome"] == "failed"
    assert "a client takes no command" in record["text"]


def test_ranks_of_one_client(client: Callable[..., Any]) -> None:
    """`ranks` starts them all as one execution, each in its own folder."""
    job = client(spec={"ranks": 3})
    published(job)
    job.start_ranks()
    for rank in range(3):
        assert job.end(rank)["outcome"] == "completed"
    assert sorted(path.name for path in job.paths.claim.iterdir()) == ["0-0", "1-0", "2-0", "owner.json"]


def test_a_stop_reaches_every_rank(client: Callable[..., Any]) -> None:
    job = client(spec={"ranks": 2}, plan={"seconds": 600})
    published(job)
    job.start_ranks()
    for rank in range(2):
        job.wait_for("started", rank)
    job.signal(signal.SIGTERM)
    for rank in range(2):
        assert job.end(rank)["outcome"] == "stopped"


def test_ranks_whose_parent_is_killed_stop(client: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    job = client(spec={"ranks": 2}, plan={"seconds": 600})
    published(job)
    job.start_ranks()
    for rank in range(2):
        job.wait_for("started", rank)
    job.signal(signal.SIGKILL)
    job.process.wait(20)
    for rank in range(2):
        wait_until(job.paths.rank(rank).exit.exists, "the record")
        assert json.loads(job.paths.rank(rank).exit.read_text())["outcome"] == "stopped"


def test_the_worst_status_of_the_ranks(client: Callable[..., Any]) -> None:
    job = client(spec={"ranks": 2})
    script = 'import os; raise SystemExit(5 if os.environ["AFB_RANK"] == "1" else 0)'
    command = [*job.command()[:3], "ranks", "2", "--", sys.executable, "-c", script]
    assert subprocess.run(command, env=job.environment({}), timeout=20, check=False).returncode == 5
    missing = [*job.command()[:3], "ranks", "2", "--", "/no/such/program"]
    done = subprocess.run(missing, env=job.environment({}), timeout=20, check=False, capture_output=True, text=True)
    assert done.returncode == 3
    assert "/no/such/program could not be started" in done.stderr
