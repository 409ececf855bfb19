"""The simulated Slurm says what the real one says: texts and exit codes recorded from Slurm 22.05.8 on Debian 12."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from aifactory_bench.testing.fake_slurm import FakeSlurm, Instant, Never

SCRIPT = "#!/bin/bash\nsleep 60\n"


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[FakeSlurm]:
    with FakeSlurm(tmp_path / "slurm", nodes=2, partitions={"debug": math.inf, "short": 120}, default_limit_s=600) as slurm:
        yield slurm


@pytest.mark.parametrize(
    ("script", "options", "code", "stderr"),
    [
        (
            "sleep 60\n",
            [],
            1,
            (
                "sbatch: error: This does not look like a batch script.  The first\n"
                "sbatch: error: line must start with #! followed by the path to an interpreter.\n"
                "sbatch: error: For instance: #!/bin/sh\n"
            ),
        ),
        (
            "#!/bin/bash\r\nsleep 60\r\n",
            [],
            1,
            (
                "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\n"
                "sbatch: error: instead of expected UNIX line breaks (\\n).\n"
            ),
        ),
        ("", [], 1, "sbatch: error: Batch script is empty!\n"),
        (
            SCRIPT,
            ["-p", "nope"],
            1,
            (
                "sbatch: error: invalid partition specified: nope\n"
                "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
            ),
        ),
        (
            SCRIPT,
            ["--nope=3"],
            255,
            "sbatch: unrecognized option '--nope=3'\nTry \"sbatch --help\" for more information\n",
        ),
        (
            SCRIPT,
            ["--ti=1"],
            255,
            (
                "sbatch: option '--ti=1' is ambiguous; possibilities: '--time' '--time-min'\n"
                'Try "sbatch --help" for more information\n'
            ),
        ),
        (SCRIPT, ["--time"], 255, "sbatch: option '--time' requires an argument\nTry \"sbatch --help\" for more information\n"),
        (
            SCRIPT,
            ["--hold=3"],
            255,
            "sbatch: option '--hold' doesn't allow an argument\nTry \"sbatch --help\" for more information\n",
        ),
        (SCRIPT, ["-t", "nonsense"], 255, "sbatch: error: Invalid --time specification\n"),
        (SCRIPT, ["-N", "x"], 255, 'sbatch: error: "x" is not a valid node count\n'),
        (SCRIPT, ["-n", "x"], 1, 'sbatch: error: Invalid numeric value "x" for --ntasks.\n'),
        (SCRIPT, ["--mem=zz"], 255, "sbatch: error: Invalid --mem specification\n"),
        (SCRIPT, ["--signal=zzz"], 255, "sbatch: error: Invalid --signal specification\n"),
        (
            SCRIPT,
            ["--begin=zzz"],
            255,
            "Invalid time specification (pos=0): zzz\nsbatch: error: Invalid --begin specification\n",
        ),
        (SCRIPT, ["-d", "foo:1"], 1, "sbatch: error: Batch job submission failed: Job dependency problem\n"),
        (SCRIPT, ["-w", "node9"], 1, "sbatch: error: Batch job submission failed: Invalid node name specified\n"),
        (SCRIPT, ["-w", "node[1"], 1, "sbatch: error: Batch job submission failed: Invalid node name specified\n"),
        (SCRIPT, ["--array=x"], 1, "sbatch: error: Batch job submission failed: Invalid job array specification\n"),
        (SCRIPT, ["--array=0-2000"], 1, "sbatch: error: Batch job submission failed: Invalid job array specification\n"),
        (
            SCRIPT,
            ["--comment", "x" * 2000],
            1,
            "sbatch: error: Batch job submission failed: Pathname of a file, directory or other parameter too long\n",
        ),
        (
            SCRIPT,
            ["-M", "nocluster"],
            1,
            (
                "sbatch: error: Problem talking to database\n"
                "sbatch: error: 'nocluster' can't be reached now, or it is an invalid entry for --cluster."
                "  Use 'sacctmgr list clusters' to see available clusters.\n"
            ),
        ),
        (
            "#!/bin/bash\n#SBATCH --nope=1\nsleep 60\n",
            [],
            255,
            "sbatch: unrecognized option '--nope=1'\nTry \"sbatch --help\" for more information\n",
        ),
        (
            "#!/bin/bash\n#SBATCH nope\nsleep 60\n",
            [],
            255,
            "sbatch: error: Invalid directive found in batch script: nope\n",
        ),
        (
            '#!/bin/bash\n#SBATCH --job-name="a b\nsleep 60\n',
            [],
            1,
            'sbatch: fatal: stdin: line 2: Unmatched `"` in [--job-name="a b]\n',
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_sbatch_refuses(slurm: FakeSlurm, script: str, options: list[str], code: int, stderr: str) -> None:
    done = slurm.run("sbatch", *options, stdin=script)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", stderr)
    assert slurm.jobs() == []


def test_a_file_that_is_not_there(slurm: FakeSlurm) -> None:
    done = slurm.run("sbatch", "nofile.sh")
    assert (done.returncode, done.stderr) == (1, "sbatch: error: Unable to open file nofile.sh\n")


@pytest.mark.parametrize(
    ("command", "code", "stdout", "stderr"),
    [
        ("squeue -j 999", 1, "", "slurm_load_jobs error: Invalid job id specified\n"),
        ("squeue -h -j 998,999", 0, "", ""),
        ("squeue -j abc", 1, "", "squeue: error: Invalid job id: abc\n"),
        ("squeue --nope", 1, "", "squeue: unrecognized option '--nope'\nTry \"squeue --help\" for more information\n"),
        ("squeue -h -n nonesuch", 0, "", ""),
        ("squeue --version", 0, "slurm-wlm 22.05.8\n", ""),
        ("scancel 999", 0, "", ""),
        (
            "scancel -v 999",
            0,
            "",
            "scancel: Terminating job 999\nscancel: error: Kill job error on job id 999: Invalid job id specified\n",
        ),
        ("scancel abc", 1, "", "scancel: error: Invalid job id abc\n"),
        ("scancel", 1, "", "scancel: error: No job identification provided\n"),
        ("scancel --signal=NOPE 2", 1, "", "Unknown job signal: NOPE\n"),
        ("scancel -n nonesuch", 0, "", ""),
        (
            "scancel --state=X 3",
            1,
            "",
            "Invalid job state specified: X\nValid job states are PENDING, RUNNING, and SUSPENDED\n",
        ),
        ("scontrol show job 999", 1, "", "slurm_load_jobs error: Invalid job id specified\n"),
        ("scontrol show node nonode", 1, "", "Node nonode not found\n"),
        ("scontrol show partition nope", 1, "", "Partition nope not found\n"),
        ("scontrol show nope", 1, "", "invalid entity:nope for keyword:show \n"),
        ("scontrol nope", 1, "", "invalid keyword: nope\n"),
        ("scontrol requeue 999", 1, "", "Invalid job id specified for job 999\n"),
        (
            "scontrol hold 999",
            1,
            "",
            "Invalid job id specified for job 999\nslurm_suspend error: Invalid job id specified\n",
        ),
        ("scontrol update jobid=999 timelimit=5", 1, "", "Invalid job id specified for job 999\n"),
        ("scontrol update nodename=nodex state=drain", 1, "", "slurm_update error: Invalid node name specified\n"),
        ("scontrol ping", 0, "Slurmctld(primary) at fake-ctl is UP\n", ""),
        (
            "scontrol show hostnames x[1,3-4]y[01-02],z",
            0,
            "x1y01\nx1y02\nx3y01\nx3y02\nx4y01\nx4y02\nz\n",
            "",
        ),
        ("scontrol show hostlist x1,x2,x4", 0, "x[1-2,4]\n", ""),
        ("sstat -P -n -j 999", 0, "", "sstat: error: No steps running for job 999\n"),
        ("sstat -j 2 -P -o Nope", 1, "", 'sstat: error: Invalid field requested: "Nope"\n'),
        ("sstat", 1, "", "sstat: error: You didn't give me any jobs to stat.\n"),
        ("sacct -X -n -P -o JobID,Restarts", 1, "", 'sacct: error: Invalid field requested: "Restarts"\n'),
        ("sacct -n -j 999", 0, "", ""),
        ("sinfo -h -N -o %N|%t|%T", 0, "node1|idle|idle\nnode2|idle|idle\nnode1|idle|idle\nnode2|idle|idle\n", ""),
        (
            "sinfo",
            0,
            (
                "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\n"
                "debug*       up   infinite      2   idle node[1-2]\n"
                "short        up       2:00      2   idle node[1-2]\n"
            ),
            "",
        ),
    ],
)
def test_what_the_others_say_of_nothing(slurm: FakeSlurm, command: str, code: int, stdout: str, stderr: str) -> None:
    done = slurm.run(*command.split())
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)


def test_accounting_that_is_off(tmp_path: Path) -> None:
    with FakeSlurm(tmp_path / "slurm", accounting=False) as slurm:
        done = slurm.run("sacct", "-j", "5")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "Slurm accounting storage is disabled\n")
        assert "AccountingStorageType   = accounting_storage/none\n" in slurm.run("scontrol", "show", "config").stdout


def test_the_queue_in_words(slurm: FakeSlurm) -> None:
    slurm.behave("stuck", Never("PartitionConfig"))
    assert slurm.run("sbatch", "--parsable", "--job-name=a", stdin=SCRIPT).stdout == "1\n"
    assert slurm.run("sbatch", "--job-name=stuck", stdin=SCRIPT).stdout == "Submitted batch job 2\n"
    assert slurm.run("sbatch", "--array=0-5%2", "--parsable", stdin=SCRIPT).stdout == "3\n"
    assert (
        slurm.run("sbatch", "--hold", "--wrap", "sleep 5", "--parsable", "-M", "fake").stdout == "6;fake\n"
    )  # two tasks have got ids of their own
    assert slurm.run("sbatch", "--begin=now+60", "--wrap", "sleep 5", "--comment", "a b", "--parsable").stdout == "7\n"
    assert slurm.run("squeue").stdout == (
        "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)\n"
        f"                 1     debug        a {_user(slurm)}  R       0:00      1 node1\n"
        f"                 2     debug    stuck {_user(slurm)} PD       0:00      1 (PartitionConfig)\n"
        f"               3_0     debug   sbatch {_user(slurm)}  R       0:00      1 node1\n"
        f"               3_1     debug   sbatch {_user(slurm)}  R       0:00      1 node1\n"
        f"         3_[2-5%2]     debug   sbatch {_user(slurm)} PD       0:00      1 (JobArrayTaskLimit)\n"
        f"                 6     debug     wrap {_user(slurm)} PD       0:00      1 (JobHeldUser)\n"
        f"                 7     debug     wrap {_user(slurm)} PD       0:00      1 (BeginTime)\n"
    )
    given = "%A %F %K %T %r %S %V %e %N %j %i %t %D %C %k %l %L %M %P %q %a %E %x %n %o"
    assert slurm.run("squeue", "-h", "-r", "-t", "all", "-j", "1,3_5,6,7", "-o", given).stdout == (
        "1 1 N/A RUNNING None 2026-01-01T10:00:00 2026-01-01T10:00:00 2026-01-01T10:10:00 node1 a 1 R 1 1 (null)"
        " 10:00 10:00 0:00 debug (null) (null) (null) (null) (null) (null)\n"
        "3 3 5 PENDING JobArrayTaskLimit N/A 2026-01-01T10:00:00 N/A  sbatch 3_5 PD 1 1 (null)"
        " 10:00 10:00 0:00 debug (null) (null) (null) (null) (null) (null)\n"
        "6 6 N/A PENDING JobHeldUser N/A 2026-01-01T10:00:00 N/A  wrap 6 PD 1 1 (null)"
        " 10:00 10:00 0:00 debug (null) (null) (null) (null) (null) (null)\n"
        "7 7 N/A PENDING BeginTime 2026-01-01T10:01:00 2026-01-01T10:00:00 2026-01-01T10:11:00  wrap 7 PD 1 1 a b"
        " 10:00 10:00 0:00 debug (null) (null) (null) (null) (null) (null)\n"
    )
    assert slurm.run("squeue", "-h", "-n", "a,zz", "-o", "%i|%5j|%.5j|%.3T|%%").stdout == "1|a    |    a|RUN|%\n"
    assert slurm.run("squeue", "-h", "-t", "PD", "-n", "wrap", "-o", "%i").stdout == "6\n7\n"


def _user(slurm: FakeSlurm) -> str:
    return slurm.run("squeue", "-h", "-j", "1", "-o", "%.8u").stdout.strip("\n")


def test_a_job_in_full(slurm: FakeSlurm) -> None:
    slurm.run("sbatch", "--job-name=run", "--comment", '{"k":"v w"}', "--nodes=2", "--requeue", stdin=SCRIPT)
    text = slurm.run("scontrol", "show", "job", "1").stdout
    for line in (
        "JobId=1 JobName=run\n",
        "   JobState=RUNNING Reason=None Dependency=(null)\n",
        "   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0\n",
        "   RunTime=00:00:00 TimeLimit=00:10:00 TimeMin=N/A\n",
        "   StartTime=2026-01-01T10:00:00 EndTime=2026-01-01T10:10:00 Deadline=N/A\n",
        "   NodeList=node[1-2]\n",
        '   Comment={"k":"v w"} \n',
        f"   StdOut={slurm.folder}/slurm-1.out\n",
    ):
        assert line in text
    (line,) = slurm.run("scontrol", "-o", "show", "job", "1").stdout.splitlines()
    assert line.startswith("JobId=1 JobName=run UserId=")


@pytest.mark.parametrize(
    ("state", "exit_code", "signal", "shown", "reason"),
    [
        ("COMPLETED", 0, 0, "COMPLETED|0:0", "None"),
        ("FAILED", 3, 0, "FAILED|3:0", "NonZeroExitCode"),
        ("TIMEOUT", 0, 0, "TIMEOUT|0:0", "TimeLimit"),
        ("OUT_OF_MEMORY", 0, 125, "OUT_OF_MEMORY|0:125", "OutOfMemory"),
        ("NODE_FAIL", 0, 0, "NODE_FAIL|0:0", "NodeDown"),
        ("PREEMPTED", 0, 0, "PREEMPTED|0:0", "None"),
    ],
)
def test_how_jobs_end(slurm: FakeSlurm, state: str, exit_code: int, signal: int, shown: str, reason: str) -> None:
    slurm.behave("*", Instant(run_s=5, state=state, exit_code=exit_code, signal=signal))
    slurm.run("sbatch", stdin=SCRIPT)
    slurm.advance(5)
    assert slurm.run("sacct", "-X", "-P", "-n", "-o", "State,ExitCode").stdout == f"{shown}\n"
    assert slurm.run("squeue", "-h", "-t", "all", "-o", "%T %r").stdout == f"{state} {reason}\n"
    assert slurm.run("squeue", "-h").stdout == ""


def test_who_cancelled_it(slurm: FakeSlurm) -> None:
    slurm.run("sbatch", "-J", "a", stdin=SCRIPT)
    uid = slurm.run("squeue", "-h", "-o", "%U").stdout.strip()
    slurm.run("scancel", "1")
    fields = "JobID,JobName,State,ExitCode,Elapsed,Start,End"
    assert slurm.run("sacct", "-P", "-j", "1", "-o", fields).stdout == (
        "JobID|JobName|State|ExitCode|Elapsed|Start|End\n"
        f"1|a|CANCELLED by {uid}|0:15|00:00:00|2026-01-01T10:00:00|2026-01-01T10:00:00\n"
        "1.batch|batch|CANCELLED|0:15|00:00:00|2026-01-01T10:00:00|2026-01-01T10:00:00\n"
    )
    done = slurm.run("scancel", "-v", "1")
    assert "scancel: error: Kill job error on job id 1: Job/step already completing or completed\n" in done.stderr
