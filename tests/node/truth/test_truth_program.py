"""The program: out of the node program under Python 3.9, its options, and its twin in C."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aifactory_bench.node.truth_options import TEXTS
from aifactory_bench.node.truth_words import KNOWN, word, words
from aifactory_bench.script.bundle import build_node_program

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-m", "aifactory_bench.node.truth_server"]


def refused(*options):
    done = subprocess.run([*PROGRAM, *options], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("version", ["3.9", "3.11", "3.13"])
def test_out_of_the_node_program(serve, python_of, tmp_path, version):
    """As a job runs it: the archive, no package, the oldest interpreter."""
    archive = tmp_path / "node.pyz"
    archive.write_bytes(build_node_program([]).data)
    with serve(command=(python_of(version), "-I", str(archive), "truth-server")) as truth:
        assert truth.chat(tokens=2, ttft="uniform:1ms:2ms", segment_bytes=9).text == "baba beba"
        assert truth.ask("/api/generate", {"prompt": "x", "afb": {"ttft": 0, "gap": 0}}).lines[-1]["done"]
        assert truth.ask("/metrics").status == 200
        assert truth.log(records=0)["requests"] == 2


def test_options_of_the_program_hold_for_requests_that_say_nothing(serve):
    """And a request may say otherwise."""
    options = ("--ttft", "3ms", "--gap", "1ms", "--tokens", "2", "--role", "with_first", "--usage", "own", "--truth")
    more = ("--stall", "1:5ms", "--stall", "9:1s", "--error-event", "--model", "mine")
    with serve(*options, *more) as truth:
        answer = truth.ask("/v1/chat/completions", {"stream": True, "messages": []})
        assert answer.text == "baba beba"
        assert answer.objects[-1]["usage"]["completion_tokens"] == 2
        assert {item["model"] for item in answer.objects} == {"mine"}
        assert "afb" in answer.objects[0]
        assert truth.last()["due_ns"] == [0, 3_000_000, 9_000_000, 9_000_000]
        answer = truth.ask("/v1/chat/completions", {"stream": True, "messages": [], "afb": {"tokens": 1, "stall": []}})
        assert answer.text == "baba"


def test_the_server_s_seed(serve):
    """Fixes all draws of a server whose requests say nothing."""
    due = []
    for seed in ("1", "1", "2"):
        with serve("--server-seed", seed, "--ttft", "uniform:1ms:9ms", "--gap", "0") as truth:
            for _ in range(3):
                truth.ask("/v1/completions", {"prompt": "x", "max_tokens": 1})
            due.append([record["due_ns"] for record in truth.log()["records"]])
    assert due[0] == due[1] != due[2]
    assert len({times[0] for times in due[0]}) == 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--ttft", "soon"), "--ttft: must be a duration such as 50ms"),
        (("--stall", "1"), "--stall: must be TOKENS:PAUSE"),
        (("--segment-bytes", "-1"), "--segment-bytes: must be a whole number"),
        (("--slots", "-1"), "--slots: must be at least 0, found -1"),
        (("--keep", "0"), "--keep: must be at least 1"),
        (("--load", "x"), "--load: must be a duration"),
        (("--key-file", "/nowhere"), "/nowhere"),
        (("--host", "256.0.0.1.example.invalid"), "cannot listen on 256.0.0.1.example.invalid"),
        (("--port", "many"), "invalid int value"),
        (("--tt", "1ms"), "unrecognized arguments"),
    ],
)
def test_what_makes_no_sense(options, text):
    """Status 2 and one line that says what and where."""
    assert text in refused("--port", "0", *options)


def test_a_port_that_is_taken():
    """Is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in refused("--port", port)


def test_an_empty_key_is_none(tmp_path):
    """A file without a key would let everybody in."""
    (tmp_path / "key").write_text("\n")
    assert "is empty" in refused("--port", "0", "--key-file", str(tmp_path / "key"))


def test_help_names_all_options():
    """Also those that a request may set; so does the page about it."""
    text = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs" / "truth-server.md").read_text()
    for name in TEXTS:
        assert f"`{name}`" in page
        assert f"--{name.replace('_', '-')}" in text


def test_a_node_that_is_asked_for_help_names_it():
    """Among the other commands of the node program."""
    done = subprocess.run([sys.executable, "-m", "aifactory_bench.node", "--help"], capture_output=True, text=True, check=True)
    assert "truth-server" in done.stdout


def test_words_are_distinct():
    """As many as an answer is likely to have, beyond the table that is ready, and in both alphabets."""
    for text in ("plain", "utf8"):
        made = [word(index, text) for index in range(20_000)]
        assert len(set(made)) == len(made)
        assert words(4000, 200, text) == "".join(made[4000:4200])
    assert word(KNOWN - 1) != word(KNOWN - 2)


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")
def test_the_twin_sends_the_same():
    """Byte for byte but for stamps, and it logs the same."""
    command = [sys.executable, str(ROOT / "benchmarks" / "truth_twin.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 differences") == 2
