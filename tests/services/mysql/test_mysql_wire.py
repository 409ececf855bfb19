"""The protocol: against a real MariaDB, against a double that logs in as MySQL does, and against nonsense."""

import importlib.util
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench_services import mysql_node
from aifactory_bench_services.mysql_auth_node import KeyFormatError, encrypted_password, public_key
from aifactory_bench_services.mysql_wire_node import Connection, ServerError, WireError

ROOT = Path(__file__).parents[3]
_SPEC = importlib.util.spec_from_file_location("mysql_wire_double", Path(__file__).parent / "wire_double.py")
double = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(double)
SECRET = "0123456789abcdef0123456789abcdef"


def connect(port, password=SECRET, timeout_s=2.0):
    return Connection("127.0.0.1", port, "bench", password, timeout_s)


# A real MariaDB.


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 1, NULL, 'x', ''", [("1", None, "x", "")]),
        ("SELECT NULL", [(None,)]),
        ("SELECT ''", [("",)]),
        ("SELECT 1 WHERE FALSE", []),
        ("SELECT REPEAT('ab', 125), REPEAT('c', 251), REPEAT('d', 70000)", [("ab" * 125, "c" * 251, "d" * 70000)]),
        ("SELECT 'grün 日本 🐬'", [("grün 日本 🐬",)]),
        ("SELECT seq FROM sbtest.seq_1_to_1000", [(str(number),) for number in range(1, 1001)]),
        ("SET @a = 1", []),
    ],
)
def test_answers_of_a_real_server(mariadb, sql, rows):
    with mysql_node.connect(mariadb.endpoint, SECRET) as connection:
        assert connection.ask(sql) == rows
        assert connection.ask("SELECT 'still in step'") == [("still in step",)]


def test_a_refusal_has_number_and_text_and_the_connection_goes_on(mariadb):
    with mysql_node.connect(mariadb.endpoint, SECRET) as connection:
        with pytest.raises(ServerError, match=r"You have an error in your SQL syntax.*\(error 1064\)") as raised:
            connection.ask("SELEKT")
        assert raised.value.code == 1064
        assert connection.ask("SELECT 1") == [("1",)]


def test_a_question_has_an_end_in_time(mariadb):
    connection = mysql_node.connect(mariadb.endpoint, SECRET, 0.3)
    began = time.monotonic()
    with pytest.raises(OSError, match=r"timed out|within 0.3 s"):
        connection.ask("SELECT SLEEP(2)")
    assert time.monotonic() - began < 1
    connection.close()


def test_a_file_is_not_given_away(mariadb):
    """A server that asks for a file of the client's machine gets none."""

    def script(talk):
        talk.say(double.greeting("mysql_native_password"))
        talk.hear()
        talk.say(double.OK)
        talk.hear()
        talk.sequence = 1
        talk.say(b"\xfb/etc/passwd")

    with double.Double(script) as server, connect(server.port) as connection, pytest.raises(WireError, match="asks for a file"):
        connection.ask("SELECT 1")


# MySQL's way in, against a double written from its documentation.


@pytest.mark.parametrize(
    ("password", "cached"),
    [(SECRET, True), (SECRET, False), ("ü" * 40, True), ("ü" * 40, False), ("", True)],  # empty: there is nothing more to ask
)
def test_caching_sha2(password, cached):
    login = double.Login(password, cached=cached)

    def script(talk):
        login(talk)
        assert talk.hear() == b"\x03SELECT 1"
        talk.sequence = 1
        for packet in (b"\1", b"\3def" + bytes(20), b"\xfe\0\0\2\0", b"\x011", b"\xfe\0\0\2\0"):
            talk.say(packet)

    with double.Double(script) as server, connect(server.port, password) as connection:
        assert connection.version == "8.4.3"
        assert connection.ask("SELECT 1") == [("1",)]
    assert login.user == "bench"


@pytest.mark.parametrize("cached", [True, False])
def test_caching_sha2_with_a_wrong_password(cached):
    with (
        double.Double(double.Login(SECRET, cached=cached)) as server,
        pytest.raises(ServerError, match=r"Access denied \(error 1045\)"),
    ):
        connect(server.port, "wrong")


def test_a_server_may_switch_from_one_way_to_the_other():
    """The server's default is one, the user's is the other, and the nonce is a new one."""
    login, nonce = double.Login(SECRET, cached=True), bytes(range(40, 60))

    def script(talk):
        talk.say(double.greeting("mysql_native_password"))
        talk.hear()
        talk.say(b"\xfecaching_sha2_password\0" + nonce + b"\0")
        login.finish(talk, talk.hear(), nonce)

    with double.Double(script) as server:
        connect(server.port).close()


@pytest.mark.parametrize(
    ("plugin", "text"),
    [("client_ed25519", r"logs in by 'client_ed25519'; known here"), ("mysql_clear_password", "mysql_clear_password")],
)
def test_a_way_that_is_not_known_is_named(plugin, text):
    """The password in clear is asked for by whoever likes to have it."""

    def script(talk):
        talk.say(double.greeting("mysql_native_password"))
        talk.hear()
        talk.say(b"\xfe" + plugin.encode() + b"\0" + double.NONCE + b"\0")
        talk.hear()

    with double.Double(script) as server, pytest.raises(WireError, match=text):
        connect(server.port)


@pytest.mark.parametrize(
    ("first", "kind", "text"),
    [
        (double.error(1040, "Too many connections", ""), ServerError, "Too many connections"),
        (double.error(1130, "Host is not allowed"), ServerError, "^Host is not allowed"),
        (b"\x09old\0", WireError, "protocol 9"),
        (b"\x0a8.4.3\0\1\0", WireError, "shorter than it says"),
        (double.greeting("mysql_native_password", capabilities=0xFFFF), WireError, "too old"),
        (b"", WireError, "a packet of 0 bytes"),
    ],
)
def test_a_greeting_that_lets_nobody_in(first, kind, text):
    with double.Double(lambda talk: talk.say(first)) as server, pytest.raises(kind, match=text):
        connect(server.port)


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_asked():
    began = time.monotonic()
    with double.Double(lambda talk: time.sleep(0.6)) as server, pytest.raises(OSError, match=r"timed out|within"):
        connect(server.port, timeout_s=0.3)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("pem", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_public_key_that_is_none(pem):
    login = double.Login(SECRET, cached=False)

    def script(talk):
        talk.say(double.greeting("caching_sha2_password"))
        talk.hear()
        talk.say(b"\x01\x04")
        talk.hear()
        talk.say(b"\x01" + pem)

    assert public_key(login.pem)[1] == 65537
    with double.Double(script) as server, pytest.raises(WireError, match="public key"):
        connect(server.port)


@given(bits=st.sampled_from([1024, 1536, 2048]), password=st.binary(max_size=80))
@settings(max_examples=12, deadline=None)
def test_what_is_encrypted_is_read_by_another_implementation(bits, password):
    login = double.Login("", cached=False, bits=bits)
    sent = encrypted_password(password, double.NONCE, login.pem)
    assert len(sent) == bits // 8
    hidden = login._key.decrypt(sent, padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None))
    assert bytes(a ^ double.NONCE[at % 20] for at, a in enumerate(hidden)) == password + b"\0"


def test_a_password_that_is_longer_than_the_key():
    with pytest.raises(KeyFormatError, match="room for 86 bytes"):
        encrypted_password(b"x" * 90, double.NONCE, double.Login("", cached=False, bits=1024).pem)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_key_never_raises_anything_else(data):
    pem = _PEM
    at = data.draw(st.integers(0, len(pem) - 1))
    pem = pem[:at] + data.draw(st.binary(max_size=4)) + pem[at + data.draw(st.integers(0, 6)) :]
    try:
        modulus, exponent = public_key(pem)
    except KeyFormatError:
        return
    assert modulus > 0
    assert exponent >= 3


_PEM = double.Login("", cached=False).pem


# Nonsense.


@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=40).map(lambda payload: ("packet", payload)),
            st.binary(max_size=12).map(lambda data: ("raw", data)),
            st.sampled_from(
                [double.OK, b"\x01\x03", b"\x01\x04", b"\xfe\0\0\2\0", b"\1", b"\x011", b"\xfecaching_sha2_password\0"]
            ).map(lambda payload: ("packet", payload)),
        ),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_nonsense_is_an_error_and_never_hangs(pieces):
    def script(talk):
        talk.say(double.greeting("caching_sha2_password"))
        talk.hear()
        for kind, data in pieces:
            if kind == "packet":
                talk.say(data)
            else:
                talk.say_raw(data)

    with double.Double(script) as server:
        try:
            with connect(server.port, timeout_s=1.0) as connection:
                connection.ask("SELECT 1")
        except (OSError, ServerError, WireError):
            pass


def test_it_works_on_the_oldest_python_of_nodes(mariadb, python_of):
    code = (
        "from aifactory_bench.node.endpoint import Endpoint\n"
        "from aifactory_bench_services import mysql_node, sysbench_node\n"
        f"e = Endpoint('db', 0, '127.0.0.1', {mariadb.port}, '')\n"
        f"print(mysql_node.probe(e, {SECRET!r}, {{}})['server_name'], mysql_node.sample(e, {SECRET!r})['Threads_running'])\n"
    )
    path = f"{ROOT / 'src'}:{ROOT / 'plugins/services'}"
    done = subprocess.run([python_of("3.9"), "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert (done.stdout.split()[:1], done.stderr) == (["MariaDB"], "")
