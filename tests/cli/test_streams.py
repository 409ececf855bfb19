"""Standard streams that are closed, full, or left by their reader."""

import os
import subprocess
import sys
import threading
import time

import pytest

from aifactory_bench.cli.streams import Output

PROGRAM = f"{sys.executable} -m aifactory_bench"


def _shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["jobs", "schema", "--help"])
def test_output_that_cannot_be_written_is_told(command: str) -> None:
    """A full disk behind the redirection is an error that names the place, not a traceback."""
    done = _shell(f"{PROGRAM} {command} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "aifactory-bench: standard output: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["jobs", "schema", "--help"])
def test_closed_streams_are_no_error(command: str, redirection: str) -> None:
    """Without anywhere to print the command runs all the same."""
    done = _shell(f"{PROGRAM} {command} {redirection}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&-", "2>&1 >&- | true; exit ${PIPESTATUS[0]}", "> /dev/full 2>&1"])
@pytest.mark.parametrize(("command", "code"), [("validate nosuch.yaml", 2), ("status nosuch", 1), ("nosuch", 2)])
def test_error_that_cannot_be_told_keeps_its_exit_code(command: str, code: int, redirection: str) -> None:
    """Nobody reads standard error: the exit code still says what happened."""
    done = _shell(f"{PROGRAM} {command} {redirection}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_reader_that_leaves_does_not_change_the_exit_code() -> None:
    """`| true` takes nothing, and nothing is said about it."""
    done = _shell(f"{PROGRAM} schema | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_descriptors_are_taken_before_a_file_gets_their_number() -> None:
    """What a library writes to descriptor 2 must not end up in a file of a run."""
    code = (
        "import os, sys\n"
        "from aifactory_bench.cli.streams import safe_streams\n"
        "with safe_streams():\n"
        "    places = [os.readlink(f'/proc/self/fd/{number}') for number in range(3)]\n"
        "sys.exit(0 if places == ['/dev/null'] * 3 else 9)"
    )
    assert _shell(f'{sys.executable} -c "$CODE" <&- >&- 2>&-'.replace("$CODE", code)).returncode == 0


def test_slow_reader_of_a_non_blocking_pipe_gets_everything() -> None:
    """Whoever shares the pipe may have made it non-blocking: that is waited for."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    got = bytearray()

    def read() -> None:
        time.sleep(0.1)
        while part := os.read(reader, 65536):
            got.extend(part)

    thread = threading.Thread(target=read)
    thread.start()
    with Output(writer, "w") as output:
        left = data = bytes(range(256)) * 2000
        while left:
            written = output.write(left)
            assert written
            left = left[written:]
        assert output.error is None
    thread.join()
    os.close(reader)
    assert bytes(got) == data
