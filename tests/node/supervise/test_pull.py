"""A service that gets its model through the running server: alive, pulled, ready; and samples of its own figures."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ALIVE = """

def alive(endpoint, secret, parameters):
    import os
    with open(os.path.join(os.environ["AFB_RUN_DIR"], "alive"), "a") as stream:
        stream.write("x")
    return {"from": "alive"}

def sample(endpoint, secret):
    return {"port": float(endpoint.port), "secret_length": len(secret)}
"""


@pytest.fixture
def alive(modules: Path) -> None:
    """The product's node module knows of a server without a model."""
    with (modules / "product.py").open("a") as stream:
        stream.write(ALIVE)


@pytest.mark.usefixtures("alive")
def test_the_model_is_pulled_between_alive_and_ready(service: Callable[..., Any]) -> None:
    pull = [["sh", "-c", 'sleep 0.2; echo "@{port}" >> pulled'], ["test", "-s", "pulled"]]
    job = service(model_pull=pull, spec={"monitors": {"service": {"interval_s": 0.1}}}).server()
    facts = job.wait_for("ready")["facts"]
    assert facts["server_name"] == "hello"
    assert 0.2 <= facts["model_pull_s"] < 10
    assert [event["name"] for event in job.events("phase")][:4] == ["start", "ready", "pull", "ready"]
    port = job.wait_for("published")["port"]
    assert (job.paths.rank(0).work / "pulled").read_text().split() == [str(port)]
    assert (job.run.folder / "alive").read_text() == "x"
    samples = job.paths.rank(0).samples / "service.csv"
    while not samples.exists() or samples.read_text().count("\n") < 2:
        assert job.process.poll() is None
    assert samples.read_text().splitlines()[1].endswith(f",{port},32")
    job.signal(signal.SIGTERM)
    assert job.end()["phases_s"]["pull"] >= 0.2
    assert job.events("monitor_failed") == []


@pytest.mark.usefixtures("alive")
def test_a_pull_that_fails_is_the_end(service: Callable[..., Any]) -> None:
    job = service(model_pull=[["sh", "-c", "echo no such model; exit 4"]]).server()
    record = job.end()
    assert record["outcome"] == "failed"
    assert "bringing the model into place failed: sh ended with exit code 4" in record["text"]
    assert "no such model" in record["text"]


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("word", ["TERM", "timeout"])
def test_nothing_of_a_pull_outlives_its_job(service: Callable[..., Any], word: str) -> None:
    job = service(model_pull=[["sh", "-c", "sleep 600 & sleep 600"]], ready_timeout_s=15 if word == "TERM" else 0.5).server()
    if word == "TERM":
        job.wait_for("started")
        while "pull" not in [event["name"] for event in job.events("phase")]:
            assert job.process.poll() is None
        job.signal(signal.SIGTERM)
    record = job.end()
    assert record["outcome"] == ("stopped" if word == "TERM" else "not_ready")
    assert job.child_pids() == []


def test_a_product_must_tell_that_it_is_alive(service: Callable[..., Any]) -> None:
    record = service(model_pull=[["true"]]).server().end()
    assert record["outcome"] == "failed"
    assert "has no function `alive`" in record["text"]


@pytest.mark.usefixtures("alive")
def test_what_env_starts_is_called_by_its_own_name(service: Callable[..., Any]) -> None:
    job = service(model_pull=[["env", "A=b", "sh", "-c", "exit 9"]]).server()
    assert "failed: sh ended with exit code 9" in job.end()["text"]
