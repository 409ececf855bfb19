"""The programs of the site, in the shells that a site may have: each effect once, whatever dies, and data is never code."""

import io
import itertools
import json
import os
import random
import subprocess
import tarfile
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifactory_bench.submitters.answer import read_answer, request_lines
from aifactory_bench.submitters.archive import pack
from aifactory_bench.submitters.programs import program
from aifactory_bench.submitters.submission import read_lines
from aifactory_bench.testing.fake_slurm import Refusal, late, lost_after, refused

LIMITS = ("60", "3", "170", "60")
NUMBERS = itertools.count()


def archive(lab, numbers, options=(), script=None):
    files = {}
    for number in numbers:
        token = lab.token(number)
        files[f"{token}/script.sh"] = script or f"#!/bin/sh\n# {token}\n"
        files[f"{token}/options"] = "".join(f"{option}\n" for option in ["--parsable", f"--job-name={token}", *options])
    return pack(files)


@pytest.fixture
def staged(lab):
    """A lab with a run in it."""
    lab.stage(lab.plan([]))
    return lab


@pytest.fixture
def submit(staged, run_on_site):
    """Submit jobs by their numbers; return what became of each."""

    def once(*numbers, words=None, shell="sh", **more):
        words = words or [staged.token(number) for number in numbers]
        stdin = archive(staged, numbers, **more)
        done = run_on_site("submit", str(staged.run.folder), *LIMITS, *words, stdin=stdin, shell=shell)
        assert done.returncode == 0, done.stderr
        return read_lines(done.stdout)

    return once


def one(lines):
    (line,) = lines.values()
    return line


def test_submitted_once_and_then_remembered(staged, submit, shell):
    assert one(submit(0, shell=shell)).verdict == "new"
    assert staged.run.job(staged.token()).job_id.read_text() == "1\n"
    again = one(submit(0, shell=shell))
    assert (again.verdict, again.number) == ("cached", "1")
    assert len(staged.slurm.jobs()) == 1
    assert sorted(path.name for path in staged.run.job(staged.token()).folder.iterdir()) == ["job_id", "script.sh"]
    assert not list(staged.run.folder.glob(".submit.*"))


HOSTILE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn", "Co"]), max_size=40).filter(str.isprintable)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=HOSTILE, script=st.binary(max_size=300).filter(lambda data: b"\0" not in data and b"#SBATCH" not in data))
def test_values_and_scripts_arrive_as_they_were(staged, submit, value, script):
    number = next(NUMBERS)
    script = b"#!/bin/sh\n" + script.replace(b"\r\n", b"")
    line = one(submit(number, options=[f"--comment={value}"], script=script))
    assert line.verdict == "new", line
    sent = [call for call in staged.slurm.call_log() if call.command == "sbatch"][-1]
    assert sent.arguments[2] == f"--comment={value}"
    assert (staged.run.job(staged.token(number)).folder / "script.sh").read_bytes() == script


def test_the_worst_values_arrive_as_they_were(staged, submit, shell):
    worst = [
        "$(touch pwned)",
        "`touch pwned`",
        "a b  c",
        "*",
        "'",
        '"',
        "\\",
        "\\n",
        "-n",
        "--wrap=x",
        "",
        " ",
        "é∞",
        ";touch pwned",
        "$HOME",
        "!x",
    ]
    submit(0, options=[f"--comment={value}" for value in worst], shell=shell)
    (sent,) = [call for call in staged.slurm.call_log() if call.command == "sbatch"]
    assert list(sent.arguments) == [
        "--parsable",
        f"--job-name={staged.token()}",
        *(f"--comment={value}" for value in worst),
        f"jobs/{staged.token()}/script.sh",
    ]
    assert not list(staged.folder.rglob("pwned"))


def start(lab, *numbers, shell="sh"):
    """Start the program and do not wait for it."""
    words = [lab.token(number) for number in numbers]
    child = subprocess.Popen(
        [shell, "-c", program("submit"), "afb", str(lab.run.folder), *LIMITS, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        child.stdin.write(archive(lab, numbers))
        child.stdin.close()
    except BrokenPipeError:
        pass
    return child


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment_and_called_again_it_submits_once(staged, submit, session_over, seed):
    """By one controller or three at a time: whatever the killed ones did is found, or is looked for long enough."""
    chance = random.Random(seed)
    numbers = range(3)
    for _ in range(3):
        children = [start(staged, *numbers, shell=chance.choice(["dash", "bash"])) for _ in range(chance.choice([1, 1, 3]))]
        for child in children:
            time.sleep(chance.uniform(0, 0.25))
            if chance.random() < 0.8:
                child.kill()
        for child in children:
            child.stdout.read()
            child.stdout.close()
            child.wait()
            session_over(child.pid)
        staged.advance(chance.choice([1, 30, 240]))
    for _ in range(30):
        lines = submit(*numbers)
        if all(line.verdict in {"new", "cached", "adopted"} for line in lines.values()):
            break
        staged.advance(25)
    else:
        raise AssertionError(f"it does not come to an end: {lines}")
    assert sorted(job.name for job in staged.slurm.jobs()) == [staged.token(number) for number in numbers]
    assert {line.number for line in lines.values()} == {job.job_id for job in staged.slurm.jobs()}


def test_many_at_once_submit_each_job_once(staged, session_over):
    children = [start(staged, *range(4)) for _ in range(5)]
    said = []
    for child in children:
        said += read_lines(child.stdout.read()).values()
        child.stdout.close()
        assert child.wait() == 0
    assert {line.verdict for line in said} <= {"new", "cached", "busy", "adopted"}
    assert sum(line.verdict == "new" for line in said) == 4
    assert len(staged.slurm.jobs()) == 4


def test_who_asked_being_gone_stops_nothing(staged, session_over, shell):
    """The pipe to us is broken: jobs are submitted all the same, and no lock is left."""
    child = start(staged, 0, 1, 2, shell=shell)
    child.stdout.close()
    child.wait()
    assert len(staged.slurm.jobs()) == 3
    assert not list(staged.run.folder.glob("jobs/*/submitting"))


def lock(lab, ends, number=0):
    folder = lab.run.job(lab.token(number)).folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "submitting").symlink_to(f"{ends}:elsewhere:77" if isinstance(ends, int) else ends)
    return folder


def test_the_lock_of_one_that_lives_is_respected(staged, submit, shell):
    lock(staged, int(staged.now) + 100)
    assert one(submit(0, shell=shell)).verdict == "busy"
    assert not staged.slurm.jobs()


@pytest.mark.parametrize("ends", [1, 99999999999999, "what is this"])
def test_the_lock_of_a_dead_one_is_taken_and_its_job_looked_for(staged, submit, shell, ends):
    """What it did nobody knows: three look-ups in a minute, then it is submitted."""
    folder = lock(staged, ends)
    verdicts = []
    for _ in range(4):
        verdicts.append(one(submit(0, shell=shell)).verdict)
        staged.advance(30)
    assert verdicts == ["unsure", "unsure", "new", "cached"]
    assert not (folder / "submitting").is_symlink()
    assert not (folder / "taking").is_symlink()


def test_of_many_that_find_a_dead_lock_one_submits(staged, session_over):
    """The look-ups are over already, so that whoever gets the lock submits."""
    folder = lock(staged, 1)
    old = int(staged.now) - 100
    (folder / "unsure").write_text(f"try x\nlook {old}\nlook {old}\nlook {old}\n")
    said = []
    for child in [start(staged, 0) for _ in range(6)]:
        said += read_lines(child.stdout.read()).values()
        child.stdout.close()
        child.wait()
    assert len(staged.slurm.jobs()) == 1, said
    assert {line.verdict for line in said} <= {"new", "busy", "cached", "adopted"}


def test_a_dead_lock_that_another_took_meanwhile_is_left_alone(staged, submit, shell):
    """It was seen dead, and is not any more when our turn comes."""
    folder = lock(staged, 1)
    alive = f"{staged.now + 100:.0f}:other:1"
    staged.program(
        "ln", f'case "$3" in *taking) rm {folder}/submitting; /bin/ln -s {alive} {folder}/submitting ;; esac; exec /bin/ln "$@"'
    )
    assert one(submit(0, shell=shell)).verdict == "busy"
    assert os.readlink(folder / "submitting") == alive
    assert not (folder / "taking").is_symlink()


def test_one_that_is_late_does_nothing_more(staged, submit, shell):
    """The queue took so long to look at that others take the lock's holder for dead: it must not submit any more."""
    folder = staged.run.job(staged.token()).folder
    folder.mkdir()
    staged.program("squeue", f"echo {staged.now + 400:.0f} > {staged.folder}/now")
    assert one(submit(0, shell=shell)).verdict == "busy"
    assert not staged.slurm.jobs()
    assert not (folder / "submitting").is_symlink()


def test_a_refusal_that_is_certain_counts_for_its_own_try_only(staged, submit, shell):
    """Another controller may have tried since, with an outcome that nobody knows."""
    staged.slurm.faults.next("sbatch", refused(Refusal.QUOTA))
    first = one(submit(0, shell=shell))
    assert first.verdict == "refused"
    assert "violates accounting" in first.text
    word = f"{staged.token()}!{first.attempt}"
    staged.slurm.faults.next("sbatch", late(20))
    staged.advance(1)
    second = one(submit(0, words=[word], shell=shell))
    assert second.verdict == "refused"
    assert second.attempt != first.attempt
    assert one(submit(0, words=[word], shell=shell)).verdict == "unsure"
    staged.advance(30)
    assert one(submit(0, words=[word], shell=shell)).verdict == "adopted"
    assert len(staged.slurm.jobs()) == 1


def test_a_certain_refusal_is_tried_again_at_once(staged, submit, shell):
    staged.slurm.faults.next("sbatch", refused(Refusal.QUOTA))
    first = one(submit(0, shell=shell))
    assert one(submit(0, words=[f"{staged.token()}!{first.attempt}"], shell=shell)).verdict == "new"


def test_a_job_that_was_refused_into_the_queue_is_not_adopted(staged, submit, shell):
    """Some refusals leave a failed job that never had a node."""
    folder = staged.run.job(staged.token()).folder
    folder.mkdir()
    staged.program("squeue", "echo '7|FAILED|'")
    assert one(submit(0, shell=shell)).verdict == "new"
    staged.program("squeue", "echo '7|FAILED|'; echo '9|FAILED|node1'; echo '8|CANCELLED|'")
    (folder / "job_id").unlink()
    line = one(submit(0, shell=shell))
    assert (line.verdict, line.number) == ("adopted", "8")


@pytest.mark.parametrize(
    ("complaint", "verdict"), [("squeue: error: Invalid user: x", "later"), ("Welcome to the lab", "unsure")]
)
def test_an_empty_queue_with_an_error_is_no_answer(staged, submit, shell, complaint, verdict):
    lock(staged, 1)
    staged.program("squeue", f"echo '{complaint}' >&2")
    assert one(submit(0, shell=shell)).verdict == verdict


def test_a_claim_is_enough_to_know_the_job(staged, submit, shell):
    """The queue has forgotten it, there are no accounts, and the answer was lost."""
    lock(staged, 1)
    staged.begin(staged.token(), 41)
    line = one(submit(0, shell=shell))
    assert (line.verdict, line.number) == ("adopted", "41")


def test_accounts_know_what_the_queue_forgot(staged, submit, shell):
    staged.slurm.faults.next("sbatch", lost_after())
    assert one(submit(0, shell=shell)).verdict == "refused"
    staged.slurm.end(1, "COMPLETED")
    staged.slurm.purge(1)
    line = one(submit(0, shell=shell))
    assert (line.verdict, line.number) == ("adopted", "1")


def test_in_a_batch_each_job_has_its_own_fate(staged, submit, shell):
    lock(staged, int(staged.now) + 100, number=1)
    staged.slurm.faults.next("sbatch", refused(Refusal.PARTITION))
    lines = submit(0, 1, 2, shell=shell)
    assert [lines[staged.token(number)].verdict for number in range(3)] == ["refused", "busy", "new"]


def test_a_batch_that_takes_too_long_begins_no_more(staged, submit, shell):
    """A controller of the cluster that is down costs ten seconds a job; we would be ended in the middle."""
    staged.program("sbatch", f"echo {staged.now + 61:.0f} > {staged.folder}/now; echo 'sbatch: error: down' >&2; exit 1")
    lines = submit(0, 1, shell=shell)
    assert [lines[staged.token(number)].verdict for number in range(2)] == ["refused", "later"]


@pytest.mark.parametrize(("broken", "verdict", "jobs"), [("mv", "later", 0), ("cp", "later", 0), ("ln", "busy", 0)])
def test_what_cannot_be_written_down_is_not_done(staged, submit, shell, broken, verdict, jobs):
    staged.program(broken, "exit 1")
    assert one(submit(0, shell=shell)).verdict == verdict
    assert len(staged.slurm.jobs()) == jobs
    (staged.bin / broken).unlink()
    staged.advance(300)
    while (line := one(submit(0, shell=shell))).verdict == "unsure":
        staged.advance(30)
    assert line.verdict == "new"


def test_an_id_that_cannot_be_written_down_is_found_again(staged, submit, shell):
    staged.program("mv", 'case "$*" in *job_id*) exit 1 ;; esac; exec /bin/mv "$@"')
    assert one(submit(0, shell=shell)).verdict == "new"
    line = one(submit(0, shell=shell))
    assert (line.verdict, line.number) == ("adopted", "1")
    assert len(staged.slurm.jobs()) == 1


def test_what_arrives_in_part_submits_nothing(staged, run_on_site, shell):
    whole = archive(staged, [0, 1])
    for cut in [*range(0, len(whole), 512), 700, len(whole) - 9000]:
        data = whole[:cut]
        done = run_on_site("submit", str(staged.run.folder), *LIMITS, staged.token(0), staged.token(1), stdin=data, shell=shell)
        if done.returncode == 0:  # only the padding is missing
            assert not whole[cut:].strip(b"\0")
            break
        assert not staged.slurm.jobs()
        assert not list((staged.run.folder / "jobs").iterdir())


def test_drafts_of_those_that_were_killed_are_cleared_away(staged, submit):
    for name in (".submit.abc", ".stage.abc"):
        (staged.run.folder / name).mkdir()
        os.utime(staged.run.folder / name, (1, 1))
    submit(0)
    assert not list(staged.run.folder.glob(".s*.abc"))


# putting files there


def test_files_that_arrive_damaged_change_nothing(staged, run_on_site, shell):
    before = (staged.run.folder / "plan.json").read_bytes()
    whole = pack({"plan.json": "new plan", "recipe.yaml": "new recipe", "node-0.pyz": b"\x00" * 900})
    end = len(whole.rstrip(b"\0"))
    for cut in range(0, end, 512):
        done = run_on_site("stage", str(staged.run.folder), "again", stdin=whole[:cut], shell=shell)
        assert done.returncode == 1
        assert b"did not arrive" in done.stderr
    damaged = bytearray(whole)
    damaged[515] ^= 1
    assert run_on_site("stage", str(staged.run.folder), "again", stdin=bytes(damaged), shell=shell).returncode == 1
    assert (staged.run.folder / "plan.json").read_bytes() == before
    assert not list(staged.run.folder.glob(".stage.*"))
    assert run_on_site("stage", str(staged.run.folder), "again", stdin=whole, shell=shell).returncode == 0
    assert (staged.run.folder / "plan.json").read_text() == "new plan"


def test_a_new_run_may_be_staged_again_and_another_not(tmp_path, run_on_site, shell):
    """The answer to the first try may have been lost."""
    data = pack({"plan.json": "the same"})
    stage = [
        run_on_site("stage", str(tmp_path / "r"), "new", who, stdin=data, shell=shell).returncode
        for who in ("me", "me", "other")
    ]
    assert stage == [0, 0, 9]
    assert (tmp_path / "r" / "plan.json").read_text() == "the same"
    assert (tmp_path / "r" / "plan.json").stat().st_mode & 0o077 == 0


def test_what_a_run_was_made_of_is_fetched(staged, run_on_site, shell):
    done = run_on_site("fetch", str(staged.run.folder), shell=shell)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert archive.getnames() == ["recipe.yaml", "plan.json"]
    assert run_on_site("fetch", str(staged.folder / "nowhere"), shell=shell).returncode == 9


def test_small_files_are_written_whole_and_removed(staged, run_on_site, shell):
    folder = str(staged.run.folder)
    assert run_on_site("write", folder, "stop/all", stdin=b"now\n", shell=shell).returncode == 0
    assert [path.name for path in (staged.run.folder / "stop").iterdir()] == ["all"]
    assert run_on_site("remove", folder, "stop/all", shell=shell).returncode == 0
    assert run_on_site("remove", folder, "stop/all", shell=shell).returncode == 0
    assert run_on_site("write", folder + "/nowhere", "x", shell=shell).returncode == 1


# polling


def ask(run_on_site, lab, *, holder="", dead="", lease="", tokens=(), shell="sh", fmt="%i|%T|%N|%j|%r", most="4194304"):
    lines = request_lines(
        run_folder=str(lab.run.folder),
        holder=holder,
        dead=dead,
        expiry_s=180,
        seen=("a" * 12, "0"),
        lease=lease,
        open_tokens=tokens,
    )
    done = run_on_site("poll", fmt, most, "1000", stdin="".join(f"{line}\n" for line in lines).encode(), shell=shell)
    assert done.returncode == 0, done.stderr
    return read_answer(done.stdout)


def test_one_controller_drives_a_run_at_a_time(staged, run_on_site, shell):
    def state(**given):
        return (part := ask(run_on_site, staged, shell=shell, **given).runs[0]).state, part.text

    assert state() == ("ok", "")
    assert state(holder="a:1", lease="a 1") == ("ok", "")
    assert (staged.run.folder / "lease").read_text() == "a 1\n"
    assert state() == state(holder="b:2", lease="b 2") == ("held", "a:1")
    assert (staged.run.folder / "lease").read_text() == "a 1\n"
    assert state(holder="b:2", dead="a:1") == ("ok", "")
    staged.advance(181)
    assert state() == ("ok", "")
    assert state(holder="c:3") == ("ok", "")
    run_on_site("release", str(staged.run.folder), "b:2", shell=shell)
    assert state(holder="b:2") == ("held", "c:3")
    run_on_site("release", str(staged.run.folder), "c:3", shell=shell)
    run_on_site("release", str(staged.run.folder), "c:3", shell=shell)
    assert state(holder="b:2") == ("ok", "")


@pytest.mark.parametrize("text", ["", "x", "x y\n", "x 99999999999\n", "x -5\n", "x $(touch pwned)\n", "\0\0", "a b c d\n"])
def test_a_damaged_lock_file_keeps_nobody_out(staged, run_on_site, shell, text):
    (staged.run.folder / ".controller").write_text(text)
    (part,) = ask(run_on_site, staged, holder="a:1", shell=shell).runs
    assert part.state == "ok"
    assert not list(staged.folder.rglob("pwned"))


def test_a_folder_that_is_gone_and_one_that_is_away(lab, run_on_site, shell):
    assert ask(run_on_site, lab, shell=shell).runs[0].state == "away"
    lab.run.folder.parent.mkdir()
    assert ask(run_on_site, lab, shell=shell).runs[0].state == "gone"


@pytest.mark.parametrize(
    ("text", "code", "queue"),
    [
        ("echo 'slurm_load_jobs error: x' >&2; exit 1", 1, "slurm_load_jobs error: x\n"),
        ("echo 'squeue: error: Invalid user' >&2", 1, "squeue: error: Invalid user\n"),
        ("echo 'Welcome' >&2", 0, ""),
        ("exit 0", 0, ""),
        ("echo '1|RUNNING|n|afb-r1-job-0|None'; echo '2|RUNNING|n|mine|None'", 0, "1|RUNNING|n|afb-r1-job-0|None\n"),
        ("echo '1|RUN'; exit 1", 1, ""),
    ],
)
def test_what_squeue_says_and_what_it_complains_about(staged, run_on_site, shell, text, code, queue):
    staged.program("squeue", text)
    answer = ask(run_on_site, staged, shell=shell)
    assert (answer.queue_code, answer.queue) == (code, queue)


def test_odd_names_in_the_queue_do_nothing(staged, run_on_site, shell):
    names = [
        "afb-r1-$(touch pwned)",
        "afb-r1-`touch pwned`",
        "afb-r1-../../x",
        "afb-r1-' \"",
        "afb-r1-*",
        "-afb-r1-",
        "afb-r1-\\n",
        "afb-r1-;",
    ]
    rows = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    (staged.folder / "queue").write_text("".join(f"{row['id']}|RUNNING|n1|{row['name']}|None\n" for row in rows))
    staged.program("squeue", f"cat {staged.folder}/queue")
    answer = ask(run_on_site, staged, shell=shell)
    assert [line.split("|")[3] for line in answer.queue.splitlines()] == names
    assert not list(staged.folder.rglob("pwned"))


def test_thousands_of_jobs_are_one_quick_answer(staged, run_on_site, shell):
    """A folder a job that runs, and the other half waits."""
    count = 4000
    (staged.folder / "queue").write_text(
        "".join(f"{n}|{'RUNNING' if n % 2 else 'PENDING'}|n1|{staged.token(n)}|None\n" for n in range(1, count + 1))
    )
    staged.program("squeue", f"cat {staged.folder}/queue")
    for number in range(1, count, 2):
        folder = staged.run.job(staged.token(number)).rank(0).folder
        folder.mkdir(parents=True)
        (folder / "events.jsonl").write_text("{}\n")
    began = time.monotonic()
    answer = ask(run_on_site, staged, shell=shell)
    took_s = time.monotonic() - began
    (part,) = answer.runs
    assert (len(part.files), part.more) == (1000, True)
    assert answer.queue.count("\n") == count
    lines = request_lines(
        run_folder=str(staged.run.folder),
        holder="",
        dead="",
        expiry_s=1,
        seen=("a" * 12, part.answer),
        lease="",
        open_tokens=(),
    )
    text = "".join(f"{line}\n" for line in lines).encode()
    nothing = read_answer(run_on_site("poll", "%i", "0", "0", stdin=text, shell=shell).stdout)
    assert nothing.runs[0].files == ()
    assert took_s < 60


@pytest.mark.parametrize("name", ["poll", "write", "stage"])
def test_nothing_is_left_where_nobody_listens_any_more(staged, shell, name, monkeypatch):
    """The connection was lost: the program is ended, or its pipe is."""
    (staged.folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(staged.folder / "tmp"))
    staged.program("squeue", "kill -TERM $PPID; exec sleep 1")
    staged.program("tar", "kill -TERM $PPID; exec sleep 1")
    staged.program("cat", "kill -TERM $PPID; exec sleep 1")
    argument = {"poll": ["%i", "0", "0"], "write": [str(staged.run.folder), "x"], "stage": [str(staged.run.folder), "again"]}[
        name
    ]
    child = subprocess.Popen(
        [shell, "-c", program(name), "afb", *argument],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    child.stdout.close()
    assert child.wait() != 0
    assert not list((staged.folder / "tmp").iterdir())
    assert not [path for path in staged.run.folder.iterdir() if path.name.startswith((".write", ".stage"))]


# ends


@pytest.mark.parametrize("how", ["term", "kill"])
def test_jobs_are_ended_a_hundred_at_a_time(lab, run_on_site, shell, how):
    """Those whose id is known; names are one call each, because a list of them is taken for one name."""
    ids = [str(number) for number in range(1, 251)]
    assert run_on_site("cancel", how, *ids[:120], lab.token(7), *ids[120:], shell=shell).returncode == 0
    calls = [call.arguments for call in lab.slurm.call_log()]
    if how == "kill":
        assert ["--signal=KILL" in words for words in calls] == [True, False] * 4
        calls = calls[1::2]
    given = [[word for word in words if word.isdecimal()] for words in calls]
    assert sorted(len(group) for group in given) == [0, 50, 100, 100]
    assert sorted(itertools.chain(*given), key=int) == ids
    assert [words[-2:] for words in calls if "-n" in words] == [("-n", lab.token(7))]


def test_exit_records_are_json_that_the_lab_writes_as_the_node_does(staged):
    """Of the doubles themselves."""
    staged.begin(staged.token(), 5)
    staged.end(staged.token())
    assert json.loads(staged.run.job(staged.token()).rank(0).exit.read_text())["outcome"] == "completed"
