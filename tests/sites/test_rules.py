"""Rules, facts and what nodes have: read strictly; which limit of time holds."""

import pytest

from aifactory_bench import RecipeError, load_site
from aifactory_bench.sites.rules import Rules, longest_s

HEAD = "schema: aifactory-bench/site/1\nname: here\nlogin: {host: login}\nruns: /runs\n"


@pytest.fixture
def read(tmp_path):
    """Read a profile with these lines."""

    def load(text):
        path = tmp_path / "here.yaml"
        path.write_text(HEAD + text)
        return load_site(str(path))

    return load


def test_everything_is_read(read):
    site = read(
        "rules: {gpu_request: gres, gpu_type: a100, min_job_age: 5m, certificate_lifetime: 12h, max_time: {gpu/dev: 6h}}\n"
        "nodes: {gpu: {cpus: 64, memory: 512GiB, gpus: 4, gpu_type: A100, count: 200, max_nodes: 8, exclusive: true}}\n"
        "billing: {unit: node_hour, partitions: {gpu: {node: 1.5, gpu: 1}}}\n"
        "images_cache: /project/images\npaths: {scratch: /scratch}\ninterfaces: [ib0]\nnotes: {login: by key}\n"
        "facts: {nodes.gpu.cpus: {source: a page, date: 2025-01-02}}\nunknown: [rules.otp]\n"
    )
    assert (site.rules.gpu_type, site.rules.min_job_age_s, site.rules.certificate_lifetime_s) == ("a100", 300.0, 43200.0)
    assert site.rules.max_time_s == {"gpu/dev": 21600.0}
    assert site.nodes["gpu"].memory_bytes == 512 << 30
    assert site.billing.charge("gpu").gpu == 1.0
    assert (site.images_cache, site.paths, site.interfaces) == ("/project/images", {"scratch": "/scratch"}, ("ib0",))
    assert site.facts["nodes.gpu.cpus"].date == "2025-01-02"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: {whole_node: true}", "rules.whole_node: unknown key; did you mean whole_nodes?"),
        ("rules: {gpu_request: typed}", "rules.gpu_request: must be gpus_per_node, gres or gpus"),
        ("rules: {gpu_type: 'a100:4'}", "rules.gpu_type: must be one word"),
        ("rules: {fabric_suffix: '.ib'}", "rules.fabric_suffix: must be letters"),
        ("rules: {cpus_per_gpu: 0}", "rules.cpus_per_gpu: must be at least 1"),
        ("rules: {max_time: {cpu: 100}}", "rules.max_time.cpu: must be a duration"),
        ("rules: {max_time: {cpu/a/b: 1h}}", "rules.max_time: must be named PARTITION"),
        ("rules: {max_time: {cpu: 0s}}", "rules.max_time: cpu: must be more than 0s"),
        ("nodes: {cpu: {cores: 4}}", "nodes.cpu.cores: unknown key"),
        ("nodes: {cpu: {memory: 4}}", "nodes.cpu.memory: must be a size"),
        ("billing: {unit: euro}", "billing.unit: must be node_hour, gpu_hour or core_hour"),
        ("billing: {unit: node_hour, partitions: {a: {node: -1}}}", "billing.partitions.a.node: must be at least 0"),
        ("facts: {rule.otp: {source: x}}", "no 'rule'; did you mean rules?"),
        ("facts: {rules.otb: {source: x}}", "no 'otb'; did you mean otp?"),
        ("facts: {login: {source: x, date: 02.01.2025}}", "facts.login.date: must be a day such as 2025-02-28"),
        ("facts: {login: {date: 2025-01-02}}", "facts.login.source: missing"),
        ("unknown: [rules.nothing]", r"unknown\[0\]: must be the path of a part of a profile"),
        ("images_cache: images", "images_cache: must be an absolute path"),
        ("paths: {scratch: here}", "paths: scratch: must be an absolute path"),
    ],
)
def test_every_slip_is_told_with_its_place(read, text, told):
    with pytest.raises(RecipeError, match=told) as caught:
        read(text + "\n")
    assert "here.yaml:5:" in str(caught.value)


@pytest.mark.parametrize(
    ("partition", "qos", "limit"),
    [
        ("gpu", "dev", ("gpu/dev", 600.0)),
        ("cpu", "dev", ("*/dev", 300.0)),
        ("cpu", "other", ("cpu", 60.0)),
        ("cpu", None, ("cpu", 60.0)),
        (None, "dev", ("*/dev", 300.0)),
        (None, None, None),
        ("fpga", None, None),
        ("cpu,gpu", None, ("gpu", 120.0)),
        ("cpu,fpga", None, None),
    ],
)
def test_the_limit_that_names_most_holds(partition, qos, limit):
    """Of several partitions the longest, and none where one has none."""
    rules = Rules(max_time_s={"cpu": 60.0, "gpu": 120.0, "*/dev": 300.0, "gpu/dev": 600.0})
    assert longest_s(rules, partition, qos) == limit
