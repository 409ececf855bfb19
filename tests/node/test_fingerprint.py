"""The fingerprint of the node: what it holds, and that nothing can hold it up."""

import json
import os
import sys
import time

import pytest

from aifactory_bench.node import fingerprint


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A function that puts a program of the test's own first on PATH, alone."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name, code):
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{code}\n")
        path.chmod(0o755)

    return add


def test_is_a_document_with_a_reason_for_all_that_is_absent():
    """JSON, quick enough for a job's start."""
    began = time.monotonic()
    found = fingerprint.collect()
    assert time.monotonic() - began < 5
    assert json.loads(json.dumps(found)) == found
    assert found["kernel"] == os.uname().release
    assert found["cpus_online"] == os.cpu_count()
    assert found["memory_total_bytes"] > 1 << 20
    assert found["python"] == sys.version.split()[0]
    missing = {name for name, value in found.items() if value is None}
    assert missing <= set(found["absent"])
    assert all(found["absent"].values())


def test_without_programs_there_are_reasons(programs):
    """No GPU tool is a fact, not an error."""
    found = fingerprint.collect()
    assert found["gpus"] == []
    assert found["absent"]["gpus"] == "nvidia-smi is not on PATH"
    assert found["container_runtimes"] == {}


def test_gpus_and_runtimes_are_read_from_their_programs(programs):
    """Recorded output of nvidia-smi's CSV query; a line that does not fit is left out."""
    lines = [
        "0, NVIDIA A100-SXM4-40GB, GPU-1b2c, 40960, 550.54.15",
        "1, NVIDIA A100-SXM4-40GB, GPU-3d4e, [N/A], 550.54.15",
        "oops",
    ]
    programs("nvidia-smi", f"print({chr(10).join(lines)!r})")
    programs("apptainer", "print('apptainer version 1.3.4')")
    found = fingerprint.collect()
    assert [(gpu["index"], gpu["uuid"], gpu["memory_bytes"]) for gpu in found["gpus"]] == [
        ("0", "GPU-1b2c", 40960 << 20),
        ("1", "GPU-3d4e", None),
    ]
    assert found["gpus"][0]["driver_version"] == "550.54.15"
    assert found["container_runtimes"] == {"apptainer": "apptainer version 1.3.4"}
    assert "gpus" not in found["absent"]


def test_a_program_that_fails_or_hangs_holds_nothing_up(programs):
    """Both are reasons; the time limit is for all together."""
    programs("nvidia-smi", "import time; time.sleep(600)")
    programs("apptainer", "import time; time.sleep(600)")
    programs("singularity", "raise SystemExit(9)")
    began = time.monotonic()
    found = fingerprint.collect()
    assert time.monotonic() - began < 5
    assert "no answer within" in found["absent"]["gpus"]
    assert found["container_runtimes"] == {}


def test_the_limit_of_the_control_group_is_the_tightest_on_the_way(tmp_path, monkeypatch):
    """Version 2: `cpu.max` of the group and of those above it."""
    group = tmp_path / "system.slice" / "job"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("max 100000\n")
    (tmp_path / "system.slice" / "cpu.max").write_text("250000 100000\n")
    assert fingerprint._limits(str(tmp_path), "/system.slice/job", "cpu.max", None) == [2.5]
    (group / "cpu.cfs_quota_us").write_text("50000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert fingerprint._limits(str(tmp_path), "/system.slice/job", "cpu.cfs_quota_us", "cpu.cfs_period_us") == [0.5]
