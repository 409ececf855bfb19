"""The MySQL plugin: what a recipe says becomes a server with those settings; nobody gets in without the password."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from attrs import evolve

from aifactory_bench import JobFactory, RecipeError, ServiceEntry, load_registry, load_site
from aifactory_bench.jobs.context import JobContext
from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.placeholders import resolve
from aifactory_bench_services import mysql_node
from aifactory_bench_services.mysql import MySQLParameters, MySQLService
from aifactory_bench_services.mysql_wire_node import Connection, ServerError

SECRET = "0123456789abcdef0123456789abcdef"


def compose(tmp_path, site=None, **parameters):
    job = MySQLService("db", MySQLParameters(**parameters))
    return job.compose(site or load_site("local", runs=tmp_path), JobContext(run_id="r", node_digest="0" * 16, time_s=60.0))


# A real MariaDB.


def test_it_answers_with_its_name_version_and_settings(mariadb):
    assert mariadb.facts["server_name"] == "MariaDB"
    assert mariadb.facts["server_version"].partition(".")[0].isdecimal(), "without the prefix for old replicas"
    settings = mariadb.facts["settings"]
    assert settings["innodb_buffer_pool_size"] == str(64 << 20)
    assert settings["innodb_flush_log_at_trx_commit"] == "0"
    assert settings["log_bin"] == "OFF"
    assert settings["max_connections"] == "202", "two more than asked"


def test_a_server_has_the_settings_that_the_recipe_asks_for(start_server):
    server = start_server(
        innodb_flush_log_at_trx_commit=2,
        innodb_doublewrite=False,
        innodb_log_size_bytes=16 << 20,
        log_bin=True,
        sync_binlog=7,
        max_connections=33,
        max_prepared_stmt_count=1234,
        performance_schema=True,
    )
    asked = {
        "innodb_flush_log_at_trx_commit": "2",
        "innodb_doublewrite": "OFF",
        "innodb_log_file_size": str(16 << 20),
        "log_bin": "ON",
        "sync_binlog": "7",
        "max_connections": "35",
        "max_prepared_stmt_count": "1234",
        "performance_schema": "ON",
    }
    assert {name: server.facts["settings"][name] for name in asked} == asked
    # With every connection that clients may have taken, the counters and the sampler still have theirs.
    clients = [mysql_node.connect(server.endpoint, SECRET) for _ in range(33)]
    try:
        with mysql_node.connect(server.endpoint, SECRET):
            assert mysql_node.sample(server.endpoint, SECRET)["Threads_connected"] == 35
            clients.append(mysql_node.connect(server.endpoint, SECRET))
            with pytest.raises(ServerError, match=r"Too many connections \(error 1040\)"):
                mysql_node.connect(server.endpoint, SECRET)
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("login", [("bench", ""), ("bench", "wrong"), ("root", ""), ("root", SECRET), ("", "")])
def test_nobody_else_gets_in(mariadb, login):
    with pytest.raises(ServerError, match=r"Access denied|is not allowed"):
        Connection("127.0.0.1", mariadb.port, *login, 2.0)


def test_the_user_has_nothing_but_its_databases(mariadb):
    with mysql_node.connect(mariadb.endpoint, SECRET) as connection:
        assert ("sbtest",) in connection.ask("SHOW DATABASES")
        for forbidden in ("SELECT * FROM mysql.user", "CREATE DATABASE other", "SELECT 1 INTO OUTFILE '/tmp/x'", "SHUTDOWN"):
            with pytest.raises(ServerError, match="denied"):
                connection.ask(forbidden)


def test_a_wrong_password_is_told_and_is_not_ready(mariadb):
    with pytest.raises(NotReady, match=r"Access denied.*1045"):
        mysql_node.probe(mariadb.endpoint, "wrong", {})


def test_the_password_is_in_no_argument_and_its_file_is_private(mariadb):
    assert SECRET.encode() not in Path(f"/proc/{mariadb.process.pid}/cmdline").read_bytes()
    assert SECRET.encode() not in Path(f"/proc/{mariadb.process.pid}/environ").read_bytes()
    assert SECRET not in mariadb.log.read_text()
    assert SECRET not in (mariadb.folder / "my.cnf").read_text()
    assert SECRET in (mariadb.folder / "init.sql").read_text()
    assert (mariadb.folder / "data").stat().st_mode & 0o777 == 0o700
    assert (mariadb.folder / "data" / "mysqld.sock").is_socket(), "the socket is as private as the folder"


def test_reading_the_counters_is_no_select(mariadb):
    before, after = (mysql_node.counters(mariadb.endpoint, SECRET) for _ in range(2))
    assert {name: after[name] - before[name] for name in ("Com_select", "Com_begin", "Com_commit")} == {
        "Com_select": 0,
        "Com_begin": 0,
        "Com_commit": 0,
    }
    mariadb.ask("SELECT 1")
    assert mariadb.status("Com_select") == after["Com_select"] + 1


def test_samples_have_the_same_names_each_time(mariadb):
    first, second = (mysql_node.sample(mariadb.endpoint, SECRET) for _ in range(2))
    assert list(first) == list(second)
    assert second["Questions"] > first["Questions"]
    assert None not in first.values()


def test_term_stops_it_cleanly_and_it_comes_up_again_with_its_data(start_server):
    server = start_server()
    server.ask("CREATE TABLE sbtest.kept (id INT)")
    server.process.terminate()
    assert server.process.wait(20) == 0
    server.start()
    assert server.ask("SHOW TABLES FROM sbtest") == [("kept",)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_normal_user_can_run_it(start_server):
    server = start_server(as_user="nobody")
    assert server.ask("SELECT 2") == [("2",)]
    assert "One can only use the --user switch if running as root" in server.log.read_text()


def test_a_server_that_is_not_there_is_not_ready(mariadb):
    with pytest.raises(NotReady, match="refused"):
        mysql_node.probe(replace(mariadb.endpoint, port=1), SECRET, {})


# What becomes of a recipe.


def test_mysql_is_made_by_its_own_programs(tmp_path):
    """Oracle's server: its own way to make the data folder, its own plug-in, its own defaults put right."""
    script = compose(tmp_path, flavour="mysql", log_bin=False, innodb_log_size_bytes=1 << 30)
    assert script.argv == ("mysqld", "--defaults-file=@{folder}/my.cnf")
    assert script.spec.service.prepare == [
        ["rm", "-rf", "@{folder}/data"],
        [
            "mysqld",
            "--no-defaults",
            "--initialize-insecure",
            "--datadir=@{folder}/data",
            "--user=root",
            "--secure-file-priv=NULL",
        ],
    ]
    config, init = script.spec.files
    assert {"mysqlx=OFF", "secure-file-priv=NULL", "disable-log-bin", "innodb_redo_log_capacity=1073741824"} <= set(
        config.lines
    )
    statements = [resolve(line, {"secret": SECRET}) for line in init.lines]
    assert f"CREATE USER IF NOT EXISTS 'bench'@'%' IDENTIFIED WITH caching_sha2_password BY '{SECRET}';" in statements
    assert f"ALTER USER 'root'@'localhost' IDENTIFIED WITH caching_sha2_password BY '{SECRET}';" in statements


@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_the_password_is_in_one_file_only(tmp_path, flavour):
    script = compose(tmp_path, flavour=flavour, log_bin=True)
    config, init = script.spec.files
    assert not any("secret" in line for line in config.lines)
    assert not any("@{secret}" in part for command in (script.argv, *script.spec.service.prepare) for part in command)
    assert script.spec.environment == {"TMPDIR": "@{folder}"}  # in /tmp servers would remove each other's temporary tables
    assert all(line.endswith(";") for line in init.lines), "an init file has one statement a line"
    assert "sync_binlog=1" in config.lines


@pytest.mark.parametrize(("flavour", "image"), [("mariadb", "docker://mariadb:11.4"), ("mysql", "docker://mysql:8.4")])
def test_the_image_follows_the_flavour(tmp_path, flavour, image):
    site = evolve(load_site("local"), runtime="apptainer", images={image: "/server.sif"})
    assert compose(tmp_path, site, flavour=flavour).argv[-3] == "/server.sif"
    own = MySQLService("db", MySQLParameters(flavour=flavour), image="docker://mariadb:10.6")
    assert own.image == "docker://mariadb:10.6"


def test_public_names():
    service = MySQLService("db")
    assert service.flavour == "mariadb"
    assert "max_connections=202" in service.get_mysql_config()
    assert service.ready_timeout_s == 120


def test_the_server_is_found_where_distributions_put_it(tmp_path, monkeypatch):
    program = tmp_path / "mariadbd"
    program.touch(0o755)
    monkeypatch.setattr(mysql_node, "_FOLDERS", ("/nowhere", str(tmp_path)))
    assert mysql_node.locate("mariadbd") == str(program)
    assert mysql_node.locate("mysqld") is None


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"flavour": "percona"}, "flavour: must be mariadb or mysql; found 'percona'"),
        ({"innodb_buffer_pool_size": "1MiB"}, "innodb_buffer_pool_size: must be at least 5MiB"),
        ({"innodb_buffer_pool_size": 512}, "innodb_buffer_pool_size: must be a size"),
        ({"innodb_flush_log_at_trx_commit": 3}, "innodb_flush_log_at_trx_commit: must be"),
        ({"sync_binlog": -1}, "sync_binlog: must be at least 0"),
        ({"max_connections": 5}, "max_connections: must be at least 10"),
        ({"port": 3306}, "unknown key"),
    ],
)
def test_wrong_parameters(parameters, text):
    factory = JobFactory(load_registry(classes=[MySQLService]))
    with pytest.raises(RecipeError) as raised:
        factory.create_service(ServiceEntry("db", kind="mysql", parameters=parameters))
    assert text in raised.value.text


def test_a_binary_log_that_is_not_there_is_not_flushed():
    with pytest.raises(ValueError, match="sync_binlog: without `log_bin` there is no binary log to flush; found 0"):
        MySQLParameters(sync_binlog=0)
    for given, line in (({}, "sync_binlog=1"), ({"sync_binlog": 0}, "sync_binlog=0")):
        assert line in MySQLService("db", MySQLParameters(log_bin=True, **given)).get_mysql_config()
