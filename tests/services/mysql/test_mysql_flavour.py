"""Oracle's MySQL by its documented contract: a double takes the arguments and files, and logs in as MySQL does."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from aifactory_bench.node.contract import NotReady
from aifactory_bench_services import mysql_node

DOUBLES = Path(__file__).parent / "doubles"
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def mysql(tmp_path, monkeypatch, start_server):
    """A server of the flavour `mysql`, which the double plays."""
    programs = tmp_path / "programs"
    programs.mkdir()
    # Where it stands, with the interpreter of the tests, which has the other implementation of RSA.
    program = programs / "mysqld"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{DOUBLES / "mysqld"}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert shutil.which("mysqld") == str(program)
    return start_server(flavour="mysql", log_bin=True, sync_binlog=3, innodb_log_size_bytes=32 << 20)


def test_it_is_initialized_started_and_asked(mysql):
    """The first login goes under the server's public key, all others are known by then."""
    assert mysql.facts["server_name"] == "MySQL"
    assert mysql.facts["server_version"] == "8.4.3"
    assert mysql.facts["settings"] == {
        "max_connections": "202",
        "sync_binlog": "3",
        "innodb_redo_log_capacity": str(32 << 20),
    }
    assert mysql.ask("SELECT 1") == [("1",)]
    with pytest.raises(NotReady, match="Access denied"):
        mysql_node.probe(mysql.endpoint, "wrong", {})


def test_it_ends_on_term(mysql):
    mysql.process.terminate()
    assert mysql.process.wait(10) == 0
