"""Services that live until they are stopped, and clients that come and go."""

import pytest

from aifactory_bench import AsyncBenchmarkOrchestrator, BenchmarkOrchestrator, Client, Command, RunError, Service, UsageError
from aifactory_bench.submitters.process import belonging


class Dumb(Service):
    """A server that ends at once."""

    kind = "dumb"
    node_module = "aifactory_bench_services.redis_node"

    def get_container_command(self):
        return Command(["bash", "-c", "echo no memory today; exit 7"])


class DumbLoad(Client):
    """Its client."""

    kind = "dumb-load"
    node_module = "aifactory_bench_services.redis_node"
    targets = {"main": ("dumb",)}


def test_two_clients_measure_one_service(recipe, runs):
    """Start, measure twice, look, stop: one server all the while, and nothing left."""
    path = recipe(duration="300ms")
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        service = bench.start_service(path)
        (info,) = bench.servers.list_services()
        assert (info.service_id, info.kind, info.state) == (service, "redis", "running")
        assert bench.servers.get_service_host(service) == "127.0.0.1"
        first = bench.start_client(path, service)
        second = bench.clients.start_client(path, service, overrides=["clients.load.load.rate=200/s"]).client_id
        reports = [bench.clients.wait(client) for client in (first, second)]
        assert [[m.offered_per_s for p in report.points for m in p.measurements] for report in reports] == [[400.0], [200.0]]
        assert all(measurement.counts["ok"] > 20 for report in reports for p in report.points for measurement in p.measurements)
        status = bench.show_status()
        assert [entry["state"] for entry in status["clients"]] == ["completed", "completed"]
        assert [entry["service_id"] for entry in status["services"]] == [service]
        assert bench.stop_service(service)
        assert not bench.stop_service(service)
        assert bench.servers.list_services() == []
    folder = runs / service.partition("/")[0]
    assert not list(belonging(f"AFB_RUN_DIR={folder}", folder))
    assert len(list(folder.glob("endpoints/*/0.json"))) == 1


def test_closing_stops_services(recipe, runs):
    """Leaving the block ends a service that nobody stopped."""
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        folder = runs / bench.start_service(recipe()).partition("/")[0]
        assert list(belonging(f"AFB_RUN_DIR={folder}", folder))
    assert not list(belonging(f"AFB_RUN_DIR={folder}", folder))


def test_a_service_that_does_not_come_up_says_why(recipe, runs):
    """The error holds what the server said."""
    text = recipe().read_text().replace("{kind: redis}", "{kind: dumb}").replace("redis-load", "dumb-load")
    with BenchmarkOrchestrator(runs_dir=runs, plugins=[Dumb, DumbLoad]) as bench:
        with pytest.raises(RunError, match="did not come up") as caught:
            bench.servers.start_service(recipe(text=text.replace("parameters: {keys: 500}", "parameters: {}")))
        assert "no memory today" in str(caught.value)


def test_mistakes_are_told(recipe, runs):
    """Unknown ids and unfit recipes are errors that say what there is."""
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        with pytest.raises(RunError, match="there is: none"):
            bench.start_client(recipe(), "nothing/here")
        with pytest.raises(RunError, match="there is: none"):
            bench.clients.wait("nothing/here")
        service = bench.start_service(recipe())
        path = recipe()
        path.write_text(path.read_text().replace("services:\n", "services:\n  other: {kind: redis}\n"))
        with pytest.raises(UsageError, match="one service"):
            bench.start_client(path, service)
        with pytest.raises(UsageError, match="one service"):
            bench.start_service(path)


def verbs(cls):
    return {name for name, value in vars(cls).items() if not name.startswith("_") and callable(value)}


def test_both_faces_have_the_same_verbs():
    """What the async orchestrator can, the blocking one can, and nothing else."""
    internal = {"replan", "plan_clients"}
    assert verbs(AsyncBenchmarkOrchestrator) - internal == verbs(BenchmarkOrchestrator)
