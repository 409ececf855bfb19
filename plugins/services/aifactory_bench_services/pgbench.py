"""pgbench, PostgreSQL's own load tool, as a client of PostgreSQL."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import (
    FOLDER,
    RANK,
    RAW,
    SEED,
    Argument,
    BaseJob,
    Client,
    Command,
    DurationS,
    File,
    Joined,
    Load,
    Placeholder,
    RecipeError,
    Share,
    Target,
    hookimpl,
)

from .one_server import refuse_connections, refuse_several
from .postgresql import RESERVED_CONNECTIONS

LOG = "transactions"
DATABASE = "bench"
"""Each client has one of its own, whose name begins so."""
_ROLE = "bench"
_SCRIPTS = ("tpcb-like", "simple-update")
_WORKLOAD = "select-only"
_TAKEN = ("PGDATABASE", "PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE")
"""Variables that would lead the tool to another server or database, beside those that the client sets."""
_LEAST_SAMPLE = 1000
"""Transactions of the window that a sample must hold. `pgbench_node` knows it too."""
_LEAST_SCALE = 10
_CONNECTIONS_PER_S = 50
"""A slow server lets so many in; the time is added to the run."""
_TAIL_S = 0.5
"""At least so much longer than the window the load goes on: what was due at its end is sent. `pgbench_node` knows it too."""


def _check_script(_instance: object, _attribute: object, value: str | None) -> None:
    if value is not None and (not value.startswith("/") or not value.isprintable() or "@" in value):
        raise ValueError(f"must be an absolute path on the client's node, without '@'; found {value!r}")


@frozen
class PgbenchParameters:
    """What a recipe says about the load of pgbench."""

    workload: Literal["select-only", "tpcb-like", "simple-update"] | None = None
    """Reads by key, five statements of which three contend for few rows, or the same without those. None: `select-only`."""
    script: str | None = field(default=None, validator=_check_script)
    """Path on the client's node of a script of your own, in place of `workload`; the standard tables are there."""
    scale: int | None = field(default=None, validator=validators.optional([validators.ge(1), validators.le(100_000)]))
    """100,000 accounts each, about 15 MB. None: as many as there are connections, at least 10."""
    protocol: Literal["prepared", "extended", "simple"] = "prepared"
    """How statements are sent (`-M`)."""
    latency_limit_s: DurationS | None = field(
        default=None, validator=validators.optional([validators.ge(DurationS(0.001)), validators.le(DurationS(3600.0))])
    )
    """Later than that is counted apart; in open loop a transaction that would begin later than that is skipped (`-L`)."""
    tries: int = field(default=1, validator=[validators.ge(1), validators.le(1000)])
    """How often a transaction is tried that ends in a serialization failure or a deadlock (`--max-tries`)."""
    sampling: Share = field(default=Share(1.0), validator=[validators.gt(Share(0.0)), validators.le(Share(1.0))])
    """Share of transactions of which the latency is written down: less makes the tool faster above 100,000 a second."""

    def __attrs_post_init__(self) -> None:
        if self.script is None and self.workload is None:
            object.__setattr__(self, "workload", _WORKLOAD)  # so that results and the node have it
        elif self.script is not None and self.workload is not None:
            raise ValueError(f"workload: `script` stands in its place; found {self.workload} beside {self.script}")


class PgbenchClient(Client):
    """pgbench with its log of every transaction; `workers` are its threads."""

    kind = "pgbench"
    Parameters = PgbenchParameters
    mode = "tool"
    node_module = "aifactory_bench_services.pgbench_node"
    targets: ClassVar = {"main": ("postgresql",)}
    default_image = "docker://postgres:16"
    slos: ClassVar = ()
    takes_timeout = False
    parameters: PgbenchParameters

    def get_environment(self) -> Mapping[str, Argument]:
        """Return role and password, where the tool looks for them."""
        return {"PGUSER": _ROLE, "PGPASSWORD": self.target_endpoint.secret, "PGCONNECT_TIMEOUT": "10", "LC_ALL": "C"}

    def get_binds(self) -> Sequence[str]:
        """Return the path of the script."""
        return [self.parameters.script] if self.parameters.script else []

    def get_files(self) -> Sequence[File]:
        """Return the writing workloads with rows of one replica only, for where there are several."""
        return [File(f"{name}.sql", _own_rows(name)) for name in _SCRIPTS] if self.replicas > 1 else []

    def check_load(self, load: Load) -> None:
        """Refuse a load that the tool cannot offer.

        Raises:
            RecipeError: arrivals other than closed and poisson, steps of rates, more threads than connections.
        """
        where = f"clients.{self.name}.load"
        if load.process not in ("closed", "poisson"):
            raise RecipeError(
                f"{where}.process: pgbench offers closed and poisson, found {load.process!r}",
                "write `process: poisson` with `rate`, or `process: closed` with `concurrency`",
            )
        if load.rates:
            raise RecipeError(f"{where}.rates: pgbench has one rate a point", "write `rate`, and a matrix over `load.rate`")
        name = "concurrency" if load.process == "closed" else "connections"
        total = getattr(load, name) or 0
        if total < self.replicas * load.workers:
            raise RecipeError(
                f"{where}.{name}: {total} for {self.replicas} replicas with {load.workers} threads each, "
                f"at least one connection a thread is needed",
                f"raise `{name}`, or lower `replicas` or `workers`",
            )

    def check_point(self, load: Load, parameters: PgbenchParameters, targets: Mapping[str, Target]) -> None:
        """Refuse several servers, more connections than there are, variables of our own, and a sample that holds too little."""
        refuse_several(self, targets)
        refuse_connections(self, load, targets, RESERVED_CONNECTIONS)
        for name in sorted({*self.get_environment(), *_TAKEN} & self.environment.keys()):
            raise RecipeError(
                f"clients.{self.name}.environment.{name}: pgbench is told by the client itself where and as whom to log in",
                "leave it out",
            )
        expected = (load.rate_per_s or 0.0) * load.duration_s * parameters.sampling
        if load.process == "poisson" and parameters.sampling < 1 and expected < _LEAST_SAMPLE:
            raise RecipeError(
                f"clients.{self.name}.parameters.sampling: {parameters.sampling:.6g} of {load.rate_per_s:g}/s are "
                f"about {expected:.0f} transactions in a window of {load.duration_s:g}s, at least {_LEAST_SAMPLE} are needed",
                "leave it out: at this rate the tool can write all of them down, or make `duration` longer",
            )

    def get_benchmark_commands(self, load: Load, parameters: PgbenchParameters) -> Sequence[Command]:
        """Return the one command of a point; the warm-up is its beginning, and is left out afterwards."""
        self.check_load(load)
        closed = load.process == "closed"
        connections = (load.concurrency if closed else load.connections) or 1
        each = -(-connections // self.replicas)
        scale = parameters.scale or max(_LEAST_SCALE, connections)
        self._check_scale(scale, connections, parameters)
        seconds = math.ceil(load.warmup_s + load.duration_s + _TAIL_S + each / _CONNECTIONS_PER_S)
        return [
            Command(
                [
                    *("pgbench", "-n", "-M", parameters.protocol, *self._script(parameters, scale)),
                    *("-c", Placeholder("share.concurrency" if closed else "share.connections"), "-j", load.workers),
                    *("-T", seconds, Joined(("--random-seed=", SEED))),
                    *(() if closed else ("-R", Placeholder("share.rate"))),
                    *(() if parameters.latency_limit_s is None else ("-L", f"{parameters.latency_limit_s * 1000:g}")),
                    *("--failures-detailed", f"--max-tries={parameters.tries}"),
                    *("--log", Joined(("--log-prefix=", RAW, f"/{LOG}"))),
                    *(() if parameters.sampling >= 1 else (f"--sampling-rate={parameters.sampling:.6g}",)),
                    Joined((self.target_endpoint.url, f"/{DATABASE}_{self.name}")),
                ]
            )
        ]

    def _script(self, parameters: PgbenchParameters, scale: int) -> Sequence[Argument]:
        variables = ("-D", Joined(("rank=", RANK)), "-D", Joined(("replicas=", Placeholder("replicas"))))
        if parameters.script is not None:
            return ["-f", parameters.script, "-s", scale, *variables]
        if self.replicas > 1 and parameters.workload in _SCRIPTS:
            return ["-f", Joined((FOLDER, f"/{parameters.workload}.sql")), "-s", scale, *variables]
        return ["-b", parameters.workload or _WORKLOAD]

    def _check_scale(self, scale: int, connections: int, parameters: PgbenchParameters) -> None:
        writes = parameters.script is None and parameters.workload == "tpcb-like"
        if writes and scale < connections:
            raise RecipeError(
                f"clients.{self.name}.parameters.scale: {scale} for {connections} connections: they would wait for each other, "
                f"as every transaction writes one of {scale} rows",
                f"write {connections} or more, or leave it out",
            )
        if self.replicas > scale:
            raise RecipeError(f"clients.{self.name}.parameters.scale: {scale} for {self.replicas} replicas", "raise `scale`")


def _own_rows(workload: str) -> tuple[str, ...]:
    """Return the statements of a built-in workload, on the branches of one replica: accounts and tellers belong to branches."""
    first, last = (f":scale * (:rank + {end}) / :replicas" for end in (0, 1))
    own = (
        f"\\set first {first}",
        f"\\set last {last}",
        "\\set aid random(100000 * :first + 1, 100000 * :last)",
        "\\set bid random(:first + 1, :last)",
        "\\set tid random(10 * :first + 1, 10 * :last)",
        "\\set delta random(-5000, 5000)",
    )
    contended = (
        "UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;",
        "UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;",
    )
    return (
        *own,
        "BEGIN;",
        "UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;",
        "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;",
        *(contended if workload == "tpcb-like" else ()),
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);",
        "END;",
    )


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the client."""
    return [PgbenchClient]
