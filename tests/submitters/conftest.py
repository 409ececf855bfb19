"""Jobs for the submitter: small bash scripts that stand where the node side stands."""

import pytest

from aifactory_bench.node.paths import RunPaths
from aifactory_bench.plan import PlannedJob
from aifactory_bench.submitters.local import LocalSubmitter


@pytest.fixture
def paths(tmp_path):
    """An empty run folder."""
    return RunPaths(tmp_path / "run")


@pytest.fixture
def submitter(paths):
    """A submitter of that run."""
    return LocalSubmitter(paths)


@pytest.fixture
def make_job():
    """Build a job from the lines of its script."""

    def make(*lines, token="afb-r-job-0", ranks=1):
        script = "\n".join(("#!/bin/bash", "set -eu", f"export AFB_TOKEN={token}", *lines)) + "\n"
        return PlannedJob(name="job", role="service", kind="stub", token=token, script=script, ranks=ranks, time_s=60.0)

    return make
