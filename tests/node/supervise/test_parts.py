"""The parts of supervise that need no process."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.node import addresses, child, claim, exit_record
from aifactory_bench.node.credentials import service_secret
from aifactory_bench.node.ending import Ending
from aifactory_bench.node.environment import absolute_python_path, scrubbed
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.external import external_endpoint
from aifactory_bench.node.lease import LeaseKeeper, LeaseWatch
from aifactory_bench.node.paths import RankPaths
from aifactory_bench.node.ports import PortError, Reservation, foreign, says_in_use
from aifactory_bench.node.spec import TargetSpec


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(steps=st.lists(st.tuples(st.floats(0.01, 4.0), st.booleans()), max_size=30))
def test_the_lease_expires_only_after_its_time_without_a_change(
    tmp_path_factory: pytest.TempPathFactory, steps: "list[tuple[float, bool]]"
) -> None:
    path = tmp_path_factory.getbasetemp() / "lease"
    path.unlink(missing_ok=True)
    clock = Clock()
    watch = LeaseWatch(path, lease_s=10.0, clock=clock)
    silent_s = 0.0
    for number, (seconds, changes) in enumerate(steps):
        clock.now += seconds
        silent_s += seconds
        if changes:
            path.write_text(str(number))
            silent_s = 0.0
        assert watch.expired() == (silent_s > 10.0 + 1e-9) or silent_s == pytest.approx(10.0)


def test_a_pause_of_the_watcher_starts_the_lease_anew(tmp_path: Path) -> None:
    clock = Clock()
    watch = LeaseWatch(tmp_path / "lease", lease_s=10.0, clock=clock)
    clock.now += 100.0
    assert not watch.expired()
    for _ in range(3):
        clock.now += 4.0
        expired = watch.expired()
    assert expired


@pytest.mark.parametrize(("lease_s", "interval_s"), [(1.0, 0.5), (5.0, 1.25), (20.0, 5.0), (600.0, 15.0)])
def test_the_keeper_writes_a_new_text_every_quarter(tmp_path: Path, lease_s: float, interval_s: float) -> None:
    clock = Clock()
    path = tmp_path / "lease"
    keeper = LeaseKeeper(path, lease_s, "afb-r1-load-1/0", clock=clock)
    keeper.keep()
    first = path.read_text()
    clock.now += interval_s * 0.99
    keeper.keep()
    assert path.read_text() == first
    clock.now += interval_s * 0.02
    keeper.keep()
    assert path.read_text() != first
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "home"] == ["lease"]


def test_a_claim_belongs_to_one_execution(tmp_path: Path) -> None:
    folder = tmp_path / "job" / "claim"
    assert claim.take(folder, "100", 0, 0) is None
    assert claim.take(folder, "100", 1, 0) is None
    assert "job 100" in str(claim.take(folder, "101", 2, 0))
    assert "job 100" in str(claim.take(folder, "100", 0, 0))
    assert claim.take(folder, "100", 0, 1) is None
    owner = json.loads((folder / "0-0" / "owner.json").read_text())
    assert (owner["job_id"], owner["host"], owner["pid"]) == ("100", socket.gethostname(), os.getpid())
    assert owner["start_ticks"] > 0


def test_a_claim_without_an_owner_is_not_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "claim"
    (folder / "0-0").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"owner\.json"):
        claim.take(folder, "100", 1, 0)


@given(st.text(max_size=200), st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40))
def test_cleaned_text_harms_no_terminal_and_tells_no_password(text: str, password: str) -> None:
    found = exit_record.clean(f"{text}{password}{text}", [password, ""])
    assert not any(ord(character) < 32 and character not in "\t\n" for character in found)
    assert "\x7f" not in found
    assert "\x9b" not in found
    assert password not in found or password in "***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("50 %\r100 %\r\n", "50 %100 %\n"),
        ("tab\tand é", "tab\tand é"),
    ],
)
def test_escapes_are_taken_out(text: str, shown: str) -> None:
    assert exit_record.clean(text, []) == shown


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    """At most 4 KiB, from a byte on, and no half password at its beginning."""
    path = tmp_path / "log"
    assert exit_record.log_tail(path, []) == ""
    path.write_bytes(b"old\n" + b"secret-password" + b"x" * 4090 + b"\xff\n")
    tail = exit_record.log_tail(path, ["secret-password"])
    assert len(tail.encode()) <= 4096
    assert "password" not in tail
    assert exit_record.log_tail(path, [], start_bytes=path.stat().st_size - 3) == "x\N{REPLACEMENT CHARACTER}"


def test_phases_add_up(tmp_path: Path) -> None:
    """Those before the offset belong to an earlier execution; one that comes twice is summed."""
    path = tmp_path / "events.jsonl"
    events = EventLog(path, "load", 0)
    events.phase("queue")
    offset = path.stat().st_size
    for name in ("start", "measure", "drain", "measure"):
        events.phase(name)
    events.close()
    stamps = [json.loads(line)["mono_ns"] for line in path.read_bytes()[offset:].splitlines()]
    found = exit_record.phases_s(path, offset, stamps[-1] + 2_000_000_000)
    assert list(found) == ["start", "measure", "drain"]
    assert found["measure"] == pytest.approx((stamps[2] - stamps[1]) / 1e9 + 2.0, abs=1e-5)
    assert sum(found.values()) == pytest.approx((stamps[-1] - stamps[0]) / 1e9 + 2.0, abs=1e-5)


@pytest.mark.parametrize(("text", "outcome"), [("{", "failed"), ("[]", "failed"), ('{"outcome": "completed"}', "completed")])
def test_a_record_is_read_whatever_it_is(tmp_path: Path, text: str, outcome: str) -> None:
    paths = RankPaths(tmp_path)
    assert exit_record.read_exit(paths) is None
    paths.exit.write_text(text)
    record = exit_record.read_exit(paths)
    assert record is not None
    assert record["outcome"] == outcome


def test_an_outcome_must_be_known() -> None:
    with pytest.raises(ValueError, match="unknown outcome"):
        Ending("fine")


@pytest.mark.parametrize(
    "log",
    [
        "Warning: Could not create server TCP listening socket 127.0.0.1:6379: bind: Address already in use",
        'LOG:  could not bind IPv4 address "127.0.0.1": Address already in use',
        "Error: listen EADDRINUSE: address already in use 127.0.0.1:11434",
        "ERROR: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use",
        "Address localhost:8000 is not available.",
        "Port 9090 is already in use",
        "Os { code: 98, kind: AddrInUse } (os error 98)",
    ],
)
def test_servers_that_say_their_port_is_taken(log: str) -> None:
    assert says_in_use(f"starting\n{log}\nbye\n")


@pytest.mark.parametrize(
    "log", ["", "the lock file is in use", "listening on address 127.0.0.1:80\nGPU 0 is in use", "port 80 open"]
)
def test_servers_that_say_something_else(log: str) -> None:
    assert not says_in_use(log)


def test_a_held_port_is_given_to_nobody_but_can_be_listened_on() -> None:
    reservation = Reservation("127.0.0.1", None, hold=True)
    with socket.socket() as rude, pytest.raises(OSError, match="in use"):
        rude.bind(("127.0.0.1", reservation.port))
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", reservation.port))
        server.listen()
        assert foreign(reservation.port, [])
        assert not foreign(reservation.port, [os.getpid()])
        reservation.release()
        reservation.release()
    assert not foreign(reservation.port, [])


def test_a_port_that_is_listened_on_cannot_be_reserved() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(PortError, match=f"port {port} .* another program has it"):
            Reservation("127.0.0.1", port, hold=False)


def test_the_password_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "endpoints" / "secret"
    first = service_secret(path)
    assert first == service_secret(path) == path.read_text()
    assert first.isalnum()
    assert len(first) == 32
    assert path.stat().st_mode & 0o777 == 0o600


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,12}", fullmatch=True), st.text(max_size=5), max_size=6))
def test_scrubbing_only_takes_away(environment: "dict[str, str]") -> None:
    kept = scrubbed(environment)
    assert kept.items() <= environment.items()
    assert not any(name.startswith(("SLURM_", "AFB_")) or name.endswith(("_TOKEN", "_PASSWORD")) for name in kept)


def test_what_a_runtime_needs_is_kept() -> None:
    names = [
        "PATH",
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "TMPDIR",
        "CUDA_VISIBLE_DEVICES",
        "APPTAINER_CACHEDIR",
        "SINGULARITY_BIND",
    ]
    names += ["OMP_NUM_THREADS", "EBROOTPYTHON", "TOKENIZERS_PARALLELISM", "XDG_RUNTIME_DIR", "AUTHOR"]
    environment = dict.fromkeys(names, "x")
    assert scrubbed(environment) == environment


def test_the_python_path_holds_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {"PYTHONPATH": f"src{os.pathsep}/opt/x{os.pathsep}"}
    absolute_python_path(environment)
    assert environment["PYTHONPATH"] == f"{tmp_path}/src{os.pathsep}/opt/x"


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("redis://db.example:6380", "db.example", 6380),
        ("http://[::1]", "::1", 80),
        ("https://api.example/v1", "api.example", 443),
    ],
)
def test_an_endpoint_out_of_a_url(url: str, host: str, port: int) -> None:
    endpoint = external_endpoint(TargetSpec(service="x", token="", replicas=1, url=url))
    assert (endpoint.host, endpoint.port, endpoint.url) == (host, port, url)


@pytest.mark.parametrize("url", ["", "nonsense", "redis://", "redis://h", "redis://h:x", "http://h:99999", "http://[::1"])
def test_a_url_that_leads_nowhere(url: str) -> None:
    with pytest.raises(ValueError, match="write scheme://host:port"):
        external_endpoint(TargetSpec(service="x", token="", replicas=1, url=url))


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "10.1.2.3", "db.example"])
def test_an_address_of_its_own_is_where_it_is_reached(bind: str) -> None:
    assert addresses.reachable_host(bind) == bind
    assert addresses.is_loopback(bind) == (bind in {"127.0.0.1", "::1"})


def test_a_name_that_means_loopback_is_not_told_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian writes 127.0.1.1 for the host's own name into /etc/hosts."""
    monkeypatch.setattr(socket, "gethostname", lambda: "myhost")
    monkeypatch.setattr(addresses, "interfaces", lambda: {"lo": ["127.0.0.1"], "eth0": ["10.0.0.7"]})
    monkeypatch.setattr(addresses, "_UNREACHED", "127.0.0.1")
    for answer, host in [("127.0.1.1", "10.0.0.7"), ("10.0.0.7", "myhost"), ("10.9.9.9", "10.0.0.7")]:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, answer=answer, **__: [(0, 0, 0, "", (answer, 0))])
        assert addresses.reachable_host("0.0.0.0") == host


def test_a_full_disk_does_not_keep_anything_from_being_stopped(tmp_path: Path) -> None:
    """While a child is being stopped, events that cannot be written and a lease that cannot be kept are passed over."""
    code = f"""
import errno, time
from pathlib import Path
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.node.wakeup import Wakeup
from aifactory_bench.node.watch import Watch

def full():
    raise OSError(errno.ENOSPC, "No space left on device")

watch = Watch(RunPaths(Path({str(tmp_path / "nowhere")!r})), "job", Wakeup(), time.monotonic(), 60.0)
told = []
watch.on_trouble = told.append
watch.keep_lease(1.0, "afb/0")
watch.idle(0.01)
watch.look()
assert len(told) == 1, told
watch.on_tick.append(full)
watch.idle(0.01)
print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "stopped\n", done.stderr


def test_a_child_of_other_rights_is_given_up_without_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A starter that changes its user, as of containers, cannot be signalled."""

    def refused(_pid: int, _number: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    started = child.Child([sys.executable, "-c", "input()"], {}, tmp_path, tmp_path / "log", None, stdin=subprocess.PIPE)
    monkeypatch.setattr(child, "KILL_S", 0.1)
    monkeypatch.setattr(os, "kill", refused)
    assert not started.stop(signal.SIGTERM, 0.1, time.sleep)
    monkeypatch.undo()
    started.tell(b"\n")
    assert started.process.wait(20) == 0


def test_a_child_passes_over_the_warning_that_the_walltime_is_near(tmp_path: Path) -> None:
    """srun sends it to every process of a job; it is for supervise alone, and a server must not die of it."""
    started = child.Child([sys.executable, "-c", "input()"], {}, tmp_path, tmp_path / "log", None, stdin=subprocess.PIPE)
    os.kill(started.pid, signal.SIGUSR1)
    started.tell(b"go on\n")
    assert started.process.wait(30) == 0
