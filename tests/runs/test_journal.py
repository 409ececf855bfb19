"""The journal survives the death of whoever writes it."""

import pytest

from aifactory_bench.runs.journal import Journal, read_journal


def test_entries_come_back_in_order(tmp_path):
    """What was appended is read, by the same journal or a later one."""
    for number in range(2):
        journal = Journal(tmp_path / "journal.jsonl")
        journal.append("submit_intent", token=f"t{number}")
        journal.close()
    assert [entry["data"]["token"] for entry in read_journal(tmp_path / "journal.jsonl")] == ["t0", "t1"]
    assert (tmp_path / "journal.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_torn_line_spoils_nothing_else(tmp_path, cut):
    """A controller killed in the middle of a line costs that line, not the next one."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("submit_intent", token="kept")
    whole = path.stat().st_size
    journal.append("submitted", token="torn", job_id="7")
    journal.close()
    with path.open("r+b") as stream:
        stream.truncate(whole + cut)
    journal = Journal(path)
    journal.append("finished", status="finished")
    journal.close()
    assert [entry["type"] for entry in read_journal(path)] == ["submit_intent", "finished"]


def test_no_journal_is_no_entry(tmp_path):
    """A run that was never driven has an empty journal."""
    assert list(read_journal(tmp_path / "journal.jsonl")) == []


def test_unknown_entries_are_refused(tmp_path):
    """Only the listed types can be written."""
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="unknown journal entry"):
        journal.append("something")
    journal.close()


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    """What a write to an open file raises has no name of its own."""
    journal = Journal(tmp_path / "journal.jsonl")

    def full(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aifactory_bench.runs.journal.os.fsync", full)
    with pytest.raises(OSError, match="No space left") as raised:
        journal.append("attached", pid=1, host="h")
    journal.close()
    assert raised.value.filename == str(tmp_path / "journal.jsonl")
