"""Which images a recipe needs."""

from collections.abc import Mapping
from typing import Any

from ..plan import Plan
from ..plugins import Registry
from ..recipe.model import ClientEntry, Recipe, ServiceEntry
from ..sites.model import CachedImage, Site
from .record import Image


def needed_images(recipe: Recipe, registry: Registry, site: Site) -> "tuple[str, ...]":
    """Return the references of a recipe that a site needs a file for, in the order of the recipe.

    Those that its profile has a path for are left out, and so is a path; on a site without containers nothing is needed.
    """
    if site.runtime == "host":
        return ()
    found: list[str] = []
    for service in recipe.services:
        found += _of(service, registry.services)
    for client in recipe.clients:
        found += _of(client, registry.clients)
    for factor in recipe.matrix:
        if factor.path.endswith(".image"):
            found += [value for value in factor.values if isinstance(value, str)]
    return tuple(image for image in dict.fromkeys(found) if not image.startswith("/") and image not in site.images)


def _of(entry: "ServiceEntry | ClientEntry", classes: "Mapping[str, type[Any]]") -> "list[str]":
    if entry.kind is None:
        return []
    image = entry.image or getattr(classes.get(entry.kind), "default_image", None)
    return [image] if image else []


def cached_image(image: Image) -> CachedImage:
    """Return what a plan keeps of an image."""
    return CachedImage(image.path, image.digest, image.size_bytes, image.modified_s)


def cached_of(plan: Plan) -> "dict[str, CachedImage]":
    """Return the images that a plan was made with, by reference: what is planned again uses the same files."""
    kept = plan.provenance.get("images")
    return {str(name): CachedImage(**image) for name, image in kept.items()} if isinstance(kept, Mapping) else {}
