"""One request of HTTP/1.1 (RFC 9112) as far as this server answers it: GET and HEAD, and no body."""

from collections.abc import Mapping

from cgroup_preflight.core.records import dataclass

#: Bytes of the request line and all headers.
HEAD_MAX = 8192
REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    431: "Request Header Fields Too Large", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`headers` have names in lower case; `keeps`: the client wants to send another request afterwards."""

    method: str
    path: str
    headers: Mapping[str, str]
    keeps: bool


class RefusedError(Exception):
    """A request that gets no answer but a status."""

    def __init__(self, status: int) -> None:
        super().__init__(REASONS[status])
        self.status = status


def parse_request(data: bytes) -> Request:
    """The request line and headers, with the empty line at the end. Raises RefusedError."""
    first, *rest = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[1].startswith("/"):
        raise RefusedError(400)
    method, target, version = words
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise RefusedError(505 if version.startswith("HTTP/") else 400)
    headers = _headers(rest)
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise RefusedError(400)
    if method not in ("GET", "HEAD"):
        raise RefusedError(405)
    connection = headers.get("connection", "").lower()
    keeps = "close" not in connection if version == "HTTP/1.1" else "keep-alive" in connection
    return Request(method=method, path=target.partition("?")[0], headers=headers, keeps=keeps)


def _headers(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not name or name != name.strip():
            raise RefusedError(400)
        key = name.lower()
        # A header that comes twice is one list (RFC 9110, section 5.3).
        found[key] = f"{found[key]}, {value.strip()}" if key in found else value.strip()
    return found


def response_head(status: int, headers: Mapping[str, str], *, keeps: bool) -> bytes:
    """The status line and headers of an answer."""
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in headers.items())]
    lines.append("Connection: " + ("keep-alive" if keeps else "close"))
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
