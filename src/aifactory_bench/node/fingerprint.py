"""What the node is: hardware, kernel, limits, programs. Read once, in under 4 s; nothing here can fail a job."""

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from .gpus import PROGRAMS as GPU_PROGRAMS
from .gpus import gpus
from .procfs import node_memory_bytes

_PROGRAMS_LIMIT_S = 3.0
"""Programs that ask several GPUs take a second and more."""
_RUNTIMES = ("apptainer", "singularity", "podman", "docker")


def collect() -> Dict[str, Any]:
    """Return the fingerprint, a JSON document; what is not there stands in `absent` with the reason."""
    absent: Dict[str, str] = {}
    asked = {name: list(argv) for name, argv in GPU_PROGRAMS.items()}
    outputs = _outputs({**asked, **{name: [name, "--version"] for name in _RUNTIMES}})
    found, why_none = gpus(outputs)
    if why_none:
        absent["gpus"] = why_none
    runtimes = {name: (outputs[name][0] or "").partition("\n")[0] for name in _RUNTIMES}
    document: Dict[str, Any] = {
        "host": socket.gethostname(),
        "collected_wall_ns": time.time_ns(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "os": _os_release(),
        "python": platform.python_version(),
        "cpu_model": _cpu_model(),
        "cpus_online": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "cpu_limit_cores": _cgroup_cpu_limit_cores(),
        "cpu_governor": _line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clock_source": _line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "memory_total_bytes": node_memory_bytes().get("MemTotal"),
        "load_1min": os.getloadavg()[0],
        "gpus": found,
        "gpus_visible": os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("ROCR_VISIBLE_DEVICES"),
        "container_runtimes": {name: version for name, version in runtimes.items() if version},
    }
    reasons = {
        "cpu_limit_cores": "no processor limit in the control group",
        "cpu_governor": "the kernel shows no frequency governor",
        "gpus_visible": "neither CUDA_VISIBLE_DEVICES nor ROCR_VISIBLE_DEVICES is set",
    }
    for name, value in document.items():
        if value is None:
            absent.setdefault(name, reasons.get(name, "the kernel does not say"))
    document["absent"] = absent
    return document


def _line(path: str) -> Optional[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _os_release() -> Optional[str]:
    for line in (_line("/etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip('"')
    return None


def _cpu_model() -> Optional[str]:
    # x86 says `model name`, others `Model` or only numbers.
    for line in (_line("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("model name", "model", "cpu") and value.strip() and not value.strip().isdigit():
            return value.strip()
    return None


def _cgroup_cpu_limit_cores() -> Optional[float]:
    """Return the tightest limit on the way from our control group to the root, in cores; None when there is none."""
    limits: List[float] = []
    for line in (_line("/proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            limits += _limits("/sys/fs/cgroup", group, "cpu.max", None)
        elif "cpu" in controllers.split(","):
            limits += _limits("/sys/fs/cgroup/cpu", group, "cpu.cfs_quota_us", "cpu.cfs_period_us")
    return min(limits) if limits else None


def _limits(root: str, group: str, quota_file: str, period_file: Optional[str]) -> List[float]:
    found = []
    folder = Path(root + group)
    for level in (folder, *folder.parents):
        if len(str(level)) < len(root):
            break
        fields = (_line(str(level / quota_file)) or "").split()
        if period_file is not None:
            fields += (_line(str(level / period_file)) or "").split()
        if len(fields) == 2 and fields[0].isdigit() and fields[1].isdigit() and int(fields[1]) > 0:
            found.append(int(fields[0]) / int(fields[1]))
    return found


def _outputs(programs: Dict[str, List[str]]) -> Dict[str, Tuple[Optional[str], str]]:
    """Run programs side by side within one limit of time; return output, or None and why there is none."""
    running: Dict[str, "subprocess.Popen[str]"] = {}
    results: Dict[str, Tuple[Optional[str], str]] = {}
    for name, argv in programs.items():
        if shutil.which(argv[0]) is None:
            results[name] = None, f"{argv[0]} is not on PATH"
            continue
        try:
            running[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            results[name] = None, f"{argv[0]}: {error.strerror}"
    deadline = time.monotonic() + _PROGRAMS_LIMIT_S
    for name, process in running.items():
        try:
            output, _ = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            # Its own children may hold the pipe open: what it said is not waited for.
            if process.stdout is not None:
                process.stdout.close()
            # Stuck in a driver, it cannot even be killed.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
            results[name] = None, f"{programs[name][0]} gave no answer within {_PROGRAMS_LIMIT_S} s"
            continue
        ok = process.returncode == 0
        results[name] = (output, "") if ok else (None, f"{programs[name][0]} ended with {process.returncode}")
    return results
