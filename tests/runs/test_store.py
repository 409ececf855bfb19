"""Run folders: made once, found again, refused clearly."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.errors import RunError, SiteError, UsageError
from aifactory_bench.runs.store import RunStore, check_run_id, new_run_id, read_log, read_plan, read_summary


@given(st.text())
def test_any_recipe_name_gives_a_run_id(name):
    """Names become ids that are folder names and parts of job names."""
    assert check_run_id(new_run_id(name))


@pytest.mark.parametrize("run_id", ["", "../x", "A", "-a", "a b", "a/b", "a" * 65, "."])
def test_other_run_ids_are_refused(tmp_path, run_id):
    """A run id cannot lead out of the folder of runs."""
    with pytest.raises(UsageError, match="run id"):
        RunStore(tmp_path).create(run_id)


def test_a_run_id_is_taken_once(tmp_path):
    """The second run of one name is refused, with what to do."""
    store = RunStore(tmp_path / "runs")
    folder = store.create("r").folder
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "plan.json").write_text("{}")
    with pytest.raises(UsageError, match="attach r"):
        store.create("r")


def test_an_unusable_folder_is_a_clear_error(tmp_path):
    """A file where the folder should be is named."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(SiteError, match="runs-dir"):
        RunStore(tmp_path / "runs").create("r")


def test_a_missing_run_names_the_ones_that_are_there(tmp_path):
    """The newest runs are listed."""
    store = RunStore(tmp_path)
    with pytest.raises(RunError, match="none"):
        store.open("r")
    (store.create("other").folder / "plan.json").write_text("{}")
    (tmp_path / "other" / "recipe.yaml").write_text("")
    with pytest.raises(RunError, match="other"):
        store.open("r")


def test_damaged_files_are_named(tmp_path):
    """A plan or summary that is not one is an error with its path."""
    paths = RunStore(tmp_path).create("r")
    with pytest.raises(RunError, match=r"plan\.json"):
        read_plan(paths)
    paths.plan.write_text("{")
    with pytest.raises(RunError, match=r"plan\.json"):
        read_plan(paths)
    assert read_summary(paths) is None
    paths.summary.write_text("{")
    with pytest.raises(RunError, match=r"summary\.json"):
        read_summary(paths)


def test_logs_are_stripped_of_escapes(tmp_path):
    """What a service prints cannot drive the user's terminal."""
    (tmp_path / "log").write_bytes(b"a\x1b[31mred\x07\x00\tb\nc\xff")
    assert read_log(tmp_path / "log") == "a[31mred\tb\nc�"
    assert read_log(tmp_path / "none") == ""


def test_the_end_of_a_long_log_is_read(tmp_path):
    """The newest lines are what helps."""
    with open(tmp_path / "log", "wb") as stream:
        stream.truncate(65 << 20)
        stream.seek(0, 2)
        stream.write(b"\nthe end\n")
    assert read_log(tmp_path / "log").endswith("\nthe end\n")
    assert read_log(tmp_path / "log", limit_bytes=4) == "end\n"


def test_folders_that_are_no_runs_are_passed_over(tmp_path):
    """A folder whose name cannot be a run id is somebody else's, whatever lies in it."""
    for name in ("Foreign", "r"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plan.json").write_text("{}")
        (tmp_path / name / "recipe.yaml").write_text("")
    assert RunStore(tmp_path).run_ids() == ["r"]


def test_a_folder_without_a_plan_is_used(tmp_path):
    """A run that never began, for want of space or of its controller, takes nobody's name; jobs without a plan do."""
    store = RunStore(tmp_path / "runs")
    paths = store.create("r")
    paths.folder.chmod(0o755)
    paths.lock.write_text("")
    assert store.create("r").folder.stat().st_mode & 0o777 == 0o700
    (paths.folder / "jobs").mkdir()
    with pytest.raises(UsageError, match="lost its plan"):
        store.create("r")


def test_what_did_not_begin_is_discarded(tmp_path):
    """Staging's own files and an empty folder go; a stranger's file and a run's plan stay."""
    store = RunStore(tmp_path)
    paths = store.create("r")
    paths.stop.mkdir()
    for name in ("recipe.yaml", "controller.lock", "node-0.pyz", "mine"):
        (paths.folder / name).write_text("")
    store.discard(paths)
    assert [entry.name for entry in paths.folder.iterdir()] == ["mine"]
    (paths.folder / "mine").unlink()
    paths.plan.write_text("{}")
    store.discard(paths)
    assert paths.plan.exists()
    paths.plan.unlink()
    store.discard(paths)
    assert not paths.folder.exists()


def test_a_damaged_run_spoils_no_list(tmp_path):
    """A run without its recipe, or whose plan is a folder, is left out."""
    store = RunStore(tmp_path)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "plan.json").write_text("{}")
    (tmp_path / "a/recipe.yaml").write_text("")
    (tmp_path / "c/plan.json").mkdir()
    assert store.run_ids() == ["a"]


def test_a_run_that_may_not_be_looked_at_spoils_no_list(tmp_path, monkeypatch):
    """Somebody else's run is left out, and asked for by name it is an error that names it."""
    real = Path.stat

    def stat(self, **more):
        if self.parent.name == "theirs":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, **more)

    store = RunStore(tmp_path)
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plan.json").write_text("{}")
        (tmp_path / name / "recipe.yaml").write_text("")
    monkeypatch.setattr(Path, "stat", stat)
    assert store.run_ids() == ["ours"]
    with pytest.raises(RunError, match=r"theirs/plan\.json: Permission denied"):
        store.open("theirs")


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\udcff"])
def test_a_folder_that_no_script_can_name_is_refused(tmp_path, name):
    """A control character, or a name that is not UTF-8, is said at once."""
    with pytest.raises(UsageError, match="the folder of runs") as raised:
        RunStore(tmp_path / name)
    assert "scheduler" not in str(raised.value)


@pytest.mark.parametrize("place", ["file", "file/x", "file/x/y"])
def test_a_file_where_a_folder_should_be_is_said(tmp_path, place):
    """Not `File exists`."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SiteError, match="file is a file, and not a folder"):
        RunStore(tmp_path / place)


def test_a_working_folder_that_is_gone_is_said(tmp_path, monkeypatch):
    """A relative folder of runs needs one."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SiteError, match="the working folder is gone"):
        RunStore(Path("runs"))


def test_a_damaged_plan_says_what_is_left(tmp_path):
    """The file is named, with a hint."""
    paths = RunStore(tmp_path).create("r")
    paths.plan.write_text("{")
    with pytest.raises(RunError, match=r"plan\.json") as raised:
        read_plan(paths)
    assert "run the recipe again" in raised.value.hint
