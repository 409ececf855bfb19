"""What a job has come to: every word of Slurm, silence, files that come late, and never an end that is none."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench.node.paths import JobPaths
from aifactory_bench.plan import PlannedJob
from aifactory_bench.slurm.queue import QueueRow
from aifactory_bench.submitters.base import JobState
from aifactory_bench.submitters.tracking import UNBEGUN_S, TrackedJob

TOKEN = "afb-r1-job-0"
LAG_S = 60.0
FINAL = {
    "COMPLETED": JobState.FAILED,  # without a last word
    "FAILED": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMEOUT,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "NODE_FAIL": JobState.NODE_FAIL,
    "PREEMPTED": JobState.PREEMPTED,
    "BOOT_FAIL": JobState.BOOT_FAIL,
    "DEADLINE": JobState.DEADLINE,
}
WAITING = ["PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"]
RUNNING = ["RUNNING", "SUSPENDED", "COMPLETING", "STAGE_OUT", "RESIZING", "STOPPED"]
ODD = ["EXPEDITING", "REVOKED", "SIGNALING", "LAUNCH_FAILED", "SOMETHING_NEW", "?", "UPDATE_DB"]


class Watch:
    """A job, a queue that says what a test wants, and a clock."""

    def __init__(self, folder, ranks=1, job_id="7"):
        job = PlannedJob(name="job", role="client", kind="stub", token=TOKEN, script="", ranks=ranks, time_s=60.0)
        self.job = TrackedJob(job, job_id, since=0.0)
        self.paths = JobPaths(folder / TOKEN)
        self.now = 100.0

    def see(self, *rows, after=5.0, **more):
        self.now += after
        made = []
        for row in rows:
            word, job_id, nodes, reason = (*row, "", "", "")[:4] if isinstance(row, tuple) else (row, "7", "n1", "")
            if isinstance(row, str) and row in WAITING:
                nodes = ""
            made.append(QueueRow(job_id or "7", TOKEN, word, reason, nodes))
        self.job.see(made, self.paths, self.now, self.now, LAG_S, **more)
        return self.state

    @property
    def state(self):
        return None if self.job.status is None else self.job.status.state

    @property
    def text(self):
        return self.job.status.text

    def begin(self, job_id="7", rank=0):
        self.paths.rank(rank).folder.mkdir(parents=True, exist_ok=True)
        self.paths.claim.mkdir(exist_ok=True)
        (self.paths.claim / "owner.json").write_text(json.dumps({"job_id": job_id}))

    def say(self, outcome="completed", rank=0, restart=0, text="own words"):
        self.begin(rank=rank)
        self.paths.rank(rank).exit.write_text(json.dumps({"outcome": outcome, "restart": restart, "text": text}))


@pytest.fixture
def watch(tmp_path):
    return Watch(tmp_path)


@pytest.mark.parametrize("word", [*WAITING, *RUNNING, *ODD])
def test_a_word_that_is_not_the_end_never_ends_it(watch, word):
    watch.see("RUNNING")
    watch.begin()
    for _ in range(50):
        assert not watch.see(word, after=60).final
    expected = JobState.PENDING if word in WAITING else JobState.RUNNING
    assert watch.state is expected


@pytest.mark.parametrize("word", ODD)
def test_a_first_word_that_says_nothing_is_unknown(watch, word):
    assert watch.see(word) is JobState.UNKNOWN


@pytest.mark.parametrize(("word", "state"), FINAL.items())
def test_an_end_is_believed_when_last_words_are_overdue(watch, word, state):
    watch.see("RUNNING")
    watch.begin()
    assert watch.see(word) is JobState.RUNNING
    assert watch.see(word, after=LAG_S - 1) is JobState.RUNNING
    assert watch.see(word, after=1) is state
    assert word in watch.text or "ended without a word" in watch.text


@pytest.mark.parametrize("word", FINAL)
@pytest.mark.parametrize(
    ("outcome", "state"), [("completed", JobState.COMPLETED), ("stopped", JobState.CANCELLED), ("failed", JobState.FAILED)]
)
def test_with_last_words_an_end_is_believed_at_once(watch, word, outcome, state):
    """How it ended the job knows best, unless Slurm ended it."""
    watch.see("RUNNING")
    watch.say(outcome)
    assert watch.see("RUNNING") is JobState.RUNNING, "Slurm still runs it"
    own = word in {"COMPLETED", "FAILED", "CANCELLED"}
    assert watch.see(word) is (state if own else FINAL[word])


def test_every_rank_has_to_say_it(tmp_path):
    watch = Watch(tmp_path, ranks=2)
    watch.see("RUNNING")
    watch.say(rank=1)
    assert watch.see("COMPLETED") is JobState.RUNNING
    watch.say(rank=0)
    assert watch.see("COMPLETED") is JobState.COMPLETED


def test_cancelled_while_it_waited_is_over_at_once(watch):
    watch.see("PENDING")
    assert watch.see(("CANCELLED",)) is JobState.CANCELLED


def test_cancelled_on_a_node_waits_for_its_words_though_none_of_its_files_is_seen_yet(watch):
    """It had nodes: what it measured until then is on its way."""
    watch.see("RUNNING")
    assert watch.see("CANCELLED") is JobState.RUNNING
    watch.say("stopped")
    assert watch.see("CANCELLED") is JobState.CANCELLED
    assert watch.text == "own words"


def test_one_that_failed_before_it_could_speak_tells_what_its_log_says(watch):
    """Soon, and also when Slurm has forgotten it by then."""
    watch.paths.folder.mkdir(parents=True)
    watch.paths.log.write_text("line 81: /opt/python3.12: No such file or directory\n")
    assert watch.see("FAILED") is None
    assert watch.see(after=UNBEGUN_S) is JobState.FAILED
    assert "/opt/python3.12: No such file" in watch.text


def test_one_that_failed_without_a_log_asks_for_the_folder(watch):
    watch.see("FAILED")
    assert watch.see("FAILED", after=UNBEGUN_S) is JobState.FAILED
    assert "do the nodes see the folder of runs?" in watch.text


def test_one_that_was_cancelled_as_it_began_is_cancelled_though_slurm_forgets_it(watch):
    assert watch.see("CANCELLED") is None
    assert watch.see(after=UNBEGUN_S) is JobState.CANCELLED


def test_an_end_that_is_taken_back_is_none(watch):
    watch.see("RUNNING")
    watch.see("NODE_FAIL")
    watch.see("PENDING", after=50)
    watch.see("RUNNING", after=120)
    assert watch.see("COMPLETED") is JobState.RUNNING, "words are waited for anew"


# silence


def test_silence_alone_is_never_an_end(watch):
    watch.see("RUNNING")
    for _ in range(100):
        assert watch.see(after=600) is JobState.RUNNING
    assert watch.job.absent == 100


def test_a_poll_that_was_asked_for_before_the_submission_says_nothing(watch):
    watch.job.since = 1000.0
    watch.see()
    assert watch.job.absent == 0
    watch.see(after=1000)
    assert watch.job.absent == 1


def test_silence_begins_anew_when_it_is_seen_or_writes(watch):
    watch.see("RUNNING")
    watch.see()
    watch.see("RUNNING")
    assert watch.job.absent == 0
    watch.see()
    watch.see()
    watch.job.lives()
    watch.see(after=100)
    assert (watch.job.absent, watch.job.absent_since) == (1, watch.now)


def test_purged_before_it_was_seen_its_own_word_is_enough(watch):
    watch.say("completed")
    assert watch.see() is JobState.COMPLETED


@pytest.mark.parametrize("outcome", ["stopped", "failed", "timeout"])
def test_one_that_was_ended_may_be_put_back_and_its_word_is_not_enough(watch, outcome):
    """The accounts are asked first; where they say nothing, the word decides."""
    watch.say(outcome)
    for _ in range(9):
        assert watch.see() is None
    watch.job.vanish(watch.paths)
    assert watch.text == "own words"


def test_without_a_word_it_is_lost(watch):
    watch.job.vanish(watch.paths)
    assert watch.state is JobState.LOST


def test_purged_after_it_was_seen_a_second_look_is_taken(watch):
    """It may have been put back into the queue, and the queue be empty by mistake."""
    watch.see("RUNNING")
    watch.say()
    assert watch.see() is JobState.RUNNING
    assert watch.see() is JobState.COMPLETED


# put back into the queue


def test_words_of_an_earlier_execution_end_nothing(watch):
    watch.see("RUNNING")
    watch.say("stopped")
    watch.see("COMPLETING")
    assert watch.see("PENDING") is JobState.PENDING
    for _ in range(9):
        assert not watch.see().final
    assert watch.see("RUNNING") is JobState.RUNNING
    assert watch.see("COMPLETED") is JobState.RUNNING
    watch.say("completed", restart=1)
    assert watch.see("COMPLETED") is JobState.COMPLETED


def test_a_controller_that_comes_while_it_waits_again_does_not_believe_them_either(watch):
    watch.say("stopped")
    watch.see("PENDING")
    watch.see("PENDING")
    for _ in range(5):
        assert watch.see() is JobState.PENDING


def test_words_that_come_in_the_same_answer_as_pending_count(watch):
    """The queue is asked before files are looked for: a short job may begin and end in between."""
    watch.see("PENDING")
    watch.say("failed")
    assert watch.see("PENDING") is JobState.PENDING
    assert watch.see("FAILED") is JobState.FAILED
    assert watch.text == "own words"


# which of several


def test_of_twins_the_one_that_claimed_the_folder_is_the_job(watch):
    """Ours, 7, came second, was fenced and ended well; it is 6 that runs."""
    watch.see(("PENDING", "6"), ("PENDING", "7"))
    assert watch.job.job_id == "7"
    watch.begin(job_id="6")
    assert watch.see(("RUNNING", "6", "n1"), ("COMPLETED", "7", "n1")) is JobState.RUNNING
    for _ in range(5):
        assert watch.see(("RUNNING", "6", "n1"), ("COMPLETED", "7", "n1"), after=60) is JobState.RUNNING
    assert watch.job.job_id == "6"
    watch.say()
    assert watch.see(("COMPLETED", "6", "n1"), ("COMPLETED", "7", "n1")) is JobState.COMPLETED


def test_of_twins_one_that_is_alive_is_the_job_as_long_as_no_claim_is_seen(watch):
    for _ in range(5):
        assert watch.see(("RUNNING", "6", "n1"), ("COMPLETED", "7", "n1"), after=60) is JobState.RUNNING
    assert watch.job.targets == ["6"]
    watch.see(("RUNNING", "6", "n1"), ("PENDING", "7", ""))
    assert watch.job.targets == ["6", "7"]


def test_a_twin_that_claimed_the_folder_is_the_job_though_both_are_alive(watch):
    watch.begin(job_id="6")
    assert watch.see(("PENDING", "7", ""), ("RUNNING", "6", "n1")) is JobState.RUNNING
    assert watch.job.status.job_id == "6"
    watch.say()
    watch.begin(job_id="6")
    assert watch.see(("PENDING", "7", ""), ("COMPLETED", "6", "n1")) is JobState.COMPLETED


def test_of_a_twin_that_claimed_the_folder_silence_is_silence(watch):
    """The one that was fenced says nothing of it."""
    watch.begin(job_id="6")
    for _ in range(3):
        watch.see(("COMPLETED", "7", "n1"), after=61)
    assert watch.state is None
    assert watch.job.absent == 3


def test_one_that_was_refused_into_the_queue_is_not_the_job(tmp_path):
    watch = Watch(tmp_path, job_id=None)
    assert watch.see(("FAILED", "5", "")) is None
    assert watch.see(("FAILED", "5", ""), ("PENDING", "6", "")) is JobState.PENDING
    assert watch.job.job_id == "6"


def test_the_id_that_the_site_wrote_down_is_taken(tmp_path):
    watch = Watch(tmp_path, job_id=None)
    watch.paths.folder.mkdir()
    watch.paths.job_id.write_text("garbage\n")
    assert watch.see() is None
    watch.paths.job_id.write_text("9\n")
    watch.see(("PENDING", "9", ""))
    assert watch.job.status.job_id == "9"


# waiting for ever, or too long


def test_a_reason_that_waiting_does_not_help_is_given_up_at_the_second_look(watch):
    watch.see(("PENDING", "7", "", "PartitionTimeLimit"))
    assert not watch.job.hopeless
    watch.see(("PENDING", "7", "", "PartitionTimeLimit"))
    assert watch.job.hopeless
    assert watch.see(("CANCELLED", "7", "")) is JobState.FAILED
    assert "PartitionTimeLimit" in watch.text


def test_a_reason_that_passes_is_not(watch):
    for reason in ("PartitionTimeLimit", "Priority", "JobHeldAdmin", "Resources", "QOSMaxJobsPerUserLimit"):
        watch.see(("PENDING", "7", "", reason))
    assert not watch.job.hopeless


def test_max_pending_counts_only_its_own_turn(watch):
    for _ in range(10):
        watch.see(("PENDING", "7", "", "Dependency"), after=60, max_pending_s=100.0)
    watch.see(("PENDING", "7", "", "Priority"), max_pending_s=100.0)
    watch.see(("PENDING", "7", "", "Priority"), after=100, max_pending_s=100.0)
    assert not watch.job.hopeless
    watch.see(("PENDING", "7", "", "Priority"), after=1, max_pending_s=100.0)
    assert watch.job.hopeless
    assert watch.see(("CANCELLED", "7", "")) is JobState.FAILED
    assert "max_pending" in watch.text


def test_one_that_starts_just_before_it_is_given_up_has_an_end_of_its_own(watch):
    watch.see(("PENDING", "7", "", "Priority"), max_pending_s=1.0)
    watch.see(("PENDING", "7", "", "Priority"), max_pending_s=1.0)
    watch.see("RUNNING", max_pending_s=1.0)
    assert not watch.job.hopeless
    watch.say()
    assert watch.see("COMPLETED") is JobState.COMPLETED


# anything

ROW = st.tuples(
    st.sampled_from([*FINAL, *WAITING, *RUNNING, *ODD]),
    st.sampled_from(["6", "7"]),
    st.sampled_from(["", "n1"]),
    st.sampled_from(["", "Priority", "Dependency"]),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.lists(ROW, max_size=2), st.sampled_from([2.0, 5.0, 61.0]), st.booleans()), max_size=12))
def test_without_a_word_of_slurm_or_its_own_it_is_never_over(tmp_path_factory, history):
    """An end needs an end that Slurm told, or every last word."""
    watch = Watch(tmp_path_factory.mktemp("w"))
    told = said = False
    for rows, after, speaks in history:
        if speaks:
            watch.say()
            said = True
        told = told or any(row[0] in FINAL for row in rows)
        watch.see(*rows, after=after)
        if watch.state is not None and watch.state.final:
            assert told or said
            break
