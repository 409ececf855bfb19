"""sbatch: an id where there is one, and no refusal taken for a no that was none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.slurm.submission import SubmittedId, classify_sbatch, parse_sbatch, sbatch_argv

FAILED = "sbatch: error: Batch job submission failed: "


def test_the_command():
    assert sbatch_argv({"job-name": "afb-r-a-1", "no-requeue": None, "comment": "a b;'\"$(c)"}) == [
        "sbatch",
        "--parsable",
        "--job-name=afb-r-a-1",
        "--no-requeue",
        "--comment=a b;'\"$(c)",
    ]


@pytest.mark.parametrize(
    "options", [{"wrap\n": "x"}, {"": "x"}, {"-p": "x"}, {"p=x": None}, {"comment": "a\nb"}, {"comment": "\0"}]
)
def test_nothing_that_is_no_option_gets_into_the_command(options):
    with pytest.raises(ValueError, match="no option of sbatch"):
        sbatch_argv(options)


@pytest.mark.parametrize(
    ("stdout", "found"),
    [
        ("4\n", SubmittedId("4", "")),
        ("4;big-iron\n", SubmittedId("4", "big-iron")),
        ("Submitted batch job 4\n", SubmittedId("4", "")),
        ("Submitted batch job 4 on cluster c1\n", SubmittedId("4", "c1")),
        ("-----\nWelcome to Big Iron\n-----\n--> Verifying queue...OK\n123456\n\n", SubmittedId("123456", "")),
        ("12\r\n", SubmittedId("12", "")),
        ("You have 4 jobs\n17\nProject p: 12.5 hours left\n", SubmittedId("17", "")),
    ],
)
def test_ids(stdout, found):
    assert parse_sbatch(stdout) == found


@pytest.mark.parametrize(
    "stdout", ["", "\n", "0\n", "4 5\n", "job 4\n", "4;\n", "4;a b\n", "12345678901\n", "\u0664\n", "-4\n"]
)
def test_what_is_no_id(stdout):
    with pytest.raises(ValueError, match="printed no job id"):
        parse_sbatch(stdout)


@given(
    st.text(st.characters(exclude_categories=["Nd", "C"])),
    st.integers(1, 2**32),
    st.text(st.characters(exclude_categories=["Nd"])),
)
def test_an_id_is_found_in_any_chatter(before, number, after):
    assert parse_sbatch(f"{before}\n{number}\n{after}") == SubmittedId(str(number), "")


@given(st.text())
def test_any_text_is_an_id_or_none(stdout):
    found, error = None, ""
    try:
        found = parse_sbatch(stdout)
    except ValueError as raised:
        error = str(raised)
    assert error.isprintable()
    assert found is None or found.job_id in stdout


@pytest.mark.parametrize(
    ("kind", "exit_code", "stderr"),
    [
        ("ambiguous", 1, f"{FAILED}Socket timed out on send/recv operation\n"),
        ("ambiguous", 1, f"{FAILED}Zero Bytes were transmitted or received\n"),
        ("ambiguous", 1, f"{FAILED}Unable to contact slurm controller (receive failure)\n"),
        ("ambiguous", 1, f"{FAILED}Unable to contact slurm controller (send failure)\n"),
        ("ambiguous", 1, f"{FAILED}Unexpected message received\n"),
        ("ambiguous", 1, f"{FAILED}Connection timed out reading\n"),
        ("ambiguous", 1, f"{FAILED}Connection reset by peer\n"),
        ("ambiguous", 124, "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"),
        ("ambiguous", 137, ""),
        ("ambiguous", 139, "Segmentation fault\n"),
        ("ambiguous", 0, ""),
        ("ambiguous", 0, "sbatch: lua: Submitted job\n"),
        ("ambiguous", 1, ""),
        ("ambiguous", 1, "ERROR: the site's wrapper has lost its way\n"),
        ("ambiguous", 1, f"slurm_submit: Socket timed out on send/recv operation\n{FAILED}Invalid account\n"),
        ("transient", 1, f"{FAILED}Unable to contact slurm controller (connect failure)\n"),
        ("transient", 1, f"{FAILED}Slurm backup controller in standby mode\n"),
        ("transient", 1, "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n" * 15
            + f"{FAILED}Resource temporarily unavailable\n"),
        ("transient", 1, ("sbatch: error: If munged is up, restart with --num-threads=10\n"
            'sbatch: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory\n'
            f"sbatch: error: authentication: Local communication error\n{FAILED}Protocol authentication error\n")),
        ("transient", 1, f"{FAILED}Rate limit exceeded, please retry momentarily\n"),
        ("transient", 1, f"{FAILED}System submissions disabled\n"),
        ("transient", 1, f"{FAILED}I/O error writing script/environment to file\n"),
        ("transient", 1, ("sbatch: error: fetch_config: DNS SRV lookup failed\n"
            "sbatch: fatal: Could not establish a configuration source\n")),
        ("quota", 1, ("sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
            f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n")),
        ("quota", 1, f"sbatch: error: AssocMaxSubmitJobLimit\n{FAILED}Job violates accounting/QOS policy (...)\n"),
        ("quota", 1, f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n"),
        ("permanent", 1, ("sbatch: error: QOSMaxWallDurationPerJobLimit\n"
            f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n")),
        ("permanent", 1, f"sbatch: error: invalid partition specified: nope\n{FAILED}Invalid partition name specified\n"),
        ("permanent", 1, f"{FAILED}Invalid account or account/partition combination specified\n"),
        ("permanent", 1, f"{FAILED}Invalid qos specification\n"),
        ("permanent", 1, f"{FAILED}Invalid feature specification\n"),
        ("permanent", 1, ("sbatch: error: Memory specification can not be satisfied\n"
            f"{FAILED}Requested node configuration is not available\n")),
        ("permanent", 1, "sbatch: error: Invalid generic resource (gres) specification\n"),
        ("permanent", 1, f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)\n"),
        ("permanent", 1, f"{FAILED}Pathname of a file, directory or other parameter too long\n"),
        ("permanent", 255, "sbatch: unrecognized option '--nope=3'\nTry \"sbatch --help\" for more information\n"),
        ("permanent", 255, "sbatch: error: Invalid directive found in batch script: nope\n"),
        ("permanent", 1, "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\n"),
        ("permanent", 1, f"sbatch: error: lua: project p200 has no hours left\n{FAILED}Unspecified error\n"),
        ("permanent", 1, ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
            f"{FAILED}Invalid account or account/partition combination specified\n")),
        ("permanent", 127, "timeout: failed to run command 'sbatch': No such file or directory\n"),
    ],
)  # fmt: skip
def test_kinds(kind, exit_code, stderr):
    refusal = classify_sbatch(exit_code, stderr)
    assert refusal.kind == kind
    assert refusal.text
    assert refusal.advice


def test_sbatchs_own_words_are_kept_and_cleaned():
    refusal = classify_sbatch(1, f"motd\x1b[2J\nsbatch: error: lua: no \x1b]0;hours\x07 left\n{FAILED}Unspecified error\n")
    assert refusal.text == "lua: no ?]0;hours? left; Batch job submission failed: Unspecified error"


def test_a_refusal_without_words_says_so():
    assert classify_sbatch(1, "").text == "sbatch ended with exit code 1 and said nothing"


@given(st.integers(-1, 300), st.text())
def test_any_answer_has_a_kind(exit_code, stderr):
    refusal = classify_sbatch(exit_code, stderr)
    assert refusal.text.isprintable()
    assert len(refusal.text) <= 600
    if "sbatch: " not in stderr and exit_code not in (126, 127):
        assert refusal.kind == "ambiguous"


@given(
    st.lists(st.sampled_from(["Invalid account", "Invalid qos specification", "Rate limit exceeded", "QOSMaxCpuPerJobLimit"]))
)
def test_a_timeout_anywhere_leaves_it_open(lines):
    text = "".join(f"sbatch: error: {line}\n" for line in [*lines, "Socket timed out on send/recv operation"])
    assert classify_sbatch(1, text).kind == "ambiguous"
