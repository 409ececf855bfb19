"""Options of sbatch: what is not allowed is refused, all at once, with what would be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.slurm.options import MANAGED, OPTIONS, check_options
from aifactory_bench.slurm.submission import sbatch_argv

GOOD = {
    "account": ["p200", "p-200.x@y", 12345],
    "acctg-freq": ["task=10", "task=10,network=30"],
    "comment": ["a b; $(c)", "é"],
    "constraint": ["a100", "gpu&a100", "[rack1|rack2]", "nvme*2", "!slow"],
    "contiguous": ["", True, None],
    "core-spec": ["2", 0],
    "cpu-freq": ["2400000", "high", "performance", "low-high:OnDemand"],
    "delay-boot": ["10"],
    "distribution": ["block:cyclic", "*:block"],
    "exclude": ["n1", "gpu[01-04,07],login"],
    "exclusive": ["", None, "user", "topo"],
    "gpu-freq": ["high", "medium,memory=high"],
    "gres": ["nvme:1", "lscratch:100", "shard:2,nvme", "license/x:1"],
    "gres-flags": ["disable-binding", "enforce-binding,one-task-per-sharing"],
    "hint": ["nomultithread", "compute_bound"],
    "licenses": ["ansys@server:2", "a:1,b"],
    "mail-type": ["END", "begin,END,TIME_LIMIT_90"],
    "mail-user": ["a.b+c@example.org", "alice"],
    "mcs-label": ["m1"],
    "network": ["job_vni", "single_node_vni,job_vni"],
    "nice": ["", "100", 5, "-5"],
    "nodelist": ["x[1,3-4]y[01-02]"],
    "partition": ["gpu", "gpu,long"],
    "prefer": ["a100"],
    "priority": ["100"],
    "qos": ["short"],
    "reservation": ["course", "a,b"],
    "segment": [4],
    "spread-job": [""],
    "switches": ["1", "1@30:00", "2@1-12:00:00"],
    "thread-spec": ["1"],
    "threads-per-core": [1, "2"],
    "tmp": ["200G", "1000"],
    "wait-all-nodes": ["1"],
    "wckey": ["w1"],
}
BAD = {
    "account": ["", "a b", "-x", "a,b", "a;b", 1.5, ["a"], True],
    "acctg-freq": ["a b"],
    "comment": ["", "x" * 501, "a\nb", "a\x1bb"],
    "constraint": ["a b", "$(x)", "`x`", "'x'", "a;b"],
    "contiguous": ["yes", "1"],
    "core-spec": ["-1", "x", "1.5", "99999"],
    "cpu-freq": ["a b", "1/2"],
    "delay-boot": ["soon"],
    "distribution": ["a b"],
    "exclude": ["n[1-2", "n[2-1]", "/etc/hosts", "n 1", "n[1-999999]", ","],
    "exclusive": ["no", "user,x", 1],
    "gpu-freq": ["a;b"],
    "gres": ["gpu:4", "gpu", "nvme,gpu:a100:2", "gres/gpu:1", "gres:gpu:1", "a b"],
    "gres-flags": ["none"],
    "hint": ["fast"],
    "licenses": ["a b"],
    "mail-type": ["SOMETIMES"],
    "mail-user": ["a b", "a;b"],
    "mcs-label": ["a b"],
    "network": ["a b"],
    "nice": ["x", "1.5", "9999999999"],
    "nodelist": ["n[a]", "n1;n2"],
    "partition": ["a b", ",", "a,,b", "$x"],
    "prefer": ["a b"],
    "priority": ["-1"],
    "qos": ["a,b"],
    "reservation": ["a b"],
    "segment": ["0"],
    "spread-job": ["x"],
    "switches": ["0", "x", "1@soon", "1@"],
    "thread-spec": ["x"],
    "threads-per-core": ["0"],
    "tmp": ["1.5G", "0", "2X"],
    "wait-all-nodes": ["2"],
    "wckey": ["a b"],
}

DANGEROUS = {
    "job-name",
    "output",
    "error",
    "input",
    "open-mode",
    "parsable",
    "dependency",
    "signal",
    "requeue",
    "no-requeue",
    "array",
    "export",
    "export-file",
    "get-user-env",
    "wait",
    "wrap",
    "bcast",
    "chdir",
    "clusters",
    "time",
    "nodes",
    "uid",
    "hold",
    "begin",
}


def test_every_option_is_tried():
    assert set(GOOD) == set(BAD) == set(OPTIONS)


def test_an_option_is_ours_or_theirs():
    assert not set(OPTIONS) & set(MANAGED)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_good_values(name, value):
    (found,) = check_options({name: value}, "site").items()
    assert found == (name, str(value) if value not in ("", None) and value is not True else None)
    assert sbatch_argv(dict([found]))[2].startswith(f"--{name}")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_values(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: (must|takes|needs)[^\n]*; found ") as raised:
        check_options({name: value}, "site")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", MANAGED)
@pytest.mark.parametrize("who", ["site", "recipe"])
def test_ours_are_refused_with_the_reason(name, who):
    with pytest.raises(ValueError, match=rf"^'{name}': cannot be set: it (is|comes|would) "):
        check_options({name: "1"}, who)


def test_the_dangerous_ones_are_known_as_ours():
    assert MANAGED.keys() >= DANGEROUS


@pytest.mark.parametrize("name", ["acctg-freq", "delay-boot", "mcs-label", "priority", "wait-all-nodes"])
def test_some_are_for_the_site_only(name):
    check_options({name: GOOD[name][0]}, "site")
    with pytest.raises(ValueError, match="is for the site's profile only"):
        check_options({name: GOOD[name][0]}, "recipe")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("partion", "partition"),
        ("--partition", "partition"),
        ("Partition", "partition"),
        ("mail_user", "mail-user"),
        ("acount", "account"),
    ],
)
def test_a_slip_of_the_pen_is_understood(name, meant):
    with pytest.raises(ValueError, match=rf"did you mean {meant}\?$"):
        check_options({name: "x"}, "recipe")


def test_a_stranger_gets_the_list():
    with pytest.raises(ValueError, match=r"is no option that a recipe may set; these are: account, comment, .*wckey") as raised:
        check_options({"frobnicate\n\x1b": "x"}, "recipe")
    assert "priority" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_all_problems_are_told_at_once():
    with pytest.raises(ValueError) as raised:
        check_options({"partion": "x", "qos": "a b", "account": "p1", "wrap": "rm -rf /", "nice": "much"}, "site")
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == ["'partion'", "qos", "'wrap'", "nice"]


def test_good_options_keep_their_order():
    assert list(check_options({"qos": "a", "account": "b", "exclusive": ""}, "recipe").items()) == [
        ("qos", "a"),
        ("account", "b"),
        ("exclusive", None),
    ]


@given(
    st.dictionaries(
        st.one_of(st.sampled_from([*OPTIONS, *MANAGED]), st.text()),
        st.one_of(st.text(), st.integers(), st.none(), st.booleans(), st.floats(), st.lists(st.text())),
    ),
    st.sampled_from(["site", "recipe"]),
)
def test_what_passes_is_a_command_line(options, who):
    found, problems = None, []
    try:
        found = check_options(options, who)
    except ValueError as raised:
        problems = str(raised).split("\n")
    assert all(line.isprintable() for line in problems)
    assert len(problems) <= len(options)
    if found is not None:
        assert set(found) == set(options) <= set(OPTIONS)
        assert len(sbatch_argv(found)) == 2 + len(options)
        assert all(value is None or (value.isprintable() and value) for value in found.values())
