"""PostgreSQL: a server with a data folder of the run's own."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import (
    BIND,
    FOLDER,
    PORT,
    SECRET,
    Argument,
    BaseJob,
    Command,
    DurationS,
    File,
    Joined,
    Service,
    SizeBytes,
    hookimpl,
)

_CONFIG, _HBA, _PASSWORD, _PREPARE = "postgresql.conf", "pg_hba.conf", "password", "prepare.sh"
_DATA = Joined((FOLDER, "/data"))
_MIB = 1 << 20
_LARGEST = SizeBytes(1 << 43)
_ADMIN = "postgres"
RESERVED_CONNECTIONS = 3
"""Of `max_connections`: for what reads the counters, as a superuser."""
_NAME = r"[a-z][a-z0-9_-]{0,62}"


def _size(default_mib: int, least_kib: int) -> SizeBytes:
    bounds = [validators.ge(SizeBytes(least_kib << 10)), validators.le(_LARGEST)]
    made: SizeBytes = field(default=SizeBytes(default_mib * _MIB), validator=bounds)
    return made


@frozen
class PostgreSQLParameters:
    """What a recipe says about a PostgreSQL server; the defaults are PostgreSQL's own, but for `max_connections`."""

    fsync: bool = True
    """Off: what was committed may be lost, or damaged, with the machine. Only for comparison."""
    synchronous_commit: bool = True
    """Off: a commit does not wait for the disk; the last fraction of a second may be lost, nothing is damaged."""
    full_page_writes: bool = True
    """Off: less is written after a checkpoint, and a page that was half written when the machine died stays damaged."""
    wal_level: Literal["minimal", "replica", "logical"] = "replica"
    """How much is written for replicas; `minimal` has none."""
    wal_compression: bool = False
    """Whole pages are compressed in the write-ahead log."""
    data_checksums: bool = False
    """Checksums on data pages, decided when the data folder is made."""
    shared_buffers_bytes: SizeBytes = _size(128, 128)
    """The server's own cache; common: a quarter of the memory."""
    work_mem_bytes: SizeBytes = _size(4, 64)
    """For one sort or hash, before it goes to disk."""
    maintenance_work_mem_bytes: SizeBytes = _size(64, 1024)
    """For building an index, vacuum and the like."""
    effective_cache_size_bytes: SizeBytes = _size(4096, 8)
    """What the planner thinks is cached, the system's cache included; nothing is taken."""
    max_connections: int = field(default=200, validator=[validators.ge(5), validators.le(10_000)])
    """Three of them are kept for us: what reads the server's counters gets in when the load has taken all others."""
    checkpoint_timeout_s: DurationS = field(
        default=DurationS(300.0), validator=[validators.ge(DurationS(30.0)), validators.le(DurationS(86400.0))]
    )
    """A checkpoint begins so long after the last one, in whole seconds."""
    max_wal_size_bytes: SizeBytes = _size(1024, 32 << 10)
    """A checkpoint begins when so much was written since the last one."""
    jit: bool = True
    """Queries that look expensive are compiled."""
    autovacuum: bool = True
    """The server cleans up dead rows by itself."""
    max_parallel_workers_per_gather: int = field(default=2, validator=[validators.ge(0), validators.le(1024)])
    """Helpers of one query; 0: none."""

    extensions: tuple[str, ...] = field(default=(), validator=validators.deep_iterable(validators.matches_re(_NAME)))
    """Made in the load's database before anything is measured, such as `vector`; the image must have them."""
    preload_libraries: tuple[str, ...] = field(default=(), validator=validators.deep_iterable(validators.matches_re(_NAME)))
    """`shared_preload_libraries`, such as `pg_stat_statements`."""

    def __attrs_post_init__(self) -> None:
        if not float(self.checkpoint_timeout_s).is_integer():
            raise ValueError(f"checkpoint_timeout: must be whole seconds; found {self.checkpoint_timeout_s:g}s")


class PostgreSQLService(Service):
    """A PostgreSQL server with a throw-away password, started anew from an empty data folder.

    PostgreSQL refuses to run as root, and so does this job, with that reason.
    """

    kind = "postgresql"
    Parameters = PostgreSQLParameters
    node_module = "aifactory_bench_services.postgresql_node"
    default_image = "docker://postgres:16"
    scheme = "postgresql"
    scratch: ClassVar[tuple[str, ...]] = ("data",)
    stop_signal: ClassVar[str] = "INT"  # fast: sessions are ended, nothing is lost
    stop_timeout_s: ClassVar[float] = 20.0  # it writes a checkpoint
    parameters: PostgreSQLParameters

    def get_postgresql_config(self) -> Sequence[Argument]:
        """Return the lines of `postgresql.conf`; there is no socket in the file system, so none that others could reach."""
        parameters = self.parameters
        return [
            Joined(("listen_addresses = '", BIND, "'")),
            Joined(("port = ", PORT)),
            "unix_socket_directories = ''",
            "password_encryption = scram-sha-256",
            "log_destination = stderr",
            "logging_collector = off",
            "lc_messages = C",
            "timezone = UTC",
            "log_timezone = UTC",
            f"fsync = {_switch(parameters.fsync)}",
            f"synchronous_commit = {_switch(parameters.synchronous_commit)}",
            f"full_page_writes = {_switch(parameters.full_page_writes)}",
            f"wal_level = {parameters.wal_level}",
            *(("max_wal_senders = 0",) if parameters.wal_level == "minimal" else ()),
            f"wal_compression = {_switch(parameters.wal_compression)}",
            f"shared_buffers = {parameters.shared_buffers_bytes >> 10}kB",
            f"work_mem = {parameters.work_mem_bytes >> 10}kB",
            f"maintenance_work_mem = {parameters.maintenance_work_mem_bytes >> 10}kB",
            f"effective_cache_size = {parameters.effective_cache_size_bytes >> 10}kB",
            f"max_connections = {parameters.max_connections}",
            f"superuser_reserved_connections = {RESERVED_CONNECTIONS}",
            f"checkpoint_timeout = {int(parameters.checkpoint_timeout_s)}s",
            f"max_wal_size = {parameters.max_wal_size_bytes >> 20}MB",
            f"min_wal_size = {min(80, parameters.max_wal_size_bytes >> 20)}MB",
            f"jit = {_switch(parameters.jit)}",
            f"autovacuum = {_switch(parameters.autovacuum)}",
            f"max_parallel_workers_per_gather = {parameters.max_parallel_workers_per_gather}",
            f"shared_preload_libraries = '{','.join(parameters.preload_libraries)}'",
        ]

    def get_files(self) -> Sequence[File]:
        """Return the configuration, who may log in and how, and the administrator's password."""
        return [
            File(_CONFIG, tuple(self.get_postgresql_config())),
            File(_HBA, ("local all all scram-sha-256", "host all all all scram-sha-256")),
            File(_PASSWORD, (SECRET,)),
            # Of constant text; what is known only on the node comes as an argument.
            File(
                _PREPARE,
                (
                    'if [ "$(id -u)" = 0 ]; then',
                    '  echo "PostgreSQL does not run as root: start the job as another user; in a container no --fakeroot" >&2',
                    "  exit 1",
                    "fi",
                    "# What an execution before a restart has left is neither whole nor known to the clients.",
                    'rm -rf -- "$1"',
                ),
            ),
        ]

    def get_environment(self) -> Mapping[str, Argument]:
        """Return the one locale that every image has."""
        return {"LC_ALL": "C"}

    def get_service_setup_commands(self) -> Sequence[Command]:
        """Return what makes the data folder."""
        return [
            Command(["sh", Joined((FOLDER, f"/{_PREPARE}")), _DATA]),
            Command(
                [
                    *("initdb", "-D", _DATA, "-U", _ADMIN, Joined(("--pwfile=", FOLDER, f"/{_PASSWORD}"))),
                    *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"),
                    *(("--data-checksums",) if self.parameters.data_checksums else ()),
                ]
            ),
        ]

    def get_container_command(self) -> Command:
        """Return `postgres` on its data folder, with the configuration beside it."""
        return Command(
            [
                *("postgres", "-D", _DATA),
                *("-c", Joined(("config_file=", FOLDER, f"/{_CONFIG}"))),
                *("-c", Joined(("hba_file=", FOLDER, f"/{_HBA}"))),
            ]
        )


def _switch(on: bool) -> str:
    return "on" if on else "off"


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the server."""
    return [PostgreSQLService]
