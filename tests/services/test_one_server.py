"""What contradicts itself is refused while a recipe is planned, before anything is started."""

import pytest

from aifactory_bench import JobFactory, RecipeError, load_registry, load_site
from aifactory_bench.recipe.load import load_recipe_text
from aifactory_bench_services.pgbench import PgbenchParameters

HEAD = "schema: aifactory-bench/1\nname: small\n"
CLOSED = "process: closed, warmup: 1s, duration: 1s, concurrency"


@pytest.fixture
def build(tmp_path):
    registry = load_registry()

    def build(service, client):
        text = f"{HEAD}services: {{db: {{{service}}}}}\nclients: {{load: {{target: db, {client}}}}}\n"
        recipe = load_recipe_text(text, "small.yaml", registry)
        return JobFactory(registry).build(recipe, load_site("local", runs=tmp_path / "runs"), "r")

    return build


@pytest.mark.parametrize(
    ("service", "client"),
    [
        ("postgresql", "pgbench"),
        ("mysql", "sysbench"),
        ("redis", "redis-benchmark"),
        ("redis", "memtier"),
        ("redis", "redis-pubsub"),
        ("redis", "redis-stream"),
    ],
)
def test_several_servers_are_refused_for_a_client_that_measures_one(build, service, client):
    load = f"kind: {client}, image: /i.sif, load: {{{CLOSED}: 4}}"
    text = rf"clients\.load\.targets\.main: {client} measures one server, and db has 2 replicas"
    with pytest.raises(RecipeError, match=text):
        build(f"kind: {service}, replicas: 2", load)
    assert build(f"kind: {service}", load).points


@pytest.mark.parametrize("client", ["redis-benchmark", "memtier", "redis-pubsub", "redis-stream"])
def test_a_cluster_is_refused_for_a_client_that_measures_one_server(build, client):
    with pytest.raises(RecipeError, match=rf"{client} measures one server, and db has 3 replicas"):
        build("kind: redis, replicas: 3, parameters: {cluster: true}", f"kind: {client}, load: {{{CLOSED}: 4}}")


def test_a_client_of_all_replicas_is_let_be(build):
    assert build("kind: postgresql, replicas: 2", f"kind: pgvector-load, load: {{{CLOSED}: 4}}").points


@pytest.mark.parametrize(
    ("service", "client", "most"),
    [
        ("kind: postgresql, parameters: {max_connections: 33}", "kind: pgbench", 30),
        ("kind: postgresql, parameters: {max_connections: 33}", "kind: pgbench, replicas: 2", 30),
        ("kind: postgresql, parameters: {max_connections: 33}", "kind: pgvector-load", 30),
        ("kind: postgresql, replicas: 2, parameters: {max_connections: 33}", "kind: pgvector-load", 60),
        ("kind: mysql, parameters: {max_connections: 33}", "kind: sysbench, image: /i.sif, replicas: 2", 33),
        ("kind: mysql", "kind: sysbench, image: /i.sif", 200),
    ],
)
def test_more_connections_than_the_service_leaves_are_refused(build, service, client, most):
    assert build(service, f"{client}, load: {{{CLOSED}: {most}}}").points
    with pytest.raises(RecipeError, match=rf"clients\.load\.load\.concurrency: {most + 1} connections, and db takes") as caught:
        build(service, f"{client}, load: {{{CLOSED}: {most + 1}}}")
    assert f"lower `concurrency` to {most}" in str(caught.value.hint)
    with pytest.raises(RecipeError, match=rf"clients\.load\.load\.connections: {most + 1} connections"):
        build(service, f"{client}, load: {{process: poisson, rate: 100/s, connections: {most + 1}, warmup: 1s, duration: 1s}}")


def test_of_a_server_that_runs_already_nobody_knows(build):
    external = "external: {url: 'postgresql://h:1'}"
    assert build(external, f"kind: pgbench, image: /i.sif, load: {{{CLOSED}: 500}}").points


@pytest.mark.parametrize(
    ("service", "client"),
    [
        ("postgresql", "kind: pgbench"),
        ("mysql", "kind: sysbench, image: /i.sif"),
        ("redis", "kind: redis-benchmark"),
        ("redis", "kind: memtier"),
    ],
)
@pytest.mark.parametrize("key", ["slo: {latency: 5ms}", "timeout: 3s"])
def test_what_the_tool_does_nothing_with_is_refused(build, service, client, key):
    with pytest.raises(RecipeError, match=rf"clients\.load\.load\.{key.partition(':')[0]}"):
        build(f"kind: {service}", f"{client}, load: {{{CLOSED}: 4, {key}}}")


@pytest.mark.parametrize("name", ["PGUSER", "PGPASSWORD", "PGDATABASE", "PGHOST", "PGHOSTADDR", "LC_ALL"])
def test_variables_of_the_clients_own_are_refused(build, name):
    with pytest.raises(RecipeError, match=rf"clients\.load\.environment\.{name}: "):
        build("kind: postgresql", f"kind: pgbench, environment: {{{name}: x}}, load: {{{CLOSED}: 4}}")
    assert build("kind: postgresql", f"kind: pgbench, environment: {{PGSSLMODE: prefer}}, load: {{{CLOSED}: 4}}").points


def test_a_rate_of_which_a_sample_would_hold_too_little_is_refused(build):
    load = "load: {process: poisson, rate: 2000/s, connections: 4, warmup: 1s, duration: 10s}"
    with pytest.raises(RecipeError, match=r"parameters\.sampling: 0\.001 of 2000/s are about 20 transactions"):
        build("kind: postgresql", f"kind: pgbench, parameters: {{sampling: 0.1%}}, {load}")
    assert build("kind: postgresql", f"kind: pgbench, parameters: {{sampling: 10%}}, {load}").points


def test_a_script_of_pgbench_stands_in_place_of_a_workload():
    assert PgbenchParameters().workload == "select-only"
    assert PgbenchParameters(script="/s.sql").workload is None
    with pytest.raises(ValueError, match=r"workload: `script` stands in its place; found tpcb-like beside /s\.sql"):
        PgbenchParameters(script="/s.sql", workload="tpcb-like")
