"""The hook by which a plugin makes its job classes known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .jobs.base import BaseJob

PROJECT = "aifactory_bench"
"""Of the hooks, and of the entry-point group that plugins stand in."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function as the implementation of a hook."""


@hookspec
def register_jobs() -> Iterable[type[BaseJob]]:  # type: ignore[empty-body]
    """Return the job classes of a plugin: subclasses of `Service` and `Client`.

    Called once when the registry is loaded. A complete plugin is a module with an entry point in the group
    `aifactory_bench`, or a loose file given with `--plugin`:

        from attrs import frozen

        from aifactory_bench import PORT, Command, Service, hookimpl


        @frozen
        class FileServerParameters:
            folder: str = "."


        class FileServer(Service):
            kind = "file-server"
            Parameters = FileServerParameters
            node_module = "file_server_node"
            scheme = "http"

            def get_container_command(self) -> Command:
                return Command(["python3", "-m", "http.server", "--directory", self.parameters.folder, PORT])


        @hookimpl
        def register_jobs():
            return [FileServer]

    and its node module, `file_server_node.py`, which tells when the server answers:

        import http.client


        def probe(endpoint, secret, parameters):
            from aifactory_bench.node.contract import NotReady

            connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=1)
            try:
                connection.request("HEAD", "/")
                return {"server_name": connection.getresponse().getheader("Server")}
            except OSError as error:
                raise NotReady(str(error)) from None
            finally:
                connection.close()
    """
