"""TLS on the load core: verified, or not at all."""

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aifactory_bench.node.contract import Context
from aifactory_bench.node.load import run_load

Make = Callable[..., Context]


def never() -> None:
    return None


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate with its key in one file, for `localhost`, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return path


@pytest.fixture
def secure_server(certificate: Path) -> Iterator[Any]:
    """Answers every line with a large line, over TLS; counts what it saw."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    class Server:
        port = listener.getsockname()[1]
        seen = 0
        lock = threading.Lock()

    server = Server()
    connections: list[Any] = []

    def serve(plain: socket.socket) -> None:
        try:
            with context.wrap_socket(plain, server_side=True) as connection:
                buffer = b""
                while data := connection.recv(65536):
                    *lines, buffer = (buffer + data).split(b"\n")
                    for line in lines:
                        with server.lock:
                            server.seen += 1
                        connection.sendall(line + b"." * 40_000 + b"\n")  # more than a record of TLS
        except OSError:
            return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield server
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.fixture
def secure_driver(line_driver: Any) -> Callable[..., Any]:
    """A product that speaks TLS."""

    class SecureDriver(line_driver):  # type: ignore[misc, valid-type]
        def __init__(self, port: int, context: ssl.SSLContext, name: str = "localhost") -> None:
            super().__init__(port, whole=False)
            self._secure = (context, name)

        def secure(self, index: int) -> tuple[ssl.SSLContext, str]:
            return self._secure

    return SecureDriver


@pytest.mark.parametrize("load", [{"concurrency": 3}, {"process": "constant", "rate_per_s": 200.0, "connections": 3}])
def test_everything_arrives_over_tls(
    secure_server: Any,
    secure_driver: Any,
    certificate: Path,
    context_of: Make,
    soon: Callable[[], int],
    load: dict[str, Any],
) -> None:
    """Answers of several records too: what the library has decrypted already wakes nobody."""
    context = ssl.create_default_context(cafile=str(certificate))
    result = run_load(context_of(**load), secure_driver(secure_server.port, context), soon(), never)
    assert result.status == "ok", result.reason
    assert (result.counts.error, result.counts.timeout) == (0, 0), result.errors
    assert result.counts.ok + result.phase_counts["warmup"]["ok"] == secure_server.seen > 20
    assert result.health.observation_age is None


def test_a_server_that_cannot_be_verified_gets_no_request(
    secure_server: Any, secure_driver: Any, certificate: Path, context_of: Make, soon: Callable[[], int]
) -> None:
    """Neither one with an unknown certificate nor one with another's."""
    for context, name in (
        (ssl.create_default_context(), "localhost"),
        (ssl.create_default_context(cafile=str(certificate)), "another.example"),
    ):
        driver = secure_driver(secure_server.port, context, name)
        result = run_load(context_of(concurrency=1), driver, soon(), never)
        assert result.counts.ok == 0
        assert set(result.errors) == {"tls"}
        assert "certificate is not accepted" in result.provenance["error_texts"]["tls"]
    assert secure_server.seen == 0
