"""Asks a Prometheus server (HTTP API, /api/v1/query) for one number, and compares it with its bound."""

import http.client
import json
import math
import operator
import time
import urllib.parse
import urllib.request
from typing import Any

from cgroup_preflight.config.rollout import Prometheus, Query
from cgroup_preflight.core.printable import printable
from cgroup_preflight.rollout.judge import Answer

_SIZE_MAX = 1 << 20
_PART = 1 << 16
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A server that sends elsewhere is not followed: the address was chosen in the config."""

    def redirect_request(self, *_args: object) -> None:
        return None


def ask(server: Prometheus, seconds: float) -> tuple[Answer, ...]:
    """The answers to all queries of the config, each within its part of `seconds`.

    That is no limit for the names that are looked up, nor for a header that comes byte by byte: `Watch` has one.
    """
    # Without the proxy of the environment: the server is next to what it watches.
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    part = seconds / max(len(server.queries), 1)
    return tuple(_ask(opener, server.url, query, part) for query in server.queries)


def _ask(opener: urllib.request.OpenerDirector, url: str, query: Query, seconds: float) -> Answer:
    bound = f"{query.operator} {query.bound:g}"
    address = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query.expression, 'timeout': f'{seconds:g}s'})}"
    try:
        with opener.open(address, timeout=seconds) as answer:
            data = _body(answer, time.monotonic() + seconds)
    except (OSError, ValueError, http.client.HTTPException) as error:
        # What is no HTTP at all is not an OSError (http.client.BadStatusLine).
        why = printable(str(error).strip())[:200]
        return Answer(query=query.expression, bound=bound, error=why or type(error).__name__)
    if len(data) > _SIZE_MAX:
        return Answer(query=query.expression, bound=bound, error="the answer is larger than 1M")
    return answer_of(query, data)


def _body(answer: http.client.HTTPResponse, until: float) -> bytes:
    """All of the answer, or a little more than may be. Raises TimeoutError: a time-out of a socket is one of each read."""
    data = bytearray()
    while len(data) <= _SIZE_MAX and (part := answer.read1(_PART)):
        data += part
        if time.monotonic() > until:
            raise TimeoutError("the answer is not whole in time")
    return bytes(data)


def answer_of(query: Query, data: bytes) -> Answer:
    """What an answer of the server says: a scalar, or a vector with one sample. More than one is an error of the query."""
    bound = f"{query.operator} {query.bound:g}"
    try:
        found = _value(json.loads(data))
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        return Answer(
            query=query.expression,
            bound=bound,
            error=f"an answer that is not understood: {printable(str(error))[:100]}",
        )
    if found is None or math.isnan(found):
        return Answer(query=query.expression, bound=bound)
    return Answer(
        query=query.expression, bound=bound, value=found, holds=_OPERATORS[query.operator](found, query.bound)
    )


def _value(answer: Any) -> float | None:  # noqa: ANN401 - JSON of a server
    if answer["status"] != "success":
        raise ValueError(str(answer.get("error", "no success")))
    result, kind = answer["data"]["result"], answer["data"]["resultType"]
    if not isinstance(result, list):
        raise ValueError("no result")  # noqa: TRY004
    if kind == "vector":
        if len(result) > 1:
            raise ValueError(f"{len(result)} values: use sum() or max()")
        if not result:
            return None
        return float(result[0]["value"][1])
    if kind == "scalar":
        return float(result[1])
    raise ValueError(f"the type {str(kind)[:20]!r}")
