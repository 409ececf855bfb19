"""Every word has a meaning, and none that is not certain is final."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.slurm.states import interpret

FINAL = {
    "COMPLETED": ("CD", "completed"),
    "CANCELLED": ("CA", "cancelled"),
    "FAILED": ("F", "failed"),
    "TIMEOUT": ("TO", "timeout"),
    "NODE_FAIL": ("NF", "node_fail"),
    "PREEMPTED": ("PR", "preempted"),
    "BOOT_FAIL": ("BF", "boot_fail"),
    "DEADLINE": ("DL", "deadline"),
    "OUT_OF_MEMORY": ("OOM", "out_of_memory"),
}
ALIVE = {
    "PENDING": ("PD", "pending"),
    "RUNNING": ("R", "running"),
    "SUSPENDED": ("S", "running"),
    "COMPLETING": ("CG", "running"),
    "CONFIGURING": ("CF", "pending"),
    "STAGE_OUT": ("SO", "running"),
    "RESIZING": ("RS", "running"),
    "REQUEUED": ("RQ", "pending"),
    "REQUEUE_FED": ("RF", "pending"),
    "REQUEUE_HOLD": ("RH", "pending"),
    "SPECIAL_EXIT": ("SE", "pending"),
    "STOPPED": ("ST", "running"),
    "RESV_DEL_HOLD": ("RD", "pending"),
    "REVOKED": ("RV", "unknown"),
    "SIGNALING": ("SI", "unknown"),
    "EXPEDITING": (None, "unknown"),
    "LAUNCH_FAILED": (None, "unknown"),
    "RECONFIG_FAIL": (None, "unknown"),
    "POWER_UP_NODE": (None, "unknown"),
    "UPDATE_DB": (None, "unknown"),
}
WORDS = [(word, state, long in FINAL) for long, (short, state) in {**FINAL, **ALIVE}.items() for word in (long, short) if word]


@pytest.mark.parametrize(("word", "state", "final"), WORDS)
def test_every_word(word, state, final):
    for written in (word, word.lower(), f" {word} "):
        meaning = interpret(written)
        assert (meaning.state, meaning.final, meaning.known) == (state, final, True)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("CANCELLED by 60001", "cancelled"),
        ("CANCELLED+", "cancelled"),
        ("OUT_OF_ME+", "out_of_memory"),
        ("COMPLETI+", "running"),
        ("PREEMPTED+", "preempted"),
    ],
)
def test_longer_and_shorter_forms(word, state):
    meaning = interpret(word)
    assert (meaning.state, meaning.known, meaning.word) == (state, True, word)


@pytest.mark.parametrize(
    "word", ["", "?", "COMPLETE", "C+", "COMPLET+", "+", "DONE", "COMPLETED,REQUEUED", "\x1b[31m", "X" * 500]
)
def test_what_nobody_knows_is_never_final(word):
    meaning = interpret(word)
    assert (meaning.state, meaning.final, meaning.known) == ("unknown", False, False)
    assert len(meaning.word) <= 64


@given(st.text())
def test_any_text_has_a_meaning(word):
    meaning = interpret(word)
    assert meaning.final <= meaning.known
    assert meaning.final == (meaning.state not in ("pending", "running", "unknown"))
    assert meaning.word.isprintable()
