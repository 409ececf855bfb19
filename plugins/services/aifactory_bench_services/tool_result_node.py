"""What the reducers of field-standard tools have in common: the bare measurement, the version, the last words."""

import subprocess
from pathlib import Path
from typing import Any, Optional

from aifactory_bench.node.contract import Context, ToolOutcome
from aifactory_bench.node.exit_record import masked
from aifactory_bench.node.files import read_text
from aifactory_bench.node.measurement import Measurement

NOT_A_SUCCESS = "tool output is not a success"
_VERSION_LIMIT_S = 30.0
"""A container may have to start for it."""
_LIMIT_BYTES = 256 << 20
_LINES = 3
_LARGEST = 1 << 62
_WORDS = 400


def output_of(path: Path) -> str:
    """Return what the tool printed there; empty when there is nothing."""
    try:
        return read_text(path, _LIMIT_BYTES) or ""
    except OSError:
        return ""


def last_words(outcome: ToolOutcome, context: Context, ignore: "tuple[str, ...]" = ()) -> str:
    """Return the last lines that the tool printed as errors, secrets left out; empty when there are none.

    `ignore`: how lines begin that say nothing.
    """
    lines = (line.strip() for line in output_of(outcome.stderr).replace("\r", "\n").splitlines())
    said = list(dict.fromkeys(line for line in lines if line and not line.startswith(ignore)))
    return masked(" / ".join(said[-_LINES:]), context.secrets.values())[-_WORDS:]


def measurement_of(context: Context, outcome: ToolOutcome, name: str) -> Measurement:
    """Return a closed-loop measurement that has no numbers yet; `absent` says what no tool of this kind has."""
    return Measurement(
        point=context.point,
        client=context.client,
        kind=context.kind,
        rank=context.rank,
        status="ok",
        process="closed",
        window_asked_s=float(context.load["duration_s"]),
        start_wall_ns=outcome.start_wall_ns,
        absent={
            "latency.schedule": "closed loop: no request is due at a time of its own",
            "counts.timeout": f"{name} waits for every reply without a limit",
        },
        tool={"name": name, "version": version_of(outcome, name)},
    )


def failed(measurement: Measurement, why: str) -> Measurement:
    """Return the measurement as one that does not exist, with the reason."""
    measurement.status = "failed"
    measurement.reason = f"{NOT_A_SUCCESS}: {why}"
    return measurement


def how_it_was_stopped(outcome: ToolOutcome) -> Optional[str]:
    """Return why the tool did not come to its own end, or None when it did."""
    if outcome.timed_out:
        return "it ran past the budget of the point and was stopped"
    if outcome.stopped:
        return "it was stopped before its end"
    return None


def how_it_ended(outcome: ToolOutcome) -> str:
    """Return a part of a sentence: how the tool itself ended."""
    stopped = how_it_was_stopped(outcome)
    if stopped:
        return stopped
    if outcome.exit_code < 0:
        return f"ended by signal {-outcome.exit_code}"
    if outcome.exit_code in (126, 127):
        return f"the program could not be started (exit code {outcome.exit_code})"
    return f"exit code {outcome.exit_code}"


def version_of(outcome: ToolOutcome, name: str) -> Optional[str]:
    """Return the version that the tool says of itself, run as it was run (in its container); None when it says none."""
    places = [number for number, argument in enumerate(outcome.argv) if Path(argument).name == name]
    if not places:
        return None
    argv = [*outcome.argv[: places[0] + 1], "--version"]
    try:
        process = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_VERSION_LIMIT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    words = process.stdout.decode("utf-8", "replace").splitlines()[:1]
    for word in words[0].split() if words else ():
        number = word.removeprefix("v=")
        if number[:1].isdigit():
            return number
    return None


def whole(value: Any) -> int:
    """Return a count from 0 on; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST else 0


def both(operation: str, histogram: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the latencies of a load of one operation: its own, and the sum over all, which is the same."""
    clocks = {"send": histogram, "schedule": None}
    return {operation: clocks, "all": dict(clocks)}
