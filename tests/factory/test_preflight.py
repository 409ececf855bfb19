"""What a plan takes of a site: by hand, and bounds that always hold."""

import itertools

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench import UsageError
from aifactory_bench.factory.demand import Demand, largest_demand
from aifactory_bench.factory.preflight import PathNeed, paths, preflight, refuse_above, taken_by
from aifactory_bench.plan import Plan, PlannedJob, PlannedPoint
from aifactory_bench.sites.billing import Billing, Charge, Taken
from aifactory_bench.sites.model import Site
from aifactory_bench.sites.rules import NodeShape, Rules

GIB = 1 << 30
SITE = Site(
    name="here",
    submitter="slurm",
    runs="/runs",
    rules=Rules(max_time_s={"gpu": 7200.0}, certificate_lifetime_s=1800.0),
    nodes={
        "gpu": NodeShape(cpus=64, memory_bytes=512 * GIB, gpus=4, exclusive=True),
        "small": NodeShape(cpus=32, gpus=4),
    },
    billing=Billing("node_hour", {"gpu": Charge(node=1.0), "small": Charge(gpu=0.25, core=0.125, unit="core_hour")}),
)


def job(name, *, time_s=3600.0, partition="gpu", after=(), **more):
    options = {"partition": partition, "nodes": str(more.get("nodes", 1))} if partition else {}
    return PlannedJob(
        name=name, role="service", kind="k", token=name, script="", ranks=more.pop("ranks", 1), time_s=time_s, after=after,
        options={**options, **more.pop("options", {})}, **more,
    )  # fmt: skip


def point(id, token, services, duration_s=10.0):
    return PlannedPoint(
        id=id, index=0, repetition=1, parameters={}, client="load", kind="k", token=token, ranks=1, offered_per_s=None,
        process="closed", load={"warmup_s": 0.0, "duration_s": duration_s}, client_parameters={}, service_parameters={},
        services=services,
    )  # fmt: skip


def plan(jobs, points=(), **more):
    return Plan(
        run_id="r", recipe_name="n", site="here", run_folder="/runs/r", jobs=tuple(jobs), points=tuple(points), limits={},
        lease_s=None, max_jobs=9, node_modules=(), node_digest="", **more,
    )  # fmt: skip


def test_by_hand():
    """A service of two whole GPU nodes for two hours, and a client of 4 GPUs and 16 cores for half an hour."""
    service = job("llm", time_s=7200.0, ranks=2, nodes=2, gpus=1, paths=("/images/llm.sif",))
    client = job("load", time_s=1800.0, partition="small", gpus=4, cpus=16, paths=("/images/llm.sif",))
    found = preflight(plan([service, client], [point("a", "load", ("llm",), 30.0), point("b", "load", ("llm",), 10.0)]), SITE)
    assert [(one.name, one.nodes, one.gpus, one.limit, one.limit_s) for one in found.jobs] == [
        ("llm", 2, 8, "gpu", 7200.0),
        ("load", 1, 4, None, None),
    ]
    assert (found.jobs[0].cost.node_hours, found.jobs[0].cost.gpu_hours) == (4.0, 16.0)
    assert found.jobs[0].cost.units == {"node_hour": 4.0}
    # max(4 x 0.25, 16 x 0.125) = 2 core-hours an hour
    assert found.jobs[1].cost.units == {"core_hour": 1.0}
    assert (found.total.node_hours, found.total.gpu_hours) == (4.5, 18.0)
    assert found.total.units == {"node_hour": 4.0, "core_hour": 1.0}
    assert [one.cost.node_hours for one in found.points] == [3.375, 1.125]
    assert found.demand == Demand(2, 3, 12)
    assert found.paths == (
        PathNeed("/runs", "login", ()),
        PathNeed("/runs", "compute", ()),
        PathNeed("/images/llm.sif", "compute", ("llm", "load")),
    )
    assert any("login certificate of here holds 30m" in text for text in found.notes)
    assert any("longest walltime in the partition small of here is not known" in text for text in found.notes)


def test_what_a_job_holds():
    """Whole nodes with all that they have; elsewhere what it asks for, one core a rank where it does not say."""
    assert taken_by(job("a", nodes=2, ranks=2, gpus=1), SITE) == Taken(2, 8, 128, 1024 * GIB)
    assert taken_by(job("a", partition="small", ranks=3), SITE) == Taken(1, 0, 3, None)
    assert taken_by(job("a", partition="small", cpus=8, gpus=1, memory_bytes=GIB), SITE) == Taken(1, 1, 8, GIB)
    asked = job("a", partition="small", options={"exclusive": None})
    assert taken_by(asked, SITE) == Taken(1, 4, 32, None)
    ruled = evolve(SITE, rules=Rules(cpus_per_gpu=10))
    assert taken_by(job("a", partition="small", gpus=2), ruled) == Taken(1, 2, 20, None)


def test_what_is_not_known_is_said():
    made = plan([job("a", partition="other"), job("b", partition=None)], retries=2)
    found = preflight(made, SITE)
    assert found.total.units == {}
    assert found.total.node_hours == 2.0
    told = "\n".join(found.notes)
    for text in (
        "what the partition other of here costs is not known",
        "what the default partition of here costs is not known",
        "what nodes of the partition other of here have is not known",
        "2 retries",
    ):
        assert text in told
    assert "how here bills is not known" in preflight(made, evolve(SITE, billing=None)).notes
    otp = evolve(SITE, rules=Rules(otp=True))
    assert any("wants a person" in text for text in preflight(made, otp).notes)


def test_a_cap_refuses():
    made = plan([job("a", time_s=5400.0), job("b", nodes=2, ranks=2)])
    refuse_above(made, SITE, 3.5)
    with pytest.raises(UsageError, match=r"may take 3\.50 node-hours on here, and at most 3\.4 are allowed"):
        refuse_above(made, SITE, 3.4)


def test_paths_of_a_plan():
    made = plan([job("a", paths=("/m", "/i")), job("b", paths=("/m",))])
    assert [(need.path, need.where, need.jobs) for need in paths(made)][2:] == [
        ("/m", "compute", ("a", "b")),
        ("/i", "compute", ("a",)),
    ]


JOBS = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 8), st.floats(1.0, 1e6), st.sampled_from(["gpu", "small", "other"])),
    min_size=1,
    max_size=12,
)


@given(JOBS, st.data())
def test_the_total_is_never_below_the_sum_of_the_jobs(sizes, data):
    """Nor is that of the points above it, and each job counts with all its nodes for all its time."""
    jobs = [
        job(f"j{number}", nodes=nodes, ranks=nodes, gpus=gpus, time_s=time_s, partition=partition)
        for number, (nodes, gpus, time_s, partition) in enumerate(sizes)
    ]
    tokens = [one.token for one in jobs]
    points = [
        point(f"p{number}", data.draw(st.sampled_from(tokens)), tuple(data.draw(st.sets(st.sampled_from(tokens)))))
        for number in range(data.draw(st.integers(0, 6)))
    ]
    found = preflight(plan(jobs, points), SITE)
    alone = [one.nodes * one.time_s / 3600.0 for one in jobs]
    assert found.total.node_hours >= sum(alone) * (1 - 1e-12)
    assert found.total.gpu_hours >= sum(one.gpus * one.nodes * one.time_s / 3600.0 for one in jobs) * (1 - 1e-12)
    assert sum(one.cost.node_hours for one in found.points) <= found.total.node_hours * (1 + 1e-9)
    used = {token for one in points for token in (one.token, *one.services)}
    shared = sum(hours for one, hours in zip(jobs, alone, strict=True) if one.token in used)
    assert sum(one.cost.node_hours for one in found.points) == pytest.approx(shared)
    assert found.demand.nodes >= max(one.nodes for one in jobs)
    assert found.demand.nodes <= sum(one.nodes for one in jobs)


def _exact(jobs, weights):
    """The greatest weight of jobs of which none waits for another, by trying all sets."""
    before = {}
    for one in jobs:
        before[one.token] = set(one.after).union(*(before[token] for token in one.after))
    best = 0
    for size in range(1, len(jobs) + 1):
        for chosen in itertools.combinations(jobs, size):
            if not any(a.token in before[b.token] for a in chosen for b in chosen):
                best = max(best, sum(weights[one.token] for one in chosen))
    return best


@given(st.lists(st.tuples(st.integers(1, 9), st.sets(st.integers(0, 7))), min_size=1, max_size=8))
def test_demand_is_never_too_small(drawn):
    """Whatever waits for whatever."""
    jobs = [
        job(f"j{number}", after=tuple(f"j{other}" for other in sorted(after) if other < number))
        for number, (_, after) in enumerate(drawn)
    ]
    sizes = {one.token: (nodes, 0) for one, (nodes, _) in zip(jobs, drawn, strict=True)}
    found = largest_demand(jobs, sizes)
    assert found.nodes >= _exact(jobs, {token: size[0] for token, size in sizes.items()})
    assert found.jobs >= _exact(jobs, dict.fromkeys(sizes, 1))


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=3), st.booleans()), min_size=1, max_size=3
    )
)
def test_demand_of_stages_is_exact(stages):
    """As plans are: a stage's service beside a chain, or a row, of clients; the next stage waits for all of it."""
    jobs, sizes, before = [], {}, ()
    for number, (service, clients, chained) in enumerate(stages):
        names = [f"s{number}"]
        jobs.append(job(names[0], after=before))
        sizes[names[0]] = (service, 0)
        for position, nodes in enumerate(clients):
            name = f"c{number}-{position}"
            earlier = (names[-1],) if chained and position else ()
            jobs.append(job(name, after=(*before, *earlier)))
            names.append(name)
            sizes[name] = (nodes, 0)
        before = tuple(names)
    assert largest_demand(jobs, sizes).nodes == _exact(jobs, {token: size[0] for token, size in sizes.items()})
