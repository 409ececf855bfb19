"""The submitter of a run, by its site; one connection a site for the life of a controller."""

import os
from collections.abc import Callable
from typing import Optional

from ..errors import RunError, UsageError
from ..node.paths import RunPaths
from ..plan import Plan
from ..sites.model import Login, Site
from ..transports.base import Transport
from ..transports.local import LocalTransport
from .archive import unpack
from .base import Submitter
from .local import LocalSubmitter
from .slurm import SlurmSubmitter
from .slurm_site import SlurmSite

_MADE_OF = ("recipe.yaml", "plan.json")
_NO_RUN = 9


class Submitters:
    """Makes the submitters of one controller."""

    def __init__(self, transport: Callable[[Login, str], Transport]) -> None:
        """Transport: returns the connection of a login to the site of a name, not yet made."""
        self._transport = transport
        self._sites: dict[str, SlurmSite] = {}

    def of(self, site: Site, paths: RunPaths, plan: Optional[Plan] = None) -> Submitter:
        """Return the submitter of a run; plan: of one that is taken up."""
        if site.submitter == "local":
            return LocalSubmitter(paths)
        here = site.login is not None and site.login.transport == "local"
        if here and os.path.realpath(site.runs) == os.path.realpath(paths.folder.parent):
            raise UsageError(
                f"{site.runs} is the site's own folder of runs, and the controller keeps a copy of them elsewhere",
                "choose another folder with --runs-dir",
            )
        return SlurmSubmitter(paths, self._slurm_site(site), paths.folder.name, plan)

    async def fetch(self, site: Site, run_id: str) -> "dict[str, bytes]":
        """Return what a run on a site was made of, by file name: for a controller that never saw it.

        Raises:
            RunError: there is no such run on the site.
            TransportError: it could not be asked.
        """
        done = await self._slurm_site(site).run("fetch", f"{site.runs}/{run_id}", timeout_s=120.0)
        if done.exit_code == _NO_RUN:
            raise RunError(f"no run {run_id} here, and none in {site.runs} on {site.name}", "see `status` for the runs here")
        try:
            files = unpack(done.stdout, _MADE_OF)
        except ValueError as error:
            raise RunError(f"{site.name}: {site.runs}/{run_id}: {error}") from None
        if len(files) != len(_MADE_OF):
            raise RunError(f"{site.name}: {site.runs}/{run_id} is not a whole run: it has {', '.join(files) or 'nothing'}")
        return files

    def transport_of(self, site: Site) -> Transport:
        """Return the connection to a site, shared with its runs."""
        return LocalTransport() if site.submitter == "local" else self._slurm_site(site).transport

    def _slurm_site(self, site: Site) -> SlurmSite:
        if site.name not in self._sites:
            assert site.login is not None
            self._sites[site.name] = SlurmSite(site, self._transport(site.login, site.name))
        return self._sites[site.name]

    async def close(self) -> None:
        """End all connections."""
        for site in self._sites.values():
            await site.close()
        self._sites.clear()
