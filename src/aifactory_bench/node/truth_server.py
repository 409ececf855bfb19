"""A server whose truth is known: it answers as LLM servers do, with given delays, and records what it sent and when.

    python3 -m aifactory_bench.node.truth_server --port 8000 --ttft 100ms --gap uniform:15ms:25ms --log truth.jsonl

or `truth-server` in the place of the module from the node program. See docs/truth-server.md.
"""

import argparse
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Optional

from .truth_api import Settings
from .truth_delays import FORMS, Delay, delay_of
from .truth_loop import Server
from .truth_options import TEXTS, Options
from .truth_record import Log

KEY_VARIABLE = "AFB_TRUTH_KEY"
_BACKLOG = 4096
_PR_SET_TIMERSLACK = 29
EXIT_USAGE = 2
_STOPPING = signal.SIGTERM, signal.SIGINT


def main(arguments: "Optional[List[str]]" = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    given = _parser().parse_args(arguments)
    try:
        settings = _settings(given)
        listener = _listen(given.host, given.port)
    except (ValueError, OSError) as error:
        print(f"truth-server: {error}", file=sys.stderr)
        return EXIT_USAGE
    log = Log(given.keep)
    with suppress(ValueError, OSError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _wake_punctually()
    server = Server(listener, settings, given.slots, log)
    stopped: "List[int]" = []
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    for number in _STOPPING:
        signal.signal(number, lambda signum, _frame: stopped.append(signum))
    host, port = listener.getsockname()[:2]
    print(f"truth-server: listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    try:
        server.run(lambda: bool(stopped), reading.fileno())
    finally:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)  # whoever asks twice shall have the log all the same
        server.close()
        signal.set_wakeup_fd(-1)
        reading.close()
        writing.close()
        if given.log:
            log.write(given.log)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="truth-server",
        description="Answer as LLM servers do, with given delays, and record what was sent and when.",
        epilog=f"Delays are written as {FORMS}. All options from --ttft on can be set by a request, in its field `afb`.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0: a free one (default: %(default)s)")
    parser.add_argument("--model", default="truth", help="name of the model (default: %(default)s)")
    parser.add_argument("--strict", action="store_true", help="refuse other models with 404")
    parser.add_argument("--slots", type=int, default=0, help="requests answered at a time, others wait (default: any number)")
    parser.add_argument("--server-seed", type=int, default=1, help="of all draws (default: %(default)s)")
    parser.add_argument("--key-file", help=f"file with the bearer token to ask for (default: the variable {KEY_VARIABLE})")
    parser.add_argument("--load", default="0ms", help="Ollama: what the first request for a model waits besides")
    parser.add_argument("--pull", default="0ms", help="Ollama: what pulling a model takes")
    parser.add_argument("--log", metavar="FILE", help="write what was sent and when, as JSON lines, at the end")
    parser.add_argument("--keep", type=int, default=20_000, help="so many of the newest requests (default: %(default)s)")
    for name, (text, default) in TEXTS.items():
        option = _called(name)
        shown = text if default is None or "default:" in text else f"{text} (default: {_shown(default)})"
        if default is False:
            parser.add_argument(option, action="store_const", const="yes", help=text)
        else:
            action = "append" if name == "stall" else "store"
            parser.add_argument(option, action=action, help=shown.replace("%", "%%"))
    return parser


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "none"
    return str(getattr(default, "text", default))


def _settings(given: argparse.Namespace) -> Settings:
    for name, least in (("port", 0), ("slots", 0), ("keep", 1)):
        if getattr(given, name) < least:
            raise ValueError(f"--{name}: must be at least {least}, found {getattr(given, name)}")
    options: "Dict[str, object]" = {name: getattr(given, name) for name in TEXTS if getattr(given, name) is not None}
    changed = Options().changed(options, _called)
    load, pull = (_delay(name, getattr(given, name)) for name in ("load", "pull"))
    key = os.environ.pop(KEY_VARIABLE, "")
    if given.key_file:
        key = Path(given.key_file).read_text(encoding="utf-8").strip()
        if not key:
            raise ValueError(f"--key-file: {given.key_file} is empty")
    return Settings(
        model=given.model, strict=given.strict, key=key, seed=given.server_seed, load=load, pull=pull, options=changed
    )


def _called(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _delay(name: str, text: str) -> Delay:
    try:
        return delay_of(text)
    except ValueError as error:
        raise ValueError(f"--{name}: {error}") from None


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ValueError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listener


def _wake_punctually() -> None:
    """Let the kernel wake this process when it asks to, and not up to 50 us later."""
    with suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
