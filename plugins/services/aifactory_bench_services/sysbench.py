"""`sysbench` as a client of MySQL and MariaDB."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import (
    FOLDER,
    RANK,
    Argument,
    BaseJob,
    Client,
    Command,
    File,
    Joined,
    Load,
    Placeholder,
    RecipeError,
    Target,
    hookimpl,
)

from .extra_arguments import check_model
from .one_server import refuse_connections, refuse_several

CONFIG = "sysbench.cfg"
"""Written by `sysbench_node.prepare`: user and password."""
REPORT = "report.lua"
DATABASE = "sbtest"
"""How the names of databases begin; `sysbench_node.database_of` says how they go on."""
_SEED = Placeholder("seed.point")
_WORKLOAD = "oltp_read_only"
_REPORT_LUA = r"""
-- Runs a workload of sysbench and prints what it counts as JSON, one object a line.
local script
for _, argument in ipairs(sysbench.cmdline.argv or {}) do
  script = argument:match("^%-%-afb%-script=(.*)$") or script
end
if script:sub(1, 1) == "/" then
  package.path = script:gsub("[^/]*$", "?.lua;") .. package.path
  dofile(script)
else
  require(script)
end
local options = sysbench.cmdline.options or {}
sysbench.cmdline.options = options
options.afb_script = {"Workload that this file runs", ""}
options.tables = options.tables or {"Number of tables", 1}
options.table_size = options.table_size or {"Number of rows per table", 10000}
options.range_size = options.range_size or {"Rows of a range", 100}
options.skip_trx = options.skip_trx or {"No transactions", false}

local names = {"time_interval", "time_total", "events", "reads", "writes", "other", "errors", "reconnects",
  "threads_running", "latency_pct", "latency_min", "latency_max", "latency_avg", "latency_sum", "queue_length", "concurrency"}
local function report(kind, stat)
  local parts = {string.format('{"afb": "%s"', kind)}
  for _, name in ipairs(names) do
    local value = stat[name]
    if type(value) == "number" and value == value and math.abs(value) < 1e15 then
      parts[#parts + 1] = string.format('"%s": %.9f', name, value)
    end
  end
  -- In one piece: threads print at the same time.
  io.write(table.concat(parts, ", ") .. "}\n")
  io.flush()
end
sysbench.hooks.report_intermediate = function(stat) report("second", stat) end
sysbench.hooks.report_cumulative = function(stat) report("total", stat) end

local failed = {}
local before = sysbench.hooks.before_restart_event
sysbench.hooks.before_restart_event = function(description)
  local number = tonumber(description.sql_errno) or 0
  failed[number] = (failed[number] or 0) + 1
  if before then before(description) end
end
local done = thread_done
function thread_done(...)
  for number, count in pairs(failed) do
    io.write(string.format('{"afb": "error", "number": %d, "count": %d}\n', number, count))
  end
  if done then return done(...) end
end
"""


def _check_script(_instance: Any, _attribute: Any, value: str) -> None:
    if not value.endswith(".lua") or any(character in value for character in "\"'?;"):
        raise ValueError(f"must be a path that ends in .lua, without quotes, ? and ;, found {value!r}")


@frozen
class SysbenchParameters:
    """What a recipe says about the load of sysbench."""

    workload: Literal["oltp_point_select", "oltp_read_only", "oltp_read_write"] | None = None
    """1, 16 and 20 statements a transaction. None: `oltp_read_only`."""
    script: str | None = field(
        default=None, validator=validators.optional([check_model(paths_only=True), _check_script]), kw_only=True
    )
    """Path of a Lua file of your own on the client's node, in the place of `workload`."""
    prepare: Literal["tables", "script", "none"] = field(default="tables", kw_only=True)
    """`tables`: sysbench's own tables; `script`: what the script's `prepare` and `cleanup` do; `none`: what `sbtest` holds."""
    tables: int = field(default=4, validator=[validators.ge(1), validators.le(1000)], kw_only=True)
    """Of each replica, which has a database of its own where there are several."""
    table_size: int = field(default=50_000, validator=[validators.ge(1), validators.le(1_000_000_000)], kw_only=True)
    """Rows of each table, about 200 bytes each."""
    key_distribution: Literal["uniform", "gaussian", "special", "pareto"] = field(default="uniform", kw_only=True)
    """How rows are chosen (`--rand-type`); `special`, the tool's own default, asks for few rows most of the time."""
    range_size: int = field(default=100, validator=[validators.ge(1), validators.le(1_000_000)], kw_only=True)
    """Rows of a range in the statements that read ranges."""
    skip_trx: bool = field(default=False, kw_only=True)
    """The same statements without BEGIN and COMMIT."""
    prepared_statements: bool = field(default=True, kw_only=True)
    """Statements are prepared once on each connection (`--db-ps-mode`)."""

    def __attrs_post_init__(self) -> None:
        if self.prepare == "script" and self.script is None:
            raise ValueError("prepare: script needs a `script`")
        if self.script is None and self.workload is None:
            object.__setattr__(self, "workload", _WORKLOAD)  # so that results and the node have it
        elif self.script is not None and self.workload is not None:
            raise ValueError(f"workload: `script` stands in its place; found {self.workload} beside {self.script}")


class SysbenchClient(Client):
    """sysbench for a fixed time: in closed loop, or in open loop with exponential gaps and one queue for all threads.

    No server's image has it: in a container it runs from one of its own, such as `images/load-tools.def` makes.
    """

    kind = "sysbench"
    Parameters = SysbenchParameters
    mode = "tool"
    node_module = "aifactory_bench_services.sysbench_node"
    targets: ClassVar = {"main": ("mysql",)}
    slos: ClassVar = ()
    takes_timeout = False
    parameters: SysbenchParameters

    def check_load(self, load: Load) -> None:
        """Refuse a load that the tool cannot offer.

        Raises:
            RecipeError: another arrival process, steps of rates, workers, parts of seconds, or shares that are not whole.
        """
        where = f"clients.{self.name}.load"
        if load.process not in {"closed", "poisson"}:
            raise RecipeError(
                f"{where}.process: sysbench offers closed and poisson, found {load.process!r}",
                "with `poisson` the gaps between transactions are exponential (`--rate`)",
            )
        if load.rates:
            raise RecipeError(f"{where}.rates: sysbench has one rate a run", "write a matrix over `load.rate`")
        if load.workers != 1:
            raise RecipeError(
                f"{where}.workers: sysbench is one process, found {load.workers}",
                "its threads are `concurrency` (closed) or `connections` (poisson)",
            )
        for name, seconds in (("warmup", load.warmup_s), ("duration", load.duration_s)):
            if not float(seconds).is_integer():
                raise RecipeError(
                    f"{where}.{name}: sysbench knows whole seconds, found {seconds:g}s", f"write {max(1, round(seconds))}s"
                )
        name = "concurrency" if load.process == "closed" else "connections"
        threads = getattr(load, name)
        if threads is not None and threads < self.replicas:
            raise RecipeError(
                f"{where}.{name}: {threads} for {self.replicas} replicas, at least one thread a replica is needed",
                f"raise `{name}` or lower `replicas`",
            )
        rate_per_s = load.rate_per_s or 0.0
        if load.process != "closed" and (rate_per_s < self.replicas or rate_per_s % self.replicas):
            whole = max(1, round(rate_per_s / self.replicas)) * self.replicas
            raise RecipeError(
                f"{where}.rate: sysbench knows whole transactions a second, and {rate_per_s:g}/s are none for each of "
                f"{self.replicas} replicas",
                f"write {whole}/s",
            )

    def check_point(self, load: Load, parameters: SysbenchParameters, targets: Mapping[str, Target]) -> None:  # noqa: ARG002
        """Refuse several servers, and more threads than the server takes connections."""
        refuse_several(self, targets)
        refuse_connections(self, load, targets, 0)  # what we need for ourselves the server is given beyond `max_connections`

    def get_files(self) -> Sequence[File]:
        """Return the Lua file that runs the workload and prints JSON; it is the same for all points."""
        return [File(REPORT, tuple(_REPORT_LUA.strip().splitlines()))]

    def get_binds(self) -> Sequence[str]:
        """Return the folder of a script."""
        return [] if self.parameters.script is None else [str(PurePosixPath(self.parameters.script).parent)]

    def get_benchmark_commands(self, load: Load, parameters: SysbenchParameters) -> Sequence[Command]:
        """Return the command of the warm-up, where there is one, and that of the window."""
        self.check_load(load)
        target = self.target_endpoint
        closed = load.process == "closed"
        # Clients must not drop each other's tables, and replicas not write the same rows.
        owner = DATABASE if parameters.prepare == "none" else f"{DATABASE}_{self.name}"
        database = (owner,) if self.replicas == 1 else (f"{owner}_", RANK)
        common: list[Argument] = [
            *("sysbench", Joined(("--config-file=", FOLDER, f"/{CONFIG}")), Joined((FOLDER, f"/{REPORT}"))),
            f"--afb-script={parameters.script or parameters.workload}",
            *("--db-driver=mysql", Joined(("--mysql-host=", target.host)), Joined(("--mysql-port=", target.port))),
            Joined(("--mysql-db=", *database)),
            *(f"--tables={parameters.tables}", f"--table-size={parameters.table_size}"),
            *(f"--range-size={parameters.range_size}", f"--skip-trx={'on' if parameters.skip_trx else 'off'}"),
            f"--rand-type={parameters.key_distribution}",
            f"--db-ps-mode={'auto' if parameters.prepared_statements else 'disable'}",
            Joined(("--threads=", Placeholder("share.concurrency" if closed else "share.connections"))),
            *(() if closed else (Joined(("--rate=", Placeholder("share.rate"))),)),
            *("--events=0", "--report-interval=1", "--percentile=99", "--histogram=on"),
        ]
        window = Command([*common, f"--time={int(load.duration_s)}", Joined(("--rand-seed=", _SEED)), "run"])
        if not load.warmup_s:
            return [window]
        # With a seed of its own it would read, and so bring into memory, just the rows that the window then reads.
        return [Command([*common, f"--time={int(load.warmup_s)}", "run"]), window]


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the client."""
    return [SysbenchClient]
