"""The profile that is written is valid, whatever the cluster is like, and says what was seen."""

from datetime import date
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifactory_bench.site_setup import Answers, Cluster, Partition, profile_text, proposed
from aifactory_bench.sites.model import Login
from aifactory_bench.sites.profile import load_profile
from aifactory_bench.sites.settings import shipped_path

from .test_cluster import seen

LOGIN = Login("login.lab.example", port=8822, user="alice")
DAY = date(2026, 11, 27)


def test_what_is_proposed_is_written_and_read(tmp_path: Path) -> None:
    """Default partition and account, the best folder, the runtime; rules and nodes as they were seen."""
    cluster = seen()
    answers = proposed(cluster, "lab", LOGIN)
    text = profile_text(cluster, answers, today=DAY)
    site = load_profile(_written(tmp_path, text))
    assert site.login == LOGIN
    assert site.runs == "/scratch/alice/aifactory-bench/runs"
    assert site.scheduler == {"account": "p200", "partition": "cpu"}
    assert (site.runtime, site.python, site.modules) == ("apptainer", "python3.11", ())
    assert site.rules.whole_nodes
    assert site.rules.min_job_age_s == 300.0
    assert site.rules.max_time_s == {"cpu": 172800.0}
    assert (site.nodes["gpu"].gpus, site.nodes["gpu"].gpu_type, site.nodes["gpu"].count) == (4, "a100", 3)
    assert site.fact("rules.whole_nodes").date == "2026-11-27"
    assert "# there is: p200, p300; sacctmgr show associations, 2026-11-27" in text


def test_modules_where_the_login_node_has_no_runtime(tmp_path: Path) -> None:
    """The last one that is offered is loaded."""
    cluster = evolve(seen(), runtimes={})
    site = load_profile(_written(tmp_path, profile_text(cluster, proposed(cluster, "lab", LOGIN))))
    assert (site.runtime, site.modules) == ("apptainer", ("Apptainer/1.3.6-GCCcore-13.3.0",))


def test_neither_runtime_nor_python(tmp_path: Path) -> None:
    """Then services are those of the nodes, and Python is looked for there."""
    cluster = evolve(seen(), runtimes={}, modules=(), pythons={"python3": "3.6.8"}, folders={})
    site = load_profile(_written(tmp_path, profile_text(cluster, proposed(cluster, "lab", LOGIN))))
    assert (site.runtime, site.python, site.runs) == ("host", "python3", "/home/alice/aifactory-bench/runs")


@pytest.mark.parametrize("name", ["meluxina", "lumi", "leonardo", "marenostrum5", "karolina"])
def test_a_shipped_profile_is_extended(tmp_path: Path, name: str) -> None:
    """Only the user's own part is written."""
    theirs = load_profile(shipped_path(name), shipped=True).login
    assert theirs is not None
    own = Login("login.own.example", user="u100")
    answers = Answers(name, own, "/scratch/u100/runs", account="p200", qos="short", extends=name, extended=theirs)
    text = profile_text(seen(), answers)
    assert "rules:" not in text
    site = load_profile(_written(tmp_path, text))
    assert site.login is not None
    assert (site.login.user, site.runs, site.scheduler["account"], site.scheduler["qos"]) == (
        "u100",
        "/scratch/u100/runs",
        "p200",
        "short",
    )
    assert (site.login.host, site.login.port) == ("login.own.example", None)
    site = load_profile(_written(tmp_path, profile_text(seen(), evolve(answers, login=theirs))))
    assert site.login == theirs


_WORD = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,20}", fullmatch=True)
_TEXT = st.text(max_size=40)
_PARTITION = st.builds(
    Partition,
    name=_WORD,
    default=st.booleans(),
    max_time_s=st.none() | st.integers(60, 30 * 86400).map(float),
    max_nodes=st.none() | st.integers(1, 10_000),
    exclusive=st.booleans(),
    nodes=st.integers(0, 10_000),
    cpus=st.none() | st.integers(1, 512),
    memory_mb=st.none() | st.integers(1, 1 << 22),
    gpus=st.integers(0, 16),
    gpu_type=st.just("") | _WORD,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    partitions=st.lists(_PARTITION, max_size=4, unique_by=lambda one: one.name),
    accounts=st.lists(_WORD, max_size=3),
    name=_TEXT,
    version=_TEXT,
    runtime=_TEXT,
)
def test_any_cluster_gives_a_valid_profile(
    tmp_path: Path, partitions: "list[Partition]", accounts: "list[str]", name: str, version: str, runtime: str
) -> None:
    """Names like `on`, `1e3` and `~`, and texts with line ends in comments, change nothing."""
    cluster = Cluster(
        host="login",
        home="/home/a",
        name=name,
        version=version,
        partitions=tuple(partitions),
        accounts=tuple(accounts),
        default_account=accounts[0] if accounts else "",
        runtimes={"apptainer": runtime},
        config={"ClusterName": name, "MinJobAge": "300 sec", "SelectType": "select/linear"},
    )
    site = load_profile(_written(tmp_path, profile_text(cluster, proposed(cluster, "lab", LOGIN))))
    assert site.scheduler.get("account", "") == (accounts[0] if accounts else "")
    assert set(site.rules.max_time_s) == {one.name for one in partitions if one.max_time_s}


def _written(folder: Path, text: str) -> Path:
    path = folder / "lab.yaml"
    path.write_text(text)
    return path
