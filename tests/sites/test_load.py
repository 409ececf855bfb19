"""Site profiles by name."""

import sys

import pytest

from aifactory_bench import UsageError, load_site


def test_local_is_this_machine(tmp_path):
    """Loopback only, no container, the interpreter that runs the controller."""
    site = load_site("local", runs=tmp_path / "runs")
    assert site.submitter == "local"
    assert site.runtime == "host"
    assert site.bind == "127.0.0.1"
    assert site.python == sys.executable
    assert site.runs == str(tmp_path / "runs")


def test_runs_is_made_absolute(tmp_path, monkeypatch):
    """Jobs run in folders of their own, so a relative folder would be another one."""
    monkeypatch.chdir(tmp_path)
    assert load_site("local", runs="here").runs == str(tmp_path / "here")


@pytest.mark.parametrize("name", ["melluxina", "", "LOCAL"])
def test_another_name_says_what_there_is(name):
    """One clear error; no half-feature."""
    with pytest.raises(UsageError, match="there is: local") as raised:
        load_site(name)
    assert repr(name) in raised.value.text
