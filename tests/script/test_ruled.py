"""Scripts that keep a site's rules."""

import pytest

from aifactory_bench import Resources
from aifactory_bench.script.header import header_options
from aifactory_bench.script.value import Script
from aifactory_bench.sites.rules import NodeShape, Rules

SHAPES = {
    "gpu": NodeShape(cpus=64, gpus=4),
    "shared": NodeShape(cpus=64, exclusive=False),
    "own": NodeShape(cpus=32, exclusive=True),
}


def options(rules, *, ranks=1, scheduler=None, **resources):
    return header_options(
        token="t",
        log="/l",
        time_s=600.0,
        ranks=ranks,
        resources=Resources(**resources),
        scheduler=scheduler or {},
        rules=rules,
        shapes=SHAPES,
    )


@pytest.mark.parametrize(
    ("rules", "name", "value"),
    [
        (Rules(), "gpus-per-node", "2"),
        (Rules(gpu_type="a100"), "gpus-per-node", "a100:2"),
        (Rules(gpu_request="gres"), "gres", "gpu:2"),
        (Rules(gpu_request="gres", gpu_type="gh200"), "gres", "gpu:gh200:2"),
        (Rules(gpu_request="gpus"), "gpus", "6"),
        (Rules(gpu_request="gpus", gpu_type="a100"), "gpus", "a100:6"),
    ],
)
def test_gpus_are_asked_for_as_the_site_wants(rules, name, value):
    found = options(rules, ranks=3, nodes=3, gpus=2)
    assert found[name] == value
    assert len({"gres", "gpus", "gpus-per-node"} & set(found)) == 1


def test_other_resources_stand_beside_gpus():
    assert options(Rules(gpu_request="gres"), gpus=2, scheduler={"gres": "nvme:1"})["gres"] == "gpu:2,nvme:1"
    assert options(Rules(gpu_request="gres"), scheduler={"gres": "nvme:1"})["gres"] == "nvme:1"


def test_whole_nodes_with_all_their_cores():
    """By the site's rule or the partition's; ranks share them; what a recipe says holds."""
    whole = Rules(whole_nodes=True)
    found = options(whole, scheduler={"partition": "gpu"})
    assert ("exclusive" in found, found["cpus-per-task"]) == (True, "64")
    assert options(whole, ranks=4, nodes=2, scheduler={"partition": "gpu"})["cpus-per-task"] == "32"
    assert options(whole, cpus=8, scheduler={"partition": "gpu"})["cpus-per-task"] == "8"
    assert "cpus-per-task" not in options(whole, scheduler={"partition": "unknown"})
    assert "exclusive" in options(whole, scheduler={"partition": "unknown"})
    assert "exclusive" not in options(whole, scheduler={"partition": "shared"})
    assert options(Rules(), scheduler={"partition": "own"})["cpus-per-task"] == "32"
    assert options(whole, scheduler={"partition": "gpu"}, slurm={"exclusive": "user"})["exclusive"] == "user"
    assert options(whole, scheduler={"partition": "gpu,own"})["cpus-per-task"] == "32"


def test_cores_go_with_gpus():
    assert options(Rules(cpus_per_gpu=20), gpus=2)["cpus-per-task"] == "40"
    assert "cpus-per-task" not in options(Rules(cpus_per_gpu=20))


def script(make_spec, rules, *, ranks=1, scheduler=None, cpus=None):
    spec = make_spec(ranks=ranks)
    return Script(
        token=spec.token, run_folder="/runs/r", spec=spec, node_digest="0" * 16, python="python3", argv=("server",), srun=True,
        resources=Resources(cpus=cpus), scheduler=scheduler or {}, rules=rules, shapes=SHAPES,
    ).text().splitlines()  # fmt: skip


def test_a_single_process_is_started_by_srun_where_the_site_wants_it(make_spec):
    assert script(make_spec, Rules())[-1].startswith("exec python3 ")
    assert script(make_spec, Rules(srun_containers=True))[-1].startswith(
        "exec srun --ntasks=1 --export=ALL --kill-on-bad-exit=0 python3 "
    )
    assert script(make_spec, Rules(), ranks=2)[-1].startswith("exec srun --ntasks=2 ")


def test_a_single_process_on_a_whole_node_is_bound_to_no_core(make_spec):
    """Where nobody knows how many there are."""
    rules = Rules(srun_containers=True, whole_nodes=True)
    assert " --cpu-bind=none python3 " in script(make_spec, rules)[-1]
    assert "--cpu-bind" not in script(make_spec, rules, scheduler={"partition": "gpu"})[-1]


def test_srun_is_told_the_cores(make_spec):
    rules = Rules(cpus_per_task_export=True)
    assert "export SRUN_CPUS_PER_TASK=8  # srun does not take it from the job" in script(make_spec, rules, ranks=2, cpus=16)
    assert not any("SRUN_CPUS" in line for line in script(make_spec, rules, ranks=2))
    assert not any("SRUN_CPUS" in line for line in script(make_spec, Rules(), ranks=2, cpus=16))
