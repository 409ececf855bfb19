"""TLS on a non-blocking socket, with the errors of a plain one."""

import ssl
from typing import Any, Callable, Optional

from .driver import ProtocolError, RefusedError


def shake_hands(sock: Any) -> "Optional[bool]":
    """Go on with a handshake; return None when it is done, else whether it waits for writing.

    Raises:
        RefusedError: the other side is not who it should be, or wants no TLS of ours.
        OSError: the connection is dead.
    """
    try:
        sock.do_handshake()
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLWantWriteError:
        return True
    except ssl.SSLError as error:
        raise RefusedError("tls", text_of(error)) from None
    return None


def text_of(error: ssl.SSLError) -> str:
    """Return what went wrong without the place in a library's source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"


def receiver(sock: Any) -> "Callable[[int], bytes]":
    """Return a `recv` that takes all that was decrypted: what is left in the library would wake nobody."""

    def recv(size: int) -> bytes:
        try:
            data: bytes = sock.recv(size)
            left = sock.pending()
            while left:
                data += sock.recv(left)
                left = sock.pending()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise ProtocolError(text_of(error)) from None
        return data

    return recv


def sender(sock: Any) -> "Callable[[Any], int]":
    """Return a `send`."""

    def send(data: Any) -> int:
        try:
            sent: int = sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise BrokenPipeError(text_of(error)) from None
        return sent

    return send
