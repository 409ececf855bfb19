"""One squeue for all jobs: small, and read whatever it holds."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.slurm.queue import SQUEUE_FORMAT, QueueRow, parse_squeue, squeue_argv

TOKENS = st.from_regex(r"afb-[a-z0-9-]{1,60}", fullmatch=True)
JOB_IDS = st.from_regex(r"[1-9][0-9]{0,8}([_+][0-9]{1,6})?", fullmatch=True)
NODES = st.from_regex(r"|[a-z]{1,8}[0-9]{0,3}(\[[0-9]{1,3}(-[0-9]{1,3})?(,[0-9]{1,3}){0,3}\])?", fullmatch=True)
PRINTED = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=80)
ROWS = st.builds(
    QueueRow,
    job_id=JOB_IDS,
    name=TOKENS,
    word=st.sampled_from(["PENDING", "RUNNING", "COMPLETED", "OUT_OF_MEMORY", "NEW_WORD", "?"]),
    reason=PRINTED.filter(lambda text: text != "None"),
    nodes=NODES,
)


def printed(row: QueueRow) -> str:
    """As squeue fills in the format."""
    fields = {"i": row.job_id, "T": row.word, "N": row.nodes, "j": row.name, "r": row.reason or "None"}
    return re.sub("%([a-zA-Z])", lambda found: fields[found[1]], SQUEUE_FORMAT)


def test_the_command():
    assert squeue_argv("alice") == [
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        "--user=alice",
        "--format=%i|%T|%N|%j|%r",
    ]


@given(st.lists(ROWS))
def test_rows_come_back(rows):
    queue = parse_squeue("".join(f"{printed(row)}\n" for row in rows))
    assert queue.rows == tuple(rows)
    assert queue.bad == 0


@given(st.text())
def test_any_text_is_read(text):
    queue = parse_squeue(text)
    assert len(queue.rows) + queue.bad == sum(1 for line in text.split("\n") if line.strip())


@given(st.lists(ROWS, min_size=1, max_size=5), st.text(), st.integers(0, 5))
def test_garbage_costs_no_row(rows, garbage, position):
    lines = [printed(row) for row in rows]
    lines.insert(position, garbage.replace("\n", " ").replace("|", " "))
    assert parse_squeue("\n".join(lines)).rows == tuple(rows)


@pytest.mark.parametrize(
    "line",
    [
        "squeue: error: Invalid user: nouser",
        "CLUSTER: other",
        "9_[2-5%2]|PENDING||afb-r-x-1|None",
        "4|RUNNING|n1|afb-r-x-1",
        "4||n1|afb-r-x-1|None",
        f"4|RUNNING|{'n' * 70000}|afb-r-x-1|None",
        "JOBID|STATE|NODELIST|NAME|REASON",
    ],
)
def test_what_is_no_row_is_counted(line):
    queue = parse_squeue(f"{line}\n7|RUNNING|n1|afb-r-x-2|None\n")
    assert queue.bad == 1
    assert [row.job_id for row in queue.rows] == ["7"]


def test_a_foreign_name_with_separators_is_nobody_elses():
    (row,) = parse_squeue("4|RUNNING|n1|mine|afb-run-cache-1|None\n").rows
    assert (row.name, row.reason) == ("mine", "afb-run-cache-1|None")


def test_untrusted_text_is_cut_and_cleaned():
    (row,) = parse_squeue(f"4|PEN\x1bDING|n\x07[1]|x{'y' * 500}|held by \x1b]0;evil\x07 {'z' * 5000}\n").rows
    assert all(text.isprintable() for text in (row.word, row.nodes, row.name, row.reason))
    assert len(row.name) == 128
    assert len(row.reason) == 300


@pytest.mark.parametrize(
    ("word", "nodes", "reason"),
    [
        ("PENDING", "", "Priority"),
        ("PENDING", "", "Resources"),
        ("RUNNING", "gpu-node-[0123-0126]", "None"),
        ("COMPLETED", "gpu-node-0123", "None"),
        ("PENDING", "", "QOSMaxJobsPerUserLimit"),
    ],
)
def test_a_row_takes_at_most_a_hundred_bytes(word, nodes, reason):
    name = "afb-20261127-174437-abcd-cache-1".ljust(45, "x")
    row = QueueRow("123456789", name, word, "" if reason == "None" else reason, nodes)
    assert len(printed(row)) + 1 <= 100
    assert parse_squeue(printed(row)).rows == (row,)
