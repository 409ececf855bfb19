"""`schema`: recipes described for editors."""

from pathlib import Path

import click

from .options import orchestrator, place_options


@click.command()
@place_options
def command(site: str, runs_dir: Path | None, plugins: tuple[Path, ...]) -> int:
    """Print the JSON Schema of recipes, for editors."""
    import json

    from ..recipe.schema import json_schema

    click.echo(json.dumps(json_schema(orchestrator(site, runs_dir, plugins).registry), indent=2))
    return 0
