"""scancel, scontrol, and lists of nodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.slurm.control import (
    MOST_HOSTS,
    expand_hosts,
    parse_config,
    parse_job,
    scancel_argv,
    scontrol_config_argv,
    scontrol_job_argv,
)

# As `scontrol show hostnames` of 22.05.8 prints them.
EXPANDED = {
    "x[1,3-4]y[01-02],login": "x1y01 x1y02 x3y01 x3y02 x4y01 x4y02 login",
    "a[08-11]": "a08 a09 a10 a11",
    "n[1-2]-ib[0,2]": "n1-ib0 n1-ib2 n2-ib0 n2-ib2",
    "x[9-11]": "x9 x10 x11",
    "a[7,001]": "a7 a001",
    "a[1-3,2]": "a1 a2 a3 a2",
    "a,a,b": "a a b",
    "x[099-101]": "x099 x100 x101",
    "x[1-1]": "x1",
    "x,,y": "x y",
    ",x": "x",
    "x[5]": "x5",
    "a[1-2][3-4]": "a13 a14 a23 a24",
    "[1-2]": "1 2",
    "a[1-2]3[4-5]": "a134 a135 a234 a235",
    "x[01-2]": "x01 x02",
    "x[98-102]": "x98 x99 x100 x101 x102",
    "n1,n[2-3],m": "n1 n2 n3 m",
}


def test_the_commands():
    assert scancel_argv(["4", "9_2", "15+1"]) == ["scancel", "4", "9_2", "15+1"]
    assert scancel_argv(["4"], signal="KILL") == ["scancel", "--signal=KILL", "--full", "--ctld", "4"]
    assert scontrol_config_argv() == ["scontrol", "show", "config"]
    assert scontrol_job_argv("4") == ["env", "SLURM_TIME_FORMAT=%s", "scontrol", "--oneliner", "show", "job", "4"]


@pytest.mark.parametrize("job_id", ["", "-u", "4 5", "4;x", "4\n", "all", "9_[1-2]", "4.0"])
def test_what_is_no_id_is_never_cancelled(job_id):
    with pytest.raises(ValueError, match="no id of a job"):
        scancel_argv(["4", job_id])
    with pytest.raises(ValueError, match="no id of a job"):
        scontrol_job_argv(job_id)


def test_cancelling_nothing_is_not_cancelling_everything():
    with pytest.raises(ValueError, match="at least one"):
        scancel_argv([])


@pytest.mark.parametrize(("text", "hosts"), EXPANDED.items())
def test_lists_of_nodes(text, hosts):
    assert expand_hosts(text) == hosts.split()


def test_the_order_within_three_brackets_is_our_own():
    # 22.05.8 turns the first of the earlier brackets before the second.
    assert sorted(expand_hosts("r[0-1]c[0-1]n[00-01]")) == sorted(
        ["r0c0n00", "r0c0n01", "r1c0n00", "r1c0n01", "r0c1n00", "r0c1n01", "r1c1n00", "r1c1n01"]
    )


@pytest.mark.parametrize("text", ["", "  ", ","])
def test_no_nodes(text):
    assert expand_hosts(text) == []


def test_names_that_end_after_a_bracket():
    assert expand_hosts("n[1-2].site.org") == ["n1.site.org", "n2.site.org"]


@pytest.mark.parametrize(
    "text",
    [
        "x[1-2",
        "x]",
        "x[]",
        "x[1,]",
        "x[2-1]",
        "x[1-n3]",
        "x[1 ,2]",
        "x y",
        "x[[1]]",
        "x;y",
        "x/y",
        "(null)",
        "x[-1]",
        "x[1-2-3]",
        "ü",
    ],
)
def test_what_is_no_list_of_nodes(text):
    with pytest.raises(ValueError, match="no list of nodes"):
        expand_hosts(text)


@pytest.mark.parametrize("text", ["n[0-99999],m", "a[0-9][0-9][0-9][0-9][0-9][0-9]", "n[1-999999999999999999]", "[1-9]" * 1000])
def test_a_list_is_not_expanded_without_end(text):
    with pytest.raises(ValueError, match="more than 100000 nodes"):
        expand_hosts(text)


def test_a_list_that_just_fits():
    assert len(expand_hosts("n[00000-99999]")) == MOST_HOSTS


def test_a_text_without_end_is_not_looked_at():
    with pytest.raises(ValueError, match="too long"):
        expand_hosts("n," * (1 << 20))


@given(st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), max_size=20))
def test_plain_names_come_back(names):
    assert expand_hosts(",".join(names)) == names


@given(
    st.lists(
        st.tuples(
            st.from_regex("[a-z]{1,5}", fullmatch=True), st.lists(st.tuples(st.integers(0, 999), st.integers(0, 9)), min_size=1)
        ),
        max_size=5,
    )
)
def test_ranges_come_back(groups):
    """What a model of Slurm's folding prints."""
    text = ",".join(
        f"{name}[{','.join(f'{first:03d}-{first + more:03d}' for first, more in ranges)}]" for name, ranges in groups
    )
    assert expand_hosts(text) == [
        f"{name}{number:03d}" for name, ranges in groups for first, more in ranges for number in range(first, first + more + 1)
    ]


@given(st.one_of(st.text(), st.text("an0123456789[]-,", max_size=30)))
def test_any_text_is_a_list_or_none(text):
    hosts, error = [], ""
    try:
        hosts = expand_hosts(text)
    except ValueError as raised:
        error = str(raised)
    assert error.isprintable()
    assert len(hosts) <= MOST_HOSTS
    assert not any(set(host) & set("[], \n") for host in hosts)


def test_a_configuration():
    assert parse_config(
        "Configuration data as of 2026-11-27T17:44:37\nMessageTimeout          = 10 sec\nMinJobAge = 300 sec\n"
        "AccountingStorageEnforce = none\nEmpty =\nMailDomain = (null)\n\nSlurmctld(primary) at ctl is UP\n"
    ) == {
        "MessageTimeout": "10 sec",
        "MinJobAge": "300 sec",
        "AccountingStorageEnforce": "none",
        "Empty": "",
        "MailDomain": "(null)",
    }


def test_a_job_is_not_what_its_comment_says():
    job = parse_job(
        "JobId=4 JobName=afb-r-a-1 JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0 ReqB:S:C:T=0:0:*:* CPUs/Task=1 "
        "TRES=cpu=1,mem=200M NodeList= Comment=done JobState=COMPLETED ExitCode=0:0 \n"
    )
    assert job["JobState"] == "FAILED"
    assert job["ExitCode"] == "3:0"
    assert job["ReqB:S:C:T"] == "0:0:*:*"
    assert job["CPUs/Task"] == "1"
    assert job["TRES"] == "cpu=1,mem=200M"
    assert not job["NodeList"]
    assert job["Comment"] == "done"


def test_of_an_array_the_first_record_counts():
    assert parse_job("JobId=20 JobState=RUNNING\nJobId=14 JobState=PENDING ArrayJobId=14\n") == {
        "JobId": "20",
        "JobState": "RUNNING",
    }


@given(st.text())
def test_any_text_is_read(text):
    for found in (parse_config(text), parse_job(text), parse_job(f"JobId=4 {text}")):
        assert all(value.isprintable() for value in found.values())


@given(
    st.dictionaries(
        st.from_regex("[A-Z][A-Za-z]{0,20}", fullmatch=True).filter(lambda key: key != "JobId"),
        st.from_regex(r"[a-z0-9 :,./()-]{0,30}", fullmatch=True),
    )
)
def test_attributes_come_back(attributes):
    text = " ".join(f"{key}={value}" for key, value in {"JobId": "4", **attributes}.items())
    assert parse_job(text) == {"JobId": "4", **{key: value.strip() for key, value in attributes.items()}}
