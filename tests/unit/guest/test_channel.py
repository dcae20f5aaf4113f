"""The host's end of the line, against an agent's end that misbehaves."""

import socket
import threading

import pytest

from cgroup_preflight.guest.channel import Channel, ChannelError
from cgroup_preflight.guest.inside.frames import WINDOW, Decoder, Frame, encode


@pytest.fixture
def line():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), theirs


def test_long_request_goes_window_by_window(line):
    channel, agent = line
    pieces = []

    def acknowledge():
        decoder, received = Decoder(), 0
        while True:
            piece = agent.recv(1 << 16)
            pieces.append(len(piece))
            received += len(piece)
            if requests := list(decoder.feed(piece)):
                agent.sendall(encode(Frame(head={"ok": True}, body=requests[0].body)))
                return
            agent.sendall(encode(Frame(head={"received": received})))

    other_end = threading.Thread(target=acknowledge)
    other_end.start()
    body = bytes(range(256)) * 40
    channel.send({"op": "put"}, body, timeout=5)
    assert channel.receive(timeout=5).body == body
    other_end.join()
    assert len(pieces) > 1
    assert max(pieces) <= WINDOW


def test_silence_ends_with_the_time_limit(line):
    channel, _ = line
    with pytest.raises(ChannelError, match="gave no answer for 0 s"):
        channel.receive(timeout=0.05)


def test_unacknowledged_request_ends_with_the_time_limit(line):
    channel, _ = line
    with pytest.raises(ChannelError, match="gave no answer"):
        channel.send({"op": "put"}, bytes(3 * WINDOW), timeout=0.05)


def test_end_of_the_other_side(line):
    channel, agent = line
    agent.close()
    with pytest.raises(ChannelError, match="ended"):
        channel.receive(timeout=5)


def test_noise_from_the_other_side(line):
    channel, agent = line
    agent.sendall(b"login: ")
    with pytest.raises(ChannelError, match="sent something that is not a frame"):
        channel.receive(timeout=5)
