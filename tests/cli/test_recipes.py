"""Commands about recipes: nothing is run."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Console = Callable[..., subprocess.CompletedProcess[str]]


def test_validate_counts_jobs_and_measurements(inside: Console, quick_recipe: Path) -> None:
    """A good recipe is one line."""
    done = inside("validate", "quick.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "quick.yaml: valid: 2 jobs, 1 measurements\n", "")


def test_validate_lists_every_problem_with_its_place(inside: Console, quick_recipe: Path) -> None:
    """All problems at once, each with file, line and column; good recipes beside it are still told."""
    bad = quick_recipe.with_name("bad.yaml")
    bad.write_text(quick_recipe.read_text().replace("kind: redis\n", "kindd: redis\n").replace("rate: 500/s", "rate: 500"))
    done = inside("validate", "bad.yaml", "quick.yaml")
    assert done.returncode == 2
    assert "bad.yaml:5:5:" in done.stderr
    assert "bad.yaml:11:" in done.stderr
    assert "quick.yaml: valid" in done.stdout


def test_plan_shows_jobs_and_points(inside: Console, quick_recipe: Path) -> None:
    """What would be done, in order, with the factors of each point."""
    done = inside("plan", "quick.yaml", "--set", "matrix={clients.load.load.rate: [10/s, 20/s]}")
    assert done.stdout.startswith("quick on local: 2 jobs, 2 measurements\n")
    assert "clients.load.load.rate=10/s" in done.stdout
    assert "constant 20/s" in done.stdout


def test_script_is_what_bash_can_read(inside: Console, quick_recipe: Path) -> None:
    """`--job` prints one script and nothing else."""
    script = inside("script", "quick.yaml", "--job", "cache").stdout
    assert script.startswith("#!/bin/bash\n")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert inside("script", "quick.yaml").stdout.count("#!/bin/bash") == 2


def test_script_of_unknown_job_names_the_known(inside: Console, quick_recipe: Path) -> None:
    """A slip in `--job` lists what there is."""
    done = inside("script", "quick.yaml", "--job", "cahce")
    assert done.returncode == 2
    assert "cache, load" in done.stderr


def test_script_has_the_lease_that_was_asked_for(inside: Console, quick_recipe: Path) -> None:
    """`--lease` reaches the script, `off` as no lease at all."""
    assert '"lease_s": 5.0' in inside("script", "quick.yaml", "--job", "cache", "--lease", "5s").stdout
    assert '"lease_s": null' in inside("script", "quick.yaml", "--job", "cache", "--lease", "off").stdout


@pytest.mark.parametrize("lease", ["5", "soon", "0s", "-5s", ""])
def test_bad_lease_is_refused(lease: str, inside: Console, quick_recipe: Path) -> None:
    """A lease without a unit, or of nothing, is a mistake."""
    done = inside("script", "quick.yaml", f"--lease={lease}")
    assert done.returncode == 2
    assert "--lease" in done.stderr


def test_jobs_lists_kinds_with_parameters_and_source(inside: Console) -> None:
    """Each kind says what it is, what it takes and who brought it."""
    text = inside("jobs").stdout
    assert "redis  (service, from aifactory-bench " in text
    assert "redis-load  (client, from aifactory-bench " in text
    assert "    value_size: a size, such as " in text
    assert "    operations: a mapping; default {get: 10, set: 1}\n" in text
    assert inside("jobs", "redis").stdout.count("(service") == 1
    assert "known: " in inside("jobs", "reddis").stderr


def test_schema_is_json_schema(inside: Console) -> None:
    """The schema is one JSON document."""
    assert "properties" in json.loads(inside("schema").stdout)


def test_broken_plugin_file_is_told(inside: Console, quick_recipe: Path) -> None:
    """A plugin that the user names and that is broken stops the command, with its cause."""
    quick_recipe.with_name("mine.py").write_text("raise RuntimeError('not today')\n")
    done = inside("validate", "quick.yaml", "--plugin", "mine.py")
    assert done.returncode == 2
    assert "not today" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_site_is_told(inside: Console, quick_recipe: Path) -> None:
    """A site that nobody knows is an error with what is known."""
    done = inside("validate", "quick.yaml", "--site", "moon")
    assert done.returncode in {1, 2}
    assert "moon" in done.stderr
    assert "Traceback" not in done.stderr


def test_runs_folder_that_cannot_be_made_is_told(inside: Console, quick_recipe: Path) -> None:
    """A file where the folder should be is named."""
    quick_recipe.with_name("taken").write_text("")
    done = inside("run", "quick.yaml", "--runs-dir", "taken/runs")
    assert done.returncode in {1, 2}
    assert "taken" in done.stderr
    assert "Traceback" not in done.stderr
