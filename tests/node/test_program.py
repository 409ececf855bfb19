"""A program that is not there: the text of the end is short, and the job's log has PATH once."""

import pytest

from aifactory_bench.node.ending import Ending
from aifactory_bench.node.program import find


def test_path_is_told_once_and_in_the_log(capfd):
    """An end's text is repeated by every job that waits for the one that ended."""
    with pytest.raises(Ending) as caught:
        find("no-such-program", {"PATH": "/here/and:/there"}, lambda: None)
    assert "/here/and" not in str(caught.value)
    assert "not on PATH, which the job's log tells" in str(caught.value)
    assert capfd.readouterr().err == "no-such-program: not on PATH (/here/and:/there)\n"
