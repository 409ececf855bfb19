"""The images of a site as plans use them: looked up before a plan is made, by one question for all of a recipe."""

from collections.abc import Callable

from attrs import evolve

from ..plugins import Registry
from ..recipe.model import Recipe
from ..sites.model import CachedImage, Site
from ..transports.base import Transport
from .cache import Cache
from .needed import cached_image, needed_images


class ResolvedImages:
    """What the cache of a site had when it was asked last.

    Args:
        site: Whose cache it is.
        registry: Kinds, which may have images of their own.
        transport_of: Returns the connection to the site.
    """

    def __init__(self, site: Site, registry: Registry, transport_of: Callable[[Site], Transport]) -> None:
        self._site = site
        self._registry = registry
        self._transport_of = transport_of
        self._found: dict[str, CachedImage] = {}

    async def look_up(self, recipe: Recipe) -> "dict[str, CachedImage]":
        """Look up what a recipe needs and the profile has no path for; without such an image nothing is asked.

        Returns:
            Image reference -> what the cache has.

        Raises:
            SiteError: the cache lacks one, with the command that fetches it, or one was changed.
            TransportError: the site could not be asked.
        """
        needed = needed_images(recipe, self._registry, self._site)
        if needed:
            found = await Cache(self._site, self._transport_of(self._site)).find(needed)
            self._found.update((name, cached_image(image)) for name, image in found.items())
        return {name: self._found[name] for name in needed}

    def site_for(self, recipe: Recipe) -> Site:
        """Return the site with those images of a recipe that have been looked up."""
        needed = needed_images(recipe, self._registry, self._site)
        return evolve(self._site, cached={name: self._found[name] for name in needed if name in self._found})
