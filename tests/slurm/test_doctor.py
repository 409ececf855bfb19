"""`doctor` and `init` on a real Slurm over a real sshd: what is right is found right, and what is broken is named."""

import signal
import subprocess
import sys
import time

import pytest
from attrs import evolve

from aifactory_bench.cli import main
from aifactory_bench.doctor import doctor
from aifactory_bench.sites.load import load_site
from aifactory_bench.sites.rules import Rules

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def profile(site):
    """The site's profile, with what the cluster is set to."""
    return evolve(load_site(str(site())), rules=Rules(min_job_age_s=30.0))


def told(found):
    return [(one.check, one.state) for one in found.findings if one.state in {"fail", "warn"}]


def until(condition, limit_s=60.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def _all_gone(cluster):
    """Whether no job is left, or one is only being cleaned away."""
    end = time.monotonic() + 15
    while time.monotonic() < end and cluster.jobs():
        time.sleep(0.2)
    return cluster.jobs() == []


def test_all_is_well_on_a_node_too(cluster, profile):
    """Only that there are no accounts is worth knowing; nothing is left on the cluster."""
    found = doctor(profile, job=True)
    assert told(found) == [("accounting", "warn")], found.findings
    assert "runs our program" in found.of("node python").text
    if cluster.namespaces:
        assert found.of("node reached").state == "ok"
    assert cluster.run(["find", cluster.shared, "-name", "*afb-doctor*"]).stdout == ""
    assert _all_gone(cluster)


def test_a_folder_that_is_not_shared(cluster, profile):
    """As /tmp is each host's own."""
    if not cluster.namespaces:
        pytest.skip("all nodes are one machine")
    found = doctor(evolve(profile, runs="/tmp/runs"), job=True)
    assert ("shared folder", "fail") in told(found)
    assert "the folder is not shared" in found.of("shared folder").text
    assert cluster.run(["ls", "-A", "/tmp"]).stdout == ""


@pytest.mark.parametrize(
    ("options", "check", "cause"),
    [
        ({"partition": "gpu"}, "partition", "there is no partition 'gpu'; there is: debug"),
        ({"partition": "debug", "constraint": "nosuch"}, "submission", "Invalid feature specification"),
    ],
)
def test_options_that_slurm_refuses(cluster, profile, options, check, cause):
    """By name where the login node lists what there is, else in sbatch's words; no job is submitted for it."""
    found = doctor(evolve(profile, scheduler=options), job=True)
    assert [one.check for one in found.failed] == [check]
    assert cause in found.of(check).text
    assert found.of("node").text == f"needs: {check}"


def test_a_controller_that_is_gone(cluster, profile):
    cluster.slurmctld.kill()
    found = doctor(profile, job=True)
    assert [one.check for one in found.failed] == ["controller"]
    assert "Unable to contact slurm controller" in found.of("controller").text


def test_accounts_are_those_of_the_user(accounting_cluster, tmp_path):
    """With slurmdbd: accounts and QOS are known by name."""
    accounting_cluster.give_ssh(tmp_path / "home")
    profile = load_site(str(accounting_cluster.profile("host")))
    found = doctor(evolve(profile, scheduler={"partition": "debug", "account": "p999", "qos": "nosuch"}))
    assert found.of("accounting").state == "ok"
    assert found.of("account").text == "the account 'p999' is none of yours: bench"
    assert [one.check for one in found.failed] == ["qos"]
    assert "is none of yours: normal" in found.of("qos").text


def test_a_container_runtime_on_a_node(cluster, site):
    """And an image that nodes see."""
    profile = evolve(load_site(str(site("apptainer"))), rules=Rules(min_job_age_s=30.0))
    found = doctor(profile, job=True)
    assert told(found) == [("accounting", "warn")], found.findings
    assert found.of("node runtime").text.startswith("apptainer version")
    assert "sees all 1" in found.of("node images").text


def test_an_interrupt_leaves_nothing(cluster, site):
    """Ctrl-C while the job is there: it is cancelled, and its folder goes."""
    argv = [sys.executable, "-m", "aifactory_bench", "doctor", "--site", str(site()), "--job"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(lambda: [job for job in cluster.jobs() if job.name.startswith("afb-doctor-")] or child.poll() is not None)
        child.send_signal(signal.SIGINT)
        said, _ = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130, said
    until(lambda: not cluster.jobs())
    assert cluster.run(["find", cluster.shared, "-name", "*afb-doctor*"]).stdout == ""


def test_a_profile_from_nothing(cluster, site, capsys):
    """`init` writes it by what the cluster shows, and doctor finds nothing wrong with it."""
    site()
    assert main(["init", "fresh", "--host", "testbed", "--runs", f"{cluster.shared}/runs", "--runtime", "host", "--yes"]) == 0
    fresh = load_site("fresh")
    assert fresh.scheduler == {"partition": "debug"}
    assert fresh.rules.min_job_age_s == 30.0
    assert fresh.rules.max_time_s == {"debug": 86400.0}
    assert (fresh.nodes["debug"].cpus, fresh.nodes["debug"].gpus, fresh.nodes["debug"].count) == (4, 2, 4)
    assert told(doctor(fresh)) == [("accounting", "warn")]
    capsys.readouterr()
