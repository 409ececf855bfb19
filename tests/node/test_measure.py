"""The point loop of a client: real processes, a real server, node modules of the test's own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aifactory_bench.node.endpoint import Endpoint, publish
from aifactory_bench.node.events import read_events
from aifactory_bench.node.files import make_private_folder, write_atomic, write_json
from aifactory_bench.node.measurement import from_json
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.node.placeholders import literal, placeholder
from aifactory_bench.node.spec import ClientSpec, PointSpec, Spec, TargetSpec, spec_to_json

SECRET = "thr0w-away"
SERVICE = "afb-r-cache-1"
CLIENT = "afb-r-load-1"

TOOL = """
import json, os, sys, time
from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.measurement import Counts, Measurement

def prepare(context):
    p = context.parameters
    if p.get("prepare") == "error":
        raise PrepareError("no space left for " + context.secrets["main"])
    if p.get("prepare") == "hang":
        time.sleep(600)
    return {"first": context.first, "seed": context.seed}

def locate(name):
    return sys.executable if name == "hidden-python" else None

def reduce(context, outcome):
    if context.parameters.get("reduce") == "error":
        raise KeyError("throughput")
    ok = int(outcome.stdout.read_text() or 0)
    value = float("nan") if context.parameters.get("reduce") == "nan" else 1
    return Measurement(context.point, context.client, context.kind, context.rank, "ok", process="own", window_asked_s=1.0,
                       window_s=1.0, counts=Counts(ok=ok), metrics={"x": {"value": value, "unit": "1"}})
"""

PING = """
import socket
from aifactory_bench.node.load import Batch, Driver, Protocol

def ask(endpoint, *words):
    with socket.create_connection((endpoint.host, endpoint.port), timeout=2) as connection:
        connection.sendall(" ".join(words).encode() + b"\\r\\n")
        data = b""
        while not data.endswith(b"\\r\\n"):
            data += connection.recv(65536)
    return data

def counters(endpoint, secret):
    for line in ask(endpoint, "INFO", "stats").split():
        if line.startswith(b"total_commands_processed:"):
            return {"operations": float(line.split(b":")[1])}

class Ping(Protocol):
    def __init__(self):
        self.data = b""
    def request(self, count):
        return b"PING\\r\\n" * count, Batch(["ping"] * count)
    def feed(self, data, now_ns):
        self.data += data
        *whole, self.data = self.data.split(b"\\r\\n")
        return [None] * len(whole)

class PingDriver(Driver):
    def __init__(self, endpoints):
        self.endpoints = endpoints
    def addresses(self):
        return [(endpoint.host, endpoint.port) for endpoint in self.endpoints]
    def protocol(self, index):
        return Ping()

def driver(context):
    return PingDriver(context.endpoints["main"])
"""


def point(number=0, participants=None, commands=(), budget_s=30.0, parameters=None, **load):
    return PointSpec(
        id=f"p{number:04d}-r1",
        repetition=1,
        reset="none",
        parameters=parameters or {},
        load={"process": "closed", "concurrency": 2, "warmup_s": 0.2, "duration_s": 0.6, "timeout_s": 2.0, "seed": 7, **load},
        participants=participants or {CLIENT: 1},
        commands=[list(command) for command in commands],
        budget_s=budget_s,
    )


def command(code, *arguments):
    return [literal(sys.executable), literal("-c"), literal(code), *arguments]


class Site:
    """A run folder with one service and clients whose `measure` runs as a process."""

    def __init__(self, folder: Path) -> None:
        self.run = RunPaths(make_private_folder(folder))
        self.modules = make_private_folder(folder.parent / "modules")
        self.started = []

    def publish(self, port, nonce="n1", restart=0):
        endpoint = Endpoint("cache", 0, "127.0.0.1", port, f"tcp://127.0.0.1:{port}", SERVICE, nonce=nonce, restart=restart)
        publish(self.run.endpoint(SERVICE, 0), endpoint)
        write_atomic(self.run.secret(SERVICE), SECRET)

    def service_ends(self, text="redis-server was ended by SIGKILL"):
        paths = self.run.job(SERVICE).rank(0)
        make_private_folder(paths.folder)
        write_json(paths.exit, {"v": 1, "outcome": "failed", "text": text})

    def start(self, points, module=TOOL, mode="tool", rank=0, ranks=1, token=CLIENT, url=None, wait=False, of_service=None):
        (self.modules / "the_node.py").write_text(module)
        (self.modules / "service_node.py").write_text(of_service or "")
        names = "service_node" if of_service else None
        target = TargetSpec("cache", SERVICE if url is None else "", 1, {"persistence": "none"}, url, node_module=names)
        client = ClientSpec(targets={"main": target}, points=points, wait_timeout_s=20, mode=mode)
        spec = Spec("r", "load", token, "client", "own-load", 1, ranks, 600, None, "the_node", client=client)
        paths = self.run.job(token)
        make_private_folder(paths.folder)
        paths.spec.write_text(spec_to_json(spec))
        argv = [sys.executable, "-m", "aifactory_bench.node", "measure", str(paths.spec), "--run-dir", str(self.run.folder)]
        environment = {**os.environ, "PYTHONPATH": str(self.modules), "AFB_RANK": str(rank)}
        argv += ["--wait"] if wait else []
        stdin = subprocess.PIPE if wait else subprocess.DEVNULL
        process = subprocess.Popen(argv, env=environment, stdin=stdin, stdout=-1, stderr=-1, text=True)
        self.started.append(process)
        return process

    def measure(self, points, **more):
        """Return exit status and what it printed."""
        process = self.start(points, **more)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output + errors

    def text(self, number=0, rank=0, token=CLIENT):
        return self.run.job(token).rank(rank).measurement(f"p{number:04d}-r1").read_text()

    def measurement(self, number=0, rank=0, token=CLIENT):
        return from_json(json.loads(self.text(number, rank, token)))

    def exists(self, number=0, rank=0):
        return self.run.job(CLIENT).rank(rank).measurement(f"p{number:04d}-r1").exists()

    def events(self, type, rank=0):
        found = [event for event, _ in read_events(self.run.job(CLIENT).rank(rank).events)]
        return [event["data"] for event in found if event["type"] == type]

    def wait_for(self, what):
        deadline = time.monotonic() + 20
        while not what() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert what()


@pytest.fixture
def listener():
    """A socket that listens: a service that is reachable and no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def site(tmp_path, listener):
    """A site with a published service; processes are ended with the test."""
    made = Site(tmp_path / "run")
    made.publish(listener.getsockname()[1])
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


@pytest.fixture
def redis(tmp_path, site):
    """A real server in place of the listening socket."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.02)
    site.publish(port)
    yield process
    process.kill()
    process.wait()


def operations_by_server(measurement):
    return measurement.server_after["operations"] - measurement.server_before["operations"]


def operations_by_client(*measurements):
    total = 0
    for measurement in measurements:
        counts, warmup = measurement.counts, measurement.phase_counts["warmup"]
        total += counts.ok + counts.error + counts.timeout + warmup["ok"] + warmup["error"] + warmup["timeout"]
    return total


# tools


def test_a_tool_is_filled_in_run_and_reduced(site):
    """Placeholders of the endpoint, the shares and the folders; identity and provenance are added."""
    names = [
        "endpoint.main.0.host",
        "endpoint.main.0.port",
        "endpoint.main.0.url",
        "endpoint.main.0.secret",
        "raw",
        "seed",
        "rank",
    ]
    names += ["replicas", "folder", "share.rate", "share.concurrency", "share.requests"]
    code = "import json, sys; json.dump(sys.argv[1:], open('arguments', 'w')); print(42)"
    asked = point(commands=[command(code, *map(placeholder, names))], rate_per_s=1000, parameters={"requests": 500})
    status, printed = site.measure([asked])
    assert status == 0, printed
    rank = site.run.job(CLIENT).rank(0)
    values = dict(zip(names, json.loads((rank.work / "arguments").read_text()), strict=True))
    assert values["endpoint.main.0.host"] == "127.0.0.1"
    assert values["endpoint.main.0.secret"] == SECRET
    assert values["raw"] == str(rank.raw("p0000-r1"))
    assert (values["seed"], values["rank"], values["replicas"]) == ("7", "0", "1")
    assert (values["share.rate"], values["share.concurrency"], values["share.requests"]) == ("1000", "2", "500")
    found = site.measurement()
    assert (found.status, found.counts.ok, found.client, found.kind) == ("ok", 42, "load", "own-load")
    assert found.prepare == {"first": True, "seed": 7}
    assert set(found.phases_s) >= {"prepare", "measure", "collect"}
    assert len(found.health.cpu_share) == 1
    assert found.provenance["endpoints"]["main"][0]["nonce"] == "n1"
    assert found.services == {"main": {"died": False, "restarted": False, "text": ""}}
    assert [event["point"] for event in site.events("point_started")] == ["p0000-r1"]
    assert site.events("point_finished") == [{"point": "p0000-r1", "status": "ok"}]
    assert [event["name"] for event in site.events("phase")] == ["prepare", "measure", "collect"]


def test_passwords_stand_nowhere_but_in_the_tools_own_output(site):
    """Neither in the measurement nor in events; that one was passed as an argument is said."""
    code = "import sys; sys.exit('no login with ' + sys.argv[1])"
    failing = point(0, commands=[command(code, placeholder("endpoint.main.0.secret"))], parameters={"reduce": "error"})
    good = point(1, commands=[command("print(1)", placeholder("endpoint.main.0.secret"))])
    refused = point(2, parameters={"prepare": "error"}, commands=[command("print(1)")])
    assert site.measure([failing, good, refused])[0] == 0
    rank = site.run.job(CLIENT).rank(0)
    for path in [*rank.measurements.iterdir(), rank.events]:
        assert SECRET not in path.read_text(), path
    assert "no login with ***" in site.measurement(0).reason
    assert site.measurement(1).tool["password_in_arguments"] is True
    assert site.measurement(1).tool["argv"][-1] == "***"
    assert site.measurement(2).reason == "no space left for ***"


def test_a_failed_point_is_written_down_and_the_next_one_is_measured(site):
    """Whatever failed: preparation, finding, running, reading; the first good one is still the first prepared."""
    good = [command("print(5)")]
    points = [
        point(0, parameters={"prepare": "error"}, commands=good),
        point(1, commands=[[literal("no-such-tool"), literal("-x")]]),
        point(2, commands=[command("import sys; sys.exit('went wrong')"), *good]),
        point(3, parameters={"reduce": "error"}, commands=good),
        point(4, parameters={"reduce": "nan"}, commands=good),
        point(5, commands=[command("print(1)", placeholder("endpoint.other.0.host"))]),
        point(6, commands=[[literal("hidden-python"), literal("-c"), literal("print(6)")]]),
    ]
    status, printed = site.measure(points)
    assert status == 0, printed
    reasons = [site.measurement(number).reason for number in range(6)]
    assert [site.measurement(number).status for number in range(7)] == ["failed"] * 6 + ["ok"]
    assert "no space left" in reasons[0]
    assert "'no-such-tool' was not found" in reasons[1]
    assert "command 1 of 2" in reasons[2]
    assert "went wrong" in reasons[2]
    assert "its output holds no result: KeyError: 'throughput'" in reasons[3]
    assert "cannot be written down" in reasons[4]
    assert "endpoint.other.0.host" in reasons[5]
    assert site.measurement(6).prepare["first"] is False
    assert [event["status"] for event in site.events("point_finished")] == ["failed"] * 6 + ["ok"]


def test_a_tool_that_fails_leaves_its_exit_code(site):
    """Reduced all the same; the judgement is made elsewhere."""
    assert site.measure([point(commands=[command("import sys; print(3, flush=True); sys.exit(9)")])])[0] == 0
    found = site.measurement()
    assert (found.status, found.counts.ok, found.tool["exit_code"]) == ("ok", 3, 9)
    assert "ended with exit code 9" in found.reason


def test_a_tool_past_its_budget_is_cut_and_the_next_point_is_measured(site):
    """The budget counts from the meeting on."""
    hangs = point(0, budget_s=1.5, commands=[[literal("/bin/sh"), "-c", "echo 8; sleep 600"]])
    began = time.monotonic()
    assert site.measure([hangs, point(1, commands=[command("print(1)")])])[0] == 0
    assert time.monotonic() - began < 30
    found = site.measurement(0)
    assert (found.status, found.counts.ok) == ("cut", 8)
    assert "1.5 s" in found.reason
    assert found.tool["timed_out"] or found.tool["stopped"]
    assert site.measurement(1).status == "ok"


# stopping


@pytest.mark.parametrize("how", ["TERM", "stop/load", "stop/all"])
def test_a_stop_keeps_what_was_measured_and_ends_with_0(site, how):
    """The running point is cut, the next ones are not begun."""
    running = point(0, commands=[command("import time; print(2, flush=True); open('up', 'w'); time.sleep(600)")])
    process = site.start([running, point(1, commands=[command("print(1)")])])
    site.wait_for((site.run.job(CLIENT).rank(0).work / "up").exists)
    if how == "TERM":
        process.terminate()
    else:
        make_private_folder(site.run.stop)
        (site.run.folder / how).touch()
    assert process.wait(20) == 0
    found = site.measurement(0)
    assert (found.status, found.counts.ok) == ("cut", 2)
    assert found.reason.startswith("told to stop by")
    assert not site.exists(1)


def test_a_stop_in_a_preparation_that_hangs_writes_no_measurement(site):
    """There is nothing to keep, and nothing failed."""
    process = site.start([point(0, parameters={"prepare": "hang"}, commands=[command("print(1)")])])
    site.wait_for(lambda: {"name": "prepare"} in site.events("phase"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not site.exists(0)
    assert site.events("point_finished") == [{"point": "p0000-r1", "status": "stopped"}]


def test_a_dead_service_cuts_the_point_and_fails_the_rest_at_once(site, listener):
    """Every planned point has a measurement that names how the service ended; exit status 3."""
    running = point(0, commands=[command("import time; print(2, flush=True); open('up', 'w'); time.sleep(600)")])
    process = site.start([running, *(point(number, commands=[command("print(1)")]) for number in range(1, 4))])
    site.wait_for((site.run.job(CLIENT).rank(0).work / "up").exists)
    listener.close()
    site.service_ends()
    assert process.wait(20) == 3
    assert [site.measurement(number).status for number in range(4)] == ["cut", "failed", "failed", "failed"]
    for number in range(4):
        found = site.measurement(number)
        assert "service cache has ended: redis-server was ended by SIGKILL" in found.reason
        assert found.services["main"]["died"] is True


def test_a_tool_that_fails_because_the_service_is_gone_says_so(site, listener):
    """The service's end is written a moment after the tool has noticed."""
    code = "import os, time; open('up', 'w')\nwhile not os.path.exists('go'): time.sleep(0.01)\nraise SystemExit('refused')"
    process = site.start(
        [point(0, parameters={"reduce": "error"}, commands=[command(code)]), point(1, commands=[command("print(1)")])]
    )
    work = site.run.job(CLIENT).rank(0).work
    site.wait_for((work / "up").exists)
    listener.close()
    (work / "go").touch()
    time.sleep(0.7)
    site.service_ends("killed for memory")
    assert process.wait(20) == 3
    assert "killed for memory" in site.measurement(0).reason
    assert "refused" in site.measurement(0).reason
    assert site.measurement(1).status == "failed"


def test_a_service_that_was_started_again_in_the_window_is_noticed(site, listener):
    """By the nonce of its endpoint."""
    process = site.start([point(0, commands=[command("import time; open('up', 'w'); time.sleep(1); print(1)")])])
    site.wait_for((site.run.job(CLIENT).rank(0).work / "up").exists)
    site.publish(listener.getsockname()[1], nonce="n2", restart=1)
    assert process.wait(20) == 0
    found = site.measurement(0)
    assert found.services["main"]["restarted"] is True
    assert found.services["main"]["died"] is False
    assert "started again" in found.services["main"]["text"]


# again, and wrong


def test_points_that_have_their_measurement_are_skipped(site):
    """Failed ones are measured again."""
    points = [
        point(number, commands=[command("print(1)")], parameters={"prepare": "error"} if number == 1 else {})
        for number in range(3)
    ]
    assert site.measure(points)[0] == 0
    before = [site.text(number) for number in range(3)]
    points[1].parameters.clear()
    assert site.measure(points)[0] == 0
    assert (site.text(0), site.text(2)) == (before[0], before[2])
    assert site.measurement(1).status == "ok"
    assert site.measurement(1).prepare["first"] is True


def test_a_module_that_cannot_be_imported_fails_every_point(site):
    """With the reason in each, and in the log."""
    status, printed = site.measure([point(0), point(1)], module="import no_such_module_here\n")
    assert status == 1
    assert "no_such_module_here" in printed
    assert [site.measurement(number).status for number in range(2)] == ["failed", "failed"]
    assert "cannot be imported" in site.measurement(1).reason


def test_a_missing_endpoint_fails_the_point(site):
    """It names the file that is not there."""
    site.run.endpoint(SERVICE, 0).unlink()
    assert site.measure([point(commands=[command("print(1)")])])[0] == 0
    assert "endpoint of replica 0 is not there" in site.measurement().reason


def test_wrong_calls_end_with_2(site, tmp_path):
    """No file, no specification, no client, a rank too many."""
    argv = [sys.executable, "-m", "aifactory_bench.node", "measure"]
    path = tmp_path / "spec.json"
    for text in (None, "{}", spec_to_json(Spec("r", "s", "t", "service", "k", 1, 1, 1, None, None))):
        if text is not None:
            path.write_text(text)
        found = subprocess.run([*argv, path, "--run-dir", tmp_path], capture_output=True, text=True, check=False)
        assert found.returncode == 2, found
        assert "Traceback" not in found.stderr
        assert found.stderr
    status, printed = site.measure([point()], rank=1, ranks=1)
    assert status == 2
    assert "rank 1 of a job with 1 ranks" in printed


def test_an_external_service_is_measured_at_its_url(site, listener):
    """It has no token, no endpoint file and no password; that of the url is hidden."""
    port = listener.getsockname()[1]
    points = [
        point(
            commands=[
                command(
                    "import sys; print(len(sys.argv[2]))",
                    placeholder("endpoint.main.0.port"),
                    placeholder("endpoint.main.0.secret"),
                )
            ]
        )
    ]
    assert site.measure(points, url=f"tcp://127.0.0.1:{port}")[0] == 0
    assert site.measurement().counts.ok == 0
    assert site.measurement().tool["argv"][-2:] == [str(port), ""]


# the load core, and several ranks


def test_a_load_is_driven_and_the_servers_count_agrees_exactly(site, redis):
    """Warm-up included, the readings of the counters themselves taken off."""
    status, printed = site.measure([point(), point(1, process="constant", rate_per_s=500.0)], module=PING, mode="load")
    assert status == 0, printed
    for number in range(2):
        found = site.measurement(number)
        assert (found.status, found.reason) == ("ok", "")
        assert found.counts.ok > 100
        assert operations_by_server(found) == operations_by_client(found)
        assert set(found.phases_s) >= {"prepare", "warmup", "measure", "drain", "collect"}
        assert 0.5 < found.window_s < 0.7
    assert [event["name"] for event in site.events("phase")][:5] == ["prepare", "warmup", "measure", "drain", "collect"]


def test_a_server_that_dies_under_load_cuts_the_measurement(site, redis):
    """What was measured before is kept."""
    process = site.start([point(0, duration_s=30.0, budget_s=60.0), point(1)], module=PING, mode="load")
    site.wait_for(lambda: {"name": "measure"} in site.events("phase"))
    time.sleep(0.5)
    redis.kill()
    redis.wait()
    site.service_ends()
    assert process.wait(20) == 3
    found = site.measurement(0)
    assert found.status == "cut"
    assert "service cache has ended" in found.reason
    assert found.counts.ok > 0
    assert found.services["main"]["died"] is True
    assert site.measurement(1).status == "failed"


def test_ranks_share_the_load_start_together_and_rank_0_counts_for_all(site, redis):
    """Two clients of two and one ranks meet at the same point."""
    other = "afb-r-other-1"
    points = [point(number, participants={CLIENT: 2, other: 1}, concurrency=4) for number in range(2)]
    members = [(CLIENT, 0), (CLIENT, 1), (other, 0)]
    processes = [site.start(points, PING, "load", rank, 2 if token == CLIENT else 1, token) for token, rank in members]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, output + errors
    for number in range(2):
        found = [site.measurement(number, rank, token) for token, rank in members]
        assert [measurement.status for measurement in found] == ["ok", "ok", "ok"]
        starts = [measurement.start_wall_ns for measurement in found]
        assert max(starts) - min(starts) < 100_000_000
        assert [measurement.provenance["seed"] for measurement in found] == [7, 8, 7]
        for leader in (found[0], found[2]):
            # Apart by no more than what the two clients' readings of the counters are.
            assert abs(operations_by_server(leader) - operations_by_client(*found)) <= 4
        assert found[1].server_after == {}
        assert found[1].absent["server_after"] == "read by rank 0 for all"


_UNCOUNTED = PING.replace("def counters(", "def count(")
_OF_SERVICE = "def counters(endpoint, secret):\n    return {'operations': 5.0, 'password': float(len(secret))}\n"


def test_counters_of_the_services_module_are_read_where_the_clients_has_none(site, redis):
    """For a load: a tool may make requests that it does not count."""
    assert site.measure([point()], module=_UNCOUNTED, mode="load", of_service=_OF_SERVICE)[0] == 0
    assert site.measurement().server_after == {"operations": 5.0, "password": float(len(SECRET))}
    assert site.measure([point(1)], module=PING, mode="load", of_service=_OF_SERVICE)[0] == 0
    assert site.measurement(1).server_after["operations"] > 5
    code, _ = site.measure([point(2, commands=[command("print(3)")])], of_service=_OF_SERVICE)
    assert (code, site.measurement(2).server_after) == (0, {})


def test_one_rank_that_cannot_prepare_fails_the_point_for_all(site):
    """The others learn why, and the next point is measured by all."""
    module = TOOL.replace('p.get("prepare") == "error"', 'p.get("prepare") == "error" and context.rank == 1')
    points = [
        point(0, participants={CLIENT: 2}, parameters={"prepare": "error"}, commands=[command("print(1)")]),
        point(1, participants={CLIENT: 2}, commands=[command("print(1)")]),
    ]
    processes = [site.start(points, module, rank=rank, ranks=2) for rank in range(2)]
    assert [process.wait(30) for process in processes] == [0, 0]
    assert [site.measurement(0, rank).status for rank in range(2)] == ["failed", "failed"]
    assert f"{CLIENT}.1: no space left for ***" in site.measurement(0, 0).reason
    assert [site.measurement(1, rank).status for rank in range(2)] == ["ok", "ok"]


def test_all_ranks_measure_again_where_one_has_not(site):
    """Ranks must meet: a point that one of them lacks is done by all."""
    points = [point(number, participants={CLIENT: 2}, commands=[command("print(1)")]) for number in range(2)]
    assert [process.wait(30) for process in [site.start(points, rank=rank, ranks=2) for rank in range(2)]] == [0, 0]
    before = [[site.text(number, rank) for rank in range(2)] for number in range(2)]
    site.run.job(CLIENT).rank(1).measurement("p0001-r1").unlink()
    assert [process.wait(30) for process in [site.start(points, rank=rank, ranks=2) for rank in range(2)]] == [0, 0]
    assert [site.text(0, rank) for rank in range(2)] == before[0]
    assert site.text(1, 0) != before[1][0]
    assert site.measurement(1, 1).status == "ok"


def test_a_rank_that_is_killed_does_not_hold_up_the_others(site):
    """Its end is written by whoever watches it."""
    points = [point(0, participants={CLIENT: 2}, commands=[command("print(1)")])]
    process = site.start(points, rank=0, ranks=2)
    site.wait_for(lambda: {"name": "prepare"} in site.events("phase"))
    paths = site.run.job(CLIENT).rank(1)
    make_private_folder(paths.folder)
    write_json(paths.exit, {"v": 1, "outcome": "failed", "text": "killed"})
    assert process.wait(20) == 0
    assert f"{CLIENT}.1 has ended" in site.measurement(0).reason


def test_it_waits_for_the_rest_of_its_environment(site):
    """Loaded beforehand, it measures when it is told to, with what it is told."""
    code = "import os; print(len(os.environ['WHERE']))"
    process = site.start([point(commands=[command(code)])], wait=True)
    time.sleep(0.5)
    assert site.events("point_started") == []
    _, errors = process.communicate(json.dumps({"WHERE": "x" * 12}), timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert site.measurement().counts.ok == 12


@pytest.mark.parametrize("how", ["end of input", "TERM"])
def test_it_measures_nothing_when_it_is_never_told_to(site, how):
    process = site.start([point(commands=[command("print(1)")])], wait=True)
    site.wait_for(lambda: site.run.job(CLIENT).rank(0).measurements.is_dir())
    time.sleep(0.3)
    if how == "TERM":
        process.terminate()
        process.wait(20)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (0, "", "")
    assert site.events("point_started") == []
    assert not site.exists()
