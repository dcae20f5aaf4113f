"""The health of a gRPC service: what each answer means, and that no bytes of a service do more than fail.

Servers of gRPC's own libraries are in tests/clients.
"""

import io
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config.model import ReadyKind, ReadyTest
from cgroup_preflight.engines.grpc_health import Frame, answer, request
from cgroup_preflight.engines.hpack import HeaderError, coded, find, literal
from cgroup_preflight.engines.ready import LocalNetwork

pytestmark = pytest.mark.timeout(60)
SERVING = b"\x08\x01"
SETTINGS = Frame(kind=4, flags=0, stream=0, payload=b"\x00\x03\x00\x00\x00\x64")
#: `:status: 200` of the static table, and a content type with its name from there.
HEAD = b"\x88\x5f\x10application/grpc"


def message(data: bytes, *, length: int | None = None, compressed: int = 0) -> bytes:
    return bytes((compressed,)) + (len(data) if length is None else length).to_bytes(4, "big") + data


def call(data: bytes = SERVING, status: str = "0", *, head: bytes = HEAD) -> list[Frame]:
    """The frames of an answer: headers, a message, trailers."""
    return [
        SETTINGS, Frame(kind=1, flags=4, stream=1, payload=head), Frame(kind=0, flags=0, stream=1, payload=message(data)),
        Frame(kind=1, flags=5, stream=1, payload=literal("grpc-status", status) + literal("grpc-message", "")),
    ]  # fmt: skip


def said(*frames: Frame, sent: list[bytes] | None = None) -> str:
    data = b"".join(frame.encoded() for frame in frames)
    return answer(io.BytesIO(data).read, (sent if sent is not None else []).append)


def test_a_service_that_serves():
    sent: list[bytes] = []
    assert said(*call(), sent=sent) == ""
    assert sent == [Frame(kind=4, flags=1, stream=0).encoded()], "the settings are acknowledged"


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"", "0", "its health is UNKNOWN"),
        (b"\x08\x02", "0", "its health is NOT_SERVING"),
        (b"\x08\x03", "0", "its health is SERVICE_UNKNOWN"),
        (b"\x08\x01\x08\x02", "0", "its health is NOT_SERVING"),
        (b"\x08\xac\x02", "0", "its health is 300"),
        (b"\x10\x05\x08\x01", "0", ""),
        (SERVING, "14", "gRPC status 14"),
    ],
)
def test_each_state_has_its_word(data, status, words):
    assert said(*call(data, status)) == words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("5", "NOT_FOUND: it knows no such service"),
        ("12", "UNIMPLEMENTED: it has no grpc.health.v1.Health"),
        ("16", "16"),
    ],
)
@pytest.mark.parametrize("in_code", [False, True])
def test_an_answer_of_trailers_alone(status, words, in_code):
    header = literal("grpc-status", status)
    if in_code:
        name, value = coded("grpc-status"), coded(status)
        header = b"\x40" + bytes((0x80 | len(name),)) + name + bytes((0x80 | len(value),)) + value
    assert said(SETTINGS, Frame(kind=1, flags=5, stream=1, payload=HEAD + header)) == f"gRPC status {words}"


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([Frame(kind=0, flags=0, stream=0)], "it does not speak HTTP/2 without TLS"),
        ([SETTINGS], "it ended the connection"),
        ([SETTINGS, Frame(kind=7, flags=0, stream=0, payload=b"\0\0\0\0\0\0\0\x0d")], "the HTTP/2 error 13"),
        ([SETTINGS, Frame(kind=3, flags=0, stream=1, payload=b"\0\0\0\x08")], "ended the call with the HTTP/2 error 8"),
        ([SETTINGS, Frame(kind=1, flags=5, stream=1, payload=HEAD)], "it has no grpc-status"),
        ([SETTINGS, Frame(kind=1, flags=5, stream=1, payload=literal("grpc-status", "0"))], "no message of its health"),
        ([SETTINGS, *[Frame(kind=6, flags=0, stream=0, payload=b"12345678")] * 200], "no end after 100 frames"),
        (call(b"\x0a\x01x"), "not that of a health check"),
        (call(b"\x08\xff"), "not that of a health check"),
    ],
)
def test_an_answer_that_is_none_is_a_reason(frames, words):
    with pytest.raises(ValueError, match=words):
        said(*frames)


@pytest.mark.parametrize("data", [message(SERVING, length=9), message(SERVING, compressed=1), SERVING, b""])
def test_a_message_that_is_not_whole_is_a_reason(data):
    frames = call()
    frames[2] = Frame(kind=0, flags=0, stream=1, payload=data)
    with pytest.raises(ValueError, match="no message of its health"):
        said(*frames)


@given(
    cut=st.integers(0, 7), padding=st.integers(0, 20), priority=st.booleans(), split=st.integers(0, 30),
    noise=st.lists(st.sampled_from([6, 8, 99]), max_size=3), status=st.integers(0, 16),
)  # fmt: skip
def test_a_call_in_any_shape_says_the_same(cut, padding, priority, split, noise, status):
    """Padding, priorities, blocks that continue, messages in parts, frames of other kinds and streams in between."""
    trailers = literal("x-odd", "1") + literal("grpc-status", str(status)) + b"\x3f\x01" + b"\x82"
    split = min(split, len(trailers))
    first = (b"\0\0\0\0\x01" if priority else b"") + trailers[:split]
    body = message(SERVING)
    between = [Frame(kind=kind, flags=0, stream=3, payload=b"\0" * 8) for kind in noise]
    frames = [
        SETTINGS, *between, Frame(kind=1, flags=4, stream=1, payload=HEAD),
        Frame(kind=0, flags=8, stream=1, payload=bytes((padding,)) + body[:cut] + b"\0" * padding), *between,
        Frame(kind=0, flags=0, stream=1, payload=body[cut:]),
        Frame(kind=1, flags=1 | 8 | (32 if priority else 0), stream=1, payload=bytes((padding,)) + first + b"\0" * padding),
        Frame(kind=9, flags=4, stream=1, payload=trailers[split:]),
    ]  # fmt: skip
    words = {5: "NOT_FOUND: it knows no such service", 12: "UNIMPLEMENTED: it has no grpc.health.v1.Health"}
    assert said(*frames) == (f"gRPC status {words.get(status, status)}" if status else "")


@given(data=st.binary(max_size=300), begins=st.booleans())
def test_no_bytes_do_more_than_fail(data, begins):
    try:
        assert isinstance(answer(io.BytesIO((SETTINGS.encoded() if begins else b"") + data).read, lambda _: None), str)
    except ValueError:
        pass


@given(data=st.binary(max_size=60))
def test_no_block_of_headers_does_more_than_fail(data):
    try:
        assert find(data, "grpc-status", ("0", "12")) in ("", "0", "12")
    except HeaderError:
        pass


@given(names=st.lists(st.sampled_from(["a", "content-type", "grpc-message"]), max_size=5), at=st.integers(0, 5))
def test_a_header_is_found_between_others(names, at):
    headers = [literal(name, "x" * 100) for name in names]
    headers.insert(at, literal("grpc-status", "7"))
    assert find(b"".join(headers), "grpc-status", ("0", "7")) == "7"
    assert find(b"".join(headers), "status", ("0", "7")) == ""
    with pytest.raises(HeaderError, match="grpc-status is b'7'"):
        find(b"".join(headers), "grpc-status", ("0",))


def test_the_code_of_headers_is_that_of_the_standard():
    """As nghttp2 and gRPC send it."""
    assert coded("grpc-status").hex() == "9acac8b21234da8f"
    assert coded("302").hex() == "6402"  # RFC 7541, C.6.1


def test_a_request_names_the_service_only_if_there_is_one():
    assert request("127.0.0.1:1", "").endswith(b"\0\0\0\0\0")
    assert request("127.0.0.1:1", "shop.Orders").endswith(b"\0\0\0\0\x0d\x0a\x0bshop.Orders")
    long = "x" * 200
    assert request("127.0.0.1:1", long).endswith(b"\x0a\xc8\x01" + long.encode())


def test_an_answer_over_a_connection_and_none():
    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"".join(frame.encoded() for frame in call()))
            connection.recv(65536)

    network = LocalNetwork()
    with socket.create_server(("127.0.0.1", 0)) as server:
        test = ReadyTest(kind=ReadyKind.GRPC, target=f"grpc://127.0.0.1:{server.getsockname()[1]}/shop.Orders")
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        assert network.ask(test) == ""
        thread.join(10)
    assert network.ask(test) == "connection refused"


def test_a_server_of_plain_http_is_named_as_that():
    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        test = ReadyTest(kind=ReadyKind.GRPC, target=f"grpc://127.0.0.1:{server.getsockname()[1]}")
        assert LocalNetwork().ask(test) == "the answer is not gRPC (it does not speak HTTP/2 without TLS)"
        thread.join(10)
