"""PostgreSQL's protocol by hand: against a real server, and against ones that are up to no good."""

import base64
import contextlib
import hashlib
import hmac
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench_services.postgresql_wire_node import (
    Client,
    Handshake,
    Scram,
    ServerError,
    WireError,
    message,
    split,
    verifier,
)


def authentication(code, body=b""):
    return message(b"R", struct.pack(">i", code) + body)


def test_rows_come_by_name_with_nulls_and_any_text(server):
    with server.connect() as client:
        assert client.ask("SELECT 1 AS one, NULL AS nothing, 'ä''\n' AS text") == [
            {"one": "1", "nothing": None, "text": "ä'\n"}
        ]
        assert client.ask("SELECT generate_series(1, 3) AS n; SELECT 'x' AS m") == [
            {"n": "1"},
            {"n": "2"},
            {"n": "3"},
            {"m": "x"},
        ]
        assert client.ask("") == []
        assert len(client.ask("SELECT repeat('x', 300000) AS long")[0]["long"]) == 300_000


def test_an_error_has_its_code_and_the_connection_goes_on(server):
    with server.connect() as client:
        with pytest.raises(ServerError, match="no_such_table") as raised:
            client.ask("SELECT * FROM no_such_table")
        assert raised.value.code == "42P01"
        assert client.ask("SELECT 2 AS n") == [{"n": "2"}]


def test_copy_takes_parts_of_any_size_and_tells_of_errors(server):
    with server.connect() as client:
        client.ask("CREATE TEMP TABLE t (a int, b text)")
        client.copy("COPY t FROM STDIN", [b"1\tx", b"\n2\t", b"y\n"])
        assert client.ask("SELECT * FROM t ORDER BY a") == [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
        with pytest.raises(ServerError, match="invalid input syntax"):
            client.copy("COPY t FROM STDIN", [b"word\tx\n"])
        with pytest.raises(ServerError, match="no_such"):
            client.copy("COPY no_such FROM STDIN", [b""])
        assert client.ask("SELECT count(*) AS n FROM t") == [{"n": "2"}]


def test_a_wrong_password_is_refused(server):
    with pytest.raises(ServerError, match="password authentication failed") as raised:
        Client("127.0.0.1", server.port, "postgres", "postgres", "wrong", 5.0)
    assert raised.value.code == "28P01"


def test_the_server_takes_our_verifier_for_the_password(server):
    """A role is made without its password in any statement."""
    with server.connect() as client:
        text = verifier("another secret")
        assert "another" not in text
        client.ask(f"CREATE ROLE known LOGIN PASSWORD '{text}'")
        with Client("127.0.0.1", server.port, "known", "postgres", "another secret", 5.0) as other:
            assert other.ask("SELECT current_user AS me") == [{"me": "known"}]
        client.ask("DROP ROLE known")


def test_a_server_that_does_not_know_the_password_is_found_out():
    scram = Scram("secret")
    first = scram.first().decode()
    nonce = first.split("r=")[1] + "server"
    salt = b"0123456789abcdef"
    server_first = f"r={nonce},s={base64.b64encode(salt).decode()},i=4096".encode()
    final = scram.final(server_first).decode()
    salted = hashlib.pbkdf2_hmac("sha256", b"secret", salt, 4096)
    signed = f"{first[3:]},{server_first.decode()},{final.rsplit(',p=', 1)[0]}".encode()
    server_key = hmac.new(salted, b"Server Key", hashlib.sha256).digest()
    signature = base64.b64encode(hmac.new(server_key, signed, hashlib.sha256).digest())
    scram.check(b"v=" + signature)
    with pytest.raises(WireError, match="does not prove"):
        scram.check(b"v=" + base64.b64encode(b"x" * 32))


@pytest.mark.parametrize("server_first", [b"", b"r=x", b"r=other,s=AAAA,i=1", b"\xff", b"r=x,s=!,i=1", b"r=x,s=AAAA,i=many"])
def test_a_login_that_makes_no_sense_is_refused(server_first):
    with pytest.raises(WireError):
        Scram("secret").final(server_first)


@pytest.mark.parametrize(
    ("code", "text"), [(3, "in clear"), (5, "by MD5"), (7, "not known here"), (10, "not known here"), (12, "not known here")]
)
def test_the_password_is_given_to_nobody_who_asks_in_another_way(code, text):
    handshake = Handshake("me", "db", "secret")
    with pytest.raises(WireError, match=text):
        handshake.take(authentication(code, b"1234"))


def test_ok_before_the_server_has_proven_itself_is_no_login():
    handshake = Handshake("me", "db", "secret")
    handshake.take(authentication(10, b"SCRAM-SHA-256\0\0"))
    with pytest.raises(WireError):
        handshake.take(authentication(0))


def test_the_password_is_in_nothing_that_is_sent():
    handshake = Handshake("me", "db", "secret")
    assert b"secret" not in handshake.hello()
    assert b"secret" not in handshake.take(authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))


@given(st.lists(st.tuples(st.sampled_from([b"R", b"D", b"Z"]), st.binary(max_size=50)), max_size=8), st.data())
def test_messages_are_the_same_however_they_arrive(messages, data):
    stream = b"".join(message(kind, body) for kind, body in messages)
    cut = data.draw(st.integers(0, len(stream)))
    first, end = split(stream[:cut])
    second, last = split(stream[end:])
    assert first + second == messages
    assert end + last == len(stream)


@pytest.mark.parametrize("length", [-1, 0, 3, 1 << 30])
def test_a_length_that_makes_no_sense_is_refused(length):
    with pytest.raises(WireError, match="no PostgreSQL"):
        split(b"H" + struct.pack(">i", length))


@given(st.binary(max_size=200))
def test_whatever_comes_is_taken_or_refused(data):
    handshake = Handshake("me", "db", "secret")
    with contextlib.suppress(WireError, ServerError):
        assert handshake.take(data) is not None
