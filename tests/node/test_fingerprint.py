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
    assert found["absent"]["gpus"] == "nvidia-smi is not on PATH; rocm-smi is not on PATH"
    assert found["container_runtimes"] == {}


def test_gpus_and_runtimes_are_read_from_their_programs(programs, monkeypatch):
    """Output of nvidia-smi's CSV query, whose fields are asked for by name; a line that does not fit is left out."""
    a100 = "NVIDIA A100-SXM4-40GB"
    lines = [
        f"0, {a100}, GPU-1b2c, 00000000:03:00.0, 550.54.15, 40960, 4, 1410, 1215, 1410, 1215, 400.00",
        f"1, {a100}, GPU-3d4e, 00000000:44:00.0, 550.54.15, [N/A], [N/A], 210, 1215, [Not Supported], 1215, [N/A]",
        "oops",
    ]
    programs("nvidia-smi", f"import sys; assert sys.argv[1].count(',') == 11; print({chr(10).join(lines)!r})")
    programs("apptainer", "print('apptainer version 1.3.4')")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = fingerprint.collect()
    assert found["gpus"] == [
        {
            "index": "0",
            "name": a100,
            "uuid": "GPU-1b2c",
            "pci_bus_id": "00000000:03:00.0",
            "driver_version": "550.54.15",
            "memory_bytes": 40960 << 20,
            "memory_used_bytes": 4 << 20,
            "sm_clock_mhz": 1410,
            "memory_clock_mhz": 1215,
            "sm_clock_max_mhz": 1410,
            "memory_clock_max_mhz": 1215,
            "power_limit_watts": 400.0,
        },
        {
            "index": "1",
            "name": a100,
            "uuid": "GPU-3d4e",
            "pci_bus_id": "00000000:44:00.0",
            "driver_version": "550.54.15",
            "memory_bytes": None,
            "memory_used_bytes": None,
            "sm_clock_mhz": 210,
            "memory_clock_mhz": 1215,
            "sm_clock_max_mhz": None,
            "memory_clock_max_mhz": 1215,
            "power_limit_watts": None,
        },
    ]
    assert found["gpus_visible"] == "0,1"
    assert found["container_runtimes"] == {"apptainer": "apptainer version 1.3.4"}
    assert not {"gpus", "gpus_visible"} & set(found["absent"])


def test_gpus_of_another_maker(programs):
    """JSON of rocm-smi, a warning in front; newer releases write some names with other letters."""
    cards = {
        "card0": {
            "Unique ID": "0xac1b58f8c066790f",
            "PCI Bus": "0000:C1:00.0",
            "Card series": "AMD INSTINCT MI250X",
            "Card model": "0x0b0c",
            "VRAM Total Memory (B)": "68702699520",
            "VRAM Total Used Memory (B)": "10960896",
            "sclk clock speed:": "(800Mhz)",
            "mclk clock speed:": "(1600Mhz)",
            "Max Graphics Package Power (W)": "560.0",
        },
        "card1": {"Card Series": "AMD INSTINCT MI250X", "sclk clock speed:": "(1700Mhz)"},
        "system": {"Driver version": "6.3.6"},
    }
    programs("rocm-smi", f"print('WARNING: AMD GPU device(s) is/are in a low-power state.'); print({json.dumps(cards)!r})")
    found = fingerprint.collect()
    first, second = found["gpus"]
    assert first == {
        "index": "0",
        "name": "AMD INSTINCT MI250X",
        "uuid": "0xac1b58f8c066790f",
        "pci_bus_id": "0000:C1:00.0",
        "driver_version": "6.3.6",
        "memory_bytes": 68702699520,
        "memory_used_bytes": 10960896,
        "sm_clock_mhz": 800,
        "memory_clock_mhz": 1600,
        "sm_clock_max_mhz": None,
        "memory_clock_max_mhz": None,
        "power_limit_watts": 560.0,
    }
    assert (second["index"], second["name"], second["sm_clock_mhz"], second["uuid"]) == ("1", "AMD INSTINCT MI250X", 1700, None)


@pytest.mark.parametrize("output", ["", "No devices were found", "{", "[1]", '{"system": {}}'])
def test_programs_that_tell_of_no_gpu(programs, output):
    """Each with its reason."""
    programs("nvidia-smi", "print('No devices were found'); raise SystemExit(6)")
    programs("rocm-smi", f"print({output!r})")
    found = fingerprint.collect()
    assert found["gpus"] == []
    assert found["absent"]["gpus"] == "nvidia-smi ended with 6; rocm-smi tells of none"


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
