"""Values in variables and events of a job and in the answers of an API: input, checked before it is used or shown. Pure.

A server, or a proxy in front of it, can answer with everything: an address with a second line would become a command in
the job's log, and a number with a slash another path.
"""

import re
from urllib.parse import urlsplit

#: A commit id: SHA-1, or SHA-256.
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
#: Visible ASCII without the characters that URLs do not have (RFC 3986, 2.2 and 2.3), quotes and parentheses.
_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:-]{1,255}/[A-Za-z0-9._~%/?#&=+:@,;!*-]{0,1000}", re.ASCII)
#: The URL of a server; an instance can be below a path.
_SERVER = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(?:/[A-Za-z0-9._~/-]*)?", re.ASCII)
_ID_MAX = 1 << 63


def dig(value: object, *keys: str) -> object:
    """The value under `keys` in nested objects; None if one of them is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def sha_of(value: object) -> str:
    """A commit id; empty for everything else."""
    return value if isinstance(value, str) and _SHA.fullmatch(value) else ""


def id_of(value: object) -> int | None:
    """A number of a comment, a check run or a request: above 0 and below 2^63; None for everything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 < value < _ID_MAX else None


def number_of(text: str | None) -> int:
    """A number in a variable of the job; 0 for everything else."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0


def text_of(value: object) -> str:
    """A text; empty for everything else."""
    return value if isinstance(value, str) else ""


def url_of(value: object, server: str) -> str:
    """An address of a page on `server`, the URL of GitHub or GitLab for people; empty for everything else."""
    text = text_of(value)
    if not _URL.fullmatch(text):
        return ""
    return text if origin(text) == origin(server) else ""


def is_server(url: str) -> bool:
    """Whether it is the URL of a server, as variables of a job name it."""
    return _SERVER.fullmatch(url) is not None


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address: a link to another port may lead to another server."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return "", "", 0
    return parts.scheme, parts.hostname or "", port
