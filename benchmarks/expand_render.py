"""How long it takes to expand a matrix and to render all of its scripts.

    python benchmarks/expand_render.py [--json]

The bar: at most 2 s for 1000 points, and no more than in proportion for 4000. Times are CPU seconds, best of three.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from aifactory_bench.factory import JobFactory
from aifactory_bench.plugins import load_registry
from aifactory_bench.recipe.load import load_recipe_text
from aifactory_bench.recipe.matrix import expand
from aifactory_bench.sites.load import load_site

BAR_S = 2.0
BAR_POINTS = 1000

BASE = """schema: aifactory-bench/1
name: large
services:
  cache: {kind: redis}
clients:
  load:
    kind: redis-load
    target: cache
    load: {process: poisson}
matrix:
"""
SHAPES = {
    "load factors": "  clients.load.load.rate: [%s]\n  clients.load.parameters.keys: [%s]\n",
    "service factor": "  services.cache.parameters.max_memory: [%s]\n  clients.load.load.rate: [%s]\n",
}


def recipe_text(shape: str, points: int) -> str:
    """Return a recipe with a matrix of two factors; one that restarts the service takes ten values."""
    inner = points // 10
    if shape == "load factors":
        return BASE + SHAPES[shape] % (", ".join(f"{n}/s" for n in range(1, inner + 1)), ", ".join(map(str, range(100, 110))))
    base = BASE.replace("{process: poisson}", "{process: poisson, rate: 1/s}")
    return base + SHAPES[shape] % (
        ", ".join(f"{n}MiB" for n in range(1, 11)),
        ", ".join(f"{n}/s" for n in range(1, inner + 1)),
    )


def best_s(step: Callable[[], Any]) -> float:
    """Return the least CPU seconds of three goes."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        step()
        times.append(time.process_time() - begun)
    return min(times)


def measure(shape: str, points: int) -> dict[str, Any]:
    """Return CPU seconds of each station for one matrix."""
    registry, site = load_registry(), load_site("local")
    text = recipe_text(shape, points)
    recipe = load_recipe_text(text, "large.yaml", registry)
    if len(expand(recipe, registry)) != points:
        raise SystemExit(f"{shape}: not {points} points")
    plan = JobFactory(registry).build(recipe, site, "benchmark")
    return {
        "shape": shape,
        "points": points,
        "load_s": best_s(lambda: load_recipe_text(text, "large.yaml", registry)),
        "expand_s": best_s(lambda: expand(recipe, registry)),
        "expand_build_render_s": best_s(lambda: JobFactory(registry).build(recipe, site, "benchmark")),
        "jobs": len(plan.jobs),
        "script_bytes": sum(len(job.script) for job in plan.jobs),
    }


def main() -> None:
    """Measure, print, and end with 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    rows = [measure(shape, points) for shape in SHAPES for points in (1000, 2000, 4000)]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print(
            f"{'shape':>16} {'points':>7} {'jobs':>5} {'load s':>8} {'expand s':>9} {'build+render s':>15} {'us a point':>11}"
        )
        for row in rows:
            total = row["expand_build_render_s"]
            print(
                f"{row['shape']:>16} {row['points']:>7} {row['jobs']:>5} {row['load_s']:>8.3f} {row['expand_s']:>9.3f} "
                f"{total:>15.3f} {total / row['points'] * 1e6:>11.0f}"
            )
    missed = [row for row in rows if row["expand_build_render_s"] > BAR_S * max(1, row["points"] / BAR_POINTS)]
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
