"""`absent`: does a run that nobody watched come to the same, and are a summary's numbers those of the files on the site?"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slurm_bed_place import SERVICE, Place, loads

from aifactory_bench.node.load.histogram import Histogram

POINTS = f"""\
{SERVICE}clients:
  load:
    kind: redis-load
    target: cache
    replicas: 2
    resources: {{nodes: 2, time: 5m, memory: 200MiB}}
    parameters: {{keys: 500}}
    load: {{process: poisson, rate: 400/s, warmup: 200ms, duration: 1s}}
matrix: {{clients.load.parameters.pipeline: [1, 2]}}
"""
PAIRS_AT_A_TIME = 2
COUNTS = ("ok", "error", "timeout", "skipped")
_VARIES = {"reasons", "low_n", "absent", "unchecked"}
"""What a verdict rests on: it depends on the numbers, not on who watched."""


def absent(place: Place, trials: int, _seed: int) -> bool:
    """Compare runs that were watched throughout with runs whose controller was away from submission to the end."""
    before = os.getloadavg()[0]
    place.span_s()
    recipe = place.recipe(POINTS, "points")

    def trial(number: int) -> tuple[list[str], list[str], int]:
        watched, unwatched = f"watched-{number}", f"unwatched-{number}"
        present = place.start("run", watched, recipe)
        absent = place.start("run", unwatched, recipe)
        place.until(lambda: place.submitted(unwatched) or absent.ended(), pause_s=0.01)
        absent.kill()
        place.until(present.ended, 120.0)
        last = [place.on_site(unwatched) / f"jobs/afb-{unwatched}-{name}" for name in ("cache-0/0", "load-0/0", "load-0/1")]
        alone = place.until(lambda: all((folder / "exit.json").exists() for folder in last), 60.0)
        again = place.start("attach", unwatched)
        place.until(again.ended, 120.0)
        wrong = [] if alone else [f"{unwatched}: did not end by itself"]
        summaries = []
        for controller in (present, again):
            if controller.process.returncode not in {0, 3}:
                wrong.append(f"{controller.run}: exit code {controller.process.returncode}: {controller.complained}")
                continue
            summaries.append(json.loads(controller.printed))
            wrong += [f"{controller.run}: {text}" for text in differences(summaries[-1], place.on_site(controller.run))]
        shapes = [set(shape(summary)) for summary in summaries]
        unlike = sorted(shapes[0] ^ shapes[1]) if len(shapes) == 2 else ["no two summaries"]
        files = len(list(place.on_site(unwatched).glob("jobs/*/*/measurements/*.json")))
        if summaries and summaries[0]["points"] == summaries[-1]["points"] and len(summaries) == 2:
            wrong.append("two runs have the same numbers")
        return wrong, unlike, files

    outcomes = place.map(trial, trials, PAIRS_AT_A_TIME)
    leftovers = place.cluster.leftovers()
    print(f"absent: {trials} pairs of runs, 2 points by 2 replicas each; {loads(before)}")
    print(f"  measurement files on the site, of each unwatched run: {sorted({files for *_, files in outcomes})}")
    print(f"  pairs whose summaries all have the numbers of their own files: {sum(not wrong for wrong, *_ in outcomes)}")
    print(f"  pairs whose summaries have the same structure: {sum(not unlike for _, unlike, _ in outcomes)}")
    for wrong, unlike, _ in outcomes:
        for text in (*wrong, *unlike):
            print(f"    {text}")
    print(f"  processes of no job at the end: {len(leftovers)}")
    return not leftovers and not any(wrong or unlike for wrong, unlike, _ in outcomes)


def shape(value: Any, path: str = "") -> Iterator[str]:
    """Yield what there is in a document: every path with the type of what stands there."""
    if isinstance(value, dict):
        yield f"{path}: object"
        for key, part in value.items():
            if key not in _VARIES:
                yield from shape(part, f"{path}.{key}")
    elif isinstance(value, list):
        yield f"{path}: list"
        for part in value:
            yield from shape(part, f"{path}[]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield f"{path}: number"
    else:
        yield f"{path}: {type(value).__name__}"


def differences(summary: dict[str, Any], folder: Path) -> list[str]:
    """Return in what a summary's numbers are not those of the measurement files of a run on the site."""
    documents = site_documents(folder)
    found = []
    told: set[tuple[str, str]] = set()
    for point in summary["points"]:
        for measurement in point["measurements"]:
            key = (measurement["client"], point["id"])
            told.add(key)
            own = documents.get(key, [])
            found += [f"{'/'.join(key)}: {text}" for text in _compare(measurement, own)]
    found += [f"{'/'.join(key)} is on the site and not in the summary" for key in documents.keys() - told]
    if summary["missing"] or summary["pending"]:
        found.append(f"missing {summary['missing']}, pending {summary['pending']}")
    if not summary["site_folder"].endswith(f"/{folder.name}") or summary["run_id"] != folder.name:
        found.append(f"it is of {summary['run_id']}, in {summary['site_folder']}")
    return found


def site_documents(folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the measurement files of a run: client and point -> those of its ranks; of several attempts the last one."""
    last: dict[tuple[str, str, int], dict[str, Any]] = {}
    files = folder.glob("jobs/*/*/measurements/*.json")
    for path in sorted(files, key=lambda path: int(path.parents[2].name.rpartition("-")[2])):
        document = json.loads(path.read_text())
        last[document["client"], document["point"], document["rank"]] = document
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (client, point, _), document in sorted(last.items()):
        found.setdefault((client, point), []).append(document)
    return found


def _compare(measurement: dict[str, Any], documents: list[dict[str, Any]]) -> Iterator[str]:
    if measurement["replicas"] != len(documents):
        yield f"{measurement['replicas']} replicas, {len(documents)} files"
    for rank, document in zip(measurement["provenance"]["ranks"], documents, strict=False):
        for name in ("rank", "start_wall_ns", "end_wall_ns", "window_s", "achieved_per_s"):
            if rank[name] != document[name]:
                yield f"rank {document['rank']}: {name} is {rank[name]}, not {document[name]}"
    if measurement["provenance"]["merge"]["origin"] == "totals":  # else over the seconds in common: no simple sums
        for name in COUNTS:
            if measurement["counts"][name] != (total := sum(document["counts"][name] for document in documents)):
                yield f"{name} is {measurement['counts'][name]}, not {total}"
        for operation, clocks in measurement["latency"].items():
            if operation != "all":
                yield from _compare_latency(operation, clocks, documents)


def _compare_latency(operation: str, clocks: dict[str, Any], documents: list[dict[str, Any]]) -> Iterator[str]:
    for clock, told in clocks.items():
        if told is None:
            continue
        whole = Histogram()
        for document in documents:
            whole.add(Histogram.from_json(document["latency"][operation][clock]))
        numbers = {"count": whole.count, "max_us": whole.max_us, **{f"p{q}_us": whole.percentile_us(q) for q in (50, 99)}}
        for name, number in numbers.items():
            if not math.isclose(told[name], number or 0.0):
                yield f"{operation} {clock} {name} is {told[name]}, not {number}"
