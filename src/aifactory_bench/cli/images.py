"""`images`: the container images that a site has."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .messages import note, plain
from .options import answer_of_terminal
from .tables import table

if TYPE_CHECKING:
    from ..images.api import AsyncImages
    from ..images.record import Image

_site = click.option("--site", required=True, metavar="NAME", help="A site's name, or its profile's file.")
_again = click.option("--again", is_flag=True, help="Also when the cache has it.")
_through = click.option(
    "--through",
    default="",
    metavar="COMMAND",
    help="Run the container tool behind this command of the site, e.g. 'srun -p cpu -t 60'.  [default: on the login node]",
)
_quiet = click.option("--quiet", is_flag=True, help="No progress.")


@click.group()
def command() -> None:
    """Fetch, build, send, list and verify images, outside of paid jobs."""


@command.command()
@click.argument("references", nargs=-1, metavar="[REF]...")
@click.option("--recipe", type=click.Path(dir_okay=False), metavar="RECIPE", help="What this recipe needs.")
@_site
@_again
@_through
@_quiet
def pull(references: tuple[str, ...], recipe: str | None, site: str, again: bool, through: str, quiet: bool) -> int:
    """Let a site fetch images into its cache.

    Whoever wants the same image at the same time waits for one pull. Ctrl-C stops it and leaves nothing; a lost connection
    does not.
    """
    words = _words(through)

    async def work(images: "AsyncImages") -> int:
        wanted = (*references, *(_needed(recipe, images) if recipe is not None else ()))
        if recipe is None and not wanted:
            raise UsageError("no image is named", "name references such as docker://redis:7.4, or a recipe with --recipe")
        for reference in dict.fromkeys(wanted):
            _show(await images.pull(reference, again=again, through=words))
        if not wanted:
            note(f"{recipe}: it needs no image that site {images.site.name} has no file for")
        return 0

    return _with(site, quiet, work)


@command.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--name", metavar="NAME", help="What recipes call it; with one file only.  [default: the file's name]")
@_site
@_again
@_through
@_quiet
def build(files: tuple[Path, ...], name: str | None, site: str, again: bool, through: str, quiet: bool) -> int:
    """Let a site build images from definition files.

    An image that was built from the same text is not built again.
    """
    _one_name(name, files)
    words = _words(through)

    async def work(images: "AsyncImages") -> int:
        for file in files:
            _show(await images.build(file, name=name, again=again, through=words))
        return 0

    return _with(site, quiet, work)


@command.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--name", metavar="REF", help="What recipes call it; with one file only.  [default: the file's name]")
@_site
@_quiet
def push(files: tuple[Path, ...], name: str | None, site: str, quiet: bool) -> int:
    """Send SIF files from here to a site without internet.

    One that was interrupted is taken up where it ended.
    """
    _one_name(name, files)

    async def work(images: "AsyncImages") -> int:
        for file in files:
            _show(await images.push(file, name))
        return 0

    return _with(site, quiet, work)


@command.command("list")
@_site
def list_images(site: str) -> int:
    """List the images of a site's cache."""

    async def work(images: "AsyncImages") -> int:
        found = await images.list()
        rows = [
            (image.reference, image.digest[7:23], _size(image.size_bytes), image.made, image.trouble or "ok", image.path)
            for image in found
        ]
        header = ("REFERENCE", "DIGEST", "SIZE", "MADE", "STATE", "PATH")
        click.echo(plain(table(header, rows)) if rows else f"no images in {images.folder} on {images.site.name}")
        return 0

    return _with(site, True, work)


@command.command()
@click.argument("references", nargs=-1, metavar="[REF]...")
@_site
def verify(references: tuple[str, ...], site: str) -> int:
    """Read images as a whole and compare; all of them, or those that are named.

    One that was changed is refused from then on. Exit code 1: there is one.
    """

    async def work(images: "AsyncImages") -> int:
        found = await images.verify(*references)
        rows = [
            (one.image.reference, one.image.digest[7:23], "ok" if one.good else f"refused: {one.image.trouble}", one.image.path)
            for one in found
        ]
        click.echo(plain(table(("REFERENCE", "DIGEST", "RESULT", "PATH"), rows)) if rows else f"no images in {images.folder}")
        for one in found:
            if not one.good:
                note(f"aifactory-bench images pull {one.image.reference} --again --site {images.site.name}")
        return 0 if all(one.good for one in found) else 1

    return _with(site, True, work)


def _with(site: str, quiet: bool, work: "Callable[[AsyncImages], Any]") -> int:
    import asyncio

    from ..images.api import AsyncImages

    async def run() -> int:
        say: Callable[[str], None] = (lambda _text: None) if quiet else note
        async with AsyncImages(site, answer=answer_of_terminal(), say=say) as images:
            return int(await work(images))

    return asyncio.run(run())


def _needed(recipe: str, images: "AsyncImages") -> tuple[str, ...]:
    from ..images.needed import needed_images
    from ..plugins import load_registry
    from ..recipe.load import load_recipe

    registry = load_registry()
    return needed_images(load_recipe(recipe, registry), registry, images.site)


def _words(through: str) -> list[str]:
    import shlex

    try:
        return shlex.split(through)
    except ValueError as error:
        raise UsageError(f"--through: {error}", "close the quotation") from None


def _one_name(name: str | None, files: Sequence[Path]) -> None:
    if name is not None and len(files) > 1:
        raise UsageError("--name names one image, and there are several files", "leave it out, or give them one by one")


def _show(image: "Image") -> None:
    click.echo(plain(f"{image.reference}  {image.digest}  {_size(image.size_bytes)}  {image.path}"))


def _size(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"
