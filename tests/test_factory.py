"""Entries become jobs, a recipe becomes a plan."""

import hashlib
import time
from itertools import chain
from types import MappingProxyType
from typing import ClassVar

import pytest
from attrs import evolve, field, frozen, validators
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench import (
    PORT,
    Client,
    ClientEntry,
    Command,
    JobFactory,
    Load,
    PluginError,
    RecipeError,
    Registry,
    Resources,
    Service,
    ServiceEntry,
    SizeBytes,
    UsageError,
    load_site,
)
from aifactory_bench.factory.planner import STOP_MARGIN_S, WAIT_MARGIN_S
from aifactory_bench.jobs.client import PREPARE_MARGIN_S
from aifactory_bench.jobs.context import job_token
from aifactory_bench.node.spec import spec_from_json
from aifactory_bench.plan import plan_from_json, plan_to_json
from aifactory_bench.recipe.load import load_recipe_text
from aifactory_bench.script.bundle import build_node_program

NODE = "aifactory_bench_services.redis_node"


@frozen
class StoreParameters:
    """Of the stub store."""

    mode: str = "a"
    size_bytes: SizeBytes = field(default=SizeBytes(64), validator=validators.ge(SizeBytes(1)))


class Store(Service):
    kind = "store"
    Parameters = StoreParameters
    node_module = NODE
    default_image = "docker://store:1"

    def get_container_command(self):
        return Command(["store", "--port", PORT])


@frozen
class DriveParameters:
    """Of the stub driver."""

    depth: int = 1


class Drive(Client):
    kind = "drive"
    Parameters = DriveParameters
    node_module = NODE
    targets: ClassVar = {"main": ("store",)}


class Tool(Client):
    kind = "tool"
    Parameters = DriveParameters
    mode = "tool"
    node_module = NODE
    targets: ClassVar = {"main": ()}

    def get_benchmark_commands(self, load, parameters):
        return [Command(["bench", "-c", load.concurrency, "-d", parameters.depth])]


REGISTRY = Registry(
    services=MappingProxyType({"store": Store}),
    clients=MappingProxyType({"drive": Drive, "tool": Tool}),
    sources=MappingProxyType({"store": "stub 1", "drive": "stub 1", "tool": "stub 1"}),
)
HEAD = "schema: aifactory-bench/1\nname: small\n"
ONE = """\
services:
  cache: {kind: store}
clients:
  load: {kind: drive, target: cache, load: {warmup: 1s, duration: 3s, timeout: 2s}}
"""
BUDGET_S = 1 + 3 + 2 + PREPARE_MARGIN_S


@pytest.fixture
def site(tmp_path):
    return load_site("local", runs=tmp_path / "runs")


@pytest.fixture
def build(site):
    """Plan a recipe given as text without its first lines."""

    def build(text, site=site, **options):
        recipe = load_recipe_text(HEAD + text, "small.yaml", REGISTRY)
        return JobFactory(REGISTRY).build(recipe, site, "r", **options)

    return build


def spec_of(job):
    """The specification that a planned job's script carries."""
    return spec_from_json(job.script.split("<<'AFB_SPECIFICATION'\n")[1].split("\nAFB_SPECIFICATION\n")[0])


def shape(plan):
    """Name -> names of the jobs that end before it begins."""
    names = {job.token: job.name for job in plan.jobs}
    return {job.name: sorted(names[token] for token in job.after) for job in plan.jobs}


def points(plan, name):
    """Identifiers of the points that one job makes, in order."""
    (job,) = [job for job in plan.jobs if job.name == name]
    return [point.id for point in spec_of(job).client.points]


def test_one_service_and_one_client(build, site):
    """The smallest recipe: two jobs, one point, and who waits for whom."""
    plan = build(ONE)
    service, client = plan.jobs
    assert [job.token for job in plan.jobs] == ["afb-r-cache-0", "afb-r-load-0"]
    assert (plan.run_folder, plan.site, plan.lease_s) == (f"{site.runs}/r", "local", 600.0)
    assert client.services == (service.token,)
    assert (service.after, client.after) == ((), ())
    assert spec_of(service).service.clients == {client.token: 1}
    spec = spec_of(client).client
    assert spec.targets["main"].token == service.token
    assert spec.targets["main"].parameters == {"mode": "a", "size_bytes": 64}
    assert [point.id for point in spec.points] == ["p0000-r1"]
    assert spec.points[0].participants == {client.token: 1}
    (point,) = plan.points
    assert (point.client, point.token, point.services, point.process) == ("load", client.token, (service.token,), "closed")
    assert point.client_parameters == {"depth": 1}
    assert point.service_parameters == {"cache": {"mode": "a", "size_bytes": 64}}
    assert spec_of(client).monitors == {"node": {"interval_s": 1.0}, "service": {"interval_s": 5.0}}


def test_the_node_program_holds_the_products_modules(build):
    """Its digest is in every script and in the plan."""
    plan = build(ONE)
    assert plan.node_modules == (NODE,)
    assert plan.node_digest == build_node_program([NODE]).digest
    assert all(f"node-{plan.node_digest}.pyz" in job.script for job in plan.jobs)


def test_provenance_names_recipe_core_and_plugins(build):
    """Enough to say what was run."""
    plan = build(ONE)
    assert plan.provenance["recipe_sha256"] == hashlib.sha256((HEAD + ONE).encode()).hexdigest()
    assert plan.provenance["plugins"] == {"store": "stub 1", "drive": "stub 1"}
    assert plan.provenance["core"]


def test_the_plan_survives_its_file(build):
    """What is read back is what was written, scripts to the byte."""
    plan = build(ONE + "matrix: {services.cache.parameters.mode: [a, b], clients.load.load.concurrency: [1, 2]}\n")
    again = plan_from_json(plan_to_json(plan))
    assert again.jobs == plan.jobs
    assert again.points == plan.points


def test_planning_twice_gives_the_same(build):
    """Two controllers mean the same jobs and the same points."""
    text = ONE + "matrix: {clients.load.load.concurrency: [1, 2, 3]}\nrepetitions: 2\n"
    assert build(text) == build(text)


def test_load_factors_share_one_job(build):
    """Points of load factors and repetitions run one after another in one client job, with no new service."""
    plan = build(ONE + "matrix: {clients.load.load.concurrency: [1, 2, 4]}\nrepetitions: 2\n")
    assert shape(plan) == {"cache": [], "load": []}
    made = points(plan, "load")
    assert made == [point.id for point in plan.points]
    assert sorted(made) == [f"p{index:04d}-r{repetition}" for index in range(3) for repetition in (1, 2)]
    concurrency = {point.id: point.load["concurrency"] for point in spec_of(plan.jobs[1]).client.points}
    assert [concurrency[f"p000{index}-r1"] for index in range(3)] == [1, 2, 4]


def test_service_factors_make_stages(build):
    """A new service for each value; a stage begins when the whole stage before it has ended."""
    plan = build(ONE + "matrix: {services.cache.parameters.mode: [a, b, c]}\n")
    assert shape(plan) == {
        "cache-s0": [],
        "load-s0": [],
        "cache-s1": ["cache-s0", "load-s0"],
        "load-s1": ["cache-s0", "load-s0"],
        "cache-s2": ["cache-s1", "load-s1"],
        "load-s2": ["cache-s1", "load-s1"],
    }
    assert [spec_of(job).service.parameters["mode"] for job in plan.jobs if job.role == "service"] == ["a", "b", "c"]
    assert {spec_of(job).job for job in plan.jobs} == {"cache", "load"}
    assert [point.token for point in plan.points] == ["afb-r-load-s0-0", "afb-r-load-s1-0", "afb-r-load-s2-0"]


def test_reset_service_makes_a_stage_of_every_repetition(build):
    """The server is started again for each."""
    plan = build(ONE + "repetitions: {count: 2, reset: service}\n")
    assert [job.name for job in plan.jobs] == ["cache-s0", "load-s0", "cache-s1", "load-s1"]
    assert points(plan, "load-s1") == ["p0000-r2"]


def test_other_resources_make_another_job(build):
    """What a job takes cannot change within it: the points are split where it does, in order."""
    plan = build(ONE + "matrix: {clients.load.resources.cpus: [1, 2], clients.load.load.concurrency: [3, 4]}\nseed: 3\n")
    jobs = [job for job in plan.jobs if job.role == "client"]
    assert [job.token for job in jobs][:2] == ["afb-r-load-0", "afb-r-load-1-0"]
    assert [job.after for job in jobs] == [(), *((job.token,) for job in jobs[:-1])]
    assert list(chain.from_iterable(points(plan, job.name) for job in jobs)) == [point.id for point in plan.points]
    for job in jobs:
        assert {point.parameters["clients.load.resources.cpus"] for point in plan.points if point.token == job.token} == {
            job.cpus
        }
    assert spec_of(plan.jobs[0]).service.clients == {job.token: 1 for job in jobs}


TWO = """\
services:
  cache: {kind: store}
clients:
  load: {kind: drive, target: cache, load: {warmup: 1s, duration: 3s, timeout: 2s}}
  other: {kind: drive, target: cache, replicas: 2, load: {warmup: 1s, duration: 3s, timeout: 2s}AFTER}
"""


def test_clients_of_a_point_meet(build):
    """Both are at the barrier, with all their ranks."""
    plan = build(TWO.replace("AFTER", ""))
    together = {"afb-r-load-0": 1, "afb-r-other-0": 2}
    for job in plan.jobs[1:]:
        assert spec_of(job).client.points[0].participants == together
    assert spec_of(plan.jobs[0]).service.clients == together
    assert [(point.client, point.ranks) for point in plan.points] == [("load", 1), ("other", 2)]


def test_after_another_client(build):
    """Its whole job begins when the other's has ended; they do not meet, and the service waits for both."""
    plan = build(TWO.replace("AFTER", ", after: load") + "matrix: {clients.load.load.concurrency: [1, 2]}\n")
    assert shape(plan) == {"cache": [], "load": [], "other": ["load"]}
    assert spec_of(plan.jobs[1]).client.points[0].participants == {"afb-r-load-0": 1}
    assert spec_of(plan.jobs[2]).client.points[0].participants == {"afb-r-other-0": 2}
    assert spec_of(plan.jobs[0]).service.clients == {"afb-r-load-0": 1, "afb-r-other-0": 2}
    assert len(points(plan, "other")) == 2


def test_after_is_in_order_however_it_is_written(build):
    """A job stands behind everything that it waits for."""
    text = TWO.replace("AFTER", "").replace("load: {kind", "load: {after: other, kind", 1)
    plan = build(text)
    assert [job.name for job in plan.jobs] == ["cache", "other", "load"]
    assert shape(plan)["load"] == ["other"]


def test_jobs_stand_behind_what_they_need(build):
    """For every job, all of `after` and `services` come first."""
    plan = build(
        TWO.replace("AFTER", ", after: load")
        + "matrix: {services.cache.parameters.mode: [a, b], clients.load.resources.cpus: [1, 2]}\nrepetitions: 2\n"
    )
    seen = set()
    for job in plan.jobs:
        assert set(job.after) <= seen
        assert set(job.services) <= seen
        assert job.token not in seen
        seen.add(job.token)


def test_an_external_service_has_no_job(build):
    """It is neither started nor stopped, and any client may measure it."""
    plan = build(
        "services:\n  cache: {external: {url: 'redis://127.0.0.1:6379'}}\nclients:\n  load: {kind: drive, target: cache}\n"
    )
    (job,) = plan.jobs
    target = spec_of(job).client.targets["main"]
    assert (target.token, target.url, target.replicas) == ("", "redis://127.0.0.1:6379", 1)
    assert job.services == ()
    assert plan.points[0].services == ("redis://127.0.0.1:6379",)


def test_an_external_service_must_answer_within_its_own_time(build):
    """It runs already, so there is no start to wait for."""
    plan = build(
        "services:\n  cache: {external: {url: 'redis://127.0.0.1:6379'}, ready: {timeout: 3s}}\n"
        "clients:\n  load: {kind: drive, target: cache}\n"
    )
    assert spec_of(plan.jobs[0]).client.wait_timeout_s == 3


def test_an_external_url_of_another_protocol_is_refused(build, monkeypatch):
    """The client would only find out on the node, after a wait."""
    monkeypatch.setattr(Store, "scheme", "redis")
    with pytest.raises(RecipeError, match=r"services\.cache\.external\.url.*redis://"):
        build(
            "services:\n  cache: {external: {url: 'http://127.0.0.1:6379'}}\nclients:\n  load: {kind: drive, target: cache}\n"
        )


def test_https_is_http_to_a_client(build, monkeypatch):
    """And only the reference of a secret is known: the plan has neither it nor the secret."""
    monkeypatch.setattr(Store, "scheme", "http")
    monkeypatch.setenv("AFB_TEST_TOKEN", "hunter2")
    plan = build(
        "services:\n  cache: {external: {url: 'https://api.example.org', secret: 'env:AFB_TEST_TOKEN'}}\n"
        "clients:\n  load: {kind: drive, target: cache}\n"
    )
    target = spec_of(plan.jobs[0]).client.targets["main"]
    assert (target.url, target.has_secret) == ("https://api.example.org", True)
    assert "hunter2" not in plan_to_json(plan)
    assert "AFB_TEST_TOKEN" not in plan_to_json(plan)


def test_a_service_without_clients_lives_until_it_is_stopped(build):
    """Nobody is named whose end would end it."""
    plan = build("services:\n  cache: {kind: store}\n")
    assert spec_of(plan.jobs[0]).service.clients == {}
    assert plan.points == ()


def test_a_service_beside_the_measured_one_ends_with_the_clients(build):
    """One that no client measures is there for the others."""
    plan = build(ONE.replace("services:\n", "services:\n  helper: {kind: store}\n"))
    assert spec_of(plan.job("afb-r-helper-0")).service.clients == {"afb-r-load-0": 1}


def test_times(build):
    """A client has the budget of its points, a service at least the time of its clients; what a recipe says is kept."""
    plan = build(ONE + "matrix: {clients.load.load.concurrency: [1, 2]}\n")
    service, client = plan.jobs
    assert client.time_s == 120 + WAIT_MARGIN_S + 2 * BUDGET_S + STOP_MARGIN_S
    assert service.time_s == 1800.0
    assert spec_of(client).client.wait_timeout_s == 120 + WAIT_MARGIN_S
    assert spec_of(client).client.points[0].budget_s == BUDGET_S
    long = build(ONE.replace("duration: 3s", "duration: 2h"))
    assert long.jobs[0].time_s > long.jobs[1].time_s > 7200
    said = build(ONE.replace("kind: store", "kind: store, resources: {time: 5m}"))
    assert said.jobs[0].time_s == 300.0


def test_local_walltime_holds_the_waiting(build, site):
    """A local job runs while it waits for those before it; a scheduler would hold it back."""
    text = ONE + "matrix: {services.cache.parameters.mode: [a, b]}\n"
    local, slurm = build(text), build(text, site=evolve(site, submitter="slurm"))
    own = {job.name: job.time_s for job in slurm.jobs}
    assert own["load-s1"] == own["load-s0"]
    waiting = {job.name: job.time_s for job in local.jobs}
    assert waiting["load-s1"] == own["load-s1"] + waiting["cache-s0"]


def test_as_many_jobs_at_a_time_as_wait_for_each_other(build, site):
    """A stage that is larger than the site's limit could never end."""
    plan = build(TWO.replace("AFTER", ""), site=evolve(site, max_jobs=1))
    assert plan.max_jobs == 3
    assert build(ONE, site=evolve(site, max_jobs=50)).max_jobs == 50


def test_lease(build):
    """From the recipe, unless the call says something."""
    assert spec_of(build(ONE + "lease: off\n").jobs[0]).lease_s is None
    assert spec_of(build(ONE, lease_s=5.0).jobs[1]).lease_s == 5.0
    assert build(ONE, lease_s=None).lease_s is None


def test_when_ready_is_handed_on(build):
    """The controller holds such a client back."""
    plan = build(ONE.replace("target: cache", "target: cache, submit: when_ready"))
    assert [job.submit for job in plan.jobs] == ["at_once", "when_ready"]


def test_a_client_takes_the_image_of_its_target(build, site):
    """A tool that comes with the server needs no image of its own."""
    cluster = evolve(
        site,
        runtime="apptainer",
        images={"docker://store:1": "/one.sif", "docker://own:2": "/own.sif", "docker://a:3": "/a.sif"},
    )
    tool = ONE.replace("kind: drive", "kind: tool")

    def image(text):
        return spec_of(build(text, site=cluster).jobs[1]).client.points[0].commands[0][6]

    assert image(tool) == "/one.sif"
    assert image(tool.replace("kind: store", "kind: store, image: 'docker://a:3'")) == "/a.sif"
    assert image(tool.replace("kind: tool", "kind: tool, image: 'docker://own:2'")) == "/own.sif"


def test_a_further_attempt_makes_only_what_is_missing(build):
    """Other tokens, the same stages and identifiers; a point is made whole, by all clients that meet at it."""
    text = ONE + "matrix: {services.cache.parameters.mode: [a, b], clients.load.load.concurrency: [1, 2]}\n"
    whole = build(text)
    missing = whole.points[-1]
    plan = build(text, attempt=1, only=frozenset({(missing.client, missing.id)}))
    assert [job.token for job in plan.jobs] == ["afb-r-cache-s1-1", "afb-r-load-s1-1"]
    assert [point.id for point in plan.points] == [missing.id]
    assert all(job.after == () for job in plan.jobs)
    assert spec_of(plan.jobs[0]).attempt == 1
    both = build(TWO.replace("AFTER", ""), attempt=1, only=frozenset({("load", "p0000-r1")}))
    assert [point.client for point in both.points] == ["load", "other"]


def test_two_jobs_of_one_name_are_refused(build):
    """A client called as the second job of another one would be."""
    text = TWO.replace("AFTER", "").replace("  other:", "  load-1:") + "matrix: {clients.load.resources.cpus: [1, 2]}\n"
    with pytest.raises(RecipeError, match="two jobs would be called 'load-1'"):
        build(text)


def test_create_from_entries():
    """Plain values are checked as a recipe's are; instances are taken as they are."""
    factory = JobFactory(REGISTRY)
    service = factory.create_service(ServiceEntry("cache", kind="store", parameters={"mode": "b", "size": "2KiB"}))
    assert isinstance(service, Store)
    assert service.parameters == StoreParameters("b", SizeBytes(2048))
    entry = ClientEntry(
        "load", "drive", {"main": "cache"}, parameters=DriveParameters(3), resources=Resources(cpus=2), load=Load(seed=4)
    )
    client = factory.create_client(entry)
    assert isinstance(client, Drive)
    assert (client.parameters.depth, client.resources.cpus, client.load.seed, client.services) == (3, 2, 4, {"main": "cache"})


WRONG = {
    "no such kind": (
        lambda f: f.create_service(ServiceEntry("cache", kind="stor")),
        "there is no kind 'stor'; there is: store",
    ),
    "a client's kind": (lambda f: f.create_service(ServiceEntry("cache", kind="drive")), "there is no kind 'drive'"),
    "parameters": (
        lambda f: f.create_service(ServiceEntry("cache", kind="store", parameters={"size": 0})),
        r"services.cache.parameters.size: must be a size",
    ),
    "external": (lambda f: f.create_service(ServiceEntry("cache")), "an external service has no job"),
    "roles": (
        lambda f: f.create_client(ClientEntry("load", "drive", {"other": "cache"})),
        "measures the roles main, got other",
    ),
    "no role": (lambda f: f.create_client(ClientEntry("load", "drive")), "got none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_entries_name_their_place(case):
    """The path in the recipe, what was found, what there is."""
    make, text = WRONG[case]
    with pytest.raises(RecipeError, match=text):
        make(JobFactory(REGISTRY))


class Another(Store):
    kind = "another"


class AnotherDrive(Drive):
    kind = "another-drive"


def test_register():
    """A class of one's own, known to this factory only."""
    factory = JobFactory(REGISTRY)
    factory.register_service("another", Another)
    factory.register_client("another-drive", AnotherDrive)
    assert isinstance(factory.create_service(ServiceEntry("x", kind="another")), Another)
    assert factory.registry.clients["another-drive"] is AnotherDrive
    assert factory.registry.sources["another"] == "class given"
    assert "another" not in REGISTRY.services


WRONG_REGISTRATIONS = {
    "taken": (lambda f: f.register_service("store", Store), "the kind 'store' is taken: by stub 1"),
    "another kind": (lambda f: f.register_service("other", Another), "has the kind 'another', not 'other'"),
    "wrong role": (lambda f: f.register_client("another", Another), "is a service, not a client"),
    "no job": (lambda f: f.register_service("x", dict), "neither a subclass of Service nor of Client"),
}


@pytest.mark.parametrize("case", WRONG_REGISTRATIONS)
def test_wrong_registrations(case):
    """Told at once, not when a recipe is run."""
    register, text = WRONG_REGISTRATIONS[case]
    with pytest.raises(PluginError, match=text):
        register(JobFactory(REGISTRY))


def test_registering_after_a_plan_is_too_late(site):
    """A plan names kinds; what they mean does not change behind it."""
    factory = JobFactory(REGISTRY)
    factory.build(load_recipe_text(HEAD + ONE, "small.yaml", REGISTRY), site, "r")
    with pytest.raises(PluginError, match="comes too late"):
        factory.register_service("another", Another)


def test_calls_on_the_class_act_on_one_default_factory(monkeypatch):
    """Made on first use, from what is installed."""
    monkeypatch.setattr(JobFactory, "_default", None)
    service = JobFactory.create_service(ServiceEntry("cache", kind="redis"))
    assert service.kind == "redis"
    JobFactory.register_service("another", Another)
    assert isinstance(JobFactory.create_service(ServiceEntry("x", kind="another")), Another)
    assert JobFactory.default() is JobFactory.default()
    assert "another" not in JobFactory().registry.services


@settings(deadline=None, max_examples=30)
@given(
    modes=st.integers(1, 3),
    loads=st.integers(1, 4),
    cpus=st.integers(1, 2),
    repetitions=st.integers(1, 3),
    reset=st.sampled_from(["none", "data", "service"]),
    after=st.booleans(),
    seed=st.integers(0, 9),
)
def test_every_point_is_planned_once(modes, loads, cpus, repetitions, reset, after, seed):
    """Whatever the matrix: all combinations, each by one job, and every barrier has the same participants on all sides."""
    text = (
        HEAD
        + TWO.replace("AFTER", ", after: load" if after else "")
        + f"matrix:\n  services.cache.parameters.mode: {list('abc')[:modes]}\n"
        + f"  clients.load.load.concurrency: {list(range(1, loads + 1))}\n"
        + f"  clients.other.resources.cpus: {list(range(1, cpus + 1))}\n"
        + f"repetitions: {{count: {repetitions}, reset: {reset}}}\nseed: {seed}\n"
    )
    plan = JobFactory(REGISTRY).build(load_recipe_text(text, "x.yaml", REGISTRY), load_site("local"), "r")
    total = modes * loads * cpus * repetitions
    assert len({(point.client, point.id) for point in plan.points}) == len(plan.points) == 2 * total
    meetings = {}
    for job in plan.jobs:
        if job.role == "client":
            for point in spec_of(job).client.points:
                assert job.token in point.participants
                meetings.setdefault((point.id, frozenset(point.participants.items())), set()).add(job.token)
    assert all({token for token, _ in participants} == tokens for (_, participants), tokens in meetings.items())
    assert len(meetings) == total * (2 if after else 1)
    planned = {(point.token, point.id) for point in plan.points}
    assert planned == {(token, point_id) for (point_id, _), tokens in meetings.items() for token in tokens}


@pytest.mark.parametrize("path", ["clients.load.load.concurrency", "services.cache.parameters.size"])
def test_a_large_matrix_is_planned_quickly(site, path):
    """1,000 points in about a second of CPU; the limit here leaves room for a busy machine."""
    values = range(1, 1001) if path.endswith("concurrency") else [f"{number}B" for number in range(1, 1001)]
    text = HEAD + ONE + f"matrix: {{{path}: [{', '.join(map(str, values))}]}}\n"
    recipe = load_recipe_text(text, "x.yaml", REGISTRY)
    begin = time.process_time()
    plan = JobFactory(REGISTRY).build(recipe, site, "r")
    assert time.process_time() - begin < 6
    assert len(plan.points) == 1000


def test_clients_that_meet_have_time_for_the_slowest(build):
    """Whoever is done with its point waits at the next barrier, and must not run out of walltime there."""
    text = TWO.replace("AFTER", "").replace("duration: 3s", "duration: 5m", 1)
    jobs = {job.name: job for job in build(text + "repetitions: 3\n").jobs}
    assert jobs["other"].time_s == jobs["load"].time_s > 3 * 300


@pytest.mark.parametrize("name", ["a/../b", "$(true)", "", "a b"])
def test_a_name_that_a_shell_or_a_folder_would_see_is_refused(name):
    """Names from Python are not those of a recipe; a token stands in scripts and paths."""
    with pytest.raises(UsageError, match="cannot be the name of a job"):
        job_token("r", name)
