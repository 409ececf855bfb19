"""The test bed itself: what it says it is, and that nothing of it stays."""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bed import BedError, Cluster, down, new_folder, sweep
from bed.processes import processes

needs_namespaces = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes hosts with addresses of their own")
needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
PROGRAM = Path(__file__).with_name("bed")


def ssh(cluster, *command, host="testbed", **options):
    argv = ["ssh", "-F", cluster.ssh_config, "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", host, *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False, **options)


def output(cluster, job, name):
    ended = cluster.wait_for(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
    text = cluster.here(f"{cluster.shared}/{name}").read_text()
    assert ended.state == "COMPLETED", text
    return text


def until(condition, limit_s=30.0):
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


class TestHosts:
    def test_four_nodes_are_idle(self, cluster):
        assert cluster.idle()
        assert sorted(cluster.nodes) == ["node1", "node2", "node3", "node4"]

    def test_a_job_runs_on_two_nodes_and_each_sees_itself(self, cluster):
        script = "#!/bin/sh\nsrun sh -c 'echo $SLURMD_NODENAME $(hostname) $(hostname -i)'\n"
        job = cluster.submit(script, "--nodes=2", "--ntasks-per-node=1", f"--output={cluster.shared}/two.txt")
        rows = [line.split() for line in output(cluster, job, "two.txt").splitlines()]
        assert len({name for name, *_ in rows}) == 2
        if cluster.namespaces:
            assert all(row == [row[0], row[0], cluster.nodes[row[0]]] for row in rows)

    def test_a_node_s_python_is_new_enough(self, cluster):
        script = "#!/bin/sh\nexec python3 -c 'import sys; print(sys.version_info >= (3, 9))'\n"
        job = cluster.submit(script, f"--output={cluster.shared}/python.txt")
        assert output(cluster, job, "python.txt") == "True\n"

    @pytest.mark.parametrize("option", ["--gres=gpu:2", "--gpus-per-node=2"])
    def test_gpus_go_to_jobs_that_ask(self, cluster, option):
        script = "#!/bin/sh\necho $CUDA_VISIBLE_DEVICES $SLURMD_NODENAME\n"
        job = cluster.submit(script, option, f"--output={cluster.shared}/gpu.txt")
        gpus, node = output(cluster, job, "gpu.txt").split()
        assert (gpus, node) in {("0,1", "node1"), ("0,1", "node2")}

    @needs_namespaces
    def test_nothing_of_the_cluster_but_ssh_is_reached_from_here(self, cluster):
        with pytest.raises(OSError, match="No route to host"):
            reach(cluster.nodes["node1"], 6818)

    @needs_namespaces
    def test_hosts_do_not_reach_the_world(self, cluster):
        route = cluster.run(["ip", "route", "get", "192.0.2.77"], host="node1")
        assert "unreachable" in route.stderr

    @needs_namespaces
    def test_hosts_see_neither_this_machine_s_temporary_files_nor_each_other_s(self, cluster, tmp_path):
        cluster.run(["touch", "/tmp/mine"], host="node1", check=True)
        assert cluster.run(["ls", "/tmp"], host="node2").stdout == ""
        assert cluster.run(["ls", str(tmp_path)], host="node1").returncode != 0

    @needs_namespaces
    def test_users_exist_on_hosts_only(self, cluster):
        assert cluster.run(["id", "-un"], host="node1", user="bob").stdout == "bob\n"
        assert subprocess.run(["id", "alice"], capture_output=True, check=False).returncode != 0


def reach(host, port):
    """Connect past the guard of tests, to see that the machine itself refuses."""
    program = f"import socket; socket.create_connection(({host!r}, {port}), timeout=5)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise OSError(done.stderr)


class TestSsh:
    def test_login_with_the_key(self, cluster):
        done = ssh(cluster, "id -un; command -v sbatch apptainer; sinfo --noheader --Node --format=%N")
        assert done.returncode == 0, done.stderr
        user, *paths, one, two, three, four = done.stdout.split()
        assert user == cluster.user
        assert len(paths) == 2
        assert [one, two, three, four] == list(cluster.nodes)

    def test_login_through_the_gate(self, cluster):
        done = ssh(cluster, "echo $SSH_CONNECTION", host="testbed-inside")
        assert done.returncode == 0, done.stderr
        client, _, server, port = done.stdout.split()
        assert (server, int(port)) == cluster.inside
        if cluster.namespaces:
            assert client != cluster.login[0]
            assert server not in cluster.addresses

    def test_an_unknown_host_key_is_refused(self, cluster, tmp_path):
        done = subprocess.run(
            ["ssh", "-F", cluster.ssh_config, "-o", f"UserKnownHostsFile={tmp_path / 'none'}", "testbed", "true"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 255
        assert "Host key verification failed" in done.stderr

    def test_this_process_may_connect(self, cluster):
        with socket.create_connection(cluster.login, timeout=20) as connection:
            assert connection.recv(4) == b"SSH-"

    def test_dropped_sessions(self, cluster):
        argv = ["ssh", "-F", cluster.ssh_config, "testbed", "echo there; exec sleep 60"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as client:
            assert client.stdout.readline() == "there\n"
            assert cluster.drop_ssh_sessions() >= 1
            assert client.wait(30) == 255
        cluster.run(["pkill", "-f", "^sleep 60$"])
        assert ssh(cluster, "true").returncode == 0

    def test_a_cut_loses_what_is_sent_and_tells_nobody(self, cluster):
        argv = ["ssh", "-F", cluster.ssh_config, "testbed", "cat"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as client:
            client.stdin.write("before\n")
            assert client.stdout.readline() == "before\n"
            cluster.cut_login()
            client.stdin.write("after\n")
            assert select.select([client.stdout], [], [], 1.0)[0] == []
            assert client.poll() is None
            cluster.restore_login()
            assert client.stdout.readline() == "after\n"
            client.stdin.close()
            assert client.wait(30) == 0


class TestFaults:
    def test_slurmctld_frozen(self, cluster):
        cluster.slurmctld.stop()
        assert cluster.run(["squeue"], timeout_s=1).returncode == 124
        cluster.slurmctld.cont()
        assert cluster.run(["squeue"], timeout_s=30).returncode == 0

    def test_slurmctld_killed_and_started_again_knows_its_jobs(self, cluster):
        job = cluster.submit("#!/bin/sh\nexec sleep 60\n")
        cluster.wait_for(job, "RUNNING")
        cluster.save()
        cluster.slurmctld.kill()
        assert "DOWN" in cluster.run(["scontrol", "ping"]).stdout
        cluster.slurmctld.restart()
        assert [row.state for row in cluster.jobs(cluster.user)] == ["RUNNING"]
        cluster.cancel_all()

    def test_a_node_without_power_fails_its_job(self, cluster):
        job = cluster.submit("#!/bin/sh\nexec sleep 100\n", "--nodelist=node4")
        cluster.wait_for(job, "RUNNING")
        cluster.power_off("node4")
        assert cluster.wait_for(job, "NODE_FAIL").state == "NODE_FAIL"
        cluster.power_on("node4")
        until(cluster.idle)

    def test_after_a_test_all_is_well_again_and_its_jobs_are_told(self, cluster):
        job = cluster.submit("#!/bin/sh\nexec sleep 60\n")
        cluster.power_off("node4")
        cluster.slurmctld.stop()
        cluster.cut_login()
        assert [row.id for row in cluster.recover()] == [job]
        assert cluster.jobs() == []
        assert cluster.recover() == []
        assert ssh(cluster, "srun --nodes=4 true").returncode == 0

    def test_what_belongs_to_no_job_is_found(self, cluster):
        job = cluster.submit("#!/bin/sh\nsetsid sleep 77 >/dev/null 2>&1 &\nsleep 0.2\n")
        cluster.wait_for(job, "COMPLETED")
        until(lambda: not cluster.jobs())
        left = until(cluster.leftovers)
        assert [process.command for process in left] == ["sleep 77"]
        os.kill(left[0].pid, signal.SIGKILL)
        until(lambda: not cluster.leftovers())

    def test_processes_of_a_running_job_are_no_leftovers(self, cluster):
        job = cluster.submit("#!/bin/sh\nsetsid sleep 60 >/dev/null 2>&1 &\nexec sleep 60\n")
        cluster.wait_for(job, "RUNNING")
        assert cluster.leftovers() == []
        cluster.cancel_all()
        for process in cluster.leftovers():
            os.kill(process.pid, signal.SIGKILL)


@needs_redis
class TestApptainer:
    def run(self, cluster, *arguments, **variables):
        pairs = [f"{name}={value}" for name, value in variables.items()]
        return cluster.run(["env", "-C", cluster.shared, *pairs, "apptainer", "exec", *arguments], host="node1")

    def test_the_root_is_the_image_s(self, cluster):
        script = "cat /etc/image-release; ls /usr/bin /opt"
        done = self.run(cluster, "--cleanenv", "--no-home", cluster.image, "sh", "-c", script)
        assert done.stdout.startswith("redis image of the test bed\n")
        assert "python3" not in done.stdout
        assert "/opt" in done.stderr

    @needs_namespaces
    def test_only_what_is_bound_is_seen_and_the_image_is_read_only(self, cluster):
        script = "ls /srv/shared /srv/images; touch /etc/new; touch /data/new; touch /srv/shared/new"
        done = cluster.run(
            ["env", "-C", "/", "apptainer", "exec", "--no-home", "--bind", cluster.shared, cluster.image, "sh", "-c", script],
            host="node1",
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("Read-only file system") == 2
        assert "/srv/images" in done.stderr

    def test_variables(self, cluster):
        done = self.run(cluster, "--cleanenv", cluster.image, "env", APPTAINERENV_A="1, 2", B="3")
        assert "A=1, 2" in done.stdout.splitlines()
        assert "B=3" not in done.stdout.splitlines()

    def test_exit_codes_and_errors(self, cluster):
        assert self.run(cluster, cluster.image, "sh", "-c", "exit 7").returncode == 7
        gone = self.run(cluster, "/no/image.sif", "true")
        assert gone.returncode == 255
        assert gone.stderr.startswith("FATAL:   could not open image /no/image.sif: failed to retrieve path")
        assert self.run(cluster, cluster.image, "no-such-program").returncode == 255

    def test_a_squashfs_image(self, cluster):
        make = f"mksquashfs {cluster.here(cluster.image).parent / 'redis'} {cluster.here(cluster.shared)}/redis.sqfs -quiet"
        subprocess.run([*make.split(), "-no-progress"], check=True, capture_output=True, timeout=60)
        done = self.run(cluster, f"{cluster.shared}/redis.sqfs", "cat", "/etc/image-release")
        assert done.stdout == "redis image of the test bed\n", done.stderr

    def test_redis_runs_in_it_and_ends_well_when_the_scheduler_tells_every_process(self, cluster):
        script = f"""#!/bin/sh
cd {cluster.shared}
apptainer exec --cleanenv --no-home --bind {cluster.shared} {cluster.image} redis-server --port 16379 --logfile redis.log &
until apptainer exec {cluster.image} redis-cli -p 16379 ping; do sleep 0.1; done
wait
"""
        job = cluster.submit(script, f"--output={cluster.shared}/redis.txt")
        answer = cluster.here(f"{cluster.shared}/redis.txt")
        until(lambda: answer.exists() and answer.read_text().endswith("PONG\n"))
        [server] = [process for process in processes() if process.name == "redis-server" and ":16379" in process.command]
        if os.geteuid() == 0:
            assert Path(f"/proc/{server.pid}/root/etc/image-release").exists()
        cluster.run(["scancel", job], check=True)
        cluster.wait_for(job, "CANCELLED")
        until(lambda: not cluster.leftovers())
        assert "bye bye" in cluster.here(f"{cluster.shared}/redis.log").read_text()


class TestAccounting:
    def test_sacct_shows_a_finished_job(self, accounting_cluster):
        job = accounting_cluster.submit("#!/bin/sh\nexit 3\n")
        argv = ["sacct", "-X", "-n", "-P", "-j", job, "-o", "JobID,State,ExitCode"]
        until(lambda: accounting_cluster.run(argv).stdout == f"{job}|FAILED|3:0\n")


class TestLife:
    def test_nothing_is_left_after_down(self):
        folder, lock = new_folder()
        cluster = Cluster(folder)
        cluster.up()
        before = state_of(cluster)
        assert all(before.values()), before
        cluster.down()
        os.close(lock)
        assert not any(state_of(cluster).values())

    def test_two_side_by_side(self, cluster):
        folder, lock = new_folder()
        other = Cluster(folder)
        try:
            other.up()
            assert other.login != cluster.login
            assert cluster.idle()
            assert other.idle()
            assert ssh(other, "true").returncode == 0
        finally:
            other.down()
            os.close(lock)
        assert ssh(cluster, "true").returncode == 0

    @needs_namespaces
    def test_one_of_a_user_without_root(self, cluster):
        shutil.copytree(PROGRAM, cluster.here(cluster.shared) / "bed", dirs_exist_ok=True)
        bed = ["python3", f"{cluster.shared}/bed"]
        folder = ["--folder", "/tmp/own"]
        try:
            cluster.run([*bed, "up", *folder], timeout_s=60, check=True)
            login = cluster.run(["ssh", "-F", "/tmp/own/ssh/config", "testbed-inside", "srun -N4 -l echo here"])
            assert sorted(login.stdout.split()) == ["0:", "1:", "2:", "3:", "here", "here", "here", "here"], login.stderr
        finally:
            cluster.run([*bed, "down", *folder], check=True)
        assert cluster.run(["ls", "/tmp"]).stdout == ""
        assert cluster.run(["pgrep", "-u", "alice", "slurm|munged|sshd"]).stdout == ""

    def test_the_clusters_of_a_killed_process_are_swept(self, tmp_path):
        program = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from bed import Cluster, new_folder\n"
            "folder, lock = new_folder(); Cluster(folder).up(); print(folder, flush=True); input()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, PROGRAM.parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as starter:
            folder = Path(starter.stdout.readline().strip())
            sweep()
            assert folder.is_dir()
            starter.kill()
        sweep()
        assert not folder.exists()
        assert not [process for process in processes() if str(folder) in process.command]

    def test_a_person_s_cluster(self, tmp_path):
        folder = Path(f"/tmp/afb-test-{os.getpid()}")
        try:
            argv = [sys.executable, PROGRAM, "up", "--folder", folder]
            up = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert up.returncode == 0, up.stderr
            assert f"ssh -F {folder}/ssh/config testbed" in up.stdout
            login = subprocess.run(["ssh", "-F", folder / "ssh/config", "testbed", "sinfo"], capture_output=True, check=False)
            assert login.returncode == 0, login.stderr
            again = subprocess.run(argv, capture_output=True, check=False)
            assert again.returncode == 1
        finally:
            subprocess.run([sys.executable, PROGRAM, "down", "--folder", folder], check=True)
        assert not folder.exists()

    def test_a_daemon_that_does_not_start_shows_its_log(self, monkeypatch):
        monkeypatch.setattr("bed.texts.PARTITION", "bad name=")
        folder, lock = new_folder()
        cluster = Cluster(folder)
        try:
            with pytest.raises(BedError, match="slurmctld"):
                cluster.up()
        finally:
            cluster.down()
            os.close(lock)

    def test_down_of_nothing(self, tmp_path):
        down(tmp_path / "none")


def state_of(cluster):
    """Return what there is of a cluster on this machine, by what it is."""
    folder = str(cluster.folder)
    state = {
        "folder": cluster.folder.exists(),
        "processes": [process for process in processes() if folder in process.command or process.serves(folder)],
    }
    if cluster.namespaces:
        number = cluster.login[0].split(".")[2]
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
        routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
        state["links"] = f"afb{number}-" in links
        state["routes"] = f"198.18.{number}." in routes or f"198.19.{number}." in routes
    return state
