"""Lines for Slurm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench import Resources, SiteError
from aifactory_bench.script.header import header_lines, header_options, walltime

GIB = 1 << 30


def header(*, time_s=600.0, ranks=1, scheduler=None, log="/runs/r/jobs/t/log", **resources):
    return header_lines(
        header_options(
            token="t", log=log, time_s=time_s, ranks=ranks, resources=Resources(**resources), scheduler=scheduler or {}
        )
    )


def test_defaults():
    """What every job has: no requeue, appended log, explicit time, a warning before its end, a clean environment."""
    assert header() == [
        "#SBATCH --job-name=t",
        "#SBATCH --output=/runs/r/jobs/t/log",
        "#SBATCH --error=/runs/r/jobs/t/log",
        "#SBATCH --open-mode=append",
        "#SBATCH --no-requeue",
        "#SBATCH --export=NONE",
        "#SBATCH --time=00:10:00",
        "#SBATCH --signal=B:USR1@120",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        "#SBATCH --ntasks-per-node=1",
    ]


def test_resources_are_per_node():
    """Ranks on one node share its cpus; memory and gpus are asked for by node."""
    lines = header(ranks=4, nodes=2, cpus=8, memory_bytes=16 * GIB, gpus=2)
    assert "#SBATCH --nodes=2" in lines
    assert "#SBATCH --ntasks=4" in lines
    assert "#SBATCH --ntasks-per-node=2" in lines
    assert "#SBATCH --cpus-per-task=4" in lines
    assert "#SBATCH --mem=16384M" in lines
    assert "#SBATCH --gpus-per-node=2" in lines


@pytest.mark.parametrize(
    ("seconds", "text", "warning"),
    [(1.0, "00:01:00", 12), (300.2, "00:05:01", 60), (3600.0, "01:00:00", 120), (90061.0, "1-01:01:01", 120)],
)
def test_time_and_warning(seconds, text, warning):
    """Rounded up; the warning comes a fifth of the time before the end, at most two minutes."""
    lines = header(time_s=seconds)
    assert f"#SBATCH --time={text}" in lines
    assert f"#SBATCH --signal=B:USR1@{warning}" in lines


@given(st.integers(min_value=0, max_value=10**7))
def test_walltime_is_exact(seconds):
    """Days, hours, minutes and seconds add up."""
    days, _, clock = walltime(seconds).rpartition("-")
    hours, minutes, rest = (int(part) for part in clock.split(":"))
    assert int(days or 0) * 86400 + hours * 3600 + minutes * 60 + rest == seconds
    assert hours < 24
    assert minutes < 60
    assert rest < 60


def test_a_site_adds_its_options():
    """In a fixed order; an empty value is a flag."""
    assert header(scheduler={"qos": "short", "account": "p200", "exclusive": ""})[-3:] == [
        "#SBATCH --account=p200",
        "#SBATCH --exclusive",
        "#SBATCH --qos=short",
    ]


@pytest.mark.parametrize("name", ["requeue", "job-name", "time", "wrap", "array", "output", "ntasks", "account=x --wrap"])
def test_a_site_cannot_change_what_a_job_is(name):
    """Everything but a known list is refused, with the reason or the list."""
    with pytest.raises(SiteError, match=r"cannot be set: it|is no option that a site may set"):
        header(scheduler={name: "1"})


def test_a_recipe_adds_options_and_they_come_before_the_sites():
    """Of its own list; one that is false is taken as not written."""
    asked = {"constraint": "b", "exclusive": True, "contiguous": False}
    lines = header(scheduler={"qos": "short", "constraint": "a"}, slurm=asked)
    assert lines[-3:] == ["#SBATCH --constraint=b", "#SBATCH --qos=short", "#SBATCH --exclusive"]


@pytest.mark.parametrize("name", ["priority", "mail", "wrap", "nodes"])
def test_a_recipe_cannot_set_what_is_not_its_own(name):
    """Where the resources are made, so that no way leads around it."""
    with pytest.raises(ValueError, match=name):
        Resources(slurm={name: "1"})


def test_text_is_quoted_for_sbatch():
    """Blanks and quotes stay inside of the value, a percent sign is no pattern, a new line is refused."""
    assert '#SBATCH --comment="two \\"words\\" \\\\"' in header(scheduler={"comment": 'two "words" \\'})
    assert '#SBATCH --output="/my runs/100%%/log"' in header(log="/my runs/100%/log")
    with pytest.raises(SiteError, match="control characters"):
        header(scheduler={"comment": "one\n#SBATCH --wrap=evil"})
