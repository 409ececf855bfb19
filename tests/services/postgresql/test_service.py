"""The server on the controller: what a recipe says becomes a script and files; where its programs are found."""

import os
import subprocess

import pytest
from attrs import evolve

from aifactory_bench import JobFactory, RecipeError, ServiceEntry, load_registry, load_site
from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench_services import postgresql_node
from aifactory_bench_services.postgresql import PostgreSQLParameters, PostgreSQLService

MIB = 1 << 20


@pytest.fixture
def spec():
    """What the node is told about a server with these parameters."""

    def make(site=None, **parameters):
        import json

        service = PostgreSQLService("db", PostgreSQLParameters(**parameters))
        text = service.generate_slurm_script(site)
        return json.loads(text.split("<<'AFB_SPECIFICATION'\n")[1].split("\nAFB_SPECIFICATION")[0]), text

    return make


def test_the_password_is_in_one_private_file_and_in_no_argument(spec):
    document, text = spec()
    assert text.count("@{secret}") == 1
    (password,) = [file for file in document["files"] if file["name"] == "password"]
    assert password["lines"] == ["@{secret}"]
    assert "--pwfile=@{folder}/password" in document["service"]["prepare"][1]
    assert "scram-sha-256" in " ".join(next(file["lines"] for file in document["files"] if file["name"] == "pg_hba.conf"))


def test_the_script_passes_the_shells_own_check(spec, tmp_path):
    path = tmp_path / "script"
    path.write_text(spec()[1])
    subprocess.run(["bash", "-n", path], check=True)


def test_settings_become_lines(spec):
    document, _ = spec(
        fsync=False,
        wal_level="minimal",
        shared_buffers_bytes=256 * MIB,
        max_wal_size_bytes=64 * MIB,
        max_connections=33,
        checkpoint_timeout_s=60.0,
        preload_libraries=("pg_stat_statements",),
        data_checksums=True,
    )
    lines = next(file["lines"] for file in document["files"] if file["name"] == "postgresql.conf")
    assert {
        "fsync = off",
        "wal_level = minimal",
        "max_wal_senders = 0",
        "shared_buffers = 262144kB",
        "max_wal_size = 64MB",
        "min_wal_size = 64MB",
        "max_connections = 33",
        "checkpoint_timeout = 60s",
        "shared_preload_libraries = 'pg_stat_statements'",
        "listen_addresses = '@{bind}'",
        "unix_socket_directories = ''",
    } <= set(lines)
    assert "--data-checksums" in document["service"]["prepare"][1]


def test_a_real_server_takes_every_line(programs, as_user, tmp_path):
    """`postgres -C` reads the whole configuration and refuses what it does not know."""
    service = PostgreSQLService("db", PostgreSQLParameters(wal_level="minimal", shared_buffers_bytes=64 * MIB))
    config = "\n".join(line for file in service.get_files() if file.name == "postgresql.conf" for line in file.encoded())
    (tmp_path / "postgresql.conf").write_text(config.replace("@{bind}", "127.0.0.1").replace("@{port}", "5555") + "\n")
    (tmp_path / "pg_hba.conf").touch()
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data/PG_VERSION").write_text("15\n")
    argv = [*as_user, str(programs / "postgres"), "-D", str(tmp_path / "data"), "-C", "shared_buffers"]
    argv += ["-c", f"config_file={tmp_path}/postgresql.conf", "-c", f"hba_file={tmp_path}/pg_hba.conf"]
    asked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (asked.returncode, asked.stdout.strip()) == (0, "8192"), asked.stderr


def test_in_a_container_every_command_is_inside(spec):
    site = evolve(load_site("local"), runtime="apptainer", images={"docker://postgres:16": "/pg.sif"})
    document, text = spec(site)
    assert all("/pg.sif" in command for command in document["service"]["prepare"])
    assert "APPTAINERENV_LC_ALL" in document["environment"]
    assert "/pg.sif postgres -D" in text


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"shared_buffers": "1KiB"}, "shared_buffers: must be at least 128KiB"),
        ({"synchronous_commit": "maybe"}, "synchronous_commit: must be"),
        ({"checkpoint_timeout": "1s"}, "checkpoint_timeout: must be at least 30s"),
        ({"max_connections": 2}, "max_connections: must be at least 5"),
        ({"extensions": ["a; DROP"]}, "extensions"),
        ({"buffers": 1}, "unknown key"),
    ],
)
def test_wrong_parameters_have_their_place(parameters, text):
    registry = load_registry()
    if "postgresql" not in registry.services:
        registry = load_registry(classes=[PostgreSQLService])
    with pytest.raises(RecipeError) as raised:
        JobFactory(registry).create_service(ServiceEntry("db", kind="postgresql", parameters=parameters))
    assert text in raised.value.text


def test_a_half_second_is_no_checkpoint_timeout():
    with pytest.raises(ValueError, match=r"checkpoint_timeout: must be whole seconds; found 30\.5s"):
        PostgreSQLParameters(checkpoint_timeout_s=30.5)


# The node's side.


def test_the_probe_tells_version_and_settings(server):
    facts = postgresql_node.probe(server.endpoint, server.secret, {})
    assert facts["server_version"].startswith("15")
    assert facts["settings"]["fsync"] == "off"
    assert (facts["settings"]["wal_compression"], facts["settings"]["shared_preload_libraries"]) == ("off", "")


def test_no_server_and_a_wrong_password_are_not_ready(server):
    with pytest.raises(NotReady, match="refused"):
        postgresql_node.probe(Endpoint("db", 0, "127.0.0.1", 1, "postgresql://127.0.0.1:1"), "x", {})
    with pytest.raises(NotReady, match="password authentication failed"):
        postgresql_node.probe(server.endpoint, "wrong", {})


def test_reading_counters_does_not_change_them(server):
    postgresql_node.ensure_database(server.endpoint, server.secret)
    first = postgresql_node.counters(server.endpoint, server.secret)
    second = postgresql_node.counters(server.endpoint, server.secret)
    assert first["operations"] == second["operations"]
    with server.connect("bench") as client:
        for _ in range(5):
            client.ask("SELECT 1")
    third = postgresql_node.counters(server.endpoint, server.secret)
    assert third["operations"] - second["operations"] == 5
    assert {"wal_bytes", "checkpoints_timed", "blks_hit"} <= set(third)


def test_what_is_done_in_the_databases_of_clients_is_counted_and_nothing_else(server):
    for database in ("bench_one", "bench_other", "benchmarks"):
        postgresql_node.ensure_database(server.endpoint, server.secret, database=database)
    first = postgresql_node.counters(server.endpoint, server.secret)
    for database in ("bench_one", "bench_other", "benchmarks"):
        with server.connect(database) as client:
            client.ask("SELECT 1")
    last = postgresql_node.counters(server.endpoint, server.secret)
    assert (last["operations"] - first["operations"], last["sessions"] - first["sessions"]) == (2, 2)


def test_a_sample_tells_what_sessions_do(server):
    postgresql_node.ensure_database(server.endpoint, server.secret)
    with server.connect("bench") as client:
        client.ask("BEGIN")
        sample = postgresql_node.sample(server.endpoint, server.secret)
    assert sample["sessions_idle_in_transaction"] == 1
    assert sample["sessions_waiting_for_locks"] == 0
    assert set(sample) == set(postgresql_node.sample(server.endpoint, server.secret)), "the same names each time"


def test_role_and_database_are_made_once_and_the_role_is_no_superuser(server):
    postgresql_node.ensure_database(server.endpoint, server.secret)
    postgresql_node.ensure_database(server.endpoint, server.secret)
    with server.connect("bench", "bench") as client:
        assert client.ask("SELECT rolsuper AS super FROM pg_roles WHERE rolname = current_user") == [{"super": "f"}]


def test_the_newest_of_debians_programs_is_found(tmp_path, monkeypatch):
    for version in ("9.6", "15", "16"):
        program = tmp_path / version / "bin/initdb"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    monkeypatch.setattr(postgresql_node, "_DEBIAN", f"{tmp_path}/*/bin")
    assert postgresql_node.locate("initdb") == f"{tmp_path}/16/bin/initdb"
    assert postgresql_node.locate("redis-server") is None


def test_programs_of_a_wheel_are_found(tmp_path, monkeypatch):
    package = tmp_path / "pgserver"
    program = package / "pginstall/bin/postgres"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(postgresql_node, "_DEBIAN", "/nowhere/*")
    assert postgresql_node.locate("postgres") == os.fspath(program)
    monkeypatch.setattr(postgresql_node, "_PACKAGE", "no_such_package")
    assert postgresql_node.locate("postgres") is None
