"""sacct and sstat: what is kept of a job, and nothing that its output cannot say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.slurm.accounting import (
    AccountingRow,
    StepUsage,
    accounting_is_off,
    parse_sacct,
    parse_sstat,
    sacct_argv,
    sstat_argv,
)

MAYBE = st.one_of(st.none(), st.integers(0, 10**10))
ROWS = st.builds(
    AccountingRow,
    job_id=st.from_regex(r"[1-9][0-9]{0,8}(_[0-9]{1,4})?", fullmatch=True),
    name=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60),
    word=st.sampled_from(["COMPLETED", "CANCELLED by 60001", "NODE_FAIL", "RUNNING"]),
    exit_code=st.integers(0, 255),
    signal=st.integers(0, 64),
    elapsed_s=st.integers(0, 10**7),
    submitted=MAYBE,
    start=MAYBE,
    end=MAYBE,
    cpu_s=st.integers(0, 10**6).map(float),
    max_rss_bytes=st.none(),
    nodes=st.sampled_from(["", "node1", "gpu[01-04,07]"]),
)


def printed(row: AccountingRow) -> str:
    """As sacct fills in the format."""
    seconds = int(row.cpu_s)
    clock = f"{seconds // 86400}-{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    times = ["Unknown" if time is None else str(time) for time in (row.submitted, row.start, row.end)]
    nodes = row.nodes or "None assigned"
    fields = [row.job_id, row.word, f"{row.exit_code}:{row.signal}", str(row.elapsed_s), *times, clock, "", nodes, row.name]
    return "|".join(fields)


def test_the_commands():
    assert sacct_argv(["afb-r-a-1", "afb-r-b-1"], "now-7days") == [
        "env",
        "SLURM_TIME_FORMAT=%s",
        "sacct",
        "--noheader",
        "--parsable2",
        "--noconvert",
        "--name=afb-r-a-1,afb-r-b-1",
        "--starttime=now-7days",
        "--endtime=now+1hours",
        "--state=BF,CA,CD,DL,F,NF,OOM,PD,PR,R,S,TO",
        "--format=JobID,State,ExitCode,ElapsedRaw,Submit,Start,End,TotalCPU,MaxRSS,NodeList,JobName",
    ]
    assert sstat_argv(["4", "9_2"]) == [
        "sstat",
        "--noheader",
        "--parsable2",
        "--noconvert",
        "--allsteps",
        "--jobs=4,9_2",
        "--format=JobID,NTasks,AveCPU,MaxRSS,MaxDiskRead,MaxDiskWrite",
    ]


def test_nobody_is_asked_for_everything():
    with pytest.raises(ValueError, match="at least one name"):
        sacct_argv([], "now-7days")
    with pytest.raises(ValueError, match="at least one job"):
        sstat_argv([])


@given(st.lists(ROWS))
def test_rows_come_back(rows):
    assert parse_sacct("".join(f"{printed(row)}\n" for row in rows)) == tuple(rows)


def test_the_peak_of_memory_is_that_of_the_largest_step():
    (row,) = parse_sacct(
        "4|COMPLETED|0:0|6|100|101|107|00:07.751||node1|afb-r-a-1\n"
        "4.batch|COMPLETED|0:0|6|101|101|107|00:04.056|122568K|node1|batch\n"
        "4.extern|COMPLETED|0:0|6|101|101|107|00:00||node1|extern\n"
        "4.0|COMPLETED|0:0|3|101|104|107|00:03.695|2924K|node1|load\n"
    )
    assert row.max_rss_bytes == 122568 << 10
    assert row.cpu_s == pytest.approx(7.751)


def test_a_step_belongs_to_the_latest_life_of_its_job():
    rows = parse_sacct(
        "4|REQUEUED|0:0|6|100|101|107|00:01||n1|a\n4.batch|CANCELLED|0:15|6|101|101|107|00:01|9K|n1|batch\n"
        "4|COMPLETED|0:0|6|200|201|207|00:01||n2|a\n4.batch|COMPLETED|0:0|6|201|201|207|00:01|5K|n2|batch\n"
    )
    assert [(row.word, row.max_rss_bytes) for row in rows] == [("REQUEUED", 9 << 10), ("COMPLETED", 5 << 10)]


def test_times_that_are_not_seconds_are_not_guessed():
    (row,) = parse_sacct("4|PENDING|0:0|0|2026-11-21T01:12:43|Unknown|None|00:00||None assigned|afb-r-a-1\n")
    assert (row.submitted, row.start, row.end, row.nodes) == (None, None, None, "")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "4|COMPLETED",
        "9_[2-5]|PENDING|0:0|0|1|Unknown|Unknown|00:00||None assigned|x",
        "JobID|State|x|x|x|x|x|x|x|x|x",
        "4.0|x",
    ],
)
def test_what_is_no_job_is_left_out(line):
    assert parse_sacct(f"{line}\n") == ()


@given(st.text(), st.text(st.characters(codec="ascii", categories=["N", "P", "S", "L"]), max_size=200))
def test_any_text_is_read(text, ascii_text):
    for given_text in (text, ascii_text, f"4|{ascii_text}|0:0|1|1|1|1|1:1|1K|{text}|x"):
        for row in parse_sacct(given_text):
            assert row.name.isprintable()
            assert row.nodes.isprintable()
        parse_sstat(given_text)


def test_steps_that_run():
    assert parse_sstat(
        "4.batch|1|00:00:03|122568K|77055|1079\n4.0|2|1-00:00:01.5|2924K|4813|1.00M\nsstat: noise\n4.1|1|2|3\n"
    ) == (
        StepUsage("4.batch", 1, 3.0, 122568 << 10, 77055, 1079),
        StepUsage("4.0", 2, 86401.5, 2924 << 10, 4813, 1 << 20),
    )


def test_a_step_without_numbers_is_a_step():
    assert parse_sstat("4.extern||||||\n4.0|||||\n") == (StepUsage("4.0", None, None, None, None, None),)


@pytest.mark.parametrize(
    ("exit_code", "stderr", "off"),
    [
        (1, "Slurm accounting storage is disabled\n", True),
        (1, "SLURM accounting storage is disabled\n", True),
        (
            1,
            "You are not running a supported accounting_storage plugin\nOnly 'accounting_storage/slurmdbd' is supported.\n",
            True,
        ),
        (1, "sacct: error: Problem talking to the database: Connection refused\n", False),
        (0, "Slurm accounting storage is disabled\n", False),
        (1, "", False),
    ],
)
def test_accounting_that_is_off_is_told_from_trouble(exit_code, stderr, off):
    assert accounting_is_off(exit_code, stderr) is off
