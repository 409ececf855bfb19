"""The profiles that are shipped: whole, with sources, and obeyed; `AFB_WRITE_GOLDEN=1` writes the golden headers anew."""

import os
import re
from pathlib import Path

import pytest
from attrs import evolve, frozen

from aifactory_bench import PORT, Command, Resources, Service, UsageError, load_site
from aifactory_bench.recipe.document import parse
from aifactory_bench.recipe.problems import Place, Problems
from aifactory_bench.sites.describe import known_sites, parts_of, site_to_json
from aifactory_bench.sites.load import load_unfinished, missing_parts, own_part
from aifactory_bench.sites.settings import profile_path, shipped_names, shipped_path

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("jupiter", "juwels", "karolina", "leonardo", "lumi", "marenostrum5", "meluxina")


@frozen
class Nothing:
    """No parameters."""


class Model(Service):
    kind = "model"
    Parameters = Nothing
    default_image = "docker://model:1"

    def get_container_command(self):
        return Command(["serve", "--port", PORT])


CASES = {
    "meluxina-cpu": ({"partition": "cpu", "qos": "default"}, {}, 1),
    "meluxina-gpu": ({"partition": "gpu", "qos": "short"}, {"gpus": 4, "nodes": 2}, 2),
    "lumi-small-g": ({"partition": "small-g"}, {"gpus": 2, "cpus": 14, "memory_bytes": 120 << 30}, 1),
    "lumi-standard-g": ({"partition": "standard-g"}, {"gpus": 8}, 1),
    "leonardo": ({"partition": "boost_usr_prod", "qos": "boost_qos_dbg"}, {"gpus": 4, "cpus": 32}, 1),
    "marenostrum5": ({"qos": "acc_ehpc"}, {"gpus": 2}, 1),
    "juwels": ({}, {"gpus": 4}, 1),
    "jupiter": ({}, {"gpus": 4}, 1),
    "karolina": ({"partition": "qgpu"}, {"gpus": 3, "nodes": 2}, 2),
}


def ready(name, **options):
    """A shipped site with a user's part."""
    site = load_unfinished(name)
    images = {"docker://model:1": "/images/model.sif"}
    return evolve(site, runs="/work/runs", images=images, scheduler={**site.scheduler, "account": "p200", **options})


def test_these_are_shipped():
    assert tuple(shipped_names()) == NAMES


@pytest.mark.parametrize("case", CASES)
def test_headers_are_as_recorded(case):
    """What a job asks for, what it loads, and how it is started."""
    options, resources, replicas = CASES[case]
    job = Model("llm", resources=Resources(**resources, time_s=1800.0), replicas=replicas)
    text = job.generate_slurm_script(ready(case.partition("-")[0], **options))
    kept = [
        line
        for line in text.splitlines()
        if re.match(r"#SBATCH|module|export SRUN|exec|  \"fabric|    \"suffix|      \"", line)
    ]
    kept = [re.sub(r"node-[0-9a-f]{16}", "node-DIGEST", line) for line in kept if "AFB_TOKEN" not in line]
    path = GOLDEN / f"{case}.txt"
    if os.environ.get("AFB_WRITE_GOLDEN") == "1":
        path.write_text("\n".join(kept) + "\n")
    assert "\n".join(kept) + "\n" == path.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_every_value_has_a_source(name):
    """Nothing that is written is without one, nothing is known and unknown at once, and every source has its day."""
    site = load_unfinished(name)
    for part in parts_of(site):
        assert part.fact.source != site.file, part.path
        assert part.fact.date, part.path
        assert part.path not in site.unknown
    assert set(site.unknown).isdisjoint(path for path, fact in site.facts.items() if fact.verified)
    problems = Problems()
    document = parse(shipped_path(name).read_text(), Place(origin=name, line=1, column=1), problems)
    assert not problems.found
    assert document.get(("runs",)) is None
    assert document.get(("name",)) == name


@pytest.mark.parametrize("name", NAMES)
def test_one_alone_says_what_is_missing(name):
    """And how to give it; what it says makes a profile that works."""
    with pytest.raises(UsageError, match=f"the profile of {name} that is shipped lacks your own part: runs") as caught:
        load_site(name)
    assert str(profile_path(name)) in caught.value.hint
    path = profile_path(name)
    path.parent.mkdir(parents=True)
    path.write_text(own_part(load_unfinished(name)).replace("/PATH/ON/THE/SITE/runs", "/work/runs"))
    site = load_site(name)
    assert site.runs == "/work/runs"
    assert missing_parts(site) == []
    assert (site.login.user, site.login.host) == ("USER", load_unfinished(name).login.host)
    assert [known.origin for known in known_sites() if known.name == name] == ["user file"]


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_that_adds_nothing_but_runs_is_the_same(name):
    """Nothing is lost or changed on the way."""
    path = profile_path("mine")
    path.parent.mkdir(parents=True)
    path.write_text(f"schema: aifactory-bench/site/1\nname: mine\nextends: {name}\nruns: /work/runs\n")
    site, shipped = load_site("mine"), load_unfinished(name)
    unknown = tuple(part for part in shipped.unknown if part != "runs")
    assert site == evolve(shipped, name="mine", runs="/work/runs", file=str(path), unknown=unknown)


def test_meluxina_wants_account_and_qos():
    assert missing_parts(load_unfinished("meluxina")) == ["runs", "login.user", "slurm.account", "slurm.qos"]


def test_as_plain_values():
    """Each part with where it was read."""
    plain = site_to_json(load_unfinished("lumi"))
    assert plain["from"] == "shipped"
    assert plain["missing"] == ["runs", "login.user", "slurm.account"]
    assert plain["parts"]["rules.max_time.dev-g"]["value"] == 10800.0
    assert plain["parts"]["rules.max_time.dev-g"]["text"] == "3h"
    assert plain["parts"]["rules.max_time.dev-g"]["date"] == "2024-10-15"
    assert plain["parts"]["rules.compute_internet"]["verified"] is False
    assert "rules.qos_required" in plain["unknown"]
    assert "runs" not in plain["parts"]
    assert site_to_json(load_site("local"))["from"] == "built in"
