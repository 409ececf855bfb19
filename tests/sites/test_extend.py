"""Profiles that extend others: put together key by key, each problem at the place where it is written."""

import pytest

from aifactory_bench import RecipeError, load_site
from aifactory_bench.sites.settings import profile_path

BASE = """\
schema: aifactory-bench/site/1
name: base
login: {host: login.base, port: 8822}
runs: /base/runs
slurm: {partition: cpu, hint: nomultithread, exclusive: true}
modules: [a, b]
rules:
  whole_nodes: true
  account_required: true
  max_time: {cpu: 1h, gpu: 2h}
facts:
  login: {source: a page, date: 2025-01-02, verified: true}
  rules: {source: another page}
  rules.whole_nodes: {source: a third page, verified: true}
unknown: [python, rules.otp, paths]
"""
OWN = """\
schema: aifactory-bench/site/1
name: own
extends: base
login: {user: alice}
slurm: {account: p200, exclusive: false, partition: gpu}
modules: [c]
rules: {whole_nodes: false, otp: true}
unknown: [interfaces]
"""


def write(name, text):
    path = profile_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_mappings_are_put_together_and_the_rest_is_replaced():
    write("base", BASE)
    write("own", OWN)
    site = load_site("own")
    assert (site.name, site.runs) == ("own", "/base/runs")
    assert (site.login.host, site.login.port, site.login.user) == ("login.base", 8822, "alice")
    assert site.scheduler == {"account": "p200", "partition": "gpu", "hint": "nomultithread"}
    assert site.modules == ("c",)
    assert (site.rules.whole_nodes, site.rules.account_required, site.rules.otp) == (False, True, True)
    assert site.rules.max_time_s == {"cpu": 3600.0, "gpu": 7200.0}


def test_what_is_replaced_has_another_source():
    """The base's word for it is gone, and what was unknown is known."""
    write("base", BASE)
    path = write("own", OWN)
    site = load_site("own")
    assert site.fact("rules.whole_nodes").source == str(path)
    assert site.fact("rules.account_required").source == "another page"
    assert str(site.fact("rules.account_required")) == "another page, not verified"
    assert str(site.fact("login.host")) == "a page, 2025-01-02"
    assert site.fact("login.user").source == str(path)
    assert site.fact("runs").source == str(path)
    assert site.unknown == ("interfaces", "python", "paths")


def test_a_chain_and_a_file():
    """A profile may extend one that extends another, by name or by a path from its own place."""
    write("base", BASE)
    path = write("own", OWN)
    far = path.parent.parent / "far.yaml"
    far.write_text("schema: aifactory-bench/site/1\nname: far\nextends: sites/own.yaml\nrules: {max_time: {cpu: 5h}}\n")
    site = load_site(str(far))
    assert (site.name, site.login.user, site.login.host) == ("far", "alice", "login.base")
    assert site.rules.max_time_s == {"cpu": 18000.0, "gpu": 7200.0}


def test_problems_are_told_where_they_are_written():
    """Of both files, in one error."""
    base = write("base", BASE.replace("port: 8822", "port: 0"))
    own = write("own", OWN.replace("otp: true", "opt: true"))
    with pytest.raises(RecipeError) as caught:
        load_site("own")
    lines = str(caught.value).splitlines()
    assert any(line.startswith(f"{base}:3:") and "login.port" in line for line in lines)
    assert any(line.startswith(f"{own}:7:") and "did you mean otp?" in line for line in lines)


def test_each_file_has_its_own_name():
    write("base", BASE)
    write("own", OWN.replace("name: own\n", ""))
    with pytest.raises(RecipeError, match="name: missing"):
        load_site("own")


def test_what_is_extended_must_be_there():
    write("own", OWN.replace("extends: base", "extends: meluxine"))
    with pytest.raises(RecipeError, match="there is no site 'meluxine'; did you mean meluxina"):
        load_site("own")
    write("own", OWN.replace("extends: base", "extends: 7"))
    with pytest.raises(RecipeError, match=r"extends: must be the name of a site.*found 7"):
        load_site("own")


def test_no_circles():
    write("base", BASE + "extends: own\n")
    write("own", OWN)
    with pytest.raises(RecipeError, match="in a circle"):
        load_site("own")


def test_runs_must_come_from_somewhere():
    write("own", OWN.replace("extends: base", "extends: juwels"))
    with pytest.raises(RecipeError, match="runs: missing; it must be the folder"):
        load_site("own")


def test_a_file_may_have_the_name_of_what_it_extends():
    """The shipped one is meant then."""
    write("lumi", "schema: aifactory-bench/site/1\nname: lumi\nextends: lumi\nruns: /scratch/runs\n")
    site = load_site("lumi")
    assert site.login.host == "lumi.csc.fi"
    assert site.runs == "/scratch/runs"
