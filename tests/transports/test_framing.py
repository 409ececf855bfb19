"""Programs and their answers, through real login shells."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifactory_bench.errors import NotExecutedError, OutcomeUnknownError
from aifactory_bench.transports import framing
from aifactory_bench.transports.base import Completed
from aifactory_bench.transports.framing import Reply, Request

SHELLS = ["sh", "bash", "tcsh", "fish"]
ODD = [
    "",
    "it's",
    "a\nb\n",
    "$(touch made)",
    "`id`",
    "\\",
    "'; exit 9; '",
    '"$HOME"',
    "!!",
    "été 日本 🎉",
    "x" * 10_000,
    "-n",
    "*",
]
PRINT = r"printf '%s\0' "


def _send(shell: str, reply: Reply, *, stdin: bytes | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Do what sshd does: give the command to the login shell. Return the exit status."""
    data = reply.request.stdin if stdin is None else stdin
    done = subprocess.run(
        [shell, "-c", reply.request.command], input=data, capture_output=True, env=environment, timeout=60, check=False
    )
    reply.feed_stdout(done.stdout)
    reply.feed_stderr(done.stderr)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _run(
    shell: str, program: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 30.0, **options: object
) -> Completed:
    reply = Reply(Request.of(program, arguments, stdin, timeout_s))
    return reply.judge("login", _send(shell, reply, **options))


@pytest.mark.parametrize("shell", SHELLS)
def test_every_login_shell_runs_the_same(shell: str, need: Callable[[str], str]) -> None:
    done = _run(need(shell), f'{PRINT} "$@"; cat; echo words >&2; exit 7', *ODD, stdin=b"\0binary\xff\n")
    assert done.stdout == b"".join(word.encode() + b"\0" for word in ODD) + b"\0binary\xff\n"
    assert (done.exit_code, done.stderr) == (7, b"words\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_noise_of_login_shells_is_dropped(shell: str, need: Callable[[str], str], home: Path) -> None:
    """What start-up files print before the program, and traps after it."""
    (home / "rc").write_text("echo Welcome; trap 'echo Bye' EXIT\n")
    (home / ".tcshrc").write_text("echo Welcome\n")
    (home / ".config" / "fish").mkdir(parents=True)
    (home / ".config" / "fish" / "config.fish").write_text("echo Welcome\nfunction bye --on-event fish_exit; echo Bye; end\n")
    environment = {**os.environ, "BASH_ENV": str(home / "rc")}
    reply = Reply(Request.of("echo answer", (), b"", 30))
    status = _send(need(shell), reply, environment=environment)
    assert reply.judge("login", status) == Completed(0, b"answer\n", b"")
    if shell != "sh":
        assert b"Welcome" in reply._stdout


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arguments=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200), max_size=5),
    stdin=st.binary(max_size=500),
)
def test_arguments_and_input_arrive_as_they_were(arguments: list[str], stdin: bytes) -> None:
    done = _run("sh", f'{PRINT} "$#" "$@"; cat', *arguments, stdin=stdin)
    assert done.stdout == b"\0".join([str(len(arguments)).encode(), *(word.encode() for word in arguments), stdin])


def test_bytes_of_file_names_that_are_no_text_arrive() -> None:
    assert _run("sh", 'printf %s "$1"', os.fsdecode(b"a\xff'b")).stdout == b"a\xff'b"


def test_an_argument_with_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        Request.of("true", ("a\0b",), b"", 30)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_text_that_arrives_in_part_runs_nothing(shell: str, tmp_path: Path) -> None:
    """Cut anywhere, down to the last byte, the program is not reached."""
    request = Request.of(': > "$1"; echo "$#"', (str(tmp_path / "made"), "a b", "it's"), b"input", 30)
    length = len(request.stdin) - len(b"input")
    for at in {*range(0, length, 29), *range(length - 40, length)}:
        reply = Reply(request)
        status = _send(shell, reply, stdin=request.stdin[:at])
        assert not (tmp_path / "made").exists(), at
        assert not reply.begun
        with pytest.raises((NotExecutedError, OutcomeUnknownError)):
            reply.judge("login", status)
    reply = Reply(request)
    assert reply.judge("login", _send(shell, reply)).exit_code == 0
    assert (tmp_path / "made").exists()


def test_settings_of_slurm_are_out_of_reach(home: Path) -> None:
    """All but where its configuration is; the locale is C."""
    names = ["SBATCH_PARTITION", "SQUEUE_FORMAT", "SACCT_FORMAT", "SINFO_FORMAT", "SCANCEL_USER", "SLURM_CLUSTERS"]
    environment = {**os.environ, **dict.fromkeys(names, "x\nSLURM_ODD=y"), "SLURM_CONF": "/etc/s.conf", "SLURMY": "kept"}
    done = _run("sh", 'env; echo "locale $LC_ALL"', environment={**environment, "LC_ALL": "fr_FR.UTF-8"})
    said = done.stdout.decode().splitlines()
    assert not [line for line in said if line.startswith(tuple(names))]
    assert {"SLURM_CONF=/etc/s.conf", "SLURMY=kept", "locale C"} <= set(said)


@pytest.mark.parametrize(
    ("profile", "found"),
    [
        ("export PATH=BIN:$PATH SQUEUE_FORMAT=x; TEXT='it is\n\"here\"'; export TEXT; echo hello", True),
        ("exit 3", False),
        ("this is ) no shell", False),
        ("cat; export PATH=BIN:$PATH", True),
        ("readonly TMOUT=3; export TMOUT; PATH=BIN:$PATH", True),
    ],
)
def test_the_profile_is_read_where_slurm_is_not_on_the_path(
    profile: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that prints, fails or leaves does no harm, and its own settings of Slurm are taken back too."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho it is me\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    (tmp_path / "profile").write_text(profile.replace("BIN", str(tmp_path / "bin")) + "\n")
    monkeypatch.setattr(framing, "_PRELUDE", framing._PRELUDE.replace("/etc/profile", str(tmp_path / "profile")))
    tools = tmp_path / "tools"  # everything but Slurm, which the machine may have
    tools.mkdir()
    for name in ("timeout", "sh", "head", "awk", "uname", "env", "cat"):
        (tools / name).symlink_to(next(Path(p, name) for p in os.environ["PATH"].split(":") if Path(p, name).exists()))
    done = _run("/bin/sh", "sbatch; env | grep SQUEUE_; cat", stdin=b"input", environment={"PATH": str(tools)})
    assert done.stdout == (b"it is me\n" if found else b"") + b"input"
    assert b"hello" not in done.stdout


def test_a_program_that_is_no_shell_is_not_executed() -> None:
    with pytest.raises(NotExecutedError, match="ended with 2"):
        _run("/bin/sh", "if true")


def test_a_login_shell_that_lets_nobody_in() -> None:
    reply = Reply(Request.of("true", (), b"", 30))
    reply.feed_stderr(b"This account\nis closed\x1b\n")
    with pytest.raises(NotExecutedError, match="ended with 1: This account is closed"):
        reply.judge("login", 1)


def test_time_that_is_up() -> None:
    with pytest.raises(OutcomeUnknownError, match="limit of 1 s"):
        _run("sh", "echo begun; sleep 60", timeout_s=0.2)


def test_a_program_that_ignores_the_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "KILL_AFTER_S", 1)
    with pytest.raises(OutcomeUnknownError, match="limit of 1 s"):
        _run("sh", "trap '' TERM; while :; do sleep 1; done", timeout_s=1)


@pytest.mark.parametrize("status", [None, 0, 1, 124, 137])
def test_no_end_means_that_nobody_knows(status: int | None) -> None:
    """Whatever the exit status is; the node that it ran on is named."""
    reply = Reply(Request.of("true", (), b"", 30))
    reply.feed_stdout(f"noise\x1e{reply.request.nonce} begin login2\nhalf an ans".encode())
    with pytest.raises(OutcomeUnknownError, match="on login2"):
        reply.judge("login", status)


@pytest.mark.parametrize("status", [None, 0, 124, 137])
def test_no_beginning_is_not_always_proof(status: int | None) -> None:
    reply = Reply(Request.of("true", (), b"", 30))
    with pytest.raises(OutcomeUnknownError):
        reply.judge("login", status)


def test_an_end_is_an_end_whatever_came_of_the_connection() -> None:
    reply = Reply(Request.of("true", (), b"", 30))
    nonce = reply.request.nonce.encode()
    for piece in (
        b"noise \x1e",
        nonce,
        b" begin no",
        b"de\nbinary\0\x1eother end 1\n\x1e" + nonce,
        b" end ",
        b"12\nmore noise",
    ):
        reply.feed_stdout(piece)
    assert reply.judge("login", None) == Completed(12, b"binary\0\x1eother end 1\n", b"")


@pytest.mark.parametrize("cut", [b"\x1e%b end 12", b"\x1e%b end", b"\x1e%b en", b"\x1eother end 3\n"])
def test_half_an_end_is_none(cut: bytes) -> None:
    reply = Reply(Request.of("true", (), b"", 30))
    nonce = reply.request.nonce.encode()
    reply.feed_stdout(b"\x1e" + nonce + b" begin node\nanswer" + cut.replace(b"%b", nonce))
    assert reply.completed() is None


def test_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "STDOUT_LIMIT_BYTES", 1000)
    monkeypatch.setattr(framing, "STDERR_LIMIT_BYTES", 10)
    reply = Reply(Request.of("true", (), b"", 30))
    assert reply.feed_stdout(b"x" * 1000)
    assert not reply.feed_stdout(b"x")
    for _ in range(3):
        reply.feed_stderr(b"abcdef")
    assert bytes(reply._stderr) == b"abcdefabcd"
    with pytest.raises(OutcomeUnknownError, match="printed more than"):
        reply.judge("login", None)


def test_the_command_is_constant_but_for_two_numbers() -> None:
    request = Request.of("echo secret", ("s3cret", "'"), b"s3cret", 12.3)
    length = len(request.stdin) - len(b"s3cret")
    assert request.command == f"timeout -k 5 13 /bin/sh -c 'eval \"$(head -c {length})\"'"
    assert request.nonce not in request.command
    assert Request.of("true", (), b"", 0).timeout_s == 1
