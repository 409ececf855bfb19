"""Running tools: real programs that hang, fail, fork, and say what they should not."""

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from aifactory_bench.node import tool
from aifactory_bench.node.tool import ToolError, cut_output, how_it_ended, run_tool

SECRET = "s3cret-of-the-run"


@pytest.fixture
def folder(tmp_path):
    """Where the output goes."""
    path = tmp_path / "raw"
    path.mkdir()
    return path


@pytest.fixture
def run(folder, tmp_path):
    """A function that runs commands; by default with much time and never stopped."""

    def call(*commands, limit_s=30.0, stop=lambda: None, secrets=(SECRET,)):
        return run_tool([list(command) for command in commands], folder, tmp_path, secrets, limit_s, stop)

    return call


def python(code, *arguments):
    return [sys.executable, "-c", code, *arguments]


def gone(pid):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_output_exit_code_and_duration_are_kept(run, tmp_path):
    """Output in files of the owner only, the working folder as asked."""
    found = run(python("import os, sys, time; time.sleep(0.2); print(os.getcwd()); print('no', file=sys.stderr); sys.exit(3)"))
    outcome = found.outcome
    assert (outcome.exit_code, outcome.timed_out, outcome.stopped, found.stop_reason) == (3, False, False, "")
    assert outcome.stdout.read_text().strip() == str(tmp_path)
    assert outcome.stderr.read_text() == "no\n"
    assert 0.2 <= outcome.duration_s < 20
    assert stat.S_IMODE(outcome.stdout.stat().st_mode) == 0o600
    assert how_it_ended(outcome, ()) == f"{Path(sys.executable).name} ended with exit code 3: no"


def test_arguments_are_shown_without_secrets_and_passed_with_them(run):
    """Also inside of longer arguments; what the tool says itself is hidden where it is quoted."""
    found = run(python("import sys; print(sys.argv[1:]); sys.exit('bad ' + sys.argv[2])", "-a", SECRET, f"x{SECRET}y"))
    assert found.outcome.argv[3:] == ("-a", "***", "x***y")
    assert SECRET in found.outcome.stdout.read_text()
    assert SECRET not in how_it_ended(found.outcome, [SECRET])
    assert how_it_ended(found.outcome, [SECRET]).endswith("exit code 1: bad ***")


def test_a_tool_that_hangs_is_stopped_with_all_its_children(run):
    """It ignores TERM, and so does its child: both are killed."""
    began = time.monotonic()
    found = run(["/bin/sh", "-c", "trap '' TERM; sleep 600 & echo $! $$; sleep 600"], limit_s=1.0)
    assert time.monotonic() - began < 20
    assert found.outcome.timed_out
    assert not found.outcome.stopped
    assert found.outcome.exit_code == -9
    assert "longer than its 1 s" in found.stop_reason
    assert all(gone(int(pid)) for pid in found.outcome.stdout.read_text().split())


def test_what_it_leaves_in_the_background_is_ended(run):
    """A tool that ends by itself takes its helpers with it."""
    found = run(["/bin/sh", "-c", "sleep 600 & echo $!"])
    assert found.outcome.exit_code == 0
    assert gone(int(found.outcome.stdout.read_text()))


def test_stops_when_told_to(run, tmp_path):
    """The reason is passed on; TERM comes first, so that the tool may write what it has."""
    code = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit('half'))\nopen('up', 'w')\ntime.sleep(600)"
    )
    found = run(python(code), stop=lambda: "service cache has ended" if (tmp_path / "up").exists() else None)
    assert found.stop_reason == "service cache has ended"
    assert found.outcome.stopped
    assert not found.outcome.timed_out
    assert found.outcome.exit_code == 1
    assert found.outcome.stderr.read_text() == "half\n"


def test_is_in_a_process_group_of_its_own(run):
    """A signal to the terminal's group does not reach it."""
    found = run(python("import os; print(os.getpgrp(), os.getpid(), os.getsid(0))"))
    group, pid, session = map(int, found.outcome.stdout.read_text().split())
    assert group == pid != os.getpgrp()
    assert session == os.getsid(0)


def test_cpu_seconds_are_counted_with_those_of_children(run):
    """Of the tool and of what it waited for, whichever did the work."""
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    assert run(python(burn)).outcome.cpu_s >= 0.4
    in_child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    assert run(python(in_child)).outcome.cpu_s >= 0.4
    assert run(["/bin/sleep", "0.3"]).outcome.cpu_s < 0.2


def test_several_commands_run_in_order_and_the_last_one_counts(run, folder):
    """Each has output files of its own."""
    found = run(python("open('a', 'w').write('1'); print('one')"), python("print(open('a').read())"))
    assert found.outcome.stdout == folder / "command-2.out"
    assert found.outcome.stdout.read_text() == "1\n"
    assert (folder / "command-1.out").read_text() == "one\n"


def test_a_command_before_the_last_must_succeed(run, folder):
    """The last one is not run then."""
    with pytest.raises(ToolError, match=r"command 1 of 2: .* exit code 4: no table"):
        run(python("import sys; print('no table', file=sys.stderr); sys.exit(4)"), python("print(1)"))
    assert not (folder / "command-2.out").exists()


def test_time_is_for_all_commands_together(run):
    """The second gets what the first has left."""
    began = time.monotonic()
    found = run(["/bin/sleep", "0.5"], ["/bin/sleep", "600"], limit_s=1.0)
    assert found.outcome.timed_out
    assert time.monotonic() - began < 10


def test_a_program_that_cannot_start_is_an_error(run, tmp_path):
    """Not there, or not executable."""
    with pytest.raises(ToolError, match=r"/nowhere/tool could not be started: .*No such file"):
        run(["/nowhere/tool"])
    script = tmp_path / "script"
    script.write_text("x")
    with pytest.raises(ToolError, match="could not be started"):
        run([str(script)])
    with pytest.raises(ToolError, match="no command"):
        run()


def test_a_signal_is_named(run):
    """As people know it."""
    found = run(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    assert how_it_ended(found.outcome, ()).endswith("was ended by SIGSEGV")


def test_a_tool_that_prints_without_end_is_stopped(run, monkeypatch):
    """Before the disk is full."""
    monkeypatch.setattr(tool, "RUNAWAY_BYTES", 1 << 20)
    found = run(python("while True: print('x' * 10000)"))
    assert found.outcome.stopped
    assert "printed more than 1 MiB" in found.stop_reason


def test_output_beyond_the_limit_is_cut_largest_first(folder):
    """Small files stay whole."""
    (folder / "sub").mkdir()
    (folder / "small").write_bytes(b"a" * 100)
    (folder / "sub" / "large").write_bytes(b"b" * 5000)
    assert cut_output(folder, 5100) == []
    assert cut_output(folder, 1000) == ["sub/large"]
    assert ((folder / "small").stat().st_size, (folder / "sub" / "large").stat().st_size) == (100, 900)


def test_works_where_the_kernel_has_no_pidfd(run, monkeypatch):
    """It is looked at more often instead."""

    def missing(_pid):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    assert run(["/bin/sleep", "0.2"]).outcome.exit_code == 0
    assert run(["/bin/sleep", "600"], limit_s=0.2).outcome.timed_out


def test_passes_over_the_warning_that_the_walltime_is_near(run):
    """It is for supervise alone."""
    done = run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGUSR1); print('still here')"])
    assert done.outcome.exit_code == 0
