"""How a program goes to a login node and its answer comes back: the same over every transport.

The command that the login shell sees is a constant but for two numbers, so any shell reads it alike: sh, bash, csh, tcsh,
fish. It takes the first bytes of standard input for a text and evaluates it; what follows on standard input is the program's.
The text is one group in braces, which a shell runs only when it has read its last byte: one that arrives in part runs nothing.

What a login shell prints before and after is told from the answer by two marks with a number that is used once. Without the
second mark nobody knows what has become of the program, whatever the exit status says.
"""

import math
import re
import secrets
from typing import Optional

from attrs import field, frozen

from ..errors import NotExecutedError, OutcomeUnknownError
from .base import Completed

STDOUT_LIMIT_BYTES = 64 << 20
STDERR_LIMIT_BYTES = 64 << 10
KILL_AFTER_S = 5
"""Between TERM and KILL, when the time of a program is up."""
_END_BYTES = 64
"""More than the second mark takes."""
_TIMED_OUT = 124
_KILLED = 128 + 9

# Slurm's commands obey these variables before their own options, so a user's settings must not reach them. The profile is
# read in a shell of its own: one that fails, or that leaves, takes nothing with it.
_PRELUDE = """\
command -v sbatch >/dev/null 2>&1 || eval "$(
    { [ ! -r /etc/profile ] || . /etc/profile; } </dev/null >/dev/null 2>&1
    export -p
)"
for afb_name in $(awk 'BEGIN {
    for (name in ENVIRON)
        if (name ~ /^(SBATCH|SQUEUE|SACCT|SINFO|SCANCEL|SLURM)_[A-Za-z0-9_]+$/ && name != "SLURM_CONF") print name
}' </dev/null); do
    unset "$afb_name"
done
unset afb_name
LC_ALL=C
export LC_ALL"""


def _quoted(argument: str) -> bytes:
    """Return an argument as one word of a POSIX shell.

    Raises:
        ValueError: it has a NUL, which no argument can hold.
    """
    if "\0" in argument:
        raise ValueError("an argument with a NUL")
    return b"'" + argument.encode("utf-8", "surrogateescape").replace(b"'", b"'\\''") + b"'"


@frozen
class Request:
    """A program on its way to a login node."""

    command: str
    """For the login shell."""
    stdin: bytes
    """All of it: the text, then what the program reads."""
    nonce: str
    timeout_s: int
    """After this time the site ends the program; whole seconds."""

    @classmethod
    def of(cls, program: str, arguments: "tuple[str, ...]", stdin: bytes, timeout_s: float) -> "Request":
        """Make the request for a program; the arguments are those of `Transport.run`.

        Raises:
            ValueError: an argument has a NUL.
        """
        nonce, limit_s = secrets.token_hex(8), max(1, math.ceil(timeout_s))
        text = b"\n".join(
            [
                b"{",
                _PRELUDE.encode(),
                b" ".join([b"set --", *map(_quoted, arguments)]),
                # A client that is gone already wants nothing any more.
                f"printf '\\036%s begin %s\\n' {nonce} \"$(uname -n)\" || exit".encode(),
                # `timeout` kills what ignores TERM only as long as its own child, this shell, is there.
                f"trap 'exit {_TIMED_OUT}' TERM".encode(),
                b"(",
                program.encode(),
                b")",
                f"printf '\\036%s end %d\\n' {nonce} $?".encode(),
                b"}",
            ]
        )
        command = f"timeout -k {KILL_AFTER_S} {limit_s} /bin/sh -c 'eval \"$(head -c {len(text)})\"'"
        return cls(command, text + stdin, nonce, limit_s)

    @property
    def patience_s(self) -> float:
        """How long a client waits before it gives the connection up: longer than the site takes to end the program."""
        return self.timeout_s + KILL_AFTER_S + 10.0


@frozen
class Reply:
    """What has come back so far."""

    request: Request
    _stdout: bytearray = field(factory=bytearray, init=False)
    _stderr: bytearray = field(factory=bytearray, init=False)

    def feed_stdout(self, data: bytes) -> bool:
        """Take in output; False when it is too much to go on."""
        self._stdout.extend(data)
        return len(self._stdout) <= STDOUT_LIMIT_BYTES

    def ended(self, last_bytes: int) -> bool:
        """Tell whether the end is in the output; last_bytes: how much has come since nobody knew of one."""
        tail = self._stdout[-last_bytes - _END_BYTES :]
        return re.search(rb"\x1e%s end \d+\n" % self.request.nonce.encode(), tail) is not None

    def feed_stderr(self, data: bytes) -> None:
        """Take in what is said on standard error; past the limit it is dropped."""
        self._stderr.extend(data[: STDERR_LIMIT_BYTES - len(self._stderr)])

    @property
    def said(self) -> str:
        """The end of standard error, for messages: one line."""
        text = self._stderr[-400:].decode("utf-8", "replace")
        return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())

    @property
    def begun(self) -> bool:
        """Whether the program was reached."""
        return self._begin() is not None

    def _begin(self) -> "Optional[re.Match[bytes]]":
        return re.search(rb"\x1e%s begin ([^\n]*)\n" % self.request.nonce.encode(), self._stdout)

    def completed(self) -> Optional[Completed]:
        """Return how the program ended, or None where no end has come."""
        begin = self._begin()
        if begin is None:
            return None
        at = self._stdout.rfind(b"\x1e%s end " % self.request.nonce.encode(), begin.end())
        end = re.compile(rb"\x1e\S+ end (\d+)\n").match(self._stdout, at) if at >= 0 else None
        if end is None:
            return None
        return Completed(int(end[1]), bytes(self._stdout[begin.end() : at]), bytes(self._stderr))

    def judge(self, label: str, exit_status: Optional[int]) -> Completed:
        """Return how the program ended.

        Args:
            label: Whom it was sent to.
            exit_status: What the login shell ended with, 128 and more for a signal; None when nobody said.

        Raises:
            NotExecutedError: The login shell ended by itself without having come to the program.
            OutcomeUnknownError: No end has come.
        """
        completed = self.completed()
        if completed is not None:
            return completed
        begin = self._begin()
        said = f": {self.said}" if self.said else ""
        if begin is None and exit_status and exit_status not in {_TIMED_OUT, _KILLED}:
            raise NotExecutedError(
                f"{label}: the login shell did not run what it was given, it ended with {exit_status}{said}",
                "the site needs sh, timeout, head, awk and uname, and a login shell that reads no standard input",
            )
        where = f" on {begin[1].decode('utf-8', 'replace')}" if begin else ""
        if len(self._stdout) > STDOUT_LIMIT_BYTES:
            why = f"printed more than {STDOUT_LIMIT_BYTES >> 20} MiB and was given up"
        elif exit_status is None:
            why = f"was under way{where}, and its answer will not come: the connection was lost, or it took too long"
        elif exit_status in {_TIMED_OUT, _KILLED}:
            why = f"was ended{where}, at its limit of {self.request.timeout_s} s or by somebody{said}"
        else:
            why = f"ended{where} with {exit_status} without its answer having arrived{said}"
        raise OutcomeUnknownError(f"{label}: a command {why}")
