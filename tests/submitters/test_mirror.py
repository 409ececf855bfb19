"""The controller's copy of a run's files is exact, whatever is lost, and garbage is never taken for an answer."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aifactory_bench.submitters.answer import NOTHING, Answer, FilePart, GarbledError, RunPart, read_answer, request_lines
from aifactory_bench.submitters.archive import pack, unpack
from aifactory_bench.submitters.mirror import Mirror

SEGMENT = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,9}", fullmatch=True)
PATH = st.builds(
    lambda top, rest: "/".join([top, *rest]), st.sampled_from(["jobs", "stop"]), st.lists(SEGMENT, min_size=1, max_size=5)
)
FILE = st.builds(FilePart, PATH, st.integers(0, 10**12), st.binary(max_size=50))
WORD = st.from_regex(r"[A-Za-z0-9:.]{1,10}", fullmatch=True)
RUN = st.builds(
    RunPart,
    st.sampled_from(["ok", "gone", "away", "held", "full"]),
    st.just("") | WORD,
    st.lists(FILE, max_size=4).map(tuple),
    st.lists(PATH, max_size=3).map(tuple),
    st.from_regex(r"[A-Za-z0-9]{1,10}", fullmatch=True),
    st.booleans(),
)
ANSWER = st.builds(
    lambda asked, code, text, runs: Answer(code if asked else None, text if asked else "", tuple(runs)),
    st.booleans(),
    st.integers(0, 255),
    st.text(max_size=40),
    st.lists(RUN, max_size=3),
)


def printed(answer):
    """Return an answer as the program prints it."""
    data = b""
    if answer.queue_code is not None:
        text = answer.queue.encode("utf-8", "replace")
        data += b"Q %d %d\n" % (answer.queue_code, len(text)) + text
    for run in answer.runs:
        data += f"R {run.state} {run.text}".rstrip().encode() + b"\n"
        for file in run.files:
            data += f"F {file.offset} {len(file.data)} {file.path}\n".encode() + file.data
        data += b"".join(f"D {path}\n".encode() for path in run.removed)
        data += f"A {run.answer} {run.more:d}\n".encode()
    return data


@given(ANSWER)
def test_an_answer_is_read_as_it_was_printed(answer):
    assert read_answer(printed(answer)) == answer


@given(ANSWER, st.data())
def test_an_answer_that_was_cut_is_shorter_by_whole_runs_or_none(answer, data):
    whole = printed(answer)
    cut = data.draw(st.integers(0, len(whole)))
    try:
        read = read_answer(whole[:cut])
    except GarbledError:
        return
    # That runs are missing the caller sees, who knows how many there must be.
    assert read.runs == answer.runs[: len(read.runs)]
    assert read.queue_code in {answer.queue_code, None}
    assert read == answer or len(read.runs) < len(answer.runs) or cut == len(whole) or not answer.runs


@given(st.binary(max_size=200))
@example(b"F\n")
@example(b"R ok\nF 1\nA x 0\n")
@example(b"R ok\nF 0 3 jobs/../../x\nabcA x 0\n")
@example(b"R ok\nF 0 99999999999999999999 jobs/x\nA x 0\n")
@example(b"R ok\nA ../../x 0\n")
@example(b"R fine\nA x 0\n")
@example(b"Q 0 5\nab")
@example(b"R ok\nF 0 0 /etc/passwd\nA x 0\n")
@example(b"R ok\nF 0 0 jobs/.hidden\nA x 0\n")
@example(b"R ok\nD plan.json\nA x 0\n")
@example(b"x" * 5000)
def test_garbage_is_never_an_answer_about_a_run(data):
    try:
        answer = read_answer(data)
    except GarbledError:
        return
    assert printed(answer) == data or not answer.runs


@given(ANSWER, st.data())
def test_a_byte_that_is_missing_is_noticed_or_harmless(answer, data):
    whole = printed(answer)
    at = data.draw(st.integers(0, max(0, len(whole) - 1)))
    try:
        read = read_answer(whole[:at] + whole[at + 1 :])
    except GarbledError:
        return
    for run in read.runs:
        for file in run.files:
            assert not Path(file.path).is_absolute()
            assert ".." not in file.path.split("/")


class World:
    """A run folder on a site, and copies of it that are brought on by the real program."""

    def __init__(self, run_on_site):
        self.folder = Path(tempfile.mkdtemp())
        self.run = self.folder / "site" / "r1"
        self.job = self.run / "jobs" / "afb-r1-job-0" / "0"
        self.job.mkdir(parents=True)
        self.copy = self.folder / "copy"
        self.run_on_site = run_on_site
        self.count = 0

    def ask(self, mirror, most=1 << 20, most_files=100, **more):
        base = mirror.seen()
        lines = request_lines(
            run_folder=str(self.run), holder="", dead="", expiry_s=1, seen=base, lease="", open_tokens=["afb-r1-job-0"]
        )
        text = "".join(f"{line}\n" for line in lines).encode()
        done = self.run_on_site("poll", "", str(most), str(most_files), stdin=text, **more)
        (part,) = read_answer(done.stdout).runs
        assert part.state == "ok", done.stderr
        return part, base

    def change(self, kind, name, size):
        self.count += 1
        data = (f"{self.count}".encode() * (size + 1))[:size]
        path = self.job / name
        path.parent.mkdir(exist_ok=True)
        if kind == "append" and name.endswith((".jsonl", ".csv", "log")):
            with open(path, "ab") as stream:
                stream.write(data)
        elif kind == "remove":
            path.unlink(missing_ok=True)
        else:  # as the node side does: a file is replaced by another one
            draft = path.with_name(f".{path.name}")
            draft.write_bytes(data)
            os.replace(draft, path)

    def files(self, folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in (folder / "jobs").rglob("*") if path.is_file()}


CHANGE = st.tuples(
    st.sampled_from(["append", "append", "replace", "remove"]),
    st.sampled_from(["events.jsonl", "log", "exit.json", "samples/cpu.csv", "measurements/p.json", "fingerprint.json"]),
    st.integers(0, 250),
)
STEP = st.sampled_from(["kept", "lost", "touched", "two"]) | CHANGE


@settings(deadline=None, max_examples=15)
@given(steps=st.lists(STEP, max_size=14), most=st.sampled_from([64, 300, 1 << 20]), most_files=st.sampled_from([1, 2, 100]))
def test_the_copy_is_exact_after_any_history(run_on_site, steps, most, most_files):
    """Appended, replaced, removed; answers lost, two controllers with one copy, caps: it ends as what is there."""
    world = World(run_on_site)
    try:
        mirror = Mirror(world.copy)
        for step in steps:
            if isinstance(step, tuple):
                world.change(*step)
            elif step == "lost":
                world.ask(mirror, most, most_files)
            elif step == "touched":
                shutil.rmtree(world.copy, ignore_errors=True)
            elif step == "two":  # both ask at the same time, and both answers arrive
                first, second = world.ask(mirror, most, most_files), world.ask(Mirror(world.copy), most, most_files)
                assert mirror.keep(*first)
                assert not mirror.keep(*second) or second[0].answer == second[1][1]
            else:
                mirror.keep(*world.ask(mirror, most, most_files))
        for _ in range(200):
            part, base = world.ask(mirror, most, most_files)
            if mirror.keep(part, base) and not part.more:
                break
        else:
            raise AssertionError("it does not come to an end")
        assert world.files(world.copy) == world.files(world.run)
        part, base = world.ask(mirror, most, most_files)
        assert (part.files, part.removed, part.more) == ((), (), False), "what has not changed comes again"
    finally:
        shutil.rmtree(world.folder)


@pytest.fixture
def world(run_on_site):
    made = World(run_on_site)
    yield made
    shutil.rmtree(made.folder)


def test_the_last_word_never_comes_before_what_belongs_to_it(world, shell):
    """A controller takes a job for ended when it has its last word, and asks for its files no more."""
    (world.job / "measurements").mkdir()
    for number in range(5):
        (world.job / "measurements" / f"p{number}.json").write_bytes(b"m" * 500)
    (world.job / "exit.json").write_text("{}")
    (world.job / "log").write_bytes(b"x" * 100_000)
    (world.job / "events.jsonl").write_bytes(b"e" * 3000)
    mirror = Mirror(world.copy)
    for _ in range(500):
        part, base = world.ask(mirror, most=700, shell=shell)
        assert mirror.keep(part, base)
        assert sum(len(file.data) for file in part.files) <= 700
        if (world.copy / "jobs/afb-r1-job-0/0/exit.json").exists():
            break
    copied, there = world.files(world.copy), world.files(world.run)
    assert all(copied[path] == there[path] for path in there if not path.endswith("log"))
    assert not copied.get("jobs/afb-r1-job-0/0/log"), "a log is the last to come"


def test_a_file_that_is_far_too_large_is_left_out_and_holds_up_nothing(world):
    (world.job / "a.json").write_bytes(b"x" * 5000)
    (world.job / "exit.json").write_text("{}")
    mirror = Mirror(world.copy)
    part, base = world.ask(mirror, most=1000)
    assert mirror.keep(part, base)
    assert [file.path for file in part.files] == ["jobs/afb-r1-job-0/0/exit.json"]
    assert not part.more


def test_of_a_log_that_is_far_too_long_the_begin_is_kept(world, shell):
    """And it is no reason to ask for more, however it grows."""
    mirror = Mirror(world.copy)
    for size in (3000, 9000, 20_000):
        (world.job / "log").write_bytes((b"0123456789" * 3000)[:size])
        for _ in range(5):
            part, base = world.ask(mirror, most=1000, shell=shell)
            assert mirror.keep(part, base)
    assert not part.more
    assert part.files == ()
    assert (world.copy / "jobs/afb-r1-job-0/0/log").read_bytes() == (b"0123456789" * 400)


def test_odd_names_are_left_out_and_hide_nothing(world, shell):
    for name in (
        "with blank.json",
        "new\nline.json",
        "-rf.json",
        "ümlaut.json",
        "$(x).json",
        "a" * 201 + ".json",
        "quote'\".json",
    ):
        (world.job / name).write_text("x")
    (world.job / "dots..json").write_text("fine")
    (world.job / "link.json").symlink_to("/etc/hostname")
    mirror = Mirror(world.copy)
    part, base = world.ask(mirror, shell=shell)
    assert mirror.keep(part, base)
    assert [file.path for file in part.files] == ["jobs/afb-r1-job-0/0/dots..json"]


def test_what_cannot_be_read_is_not_taken_for_gone(world):
    """A folder that cannot be looked into for a moment takes nothing from the copy."""
    (world.job / "exit.json").write_text("{}")
    mirror = Mirror(world.copy)
    assert mirror.keep(*world.ask(mirror))
    find = world.folder / "find"
    find.write_text("#!/bin/sh\nexit 1\n")
    find.chmod(0o755)

    part, base = world.ask(mirror, env={**os.environ, "PATH": f"{world.folder}:{os.environ['PATH']}"})
    assert part.removed == ()
    assert mirror.keep(part, base)
    (world.job / "exit.json").unlink()
    part, base = world.ask(mirror)
    assert part.removed == ("jobs/afb-r1-job-0/0/exit.json",)


def test_a_file_that_changes_while_it_is_read_comes_with_the_next_answer(world, shell):
    """And the last word of its rank, too; that of another rank is not held up."""
    other = world.job.parent / "1"
    for rank in (world.job, other):
        rank.mkdir(exist_ok=True)
        (rank / "events.jsonl").write_text("e" * 100)
        (rank / "exit.json").write_text("{}")
    # It is listed, and then as good as empty.
    head = world.folder / "head"
    head.write_text(f'#!/bin/sh\ncase "$3" in */0/events.jsonl) exit 0 ;; esac\nexec {shutil.which("head")} "$@"\n')
    head.chmod(0o755)
    mirror = Mirror(world.copy)
    part, base = world.ask(mirror, shell=shell, env={**os.environ, "PATH": f"{world.folder}:{os.environ['PATH']}"})
    assert [file.path for file in part.files] == ["jobs/afb-r1-job-0/1/events.jsonl", "jobs/afb-r1-job-0/1/exit.json"]
    assert mirror.keep(part, base)
    assert mirror.keep(*world.ask(mirror, shell=shell))
    assert world.files(world.copy) == world.files(world.run)


def test_without_room_for_its_list_the_site_tells_the_same_again(world):
    (world.job / "log").write_text("one\n")
    mirror = Mirror(world.copy)
    assert mirror.keep(*world.ask(mirror))
    with open(world.job / "log", "a") as stream:
        stream.write("two\n")
    shutil.rmtree(world.run / ".mirror")
    (world.run / ".mirror").write_text("in the way")
    for _ in range(2):
        part, base = world.ask(mirror)
        assert part.answer == NOTHING
        assert mirror.keep(part, base)
        assert world.files(world.copy) == world.files(world.run)


def test_the_state_of_an_earlier_boot_is_not_believed(world):
    """After a crash of the controller's machine the copy may lack what was appended last."""
    mirror = Mirror(world.copy)
    assert mirror.keep(*world.ask(mirror))
    state = json.loads((world.copy / ".mirror.json").read_text())
    assert mirror.seen()[1] == state["answer"] != NOTHING
    (world.copy / ".mirror.json").write_text(json.dumps({**state, "boot": "another"}))
    assert mirror.seen()[1] == NOTHING
    (world.copy / ".mirror.json").write_text("{")
    assert mirror.seen()[1] == NOTHING


def test_only_some_lists_are_kept_on_the_site(world):
    mirror = Mirror(world.copy)
    for number in range(15):
        (world.job / "log").write_text("x" * number)
        assert mirror.keep(*world.ask(mirror))
    assert len(list((world.run / ".mirror" / mirror.seen()[0]).iterdir())) <= 9


# archives

NAME = st.from_regex(r"[a-z0-9-]{1,120}(/[a-z.]{1,20})?", fullmatch=True)


@given(st.dictionaries(NAME, st.binary(max_size=600) | st.text(max_size=100), max_size=4))
def test_what_is_packed_is_unpacked(files):
    expected = {name: data if isinstance(data, bytes) else data.encode() for name, data in files.items()}
    assert unpack(pack(files), tuple(files)) == expected
    assert unpack(pack(files), ()) == {}


@given(st.binary(max_size=2000), st.binary(max_size=1500), st.integers(0, 4000))
def test_what_is_no_archive_raises_nothing_else(garbage, content, cut):
    for data in (garbage, pack({"plan.json": content})[:cut], bytes(reversed(pack({"plan.json": content})))):
        try:
            found = unpack(data, ("plan.json",))
        except ValueError:
            continue
        assert found in ({}, {"plan.json": content})
