"""A login node for `slurm_scale.py`: Slurm, simulated or real, behind SSH, and a TCP proxy in front that can be slow or dead.

It is a process of its own, so that what it costs is not taken for the controller's. `with Bed(folder) as bed:` starts it, and
`bed.ask("freeze")` and the like tell it what to do; a controller in another process asks through `ask(folder, ...)`. It ends,
with all that it started, when the process that started it is gone.

    python benchmarks/slurm_scale_bed.py FOLDER SETTINGS      is what `Bed` starts; SETTINGS is JSON
"""

import asyncio
import contextlib
import json
import math
import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from aifactory_bench.testing.fake_slurm import FakeSlurm, Instant, Never
from aifactory_bench.testing.fake_slurm.program import sbatch
from aifactory_bench.testing.fake_slurm.program.schedule import settle
from aifactory_bench.testing.fake_slurm.program.store import Store
from aifactory_bench.testing.ssh_server import SshServer

HOST = "127.0.0.1"
ALIAS = "scale"
"""The login node's name in the `~/.ssh/config` that the bed writes."""
CHUNK_BYTES = 1 << 16
ENDED_S = 60.0
REAL_BED = Path(__file__).parent.parent / "tests/slurm"
CONTROL = "control"
READY = "ready"
LATER = "now+1day"
"""When jobs on the real Slurm are to begin; held ones would be taken for such as never start, and be cancelled."""


class Proxy:
    """Carries bytes, each after a delay; frozen, it takes what fits into the buffers and carries nothing."""

    def __init__(self, target):
        self._target = target
        self.delay_s = 0.0
        self.running = asyncio.Event()
        self.running.set()
        self.carried_bytes = {"up": 0, "down": 0}
        self.port = 0
        self._server = None
        self._lines = set()

    async def listen(self):
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self):
        self._server.close()
        for line in list(self._lines):
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    async def _accept(self, reader, writer):
        line = asyncio.current_task()
        self._lines.add(line)
        ways, inner_writer = [], None
        try:
            inner_reader, inner_writer = await asyncio.open_connection(*self._target)
            ways = [
                asyncio.create_task(way)
                for way in (*self._way(reader, inner_writer, "up"), *self._way(inner_reader, writer, "down"))
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # the bed ends, or nobody listens
        finally:
            self._lines.discard(line)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, inner_writer):
                if end is not None:
                    end.transport.abort()

    def _way(self, reader, writer, name):
        """Return the two halves of one direction: what arrives waits, however much of it, each for its own time."""
        queue = asyncio.Queue(maxsize=1024)
        clock = asyncio.get_running_loop().time

        async def take():
            while data := await reader.read(CHUNK_BYTES):
                self.carried_bytes[name] += len(data)
                await queue.put((clock() + self.delay_s, data))
            await queue.put((clock() + self.delay_s, b""))
            await asyncio.Event().wait()  # the line ends when the other half has given everything

        async def give():
            with contextlib.suppress(OSError):
                while (item := await queue.get())[1]:
                    await asyncio.sleep(item[0] - clock())
                    await self.running.wait()
                    writer.write(item[1])
                    await writer.drain()

        return take(), give()


def write_home(home, port, user, key, host_key):
    """Make a home from which `ssh scale` leads through the proxy; host_key: kind and key."""
    folder = home / ".ssh"
    folder.mkdir(mode=0o700, parents=True)
    (folder / "known_hosts").write_text(f"[{HOST}]:{port} {host_key}\n")
    (folder / "config").write_text(
        f"Host {ALIAS}\n  HostName {HOST}\n  Port {port}\n  User {user}\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder / 'known_hosts'}\n"
    )


class FakeBed:
    """FakeSlurm behind the test kit's SSH server."""

    def __init__(self, folder, settings):
        self._folder = folder
        self.slurm = FakeSlurm(folder / "slurm", nodes=settings.get("nodes", 4), jobs=Never("Priority"))
        path = f"{self.slurm.bin}:{os.environ['PATH']}"
        self.server = SshServer(environment={"PATH": path, "HOME": str(folder), "LC_ALL": "C"})
        self.runs = folder / "site-runs"
        self._open = contextlib.AsyncExitStack()
        self._ids = {}

    async def up(self):
        self.runs.mkdir()
        await self._open.enter_async_context(self.server)
        return HOST, self.server.port

    def write_home(self, home, port):
        key = self._folder / "key"
        self.server.client_key.write_private_key(str(key))
        key.chmod(0o600)
        write_home(home, port, self.server.user, key, self.server.host_key.export_public_key().decode().strip())

    async def down(self):
        await self._open.aclose()
        await asyncio.to_thread(self.slurm.close)

    def submit(self, names, state):
        """Put jobs into the queue, all in one transaction, and return their ids; state: pending, running, ended or gone."""
        behaviour = {"pending": Never("Priority"), "running": Instant(run_s=math.inf)}.get(state, Instant(run_s=1.0))
        self.slurm.behave("*", behaviour)
        with Store(str(self.slurm.folder)) as store:
            for name in names:
                given = sbatch.prepare([f"--job-name={name}", "--parsable", "--wrap", "true"])(store)
                self._ids[name] = given.stdout.strip()
            settle(store)
        if state in {"ended", "gone"}:
            self.slurm.advance(2.0)
        if state == "gone":
            for name in names:
                self.slurm.purge(self._ids[name])
        self.slurm.behave("*", Never("Priority"))
        return [self._ids[name] for name in names]

    def calls(self):
        return dict(self.slurm.calls)

    def sessions(self):
        return self.server.counts.sessions

    def cpu_s(self):
        """Return what all commands so far have cost the login node, those of Slurm included."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def cut(self):
        raise NotImplementedError("there is no network; `freeze` stops the proxy")

    restore = cut


class RealBed:
    """The real Slurm and sshd of the test bed."""

    def __init__(self, _folder, _settings):
        sys.path.append(str(REAL_BED))
        from bed import Cluster, new_folder

        self._folder, self._lock = new_folder()
        self.cluster = Cluster(self._folder)
        self.runs = Path(self.cluster.runs)

    async def up(self):
        self.cluster.up()
        return self.cluster.login

    def write_home(self, home, port):
        address = self.cluster.login[0]
        lines = (line.split(" ", 1) for line in self.cluster.known_hosts.read_text().splitlines())
        host_key = next(key for pattern, key in lines if address in pattern)
        write_home(home, port, self.cluster.user, self.cluster.key, host_key)

    async def down(self):
        with contextlib.suppress(Exception):
            self.cluster.cancel_all()
        self.cluster.down()
        os.close(self._lock)

    def submit(self, names, state):
        """Put jobs that wait for another day into the queue and return their ids."""
        assert state == "pending"
        return [self.cluster.submit("#!/bin/sh\ntrue\n", f"--job-name={name}", f"--begin={LATER}") for name in names]

    def calls(self):
        return {}

    def sessions(self):
        return None

    def cpu_s(self):
        return None

    def cut(self):
        """Lose every packet to and from the login node."""
        self.cluster.cut_login()

    def restore(self):
        self.cluster.restore_login()


async def serve(folder, settings):
    """Be the bed until standard input ends."""
    bed = (RealBed if settings.get("real") else FakeBed)(folder, settings)
    proxy = None
    try:
        proxy = Proxy(await bed.up())
        await proxy.listen()
        proxy.delay_s = settings.get("delay_s", 0.0)
        port = bed.cluster.login[1] if settings.get("direct") else proxy.port
        bed.write_home(folder / "home", port)
        if settings.get("direct"):
            config = folder / "home/.ssh/config"
            config.write_text(config.read_text().replace(f"HostName {HOST}", f"HostName {bed.cluster.login[0]}"))
            known = folder / "home/.ssh/known_hosts"
            known.write_text(bed.cluster.known_hosts.read_text())
        orders = {
            "freeze": proxy.running.clear,
            "thaw": proxy.running.set,
            "bytes": lambda: dict(proxy.carried_bytes),
            "calls": bed.calls,
            "sessions": bed.sessions,
            "cpu_s": bed.cpu_s,
            "submit": bed.submit,
            "runs": lambda: str(bed.runs),
            "cut": bed.cut,
            "restore": bed.restore,
        }

        async def obey(reader, writer):
            while line := await reader.readline():
                order = json.loads(line)
                answer = orders[order.pop("order")](**order)
                writer.write(json.dumps(answer).encode() + b"\n")
            writer.close()

        control = await asyncio.start_unix_server(obey, str(folder / CONTROL), limit=1 << 24)
        print(READY, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        control.close()
    finally:
        if proxy is not None:
            await proxy.close()
        await bed.down()
        shutil.rmtree(folder, ignore_errors=True)


def ask(folder, order, **arguments):
    """Tell the bed in a folder to do something, and return its answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(folder / CONTROL))
        connection.sendall(json.dumps({"order": order, **arguments}).encode() + b"\n")
        with connection.makefile("rb") as stream:
            return json.loads(stream.readline())


class Bed:
    """A bed in a process of its own, as the process that measures holds it."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self._settings = settings
        self._process = None

    def __enter__(self):
        self.folder.mkdir()
        argv = [sys.executable, __file__, str(self.folder), json.dumps(self._settings)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        for line in self._process.stdout:
            if line.strip() == READY:
                return self
        self.close()
        raise SystemExit("the login node did not start")

    def __exit__(self, kind, error, trace):
        self.close()

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(ENDED_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def runs(self):
        """The site's folder of runs, by its path there."""
        return self.ask("runs")

    @property
    def home(self):
        """`$HOME` of whoever is to log in."""
        return self.folder / "home"

    def ask(self, order, **arguments):
        return ask(self.folder, order, **arguments)


def real_is_missing():
    """Return why there can be no real bed with hosts of its own; empty where there can."""
    if os.geteuid() != 0:
        return "it takes root"
    sys.path.append(str(REAL_BED))
    from bed import missing

    return f"not installed: {' '.join(missing())}" if missing() else ""


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), json.loads(sys.argv[2])))
