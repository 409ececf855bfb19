"""Rules of a site on a real Slurm: typed GPUs, whole nodes, and single processes that `srun` starts."""

import json
import os
import shutil
import signal
import time

import pytest

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None and os.environ.get("CI") != "true", reason="redis-server is not installed"
)
pytestmark = [needs_redis, pytest.mark.timeout(240)]

RULES = {
    "rules": "{whole_nodes: true, gpu_request: gres, gpu_type: fake, srun_containers: true, cpus_per_task_export: true, "
    "min_job_age: 30s, max_time: {debug: 1h}}",
    "nodes": "{debug: {cpus: 4, gpus: 2}}",
    "billing": "{unit: node_hour, partitions: {debug: {node: 1.0}}}",
}
RECIPE = """\
schema: aifactory-bench/1
name: ruled
services:
  cache: {kind: redis, image: "docker://redis:7.4", resources: {time: 5m, memory: 500MiB, gpus: 1}}
clients:
  load:
    kind: redis-load
    target: cache
    resources: {time: TIME, memory: 500MiB}
    parameters: {keys: 500}
    load: {process: poisson, rate: 400/s, warmup: 200ms, duration: DURATION}
"""


@pytest.fixture
def recipe(tmp_path):
    """Write the recipe; returns its path."""

    def write(duration="1s", time="5m"):
        path = tmp_path / "ruled.yaml"
        path.write_text(RECIPE.replace("DURATION", duration).replace("TIME", time))
        return path

    return write


def test_a_run_that_keeps_all_rules(cluster, site, recipe, cli):
    """Slurm gives what is asked for, each job has a step of its own, and nothing is left."""
    code, out, err = cli("run", recipe(), "--site", site(**RULES), "--run-id", "ruled", "--json")
    assert code in {0, 3}, err
    summary = json.loads(out)
    assert summary["points"][0]["measurements"][0]["counts"]["ok"] > 200
    assert [job["state"] for job in summary["jobs"]] == ["completed", "completed"]
    script = cluster.run(["cat", f"{cluster.runs}/ruled/jobs/afb-ruled-cache-0/script.sh"]).stdout
    assert "#SBATCH --gres=gpu:fake:1\n" in script
    assert "#SBATCH --exclusive\n" in script
    assert "export SRUN_CPUS_PER_TASK=4 " in script
    assert "exec srun --ntasks=1 " in script
    assert cluster.leftovers() == []


def test_an_interrupt_reaches_what_srun_started(cluster, site, recipe, command):
    """Jobs end within 15 s, what was measured is kept, nothing runs on."""
    child = command("run", recipe(duration="60s"), "--site", site(**RULES), "--run-id", "cut")
    deadline = time.monotonic() + 60
    while '"point_started"' not in cluster.run(["sh", "-c", f"cat {cluster.runs}/cut/jobs/*load*/0/events.jsonl"]).stdout:
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)
    time.sleep(1.0)
    child.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 15
    while any(job.name.startswith("afb-cut-") for job in cluster.jobs()):
        assert time.monotonic() < deadline, "jobs did not end"
        time.sleep(0.2)
    out, _err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "window_short" in out
    assert cluster.leftovers() == []


def test_the_warning_before_the_end_reaches_what_srun_started(cluster, site, recipe, cli):
    """What was measured until the walltime is kept, and the server does not die of the warning."""
    code, out, err = cli("run", recipe("5m", "1m"), "--site", site(**RULES), "--run-id", "ended", "--json")
    assert code == 3, err
    summary = json.loads(out)
    (measurement,) = summary["points"][0]["measurements"]
    assert "cut" in {reason["code"] for reason in measurement["reasons"]}
    assert measurement["counts"]["ok"] > 100
    assert {job["name"]: job["state"] for job in summary["jobs"]}["cache"] == "completed"


def test_a_plan_knows_what_it_costs_there(site, recipe, cli):
    """And a cap refuses before anything is submitted."""
    code, out, err = cli("plan", recipe(), "--site", site(**RULES))
    assert code == 0, err
    assert "at most, on testbed: 0.17 node-hours, 0.33 GPU-hours, billed 0.17 node-hours" in out
    code, _out, err = cli("run", recipe(), "--site", site(**RULES), "--max-node-hours", "0.1")
    assert code == 2
    assert "the run may take 0.17 node-hours on testbed" in err
