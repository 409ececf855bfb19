"""MySQL and MariaDB: a server of either flavour for one run."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import BIND, FOLDER, PORT, SECRET, Argument, BaseJob, Command, File, Joined, Service, SizeBytes, hookimpl

Flavour = Literal["mariadb", "mysql"]
IMAGES: Mapping[str, str] = {"mariadb": "docker://mariadb:11.4", "mysql": "docker://mysql:8.4"}
USER = "bench"
DATABASE = "sbtest"
RESERVED_CONNECTIONS = 2
"""Beyond `max_connections`: one for the counters at the window's edges, one for what is sampled meanwhile."""
_CONFIG, _INIT = "my.cnf", "init.sql"
_LEAST_POOL = SizeBytes(5 << 20)
"""Below it no release of either flavour starts."""
_LEAST_LOG = SizeBytes(8 << 20)
_SYNC_BINLOG = 1
"""Of both flavours."""


@frozen
class MySQLParameters:
    """What a recipe says about a server."""

    flavour: Flavour = "mariadb"
    """`mariadb` runs `mariadbd`, `mysql` Oracle's `mysqld`; the default image follows."""
    innodb_buffer_pool_size_bytes: SizeBytes = field(
        default=SizeBytes(512 << 20), validator=[validators.ge(_LEAST_POOL), validators.le(SizeBytes(1 << 44))]
    )
    """Memory for pages; data that is larger makes the storage part of what is measured."""
    innodb_flush_log_at_trx_commit: int = field(default=1, validator=validators.in_((0, 1, 2)))
    """1: the log is on disk before a commit is answered; 2: written, and flushed once a second; 0: both once a second."""
    innodb_doublewrite: bool = True
    """Pages are written twice, so that half a page can be mended."""
    innodb_log_size_bytes: SizeBytes | None = field(
        default=None, validator=validators.optional([validators.ge(_LEAST_LOG), validators.le(SizeBytes(1 << 39))])
    )
    """Of the redo log (MariaDB: `innodb_log_file_size`, MySQL: `innodb_redo_log_capacity`); None: the server's own default."""
    log_bin: bool = False
    """A binary log is written."""
    sync_binlog: int | None = field(
        default=None, validator=validators.optional([validators.ge(0), validators.le((1 << 32) - 1)])
    )
    """With `log_bin` only: the binary log is flushed after so many commits; 0: when the system likes. None: 1."""
    max_connections: int = field(default=200, validator=[validators.ge(10), validators.le(90_000)])
    """For clients; what reads the counters has connections of its own beyond it."""
    max_prepared_stmt_count: int = field(default=1_000_000, validator=[validators.ge(1), validators.le(1_048_576)])
    """Of all connections together; sysbench needs up to 9 for each of its tables on each connection."""
    performance_schema: bool = False
    """The server's own instruments, which cost some of what they measure."""

    def __attrs_post_init__(self) -> None:
        if self.sync_binlog is not None and not self.log_bin:
            raise ValueError(f"sync_binlog: without `log_bin` there is no binary log to flush; found {self.sync_binlog}")


class MySQLService(Service):
    """A MariaDB or MySQL server with a data folder and a throw-away password of its own."""

    kind = "mysql"
    Parameters = MySQLParameters
    node_module = "aifactory_bench_services.mysql_node"
    default_image: ClassVar[str | None] = IMAGES["mariadb"]
    scheme = "mysql"
    scratch: ClassVar[tuple[str, ...]] = ("data",)
    stop_timeout_s: ClassVar[float] = 30.0
    parameters: MySQLParameters

    def __init__(self, name: str, parameters: MySQLParameters | None = None, **options: Any) -> None:
        super().__init__(name, parameters, **options)
        self.image = options.get("image") or IMAGES[self.flavour]

    @property
    def flavour(self) -> Flavour:
        """`mariadb` or `mysql`."""
        return self.parameters.flavour

    def get_mysql_config(self) -> Sequence[Argument]:
        """Return the lines of `my.cnf`; the password is not among them."""
        given = self.parameters
        return [
            "[mysqld]",
            # Started by root, which is also what fakeroot makes of a user, a server refuses to run until it is told that this
            # is meant; for everybody else it is a warning in the log and nothing more.
            "user=root",
            Joined(('datadir="', FOLDER, '/data"')),
            # Without a folder both lie in the data folder, which is private, and a path relative to it is never too long.
            "socket=mysqld.sock",
            "pid-file=mysqld.pid",
            Joined(("bind-address=", BIND)),
            Joined(("port=", PORT)),
            Joined(('init-file="', FOLDER, f'/{_INIT}"')),
            "skip-name-resolve",
            "local-infile=0",
            f"max_connections={given.max_connections + RESERVED_CONNECTIONS}",
            f"max_prepared_stmt_count={given.max_prepared_stmt_count}",
            f"innodb_buffer_pool_size={given.innodb_buffer_pool_size_bytes}",
            f"innodb_flush_log_at_trx_commit={given.innodb_flush_log_at_trx_commit}",
            f"innodb_doublewrite={_on(given.innodb_doublewrite)}",
            f"performance_schema={_on(given.performance_schema)}",
            *(
                (
                    "log-bin=binlog",
                    "server-id=1",
                    f"sync_binlog={_SYNC_BINLOG if given.sync_binlog is None else given.sync_binlog}",
                )
                if given.log_bin
                else ()
            ),
            *(self._of_mariadb() if self.flavour == "mariadb" else self._of_mysql()),
        ]

    def _of_mariadb(self) -> Sequence[str]:
        size_bytes = self.parameters.innodb_log_size_bytes
        return [
            *(() if size_bytes is None else (f"innodb_log_file_size={size_bytes}",)),
            *(() if self.parameters.log_bin else ("skip-log-bin",)),
        ]

    def _of_mysql(self) -> Sequence[str]:
        size_bytes = self.parameters.innodb_log_size_bytes
        return [
            *(() if size_bytes is None else (f"innodb_redo_log_capacity={size_bytes}",)),
            *(() if self.parameters.log_bin else ("disable-log-bin",)),
            # A second port and socket, for a protocol that is not measured.
            "mysqlx=OFF",
            # Its default is a folder of the image that only root and the user `mysql` may enter, and the server ends over that.
            "secure-file-priv=NULL",
        ]

    def get_init_statements(self) -> Sequence[Argument]:
        """Return what the server runs before it takes connections: one statement a line, the password among them."""
        by = "IDENTIFIED BY" if self.flavour == "mariadb" else "IDENTIFIED WITH caching_sha2_password BY"
        return [
            f"CREATE DATABASE IF NOT EXISTS {DATABASE};",
            Joined((f"CREATE USER IF NOT EXISTS '{USER}'@'%' {by} '", SECRET, "';")),
            f"GRANT ALL ON `{DATABASE}%`.* TO '{USER}'@'%';",
            # MariaDB's own root logs in by its account on the machine; MySQL's would have no password.
            *(() if self.flavour == "mariadb" else (Joined((f"ALTER USER 'root'@'localhost' {by} '", SECRET, "';")),)),
        ]

    def get_files(self) -> Sequence[File]:
        """Return `my.cnf` and the statements that make the user."""
        return [File(_CONFIG, tuple(self.get_mysql_config())), File(_INIT, tuple(self.get_init_statements()))]

    def get_environment(self) -> Mapping[str, Argument]:
        """Return where temporary tables lie: in `/tmp` servers of one node would remove each other's when they start."""
        return {"TMPDIR": FOLDER}

    def get_service_setup_commands(self) -> Sequence[Command]:
        """Return what makes an empty data folder; one of an execution that was cut off is removed."""
        if self.flavour == "mariadb":
            make: list[Argument] = [
                *("mariadb-install-db", "--no-defaults", Joined(("--datadir=", FOLDER, "/data"))),
                *("--auth-root-authentication-method=socket", "--skip-test-db", "--skip-name-resolve"),
            ]
        else:
            make = [
                *("mysqld", "--no-defaults", "--initialize-insecure", Joined(("--datadir=", FOLDER, "/data"))),
                *("--user=root", "--secure-file-priv=NULL"),
            ]
        return [Command(["rm", "-rf", Joined((FOLDER, "/data"))]), Command(make)]

    def get_container_command(self) -> Command:
        """Return the server on its configuration file."""
        program = "mariadbd" if self.flavour == "mariadb" else "mysqld"
        return Command([program, Joined(("--defaults-file=", FOLDER, f"/{_CONFIG}"))])


def _on(value: bool) -> str:
    return "ON" if value else "OFF"


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the server."""
    return [MySQLService]
