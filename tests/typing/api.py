"""A user's program, for the type checker only: the public names mean what the documentation says."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from attrs import frozen

from aifactory_bench import (
    PORT,
    AsyncBenchmarkOrchestrator,
    BenchmarkOrchestrator,
    Command,
    File,
    JobFactory,
    Plan,
    RecipeError,
    Service,
    Summary,
    hookimpl,
    load_registry,
)


@frozen
class EchoParameters:
    """What a recipe may write."""

    greeting: str = "hello"


class EchoService(Service):
    """A service of one's own."""

    kind = "echo"
    Parameters = EchoParameters
    node_module: ClassVar[str | None] = "echo_node"

    def get_files(self) -> Sequence[File]:
        """Return one file."""
        return (File("greeting", (self.parameters.greeting,)),)

    def get_container_command(self) -> Command:
        """Return what runs."""
        return Command(("echo-server", "--port", PORT))


@hookimpl
def register_jobs() -> Sequence[type[Service]]:
    """Register it."""
    return (EchoService,)


def blocking(recipe: Path) -> str:
    """Run from a script."""
    with BenchmarkOrchestrator(site="local", plugins=[EchoService]) as bench:
        try:
            run = bench.run(recipe, overrides=["clients.load.load.rate=10/s"], lease_s=5.0)
        except RecipeError as error:
            return error.text
        summary: Summary = run.wait()
        limits: Mapping[str, float] = bench.plan(bench.load_recipe(recipe)).limits
        return f"{summary.verdict} {len(limits)} {run.folder}"


async def awaiting(recipe: Path) -> Summary:
    """Run from a program with a loop."""
    async with AsyncBenchmarkOrchestrator() as bench:
        run = await bench.run(recipe, listener=lambda event: print(event.type))
        return await run.wait()


def planning(recipe: Path) -> Plan:
    """Plan without running."""
    registry = load_registry()
    bench = AsyncBenchmarkOrchestrator()
    return JobFactory(registry).build(bench.load_recipe(recipe), bench.site, "preview", lease_s=None)


if __name__ == "__main__":
    print(blocking(Path("recipe.yaml")), asyncio.run(awaiting(Path("recipe.yaml"))).verdict)
