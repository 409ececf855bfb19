"""Thirty set-ups that are broken: each is told by one message that names the cause and what to do."""

import asyncio
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest

from aifactory_bench.doctor import Diagnosis, Finding
from aifactory_bench.site_setup import look as looking
from aifactory_bench.sites.rules import Rules
from aifactory_bench.testing import ssh_server
from aifactory_bench.testing.fake_slurm import Instant, down

from .conftest import Place

Breaks = Callable[[Place, pytest.MonkeyPatch], None]


def told(diagnosis: Diagnosis) -> list[Finding]:
    """Return everything that is not in order."""
    return [one for one in diagnosis.findings if one.state in {"fail", "warn"}]


def test_nothing_is_wrong(place: Place) -> None:
    """With a look at a node: every check is passed, and nothing is left."""
    found = place.examine(job=True)
    assert told(found) == [], found.findings
    assert found.ok
    assert found.exit_code == 0
    assert list(place.runs.iterdir()) == []
    assert {one.check for one in found.findings if one.state == "ok"} >= {
        *("profile", "address", "port", "host key", "login", "shell output", "forwarding", "sessions", "clock", "login shell"),
        *("slurm commands", "controller", "job memory", "slurm settings", "accounting", "partition", "account", "qos"),
        *("time limit", "submission", "runs folder", "space", "home", "job", "shared folder", "node python", "node runtime"),
        *("node modules", "internet", "node reached", "node clock"),
    }


def wrong_host_key(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.after.append(lambda server: server.change_host_key())


def unknown_host_key(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.after.append(lambda _: (place.home / ".ssh/known_hosts").unlink())


def key_missing(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.after.append(lambda _: (place.home / ".ssh/id_login").unlink())


def agent_empty(place: Place, patch: pytest.MonkeyPatch) -> None:
    """An agent that holds nothing, and no file that could stand in."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(4):
            await reader.readexactly(struct.unpack(">I", head)[0])
            writer.write(struct.pack(">IBI", 5, 12, 0))  # the answer with the identities: none
        writer.close()

    async def start(_server: ssh_server.SshServer) -> None:
        place.servers.append(await asyncio.start_unix_server(serve, place.home / "agent"))
        config = place.ssh_config.read_text().splitlines()
        place.ssh_config.write_text("\n".join(line for line in config if "Identit" not in line) + "\n")

    patch.setenv("SSH_AUTH_SOCK", str(place.home / "agent"))
    place.after.append(start)


def permission_denied(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.after.append(lambda server: setattr(server, "client_key", asyncssh.generate_private_key("ssh-ed25519")))


def otp_needed(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.server = {"password": "secret", "code": "123456"}


def host_unknown(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.after.append(lambda _: place.ssh_config.write_text("Host login\n  HostName login.nosuch.invalid\n"))


def port_closed(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.after.append(lambda _: place.ssh_config.write_text("Host login\n  HostName 127.0.0.1\n  Port 1\n"))


def jump_unreachable(place: Place, _patch: pytest.MonkeyPatch) -> None:
    more = "  ProxyJump gate\nHost gate\n  HostName 127.0.0.1\n  Port 1\n"
    place.after.append(lambda _: place.ssh_config.write_text(place.ssh_config.read_text() + more))


def forwarding_forbidden(_place: Place, patch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> bool:
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "administratively prohibited")

    patch.setattr(ssh_server.Login, "connection_requested", refuse)


def one_session(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.server = {"max_sessions": 1}


def banner_noise(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.after.append(
        lambda server: setattr(server.faults, "noise_before", b"*** Welcome to LAB. Maintenance on Monday. ***\n")
    )


def csh_shell(place: Place, _patch: pytest.MonkeyPatch) -> None:
    if not Path("/bin/tcsh").exists():
        pytest.skip("tcsh is not installed")
    place.server = {"shell": "/bin/tcsh"}
    place.environment["SHELL"] = "/bin/tcsh"


def bashrc_prints(place: Place, _patch: pytest.MonkeyPatch) -> None:
    """As sshd starts it, bash reads it also where nobody is there."""
    place.server = {"shell": "/bin/bash"}
    place.environment |= {"SHELL": "/bin/bash", "BASH_ENV": str(place.home / ".bashrc")}
    (place.home / ".bashrc").write_text("echo loading my modules\n")


def bashrc_leaves(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.server = {"shell": "/bin/bash"}
    place.environment |= {"SHELL": "/bin/bash", "BASH_ENV": str(place.home / ".bashrc")}
    (place.home / ".bashrc").write_text("exit 3\n")


def no_slurm(place: Place, patch: pytest.MonkeyPatch) -> None:
    """With a PATH of its own, as the machine that runs the tests may have a real one."""
    tools, ask = place.home / "tools", looking.program
    tools.mkdir()
    for name in ("sh", "bash", "timeout", "uname", "id", "date", "grep", "printenv"):
        (tools / name).symlink_to(shutil.which(name) or name)
    patch.setattr(looking, "program", lambda *names: f"PATH={tools}\n{ask(*names)}")


def controller_down(place: Place, _patch: pytest.MonkeyPatch) -> None:
    for command in ("scontrol", "sinfo", "sbatch", "squeue"):
        place.slurm.faults.always(command, down())


def config(place: Place, old: str, new: str) -> None:
    """Let the cluster show another setting."""
    text = place.slurm.run("scontrol", "show", "config").stdout.replace(old, new)
    (place.home / "config").write_text(text)
    place.program(
        "scontrol", f'[ "$*" != "show config" ] || exec cat {place.home}/config\nexec {place.slurm.bin}/scontrol "$@"'
    )


def slurmdbd_absent(place: Place, _patch: pytest.MonkeyPatch) -> None:
    config(place, "accounting_storage/slurmdbd", "accounting_storage/none")


def account_missing(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.change(rules=Rules(account_required=True))


def sacctmgr(place: Place) -> None:
    place.program("sacctmgr", "case $* in *associations*) echo 'p200||normal,short' ;; *user*) echo p200 ;; esac")


def account_not_yours(place: Place, _patch: pytest.MonkeyPatch) -> None:
    sacctmgr(place)
    config(place, "ClusterName ", "AccountingStorageEnforce = associations,limits\nClusterName ")
    place.change(scheduler={"partition": "batch", "account": "p999"})


def partition_unknown(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.change(scheduler={"partition": "gpu"})


def qos_missing(place: Place, _patch: pytest.MonkeyPatch) -> None:
    sacctmgr(place)
    place.change(scheduler={"partition": "batch", "account": "p200", "qos": "long"})


def time_too_long(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.change(time_default_s=7200.0)


def runs_not_writable(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.change(runs="/proc/runs")


def home_full(place: Place, _patch: pytest.MonkeyPatch) -> None:
    full = f"echo \"dd: error writing '{place.home}/x': Disk quota exceeded\" >&2; exit 1"
    place.program("dd", f'case $* in *of={place.home}/*) {full} ;; esac\nreal "$@"')


def cache_full(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.program("apptainer", "echo apptainer version 1.3.4")
    place.change(runtime="apptainer", images_cache=f"{place.home}/images")
    line = "/dev/sda1 1000000 999000 1000 100% /home"
    place.program("df", f'case $* in "-P -k {place.home}") echo Filesystem; echo "{line}"; exit ;; esac\nreal "$@"')


def image_missing(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.program("apptainer", "echo apptainer version 1.3.4")
    place.change(runtime="apptainer", images={"docker://redis:7.4": "/project/images/redis.sif"})


def no_apptainer(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.change(runtime="apptainer")


def clock_off(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.program("date", '[ "$*" != +%s ] || { echo $(($(/bin/date +%s) + 3600)); exit; }\nreal "$@"')


BROKEN: list[tuple[Breaks, str, str, str, str]] = [
    (wrong_host_key, "fail", "host key", "is known by another key", "aifactory-bench site trust lab"),
    (unknown_host_key, "fail", "host key", "which is not known", "aifactory-bench site trust lab"),
    (key_missing, "fail", "key", "a key that is not there", "IdentityFile"),
    (agent_empty, "fail", "login", "the agent holds no key", "ssh-add"),
    (permission_denied, "fail", "login", "permission denied; the site takes none of 1 key", "has to work"),
    (otp_needed, "fail", "login", "second factor, and nobody is there to answer", "run the command on a terminal"),
    (host_unknown, "fail", "address", "there is no host 'login.nosuch.invalid'", "HostName"),
    (port_closed, "fail", "port", "port 1 cannot be reached", "`port`"),
    (jump_unreachable, "fail", "port", "jump host gate: 127.0.0.1 port 1 cannot be reached", "`port`"),
    (forwarding_forbidden, "warn", "forwarding", "forbids port forwarding", "ask the site to allow it"),
    (one_session, "warn", "sessions", "takes 1 command at a time", "MaxSessions 10"),
    (banner_noise, "warn", "shell output", "Maintenance on Monday", "~/.bashrc"),
    (csh_shell, "warn", "login shell", "/bin/tcsh", "source /etc/profile"),
    (bashrc_prints, "warn", "shell output", "loading my modules", "~/.bashrc"),
    (bashrc_leaves, "fail", "login shell", "the login shell did not run what it was given, it ended with 3", "login shell"),
    (no_slurm, "fail", "slurm commands", "not on the PATH of a plain login: sbatch", "login node"),
    (controller_down, "fail", "controller", "Unable to contact slurm controller", "scontrol ping"),
    (slurmdbd_absent, "warn", "accounting", "no accounts are kept", "nothing has to be done"),
    (account_missing, "fail", "account", "jobs need an account", "`account`"),
    (account_not_yours, "fail", "account", "'p999' is none of yours: p200", "`account`"),
    (partition_unknown, "fail", "partition", "no partition 'gpu'; there is: batch", "`partition`"),
    (qos_missing, "fail", "qos", "'long' is none of yours: normal, short", "`qos`"),
    (time_too_long, "fail", "time limit", "02:00:00, and batch gives 01:00:00 at most", "lower `time_default`"),
    (runs_not_writable, "fail", "runs folder", "/proc/runs cannot be written", "set `runs`"),
    (home_full, "warn", "home", "Disk quota exceeded", "remove files"),
    (cache_full, "fail", "images cache", "1000 KiB are left", "set `images_cache`"),
    (image_missing, "fail", "images", "no image at /project/images/redis.sif", "images pull docker://redis:7.4 --site lab"),
    (no_apptainer, "warn", "runtime", "no apptainer", "runtime: host"),
    (clock_off, "warn", "clock", "ahead", "NTP"),
]


@pytest.mark.parametrize(("breaks", "state", "check", "cause", "fix"), BROKEN, ids=[row[0].__name__ for row in BROKEN])
def test_one_message_names_cause_and_fix(
    place: Place, monkeypatch: pytest.MonkeyPatch, breaks: Breaks, state: str, check: str, cause: str, fix: str
) -> None:
    breaks(place, monkeypatch)
    found = place.examine()
    (finding,) = told(found)
    assert (finding.check, finding.state) == (check, state)
    assert cause in finding.text
    assert fix in finding.fix
    assert found.exit_code == (state == "fail")


def python_too_old(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.change(python=str(place.program("python3.6", "echo 3.6.8")))


def node_python_missing(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.change(python="/opt/nosuch/bin/python3")


def module_missing(place: Place, _patch: pytest.MonkeyPatch) -> None:
    module = 'module() { case $2 in Good/*) ;; *) echo "The following module(s) are unknown: \\"$2\\"" >&2; return 1 ;; esac; }'
    place.change(setup=(module,), modules=("Good/1.0", "Nosuch/2.0"))


def no_module_command(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.change(modules=("Good/1.0",))


def no_apptainer_on_node(place: Place, _patch: pytest.MonkeyPatch) -> None:
    place.change(runtime="apptainer")


def not_shared(place: Place, _patch: pytest.MonkeyPatch) -> None:
    """The job runs and ends well, and nothing of it is seen here."""
    place.slurm.behave("*", Instant(run_s=0.2))


ON_A_NODE: list[tuple[Breaks, str, str, str]] = [
    (python_too_old, "node python", "is 3.6.8, and 3.9 is needed", "`python`"),
    (node_python_missing, "node python", "has no /opt/nosuch/bin/python3", "`python`"),
    (module_missing, "node modules", "cannot load the module 'Nosuch/2.0'", "module spider Nosuch"),
    (no_module_command, "node modules", "cannot load the module 'Good/1.0'", "source /etc/profile"),
    (no_apptainer_on_node, "node runtime", "has no apptainer", "`modules`"),
    (not_shared, "shared folder", "the folder is not shared", "set `runs`"),
]


@pytest.mark.parametrize(("breaks", "check", "cause", "fix"), ON_A_NODE, ids=[row[0].__name__ for row in ON_A_NODE])
def test_a_job_finds_what_is_wrong_with_a_node(
    place: Place, monkeypatch: pytest.MonkeyPatch, breaks: Breaks, check: str, cause: str, fix: str
) -> None:
    breaks(place, monkeypatch)
    found = place.examine(job=True)
    (finding,) = told(found)
    assert (finding.check, finding.state) == (check, "fail")
    assert cause in finding.text
    assert fix in finding.fix
    assert list(place.runs.iterdir()) == []
