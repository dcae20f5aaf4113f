"""Asks a service over HTTP or HTTPS: the standard library's client, which sends just this.

No redirect is followed, no proxy and no password of the job is used: the service itself has to answer.
"""

import importlib
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import ModuleType
from urllib.parse import SplitResult, urlsplit

from cgroup_preflight.config.model import ReadyTest
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.time_limit import TooSlow, time_limit

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPResponse

CONNECT_SECONDS = 0.5
_ANSWER_SECONDS = 2.0
_WHOLE_SECONDS = 5.0
_HEADERS = {"User-Agent": "cgroup-preflight", "Accept": "*/*"}
#: How the words begin for a service whose certificate is refused: no waiting changes that.
UNTRUSTED = "its certificate is not trusted"
#: What went wrong with a connection, in words; of another error its name says more.
_FAILURES = {
    ConnectionRefusedError: "connection refused", ConnectionResetError: "connection reset", TimeoutError: "no answer in time",
    TooSlow: "no answer in time",
}  # fmt: skip


def host_and_port(parts: SplitResult) -> tuple[str, int]:
    """Where a URL leads."""
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def failure(error: Exception) -> str:
    """What went wrong with a connection, in words."""
    return _FAILURES.get(type(error), type(error).__name__)


def connected(host: str, port: int) -> socket.socket:
    """A connection from this machine. Raises OSError."""
    is_v6 = ":" in host
    if "%" in host or not (is_v6 or host.replace(".", "").isdigit()):
        return socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    # A number has one family, and needs no resolver, which takes longer than the connection. The name of an interface does.
    line = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET)
    try:
        line.settimeout(CONNECT_SECONDS)
        line.connect((host, port))
    except BaseException:
        line.close()
        raise
    return line


class HttpAsker:
    """Asks HTTP and HTTPS addresses; the certificates of an authority are read once. `connect` makes connections."""

    def __init__(self, connect: Callable[[str, int], socket.socket] = connected) -> None:
        self._connect = connect
        self._contexts: dict[str, ssl.SSLContext] = {}

    def ask(self, test: ReadyTest) -> str:
        """Empty when the address answers with a 2xx or 3xx status, else what happened instead."""
        try:
            with time_limit(_WHOLE_SECONDS), self._get(test, test.target) as answer:
                return "" if answer.status < 400 else f"HTTP status {answer.status}"
        except _NoAnswerError as error:
            return str(error)
        except (OSError, ValueError, TooSlow) as error:
            return failure(error)

    def fetch(self, test: ReadyTest, path: str, most: int) -> bytes:
        """The first `most` bytes of a page at the address of a test, empty where there is none."""
        parts = urlsplit(test.target)
        try:
            url = f"{parts.scheme}://{parts.netloc}{path}"
            with time_limit(_WHOLE_SECONDS), self._get(test, url) as answer:
                return answer.read(most) if answer.status == 200 else b""
        except (OSError, ValueError, TooSlow):
            return b""

    @contextmanager
    def _get(self, test: ReadyTest, url: str) -> "Iterator[HTTPResponse]":
        """An answer whose body is not read yet. Raises OSError, _NoAnswerError."""
        parts = urlsplit(url)
        client = http_client(tls=test.is_https)
        host, port = host_and_port(parts)
        with closing(self._connect(host, port)) as line:
            # A service with a small CPU quota needs longer for a handshake than the kernel for a connection.
            line.settimeout(_ANSWER_SECONDS)
            with closing(self._secured(line, host, test.ca) if test.is_https else line) as secured:
                asked = client.HTTPConnection(host, port)
                asked.sock = secured
                try:
                    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
                    asked.request("GET", path, headers=_HEADERS)
                    with asked.getresponse() as answer:
                        yield answer
                except client.HTTPException as error:
                    raise _NoAnswerError(f"the answer is not HTTP ({type(error).__name__})") from error

    def _secured(self, line: socket.socket, host: str, ca: str) -> "ssl.SSLSocket":
        """The connection with TLS. Raises _NoAnswerError with the reason of the TLS library."""
        import ssl  # most services answer without it, and it takes longer to load than all the rest

        try:
            if ca not in self._contexts:
                self._contexts[ca] = _context(ca)
            return self._contexts[ca].wrap_socket(line, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message.rstrip(".") or str(error)
            raise _NoAnswerError(f"{UNTRUSTED} ({reason})") from error
        except ssl.SSLError as error:
            raise _NoAnswerError(f"no TLS connection ({error.reason or 'SSLError'})") from error


class _NoAnswerError(ValueError):
    """The service does not answer as it should, in words."""


def _context(ca: str) -> "ssl.SSLContext":
    """What certificates are checked against: those in the file `ca`, or without one those of the system.

    A certificate of a test is often the only one, or lacks extensions that OpenSSL's strict check wants and that Python
    3.13 has on by default; what the file names is trusted as it is.
    """
    import ssl

    if not ca:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise _NoAnswerError(f"the file of ready_ca has no certificate that OpenSSL can read ({error})") from error
    context.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context


def http_client(*, tls: bool) -> ModuleType:
    """The module http.client; without `tls` it is loaded without OpenSSL, which takes longer than all the rest."""
    name = "http.client"
    if tls or name in sys.modules or "ssl" in sys.modules:
        return importlib.import_module(name)
    # An entry of None makes `import ssl` fail, and http.client can do without (importlib, "sys.modules").
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules["ssl"]
