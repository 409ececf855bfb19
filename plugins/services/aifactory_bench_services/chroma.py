"""Chroma: a server of vectors."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import BIND, FOLDER, PORT, SECRET, Argument, BaseJob, Command, Joined, Service, hookimpl

_DATA = Joined((FOLDER, "/data"))
_KEEP_ALIVE_S = 600
_PROGRAMS = {"rust": "chroma", "python": "python3"}


def _check_path(_instance: object, _attribute: object, value: str | None) -> None:
    if value is not None and (not value.startswith("/") or not value.isprintable()):
        raise ValueError(f"must be an absolute path on the node, found {value!r}")


@frozen
class ChromaParameters:
    """What a recipe says about a Chroma server."""

    server: Literal["rust", "python"] = "rust"
    """`rust`: `chroma run`, which knows no logins. `python`: `chromadb.app` under uvicorn, which asks for a token."""
    storage: Literal["persistent", "memory"] = "persistent"
    """Whether vectors are kept on disk; `memory` needs `server: python`."""
    path: str | None = field(default=None, validator=_check_path)
    """Folder for the data, kept after the run. None: one of the run's own."""
    log: Literal["warn", "info"] = "warn"
    """Of `chroma run`: `info`, its own default, writes some 3 kB a search."""
    program: str | None = field(default=None, validator=validators.optional(validators.min_len(1)))
    """Name or path of what is started. None: `chroma`, or `python3` with `server: python`."""

    def __attrs_post_init__(self) -> None:
        if self.storage == "memory" and self.server == "rust":
            raise ValueError("storage: memory needs server: python; chroma run keeps its data in a folder")
        if self.storage == "memory" and self.path is not None:
            raise ValueError("path has no meaning with storage: memory")
        if self.log != "warn" and self.server == "python":
            raise ValueError("log is of chroma run; the server in python logs warnings")


class ChromaService(Service):
    """A Chroma server; it asks for a token only with `server: python`."""

    kind = "chroma"
    Parameters = ChromaParameters
    node_module = "aifactory_bench_services.chroma_node"
    default_image = "docker://chromadb/chroma:1.5.9"
    scheme = "http"
    scratch: ClassVar[tuple[str, ...]] = ("data",)
    parameters: ChromaParameters

    @property
    def _folder(self) -> Argument:
        return _DATA if self.parameters.path is None else self.parameters.path

    def get_environment(self) -> Mapping[str, Argument]:
        """Return what both servers read; the token stands here, so that it is in no argument vector."""
        common: dict[str, Argument] = {"ANONYMIZED_TELEMETRY": "False"}
        if self.parameters.server == "rust":
            return {**common, "RUST_LOG": self.parameters.log}
        is_persistent = self.parameters.storage == "persistent"
        return {
            **common,
            "CHROMA_SERVER_AUTHN_PROVIDER": "chromadb.auth.token_authn.TokenAuthenticationServerProvider",
            "CHROMA_SERVER_AUTHN_CREDENTIALS": SECRET,
            "IS_PERSISTENT": "1" if is_persistent else "0",
            **({"PERSIST_DIRECTORY": self._folder} if is_persistent else {}),
        }

    def get_binds(self) -> Sequence[str]:
        """Return the folder of the data, where it is not the run's own."""
        return [] if self.parameters.path is None else [self.parameters.path]

    def get_container_command(self) -> Command:
        """Return `chroma run`, or uvicorn with Chroma's application."""
        parameters = self.parameters
        program = parameters.program or _PROGRAMS[parameters.server]
        if parameters.server == "rust":
            return Command([program, "run", "--path", self._folder, "--host", BIND, "--port", PORT])
        return Command(
            [
                *(program, "-m", "uvicorn", "chromadb.app:app", "--host", BIND, "--port", PORT),
                # A line a request would be written, and connections that wait for work would be closed.
                *("--no-access-log", "--log-level", "warning", "--timeout-keep-alive", str(_KEEP_ALIVE_S)),
            ]
        )


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the server."""
    return [ChromaService]
