"""The configuration files of a cluster."""

from collections.abc import Mapping

from . import layout
from .layout import Layout

PARTITION = "debug"
ACCOUNT = "bench"
DATABASE = "slurm_acct_db"
REDIS_IMAGE = "docker://redis:7.4"


def slurm_conf(places: Layout, address: Mapping[str, str], port: Mapping[str, int], user: str, *, accounting: bool) -> str:
    """Return slurm.conf: quick to schedule, to notice a dead node, and to forget a job."""
    nodes = "\n".join(
        f"NodeName={node} NodeAddr={address[node]} Port={port[node]} CPUs={layout.CPUS} RealMemory={layout.MEMORY_MB}"
        + ("" if places.namespaces else " NodeHostname=localhost")
        + (f" Gres=gpu:fake:{layout.GPUS}" if node in layout.GPU_NODES else "")
        for node in layout.NODES
    )
    storage = (
        f"""\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address["ctl"]}
AccountingStoragePort={port["slurmdbd"]}
AccountingStoragePass={places.munge_socket}
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment"""
        if accounting
        else "# no accounting"
    )
    return f"""\
ClusterName=testbed
SlurmctldHost={"ctl" if places.namespaces else "localhost"}({address["ctl"]})
SlurmctldPort={port["ctl"]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={places.munge_socket},cred_expire=5
StateSaveLocation={places.spool}/slurmctld
SlurmctldPidFile={places.run}/slurmctld.pid
SlurmctldLogFile={places.log}/slurmctld.log
SlurmctldDebug=info
SlurmdSpoolDir={places.spool}/%n
SlurmdPidFile={places.run}/slurmd-%n.pid
SlurmdLogFile={places.log}/slurmd-%n.log
SlurmdDebug=info
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=1,bf_continue,requeue_delay=1
MinJobAge=30
KillWait=2
OverTimeLimit=0
CompleteWait=0
WaitTime=0
SlurmdTimeout=8
SlurmctldTimeout=10
BatchStartTimeout=10
MessageTimeout=5
TCPTimeout=2
ReturnToService=2
EnforcePartLimits=ALL
MailProg=/bin/true
{storage}
{nodes}
PartitionName={PARTITION} Nodes=ALL Default=YES DefaultTime=10 MaxTime=1-0 DefMemPerCPU=200 State=UP
"""


def gres_conf(places: Layout) -> str:
    """Return gres.conf: GPUs that are character devices and nothing else."""
    names = ",".join(layout.GPU_NODES)
    return f"AutoDetect=off\nNodeName={names} Name=gpu Type=fake File={places.run}/fakegpu[0-{layout.GPUS - 1}]\n"


def slurmdbd_conf(places: Layout, address: Mapping[str, str], port: Mapping[str, int], user: str) -> str:
    """Return slurmdbd.conf."""
    return f"""\
AuthType=auth/munge
AuthInfo=socket={places.munge_socket}
DbdHost={"ctl" if places.namespaces else "localhost"}
DbdAddr={address["ctl"]}
DbdPort={port["slurmdbd"]}
SlurmUser={user}
LogFile={places.log}/slurmdbd.log
PidFile={places.run}/slurmdbd.pid
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={port["mariadbd"]}
StorageUser=slurm
StoragePass=slurm
StorageLoc={DATABASE}
"""


def sshd_config(folder: str, keys: str, pid_file: str, address: str, port: int, variables: Mapping[str, str]) -> str:
    """Return sshd_config; `folder` has the host's key, `keys` the authorized keys of each user."""
    pairs = " ".join(f"{name}={value}" for name, value in variables.items())
    return f"""\
ListenAddress {address}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {keys}
PidFile {pid_file}
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PrintMotd no
SetEnv {pairs}
Subsystem sftp internal-sftp
"""


def ssh_config(key: str, known_hosts: str, user: str, hosts: Mapping[str, tuple[str, int]]) -> str:
    """Return what a user's `~/.ssh/config` says about the cluster.

    `testbed` is the login host; `testbed-inside` is the same host at its address in the cluster, through the gate.
    """
    parts = []
    for name, host, jump in (
        ("testbed", "login", ""),
        ("testbed-gate", "gate", ""),
        ("testbed-inside", "inside", "testbed-gate"),
    ):
        address, port = hosts[host]
        parts.append(
            f"Host {name}{'' if address == '127.0.0.1' and host != 'login' else ' ' + address}\n"
            f"  HostName {address}\n  Port {port}\n  User {user}\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {known_hosts}\n  StrictHostKeyChecking yes\n" + (f"  ProxyJump {jump}\n" if jump else "")
        )
    return "\n".join(parts)


def site_profile(login: tuple[str, int], user: str, runs: str, runtime: str, image: str) -> str:
    """Return the site profile with which the tool uses the cluster."""
    host, port = login
    return f"""\
schema: aifactory-bench/site/1
name: testbed
login: {{host: {host}, port: {port}, user: {user}, transport: ssh}}
slurm: {{partition: {PARTITION}}}
runs: {runs}
runtime: {runtime}
python: python3
images: {{"{REDIS_IMAGE}": {image}}}
"""


def users(passwd: str, group: str, shadow: str) -> dict[str, str]:
    """Return the three files of users, from this machine's, with alice and bob."""
    people = (layout.ALICE, layout.BOB)
    names = {name for name, _ in people}

    def without(text: str) -> str:
        return "".join(f"{line}\n" for line in text.splitlines() if line.split(":")[0] not in names)

    return {
        "passwd": without(passwd) + "".join(f"{name}:x:{uid}:{uid}::/home/{name}:/bin/bash\n" for name, uid in people),
        "group": without(group) + "".join(f"{name}:x:{uid}:\n" for name, uid in people),
        "shadow": without(shadow) + "".join(f"{name}:*:19000::::::\n" for name, uid in people),
    }


PROFILE = """\
PATH=/usr/local/sbin:/usr/local/bin:/usr/bin:/bin
export PATH
"""
NSSWITCH = """\
passwd: files
group: files
shadow: files
hosts: files
"""
