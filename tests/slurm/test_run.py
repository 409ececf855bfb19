"""Whole runs on a real Slurm over a real sshd, with the command line as users have it, and with what goes wrong between."""

import json
import os
import re
import shutil
import signal
import time

import pytest

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None and os.environ.get("CI") != "true", reason="redis-server is not installed"
)
pytestmark = [needs_redis, pytest.mark.timeout(240)]

RECIPE = """\
schema: aifactory-bench/1
name: small
services:
  cache: {kind: redis, image: "docker://redis:7.4", resources: {time: 5m, memory: 500MiB}}
clients:
  load:
    kind: redis-load
    target: cache
    replicas: REPLICAS
    resources: {nodes: REPLICAS, time: 5m, memory: 500MiB}
    parameters: {keys: 500}
    load: {process: poisson, rate: 400/s, warmup: 200ms, duration: DURATION}
"""
ENDED_S = 15.0


@pytest.fixture
def recipe(tmp_path):
    """Write a small recipe; returns its path."""

    def write(more="", *, duration="1s", replicas=1, text=RECIPE):
        path = tmp_path / "small.yaml"
        path.write_text(text.replace("DURATION", duration).replace("REPLICAS", str(replicas)) + more)
        return path

    return write


def until(condition, limit_s=60.0):
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
    return found


def states(cluster):
    return sorted(job.state for job in cluster.jobs() if job.name.startswith("afb-"))


def phase_begun(cluster, run, name):
    """Whether a client of a run has begun a phase; asked on the cluster itself."""
    done = cluster.run(["sh", "-c", f"cat {cluster.runs}/{run}/jobs/*/0/events.jsonl 2>/dev/null"])
    return f'"name": "{name}"' in done.stdout and '"point_started"' in done.stdout


def submitted_once(cluster, run):
    """Return the names of a run's jobs in the queue and of those that ended; each is there once."""
    names = [job.name for job in cluster.jobs(ended=True) if job.name.startswith(f"afb-{run}-")]
    assert len(names) == len(set(names)), names
    return set(names)


@pytest.mark.parametrize("runtime", ["host", "apptainer"])
def test_a_recipe_from_file_to_verdict(cluster, site, recipe, cli, runtime, tmp_path):
    """Service and clients on nodes of their own, replicas on two nodes merged into one measurement, nothing left."""
    code, out, err = cli("run", recipe(replicas=2), "--site", site(runtime), "--run-id", f"whole-{runtime}", "--json")
    assert code in {0, 3}, err
    summary = json.loads(out)
    (measurement,) = summary["points"][0]["measurements"]
    assert measurement["replicas"] == 2
    assert measurement["counts"]["ok"] > 200
    assert measurement["counts"]["error"] == 0
    assert len({rank["host"] for rank in measurement["provenance"]["ranks"]}) == (2 if cluster.namespaces else 1)
    assert [job["state"] for job in summary["jobs"]] == ["completed", "completed"]
    assert summary["run_folder"] == str(tmp_path / f"runs/whole-{runtime}")
    assert summary["site_folder"] == f"{cluster.runs}/whole-{runtime}"
    assert cluster.leftovers() == []
    assert "password" not in (tmp_path / f"runs/whole-{runtime}/plan.json").read_text()


def test_what_is_submitted_is_what_script_prints(cluster, site, recipe, cli):
    """To the letter, but for the run's id."""
    _code, shown, _err = cli("script", recipe(), "--site", site())
    code, _out, err = cli("run", recipe(), "--site", site(), "--run-id", "same", "--quiet")
    assert code in {0, 3}, err
    for name in ("cache", "load"):
        script = cluster.run(["cat", f"{cluster.runs}/same/jobs/afb-same-{name}-0/script.sh"]).stdout
        assert re.sub(r"\bsame\b", "preview", script) in shown


def test_through_a_gate(cluster, site, recipe, cli, tmp_path):
    """Over the jump host that the user's SSH configuration names."""
    path = tmp_path / "gate.yaml"
    lines = site().read_text().splitlines()
    path.write_text("\n".join("login: {host: testbed-inside}" if line.startswith("login:") else line for line in lines) + "\n")
    code, out, err = cli("run", recipe(), "--site", path, "--json")
    assert code in {0, 3}, err
    assert json.loads(out)["points"][0]["measurements"][0]["counts"]["ok"] > 100


def test_an_interrupt_leaves_nothing(cluster, site, recipe, command):
    """Ctrl-C in the window: jobs end within 15 s, what was measured is kept, nothing runs on."""
    child = command("run", recipe(duration="60s"), "--site", site(), "--run-id", "stopped")
    until(lambda: phase_begun(cluster, "stopped", "measure"))
    child.send_signal(signal.SIGINT)
    until(lambda: not states(cluster), ENDED_S)
    out, _err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "window_short" in out
    assert cluster.leftovers() == []


def test_an_interrupt_takes_waiting_jobs_out_of_the_queue(cluster, site, recipe, command):
    """They read no stop file."""
    blockers = [cluster.submit("#!/bin/sh\nexec sleep 300\n", "--exclusive", "--nodes=1") for _ in cluster.nodes]
    for blocker in blockers:
        cluster.wait_for(blocker, "RUNNING")
    child = command("run", recipe(), "--site", site(), "--run-id", "waiting")
    until(lambda: states(cluster) == ["PENDING", "PENDING"])
    child.send_signal(signal.SIGINT)
    until(lambda: not states(cluster), ENDED_S)
    out, _err = child.communicate(timeout=60)
    assert child.returncode == 130, out
    cluster.cancel_all()


def test_a_run_needs_no_controller(cluster, site, recipe, command, cli, tmp_path):
    """Killed once everything is in the queue; it finishes by itself, and another machine that never saw it shows the result."""
    child = command("run", recipe(duration="2s"), "--site", site(), "--run-id", "alone")
    until(lambda: len(states(cluster)) == 2)
    child.kill()
    child.communicate()
    until(lambda: not states(cluster))
    code, out, err = cli("attach", "alone", "--site", site(), "--json", runs="elsewhere")
    assert code in {0, 3}, err
    summary = json.loads(out)
    assert summary["status"] == "finished"
    assert summary["points"][0]["measurements"][0]["counts"]["ok"] > 400
    assert submitted_once(cluster, "alone") == {"afb-alone-cache-0", "afb-alone-load-0"}
    assert (tmp_path / "elsewhere/alone/summary.json").exists()


def test_a_service_without_a_controller_ends_by_its_lease(cluster, site, recipe, command):
    """Nobody cares for it any more: it stops what it started and goes."""
    text = RECIPE.partition("clients:")[0]
    child = command("run", recipe(text=text), "--site", site(), "--run-id", "leased", "--lease", "5s")
    until(lambda: states(cluster) == ["RUNNING"])
    child.kill()
    child.communicate()
    until(lambda: not states(cluster), 30)
    assert cluster.leftovers() == []


def test_a_lost_connection_is_made_again(cluster, site, recipe, cli, command):
    """The run goes on meanwhile, and the controller finds it where it is."""
    child = command("run", recipe(duration="6s"), "--site", site(), "--run-id", "dropped", "--json")
    until(lambda: phase_begun(cluster, "dropped", "prepare"))
    assert cluster.drop_ssh_sessions() > 0
    out, err = child.communicate(timeout=120)
    assert child.returncode in {0, 3}, err
    assert json.loads(out)["points"][0]["measurements"][0]["counts"]["ok"] > 1000


def test_a_frozen_controller_of_the_cluster_gets_each_job_once(cluster, site, recipe, command):
    """sbatch says that its socket timed out, and the job is there all the same."""
    cluster.slurmctld.stop()
    child = command("run", recipe(), "--site", site(), "--run-id", "frozen", "--json")
    time.sleep(14)  # MessageTimeout of the bed is 10 s
    cluster.slurmctld.cont()
    out, err = child.communicate(timeout=180)
    assert child.returncode in {0, 3}, err
    assert submitted_once(cluster, "frozen") == {"afb-frozen-cache-0", "afb-frozen-load-0"}
    assert json.loads(out)["points"][0]["measurements"][0]["counts"]["ok"] > 100


def test_two_controllers_submit_once(cluster, site, recipe, command, cli):
    """The second one only follows, and both show the same."""
    first = command("run", recipe(duration="4s"), "--site", site(), "--run-id", "twice", "--json")
    until(lambda: len(states(cluster)) == 2)
    code, out, err = cli("attach", "twice", "--site", site(), "--json", runs="elsewhere")
    assert "only following" in err
    first_out, first_err = first.communicate(timeout=60)
    assert (first.returncode, code) in {(0, 0), (3, 3)}, (first_err, err)
    assert json.loads(out)["points"] == json.loads(first_out)["points"]
    assert submitted_once(cluster, "twice") == {"afb-twice-cache-0", "afb-twice-load-0"}


def test_a_login_that_needs_a_person_detaches(cluster, site, recipe, command, cli, tmp_path):
    """The run is left to itself, and taken up when the key is there again."""
    child = command("run", recipe(duration="8s"), "--site", site(), "--run-id", "locked-out", "--json")
    until(lambda: phase_begun(cluster, "locked-out", "prepare"))
    config = tmp_path / "home/.ssh/config"
    kept = config.read_text()
    config.write_text(kept.replace("IdentityFile ", "IdentityFile /nowhere/not"))
    cluster.drop_ssh_sessions()
    out, err = child.communicate(timeout=120)
    assert child.returncode == 4, (out, err)
    assert json.loads(out)["status"] == "detached"
    config.write_text(kept)
    code, out, err = cli("attach", "locked-out", "--site", site(), "--json")
    assert code in {0, 3}, err
    assert json.loads(out)["points"][0]["measurements"][0]["counts"]["ok"] > 1000


def test_a_refusal_says_what_to_change(cluster, site, recipe, cli):
    """In sbatch's own words; nothing is left in the queue."""
    asked = "memory: 500MiB, slurm: {constraint: none}}}\nclients"
    path = recipe(text=RECIPE.replace("memory: 500MiB}}\nclients", asked))
    code, out, err = cli("run", path, "--site", site(), "--run-id", "refused")
    assert code == 1
    assert "refused by testbed" in out + err
    assert "change `constraint`" in out + err
    until(lambda: not states(cluster), ENDED_S)


def test_a_node_that_fails_is_left_out_of_the_next_attempt(cluster, site, recipe, command):
    """What the site lost before the window is planned again, as often as the recipe allows; no number is touched by that."""
    path = recipe("retries: 1\n", duration="1s", text=RECIPE.replace("keys: 500", "keys: 400000"))
    child = command("run", path, "--site", site(), "--run-id", "retried", "--json")

    def node_of_service():
        jobs = [job for job in cluster.jobs() if job.name == "afb-retried-cache-0" and job.state == "RUNNING"]
        return jobs[0].nodes if jobs and phase_begun(cluster, "retried", "prepare") else ""

    node = until(node_of_service)
    cluster.power_off(node)
    out, err = child.communicate(timeout=200)
    summary = json.loads(out)
    by_token = {job["token"]: job for job in summary["jobs"]}
    assert by_token["afb-retried-cache-0"]["state"] == "node_fail", err
    assert child.returncode in {0, 3}, (summary["error"], err)
    assert summary["points"][0]["measurements"][0]["counts"]["ok"] > 100
    script = cluster.run(["cat", f"{cluster.runs}/retried/jobs/afb-retried-cache-1/script.sh"]).stdout
    assert f"#SBATCH --exclude={node}\n" in script


def test_what_was_measured_until_the_walltime_is_kept(cluster, site, recipe, cli):
    """Slurm warns before the end, and every rank writes down what it has; a server beside it does not die of the warning."""
    text = RECIPE.replace("resources: {nodes: REPLICAS, time: 5m, memory: 500MiB}", "resources: {nodes: REPLICAS, time: 1m}")
    code, out, err = cli("run", recipe(text=text, duration="5m", replicas=2), "--site", site(), "--run-id", "short", "--json")
    assert code == 3, err
    summary = json.loads(out)
    (measurement,) = summary["points"][0]["measurements"]
    assert "cut" in {reason["code"] for reason in measurement["reasons"]}
    assert measurement["replicas"] == 2
    assert measurement["counts"]["ok"] > 100
    assert summary["error"]["code"] == "timeout"
    assert {job["name"]: job["state"] for job in summary["jobs"]}["cache"] == "completed"
