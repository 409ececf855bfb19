"""A service under supervise: from its start to its published endpoint, and every way in which that fails."""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.node import endpoint as endpoints
from aifactory_bench.node.spec import FileSpec


def test_a_service_is_published_and_stopped(service: Callable[..., Any]) -> None:
    job = service().server()
    published = job.wait_for("published")
    endpoint = endpoints.read(job.run.endpoint(job.spec.token, 0))
    assert endpoint is not None
    assert (endpoint.host, endpoint.port) == ("127.0.0.1", published["port"])
    assert endpoint.url == f"tcp://127.0.0.1:{endpoint.port}"
    assert endpoint.facts == {"server_name": "hello", "secret_length": 32}
    assert endpoint.interfaces["lo"][0] == "127.0.0.1"
    with socket.create_connection((endpoint.host, endpoint.port), timeout=5) as connection:
        assert connection.recv(16) == b"hello\n"
    job.run.stop.mkdir()
    job.run.stop_file("hello").touch()
    record = job.end()
    assert (record["outcome"], record["signal"]) == ("stopped", signal.SIGTERM)
    assert "stop/hello" in record["text"]
    assert set(record["phases_s"]) == {"start", "ready", "measure", "stop"}
    assert 0 < record["started_wall_ns"] < record["ended_wall_ns"]
    assert [event["name"] for event in job.events("phase")] == ["start", "ready", "measure", "stop"]
    assert job.events()[-1]["type"] == "finished"
    assert job.child_pids() == []


def test_files_are_private(service: Callable[..., Any]) -> None:
    """What a run writes is for its owner only, the password first of all."""
    job = service(spec={"files": [FileSpec("conf/server.conf", ["port @{port}", "user@@host", "password @{secret}"])]}).server()
    job.wait_for("published")
    secret = job.run.secret(job.spec.token).read_text()
    assert re.fullmatch(r"[A-Za-z0-9]{32}", secret)
    conf = job.paths.rank(0).work / "conf/server.conf"
    assert conf.read_text() == f"port {job.events('published')[0]['port']}\nuser@host\npassword {secret}\n"
    job.signal(signal.SIGTERM)
    job.end()
    for path in [job.paths.rank(0).folder, *job.paths.rank(0).folder.rglob("*"), job.run.secret(job.spec.token)]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("options", [("exit0",), ("exit7",)])
def test_a_server_that_ends_early_is_a_failure_at_once(service: Callable[..., Any], options: "tuple[str, ...]") -> None:
    """With status 0 too, with what it printed, and with nothing that a terminal would obey."""
    record = service(ready_timeout_s=60).server(*options).end()
    assert record["outcome"] == "failed"
    assert record["exit_code"] == (7 if options == ("exit7",) else 0)
    assert "before it was ready" in record["text"]
    assert "server starts" in record["log_tail"]
    if options == ("exit7",):
        assert "its last line: cannot go on" in record["text"]
        assert "\x1b" not in record["log_tail"]
        assert "\x07" not in record["log_tail"]


@pytest.mark.parametrize("parameters", [{}, {"hang": True}])
def test_a_server_that_never_answers(service: Callable[..., Any], parameters: "dict[str, Any]") -> None:
    """The text says what it said at last; a question that hangs does not hang the job."""
    job = service(ready_timeout_s=0.6, parameters=parameters).server("deaf")
    record = job.end()
    assert record["outcome"] == "not_ready"
    assert "did not answer within 0.6 s" in record["text"]
    if not parameters:
        assert "nothing there, secret ***: " in record["text"]
    assert job.child_pids() == []


def test_the_password_is_in_no_text(service: Callable[..., Any]) -> None:
    job = service(ready_timeout_s=0.5, spec={"environment": {"PASSWORD": "@{secret}"}}).server("deaf")
    record = job.end()
    assert "password ***" in record["log_tail"]
    secret = job.run.secret(job.spec.token).read_text()
    assert secret in job.paths.rank(0).log.read_text()
    for path in (job.paths.rank(0).exit, job.paths.rank(0).events):
        assert secret not in path.read_text()
    assert secret not in job.stderr()


def test_another_port_is_tried_when_one_is_taken(service: Callable[..., Any]) -> None:
    job = service().server("taken-once")
    published = job.wait_for("published")
    assert [event["port"] for event in job.events("port_taken")] != [published["port"]]
    assert len(job.events("port_taken")) == 1
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"


def test_a_server_without_reuse_gets_a_port_too(service: Callable[..., Any]) -> None:
    """It trips over the port being held for it, and gets the next one unheld."""
    job = service().server("no-reuse")
    job.wait_for("published")
    assert len(job.events("port_taken")) == 1
    job.signal(signal.SIGTERM)
    job.end()


def test_ports_are_tried_so_many_times_and_no_more(service: Callable[..., Any]) -> None:
    job = service().server("taken")
    record = job.end()
    assert record["outcome"] == "failed"
    assert "any of 5 free ports" in record["text"]
    assert len(job.events("port_taken")) == 5


def test_a_stranger_on_the_port_is_not_believed(service: Callable[..., Any]) -> None:
    """Somebody else listens on the port that the server was given, and even answers well."""
    job = service(ready_timeout_s=60).server("deaf")
    job.wait_for("started")
    starts = job.paths.rank(0).work / "starts"
    with socket.socket() as stranger:
        port = _first_port(starts)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        stranger.settimeout(10)
        connection, _ = stranger.accept()
        connection.sendall(b"hello\n")
        connection.close()
        taken = job.wait_for("port_taken")
    assert taken["port"] == port
    assert "another program" in taken["text"]
    assert not job.run.endpoint(job.spec.token, 0).exists()
    job.signal(signal.SIGTERM)
    job.end()


def _first_port(starts: Path) -> int:
    from time import sleep

    for _ in range(500):
        if starts.exists() and starts.read_text().endswith("\n"):
            return int(starts.read_text().split()[0])
        sleep(0.02)
    raise AssertionError("the server has not started")


def test_a_fixed_port_in_use_fails_once_and_clearly(service: Callable[..., Any]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        job = service(port=port).server()
        record = job.end()
    assert record["outcome"] == "failed"
    assert f"port {port} on 127.0.0.1" in record["text"]
    assert "choose another port" in record["text"]
    assert job.events("started") == []


def test_a_fixed_port_is_used(service: Callable[..., Any]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    job = service(port=port).server()
    assert job.wait_for("published")["port"] == port
    job.signal(signal.SIGTERM)
    job.end()


def test_an_address_of_another_host_cannot_be_listened_on(service: Callable[..., Any]) -> None:
    record = service(bind="192.0.2.7").server().end()
    assert record["outcome"] == "failed"
    assert "is 192.0.2.7 an address of this host?" in record["text"]


def test_a_wildcard_is_published_as_an_address_that_is_reached(service: Callable[..., Any]) -> None:
    job = service(bind="0.0.0.0").server()
    published = job.wait_for("published")
    assert published["host"] not in {"0.0.0.0", ""}
    job.signal(signal.SIGTERM)
    job.end()


def test_a_missing_program_is_named(service: Callable[..., Any]) -> None:
    job = service().start("no-such-server", "--port", "@{port}")
    record = job.end()
    assert record["outcome"] == "failed"
    for part in ("'no-such-server'", socket.gethostname(), "not on PATH", "install it"):
        assert part in record["text"]
    assert os.environ["PATH"] in job.stderr()


def test_a_program_that_the_node_module_locates(service: Callable[..., Any], tmp_path: Path) -> None:
    job = service()
    program = tmp_path / "hello-server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {job.modules}/server.py "$@"\n')
    program.chmod(0o755)
    job.start("hello-server", "@{port}", "@{bind}", PRODUCT_HOME=str(tmp_path))
    job.wait_for("published")
    job.signal(signal.SIGTERM)
    job.end()


def test_preparation_runs_first_and_once(service: Callable[..., Any]) -> None:
    prepare = [["sh", "-c", 'echo "@{port}" >> prepared'], ["sh", "-c", "test -s prepared"]]
    job = service(prepare=prepare).server("taken-once")
    job.wait_for("published")
    assert len((job.paths.rank(0).work / "prepared").read_text().split()) == 1
    job.signal(signal.SIGTERM)
    job.end()


def test_preparation_that_fails_is_the_end(service: Callable[..., Any]) -> None:
    job = service(prepare=[["sh", "-c", "echo no room; exit 5"]]).server()
    record = job.end()
    assert record["outcome"] == "failed"
    assert f"preparing the service on {socket.gethostname()} failed: sh ended with exit code 5" in record["text"]
    assert record["text"].endswith("its last line: no room")
    assert "no room" in record["log_tail"]


@pytest.mark.parametrize(
    ("spec", "argv", "text"),
    [
        ({"node_module": "no_such_product"}, ("true",), "cannot be imported"),
        ({"node_module": None}, ("true",), "no function `probe`"),
        ({}, (), "needs one"),
        ({}, ("true", "@{endpoint.main.0.host}"), "has no value here"),
        ({"files": [FileSpec("../outside", [])]}, ("true",), "relative path"),
    ],
)
def test_what_cannot_work_is_said(
    service: Callable[..., Any], spec: "dict[str, Any]", argv: "tuple[str, ...]", text: str
) -> None:
    job = service(spec=spec).start(*argv)
    record = job.end()
    assert record["outcome"] == "failed"
    assert text in record["text"]
    assert "Traceback" not in job.stderr()


def test_a_server_that_dies_while_serving(service: Callable[..., Any]) -> None:
    job = service().server("short")
    job.wait_for("published")
    record = job.end()
    assert (record["outcome"], record["exit_code"]) == ("failed", 0)
    assert "while it was serving" in record["text"]


def test_a_server_that_is_killed(service: Callable[..., Any]) -> None:
    job = service().server()
    pid = job.wait_for("started")["pid"]
    job.wait_for("published")
    os.kill(pid, signal.SIGKILL)
    record = job.end()
    assert (record["outcome"], record["exit_code"], record["signal"]) == ("failed", None, signal.SIGKILL)
    assert "SIGKILL (out of memory?)" in record["text"]


def test_a_service_ends_with_its_clients(service: Callable[..., Any]) -> None:
    job = service(clients={"afb-r1-load-1": 2}).server()
    job.wait_for("published")
    for rank in (0, 1):
        assert not job.paths.rank(0).exit.exists()
        paths = job.run.job("afb-r1-load-1").rank(rank)
        paths.folder.mkdir(parents=True)
        paths.exit.write_text(json.dumps({"outcome": "completed"}))
    record = job.end()
    assert record["outcome"] == "completed"
    assert job.child_pids() == []


_DATA = [["sh", "-c", "mkdir data && echo rows > data/table && echo rows > dump && ln -s ../conf link"]]
_SCRATCH = ["data", "dump", "link", "never-made"]


def test_data_goes_when_the_job_has_ended(service: Callable[..., Any]) -> None:
    """Of a link only itself; what is not named stays."""
    job = service(prepare=_DATA, scratch=_SCRATCH).server()
    job.wait_for("published")
    assert (job.paths.rank(0).work / "data/table").exists()
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"
    assert [path.name for path in job.paths.rank(0).work.iterdir()] == ["starts"]
    assert job.stderr() == ""


def test_data_stays_where_the_server_failed(service: Callable[..., Any]) -> None:
    job = service(prepare=_DATA, scratch=_SCRATCH).server("short")
    assert job.end()["outcome"] == "failed"
    assert (job.paths.rank(0).work / "data/table").read_text() == "rows\n"


def test_samples_and_fingerprint_are_written(service: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    job = service(spec={"monitors": {"node": {"interval_s": 0.1}}}).server()
    job.wait_for("published")
    samples = job.paths.rank(0).samples / "node.csv"
    wait_until(lambda: samples.exists() and len(samples.read_text().splitlines()) > 2, "samples")
    job.signal(signal.SIGTERM)
    job.end()
    assert json.loads(job.paths.rank(0).fingerprint.read_text())
    assert job.events("monitor_failed") == []


def test_a_monitor_that_fails_does_not_fail_the_job(service: Callable[..., Any]) -> None:
    job = service(spec={"monitors": {"node": {"interval_s": 0}}}).server()
    assert "above 0 s" in job.wait_for("monitor_failed")["text"]
    job.wait_for("published")
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"


def test_the_environment_of_the_child(service: Callable[..., Any]) -> None:
    """It has the job's own variables and ours, and neither the scheduler's nor anybody's secrets."""
    job = service(spec={"environment": {"WHERE": "@{bind}:@{port} rank @{rank} of @{replicas}"}})
    job.server(
        HF_TOKEN="hf_x", MY_API_KEY="k", SLURM_JOB_ID="77", SLURM_JWT="j", CUDA_VISIBLE_DEVICES="0", TOKENIZERS_PARALLELISM="1"
    )
    port = job.wait_for("published")["port"]
    data = Path(f"/proc/{job.events('started')[0]['pid']}/environ").read_bytes().split(b"\0")
    found = dict(item.decode().split("=", 1) for item in data if item)
    assert found["WHERE"] == f"127.0.0.1:{port} rank 0 of 1"
    assert found["AFB_TOKEN"] == job.spec.token
    assert found["AFB_JOB_DIR"] == str(job.paths.folder)
    assert (found["CUDA_VISIBLE_DEVICES"], found["TOKENIZERS_PARALLELISM"], found["PATH"]) == ("0", "1", os.environ["PATH"])
    assert not {"HF_TOKEN", "MY_API_KEY", "SLURM_JOB_ID", "SLURM_JWT"} & set(found)
    assert endpoints.read(job.run.endpoint(job.spec.token, 0)).job_id == "77"  # type: ignore[union-attr]
    job.signal(signal.SIGTERM)
    job.end()
