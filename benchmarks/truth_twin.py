"""The truth server and its twin in C: do they send the same, and at which rate does each fall behind?

    python benchmarks/truth_twin.py              # both
    python benchmarks/truth_twin.py --check      # only whether they send and log the same

Check: the same requests to both; the bytes must be equal but for stamps and times, and so must the logs. Rate: streams of
one token every `--gap` by a client that reads and throws away, more of them until a server's p99 lateness is above 1 ms; each
step is a server of its own. Servers and client share the machine, as in tests: on a machine of its own a server does better.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LATE_US = 1000.0
TOKENS = 128
STEPS = (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
HEADING = (
    ("", "", "tokens/s", "tokens/s", "late p50", "late p99", "late max", "late", "CPU us", "foreign"),
    ("server", "streams", "offered", "sent", "us", "us", "us", "marked", "a token", "CPU"),
)
END = b"0\r\n\r\n"


def build(folder: Path) -> Path:
    """Compile the twin.

    Raises:
        SystemExit: there is no compiler, or it does not like the source.
    """
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        raise SystemExit("no C compiler was found: set CC, or install one")
    program = folder / "truth_server"
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(HERE / "truth_server.c")], check=True)
    return program


@contextlib.contextmanager
def serving(command: list[str], *options: str) -> Iterator[tuple[int, int]]:
    """Run a server and yield its port and process id."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "src")}
    server = subprocess.Popen(
        [*command, "--port", "0", *options], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.search(r":(\d+)$", line.strip())
        if not found:
            raise SystemExit(f"{command[-1]} did not start: {line!r}")
        yield int(found[1]), server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        assert server.stdout is not None
        server.stdout.close()


def post(path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(data), data)


# The same bytes and the same log.


def requests() -> list[bytes]:
    """Return requests that both understand: both paths, with and without stamps and usage, one chunk and many."""
    found = []
    for tokens in (1, 2, 3, 8, 100):
        for flags in ({}, {"afb_truth": True}, {"afb_truth": True, "stream_options": {"include_usage": True}}):
            common = {"model": "truth", "stream": True, "max_tokens": tokens, **flags}
            found += [
                post("/v1/completions", {**common, "prompt": "one two  three"}),
                post("/v1/chat/completions", {**common, "messages": [{"role": "user", "content": "one two"}]}),
            ]
    return found


def answers(port: int) -> list[bytes]:
    """Send the requests one after another on one connection."""
    found = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for request in requests():
            connection.sendall(request)
            data = b""
            while not data.endswith(END):
                more = connection.recv(1 << 16)
                if not more:
                    raise SystemExit(f"the connection ended within an answer: {data[-200:]!r}")
                data += more
            found.append(data)
    return found


def blanked(data: bytes) -> bytes:
    return re.sub(rb'"afb":\[\d+, *\d+\]', b'"afb":[]', re.sub(rb'"created":\d+', b'"created":0', data))


def log_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def shape(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a log without what a clock says."""
    summary, *records = log
    named = dict.fromkeys(summary) | {name: summary[name] for name in ("requests", "sendings", "tokens", "forgotten")}
    timed = {"received_ns", "read_late_ns", "sent_ns", "late_max_us", "server_late"}
    return [named, *({name: None if name in timed else value for name, value in record.items()} for record in records)]


def check(commands: dict[str, list[str]], folder: Path) -> int:
    """Compare streams and logs, and return the exit status."""
    wrong = 0
    for per_chunk in ("1", "3"):
        streams, logs = {}, {}
        for name, command in commands.items():
            path = folder / f"{name}.jsonl"
            options = ("--ttft", "5ms", "--gap", "1ms", "--tokens-per-chunk", per_chunk, "--log", str(path))
            with serving(command, *options) as (port, _):
                streams[name] = [blanked(answer) for answer in answers(port)]
            logs[name] = shape(log_of(path))
        for number, (one, other) in enumerate(zip(streams["python"], streams["c"], strict=True)):
            if one != other:
                wrong += 1
                print(f"request {number} differs:\n  python {one!r}\n  c      {other!r}")
        for one, other in zip(logs["python"], logs["c"], strict=True):
            if one != other:
                wrong += 1
                print(f"logs differ:\n  python {one}\n  c      {other}")
        chunks = sum(stream.count(b"data: ") for stream in streams["c"])
        print(f"{per_chunk} a chunk: {len(streams['c'])} streams, {chunks} events compared, {wrong} differences")
    return 1 if wrong else 0


# The rate at which each falls behind.


def read_away(port: int, streams: int, seconds: float, results: Any) -> None:
    """Keep so many streams busy for a while; puts (events read, seconds, CPU seconds) when the last has ended."""
    body = {"model": "truth", "stream": True, "max_tokens": TOKENS, "messages": [{"role": "user", "content": "x"}]}
    request = post("/v1/chat/completions", body)
    poll, connections = select.epoll(), {}
    for _ in range(streams):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setblocking(False)
        connections[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
    # Not all at once: the streams' tokens shall be spread over the gap, as those of a busy server are.
    began, events, live = time.monotonic(), 0, streams
    for number, connection in enumerate(connections.values()):
        time.sleep(max(0.0, began + 0.2 * number / streams - time.monotonic()))
        connection.send(request)
    while live:
        for descriptor, _ in poll.poll(1.0):
            data = connections[descriptor].recv(1 << 16)
            events += data.count(b"data: {")
            if data.endswith(END):
                if time.monotonic() - began < seconds:
                    connections[descriptor].send(request)
                else:
                    live -= 1
    results.put((events, time.monotonic() - began, time.process_time()))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def foreign_s() -> float:
    """Return the CPU seconds that the machine has spent so far, on anything."""
    busy = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(int(busy[at]) for at in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")


def step(
    command: list[str], options: tuple[str, ...], folder: Path, streams: int, seconds: float, *, realtime: bool
) -> dict[str, Any]:
    """Run one server under so many streams and return the summary of its log with what it took."""
    path, context = folder / "ramp.jsonl", multiprocessing.get_context("fork")
    with serving(command, *options, "--log", str(path)) as (port, pid):
        if realtime:
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(2))
        before_s, all_before_s, results = cpu_s(pid), foreign_s(), context.Queue()
        client = context.Process(target=read_away, args=(port, streams, seconds, results))
        client.start()
        if realtime:
            os.sched_setscheduler(client.pid or 0, os.SCHED_FIFO, os.sched_param(1))
        _, took_s, client_s = results.get(timeout=seconds + 120)
        client.join()
        used_s, all_s = cpu_s(pid) - before_s, foreign_s() - all_before_s
    return {**log_of(path)[0], "took_s": took_s, "cpu_s": used_s, "foreign": max(0.0, all_s - used_s - client_s) / took_s}


def ramp(name: str, command: list[str], folder: Path, given: argparse.Namespace) -> None:
    """Print one row a step, the most punctual of some tries, until the server falls behind."""
    within = 0.0
    options = ("--ttft", "100ms", "--gap", f"{given.gap:g}ms", *(("--keep", "1000000") if name == "python" else ()))
    for streams in (number for number in STEPS if given.least <= number <= given.most):
        best: dict[str, Any] = {}
        for _ in range(given.tries):
            now = step(command, options, folder, streams, given.seconds, realtime=given.realtime)
            best = now if not best or now["lateness_p99_us"] < best["lateness_p99_us"] else best
            if best["lateness_p99_us"] <= LATE_US:
                break
        rate, late_share = best["tokens"] / best["took_s"], best["server_late_requests"] / best["requests"]
        print(
            f"{name:7} {streams:7} {streams * 1000 / given.gap:9.0f} {rate:9.0f} {best['lateness_p50_us']:9.0f} "
            f"{best['lateness_p99_us']:9.0f} {best['lateness_max_us']:9.0f} {late_share:7.1%} "
            f"{best['cpu_s'] / best['tokens'] * 1e6:8.1f} {best['foreign']:8.2f}",
            flush=True,
        )
        if best["lateness_p99_us"] > LATE_US:
            print(f"{name} falls behind at {rate:.0f} tokens/s; {within:.0f} tokens/s were still on time")
            return
        within = rate
    print(f"{name} was on time up to {within:.0f} tokens/s, the most that was tried")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare what they send")
    parser.add_argument("--gap", type=float, default=20.0, metavar="MS", help="between tokens of a stream (default: 20)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each step (default: 4)")
    parser.add_argument("--least", type=int, default=STEPS[0], metavar="N", help="streams at least (default: 16)")
    parser.add_argument("--most", type=int, default=STEPS[-1], metavar="N", help="streams at most (default: 4096)")
    parser.add_argument("--tries", type=int, default=3, help="of a step before a server counts as late (default: 3)")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="servers and client go before all else that the machine does (as root), where others use it too",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = {
            "python": [sys.executable, "-m", "aifactory_bench.node.truth_server"],
            "c": [str(build(folder))],
        }
        status = check(commands, folder)
        if status or given.check:
            return status
        for line in HEADING:
            print("{:7} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8} {:>8}".format(*line))
        for server, command in commands.items():
            ramp(server, command, folder, given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
