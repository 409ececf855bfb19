"""What Slurm prints, release by release, is read as it is meant; where the texts come from is told in golden/README.md."""

import json
from pathlib import Path

import pytest
from attrs import asdict

from aifactory_bench.slurm.accounting import parse_sacct, parse_sstat
from aifactory_bench.slurm.control import expand_hosts, parse_config, parse_job
from aifactory_bench.slurm.queue import parse_squeue
from aifactory_bench.slurm.reasons import judge
from aifactory_bench.slurm.states import interpret
from aifactory_bench.slurm.submission import classify_sbatch

GOLDEN = Path(__file__).parent / "golden"
RELEASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


def read_squeue(text):
    """Every row with what its state and its reason mean."""
    queue = parse_squeue(text)
    rows = []
    for row in queue.rows:
        meaning, judgement = interpret(row.word), judge(row.reason)
        rows.append({**asdict(row), "state": meaning.state, "final": meaning.final, "waits": judgement.waits})
        expand_hosts(row.nodes)
    return {"rows": rows, "bad": queue.bad}


def read_sacct(text):
    return [{**asdict(row), "state": interpret(row.word).state, "hosts": expand_hosts(row.nodes)} for row in parse_sacct(text)]


READERS = {
    "squeue": read_squeue,
    "sacct": read_sacct,
    "sstat": lambda text: [asdict(row) for row in parse_sstat(text)],
    "job": parse_job,
    "config": parse_config,
}
TEXTS = [path for path in sorted(GOLDEN.glob("*/*.txt")) if path.name != "refusals.txt"]


def refusals():
    for release in RELEASES:
        for block in (GOLDEN / release / "refusals.txt").read_text().split("### ")[1:]:
            head, _, stderr = block.partition("\n")
            kind, exit_code, how = head.split(" ", 2)
            yield pytest.param(kind, int(exit_code), stderr, id=f"{release}-{how}")


def test_the_releases():
    assert RELEASES == ["21.08", "22.05", "23.02", "23.11", "24.05", "24.11", "25.05"]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_read(path):
    found = READERS[path.stem.partition("-")[0]](path.read_text())
    assert found == json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize(("kind", "exit_code", "stderr"), list(refusals()))
def test_refusals(kind, exit_code, stderr):
    refusal = classify_sbatch(exit_code, stderr)
    assert refusal.kind == kind
    assert refusal.advice
