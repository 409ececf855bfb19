"""What a login node says, read; the texts are those of Slurm 22.05 and of sacctmgr."""

from aifactory_bench.site_setup.cluster import Cluster, cluster_of, new_enough
from aifactory_bench.site_setup.parts import Part, program, read_parts

CONFIG = """\
Configuration data as of 2026-11-27T21:46:50
AccountingStorageEnforce = associations,limits,qos
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = lab
MinJobAge               = 300 sec
SelectType              = select/cons_tres
SLURM_VERSION           = 23.11.9
"""
PARTITIONS = """\
PartitionName=cpu AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A MaxNodes=64 \
MaxTime=2-00:00:00 MinNodes=0 Nodes=c[1-4] OverSubscribe=EXCLUSIVE State=UP TotalCPUs=512 TotalNodes=4
PartitionName=gpu AllowGroups=ALL AllowAccounts=p200,p300 AllowQos=default,short AllocNodes=ALL Default=NO QoS=N/A \
MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 Nodes=g[1-3] OverSubscribe=NO State=UP TotalCPUs=192 TotalNodes=3
"""
NODES = """\
cpu|idle|3|128|512000+|(null)
cpu|drained*|1|128|512000|(null)
gpu|mixed|2|64|512000|gpu:a100:4(S:0-1)
gpu|idle|1|32|256000|gpu:a100:2,nvme:1
"""


def parts(**texts: str) -> "dict[str, Part]":
    return {name.replace("__", ":"): Part(0, text) for name, text in texts.items()}


def seen() -> Cluster:
    return cluster_of(
        parts(
            who="login03\nalice\n/home/alice\n/bin/bash\n1795815000",
            commands="/usr/bin/sbatch\n/usr/bin/squeue\n/usr/bin/scancel\n/usr/bin/scontrol\n/usr/bin/sinfo\n/usr/bin/sacctmgr",
            version="slurm 23.11.9",
            config=CONFIG,
            partitions=PARTITIONS,
            nodes=NODES,
            associations="p200||default,short\np300|gpu|default\n",
            default="p200",
            runtime__apptainer="apptainer version 1.3.4",
            python__python3="3.6.8",
            modules="/apps/modules/all:\nApptainer/1.3.1\nApptainer/1.3.6-GCCcore-13.3.0(default)\n",
            folders="SCRATCH=/scratch/alice\nPROJECT=/project/p200",
        )
        | {"python:python3.11": Part(0, "3.11.2"), "python:python3.12": Part(127, "not found")}
    )


def test_a_cluster_is_read() -> None:
    """Host, partitions with their nodes, accounts, runtimes, Pythons, folders."""
    cluster = seen()
    assert (cluster.host, cluster.user, cluster.shell, cluster.version) == ("login03", "alice", "/bin/bash", "23.11.9")
    assert cluster.missing == ()
    assert cluster.accounting
    assert cluster.enforced
    cpu, gpu = cluster.partitions
    assert (cpu.name, cpu.default, cpu.exclusive, cpu.max_time_s, cpu.max_nodes) == ("cpu", True, True, 172800.0, 64)
    assert (cpu.nodes, cpu.usable, cpu.cpus, cpu.memory_mb, cpu.gpus) == (4, 3, 128, 512000, 0)
    assert (gpu.accounts, gpu.qos, gpu.max_time_s) == (("p200", "p300"), ("default", "short"), None)
    assert (gpu.nodes, gpu.usable, gpu.cpus, gpu.gpus, gpu.gpu_type) == (3, 3, 64, 4, "a100")
    assert cluster.accounts == ("p200", "p300")
    assert cluster.qos == ("default", "short")
    assert cluster.modules == ("Apptainer/1.3.1", "Apptainer/1.3.6-GCCcore-13.3.0")
    assert cluster.python() == "python3.11"
    assert cluster.folders == {"SCRATCH": "/scratch/alice", "PROJECT": "/project/p200"}


def test_nothing_that_was_said_is_made_up() -> None:
    """A command that failed says nothing; its words are kept for a message."""
    cluster = cluster_of(
        {"config": Part(1, "slurm_load_ctl_conf error: Unable to contact slurm controller"), "default": Part(1, "x")}
    )
    assert cluster.config == {}
    assert "Unable to contact" in cluster.said
    assert cluster.default_account == ""
    assert cluster.missing == ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
    assert cluster_of({}) == Cluster()


def test_parts_are_told_from_noise() -> None:
    """What stands before the first is left out; a part may be empty, or hold anything but the mark."""
    found = read_parts(b"noise\n\x1eone 0\nline\n\n\x1etwo 124\n\n\x1ethree 1\n\xff words\n")
    assert found == {"one": Part(0, "line"), "two": Part(124, ""), "three": Part(1, "\ufffd words")}
    assert read_parts(b"") == {}
    assert Part(0, "a\n\x1b[31m b").line == "a [31m b"


def test_versions() -> None:
    """3.9 is enough; what is no version is not."""
    assert [new_enough(text) for text in ("3.9.0", "3.14.1", "3.8.20", "2.7.18", "", "no such file")] == [
        *(True, True, False, False, False, False)
    ]


def test_the_program_stands_behind_what_prints_parts() -> None:
    """As one text of plain characters."""
    text = program("aifactory_bench.site_setup", "look")
    assert text.index("part()") < text.index("part config")
