"""Recipe text never becomes shell: it goes through real bash and arrives as exactly one argument."""

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifactory_bench import UsageError
from aifactory_bench.node.placeholders import resolve
from aifactory_bench.node.spec import spec_from_json

CASES = int(os.environ.get("AFB_SHELL_CASES", "2000"))
"""Texts of the large test."""
BATCH = 250
NASTY = (
    "$(touch pwned)",
    "`touch pwned`",
    "${HOME}",
    "$HOME",
    "$'\\n'",
    "; touch pwned;",
    "&& touch pwned",
    "| touch pwned",
    "> pwned",
    "<(touch pwned)",
    "\n",
    "\r",
    "\t",
    "\x1b[2J",
    "\x7f",
    "'",
    '"',
    "\\",
    "\\'",
    "'\\''",
    "!",
    "!!",
    "*",
    "?",
    "[a-z]",
    "{a,b}",
    "~",
    "~root",
    "#",
    " ",
    "",
    "-",
    "--",
    "-n",
    "@",
    "@{port}",
    "@@",
    "%s",
    "A=b",
    "AFB_SPECIFICATION",
    "\nAFB_SPECIFICATION\ntouch pwned\n",
    "EOF",
    "\u2028",
    "\u202e",
    "\ufeff",
    "\U0001f600",
    "e\u0301",
    "\u00a0",
    "\x01",
    "\x85",
)
MADE = [
    "bin",
    "bin/python3",
    "bin/python3.argv",
    "bin/python3.argv.value",
    "bin/setup",
    "bin/setup.argv",
    "bin/setup.argv.value",
    "empty",
    "it's a run",
    "it's a run/jobs",
    "it's a run/jobs/afb-r-cache-0",
    "it's a run/jobs/afb-r-cache-0/spec.json",
    "script.sh",
]
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
ANY = TEXT | st.lists(st.sampled_from(NASTY) | TEXT, max_size=6).map("".join)


def check(shell, texts):
    """Every place got exactly the texts, and nothing else came into being."""
    got = shell(texts)
    assert got.exit_code == 0, got.output
    assert got.output == b""
    assert got.setup == texts
    assert got.setup_value == texts[0]
    node = f"{got.run_folder}/node-{'0' * 16}.pyz"
    spec_path = f"{got.run_folder}/jobs/afb-r-cache-0/spec.json"
    assert got.argv == [node, "supervise", spec_path, "--", "program", *got.encoded]
    assert [resolve(part, {}) for part in got.argv[5:]] == texts
    spec = spec_from_json(got.spec_text)
    assert spec == got.script.spec
    assert spec.service.parameters["texts"] == texts
    assert [resolve(value, {}) for value in spec.environment.values()] == texts
    assert [resolve(line, {}) for line in spec.files[0].lines] == texts
    assert got.made == MADE


@given(texts=st.lists(ANY, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_arrives_as_one_argument(shell, texts):
    """Arguments, variables, parameters and lines of files; control characters included, which recipes refuse."""
    check(shell, texts)


@pytest.mark.timeout(1200)
def test_many_texts(shell):
    """The same with many texts to a script; `AFB_SHELL_CASES=100000` makes it the large test."""
    generator = random.Random(20240607)
    left = CASES
    while left > 0:
        texts = [_text(generator) for _ in range(min(BATCH, left))]
        check(shell, texts)
        left -= len(texts)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "x\udfff"])
def test_what_no_command_can_carry_is_refused(shell, text):
    """A NUL ends an argument, half a character has no bytes."""
    with pytest.raises(UsageError, match="no command can carry"):
        shell([text])


def _text(generator):
    kind = generator.random()
    if kind < 0.5:
        return "".join(generator.choices(NASTY, k=generator.randint(1, 6)))
    if kind < 0.8:
        return "".join(chr(generator.randint(1, 0x7F)) for _ in range(generator.randint(0, 30)))
    return "".join(_character(generator) for _ in range(generator.randint(0, 20)))


def _character(generator):
    code = generator.randint(1, 0x10FFFF)
    return chr(code) if not 0xD800 <= code <= 0xDFFF else "\N{REPLACEMENT CHARACTER}"
