"""The health of a gRPC service, asked of the server that gRPC's own library for Python makes."""

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cgroup_preflight.config.keys import parse_ready
from cgroup_preflight.engines.ready import LocalNetwork

_STATES = health_pb2.HealthCheckResponse


@pytest.fixture(scope="module", params=[True, False], ids=["with-health", "without"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[bool, int]]:
    """Whether it answers questions about its health, and its port."""
    made = grpc.server(futures.ThreadPoolExecutor(2))
    if request.param:
        state = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(state, made)
        state.set("shop.Orders", _STATES.SERVING)
        state.set("shop.Stock", _STATES.NOT_SERVING)
    port = made.add_insecure_port("127.0.0.1:0")
    made.start()
    yield request.param, port
    made.stop(None)


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("", ""),
        ("/", ""),
        ("/shop.Orders", ""),
        ("/shop.Stock", "its health is NOT_SERVING"),
        ("/shop.Gone", "gRPC status NOT_FOUND: it knows no such service"),
    ],
)
def test_the_health_is_that_of_the_server(server: tuple[bool, int], service: str, words: str) -> None:
    has_health, port = server
    said = LocalNetwork().ask(parse_ready(f"grpc://127.0.0.1:{port}{service}"))
    assert said == (words if has_health else "gRPC status UNIMPLEMENTED: it has no grpc.health.v1.Health")
