"""Connections over frames: whatever the pieces, each side gets what the other sent, in order, and sees its end."""

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.guest.inside.streams import FRAME, PIECE, Streams


class Pair:
    """One connection whose two ends are carried by two `Streams`; `here` and `there` are the programs' sockets."""

    def __init__(self, number: int = 1) -> None:
        self.near, self.far = Streams(), Streams()
        self.here, mine = socket.socketpair()
        self.there, other = socket.socketpair()
        self.near.add(number, mine)
        self.far.add(number, other)
        for line in (self.here, self.there):
            line.settimeout(5)

    def carry(self, turns: int = 1) -> None:
        """Frames in both directions, as they go over the channel."""
        for _ in range(turns):
            for source, target in ((self.near, self.far), (self.far, self.near)):
                head, body = source.collect()
                target.apply(json.loads(json.dumps(head)), body)

    def close(self) -> None:
        for each in (self.near, self.far, self.here, self.there):
            each.close()


@pytest.fixture
def pair():
    made = Pair()
    yield made
    made.close()


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=3000)), max_size=12))
def test_each_side_gets_what_the_other_sent(messages):
    pair = Pair()
    try:
        for forth, data in messages:
            (pair.here if forth else pair.there).sendall(data)
            pair.carry()
        pair.carry(3)
        for source, target, direction in ((pair.here, pair.there, True), (pair.there, pair.here, False)):
            wanted = b"".join(data for forth, data in messages if forth is direction)
            source.shutdown(socket.SHUT_WR)
            pair.carry(2)
            found = b""
            while piece := target.recv(1 << 16):
                found += piece
            assert found == wanted
        assert not pair.near.readers()
        assert not pair.far.readers()
    finally:
        pair.close()


def test_an_end_of_file_closes_one_direction_only(pair):
    pair.here.sendall(b"question")
    pair.here.shutdown(socket.SHUT_WR)
    pair.carry(2)
    assert pair.there.recv(100) == b"question"
    assert pair.there.recv(100) == b""
    pair.there.sendall(b"answer")
    pair.carry()
    assert pair.here.recv(100) == b"answer"


def test_a_reader_that_is_slow_pauses_the_other_end_and_loses_nothing(pair):
    sent = 0
    pair.here.setblocking(False)
    for _ in range(400):
        try:
            sent += pair.here.send(b"x" * PIECE)
        except BlockingIOError:
            pass
        pair.carry()
    assert not pair.near.readers(), "paused"
    assert sent < 4 << 20
    got = 0
    while got < sent:
        got += len(pair.there.recv(1 << 16))
        pair.far.flush()
        pair.carry()
    pair.carry(2)
    assert pair.near.readers(), "goes on"


def test_news_are_told_once(pair):
    pair.near.collect()
    assert not pair.near.news
    pair.here.sendall(b"x")
    pair.near.collect()
    assert pair.near.news
    pair.near.collect()
    assert not pair.near.news


def test_a_connection_that_the_service_refuses_is_closed_here(pair):
    pair.far.refuse(1)
    pair.carry()
    assert pair.here.recv(10) == b""
    pair.near.collect()
    assert not pair.near.readers()


def test_one_that_breaks_is_closed_at_both_ends(pair):
    pair.here.close()
    pair.there.sendall(b"x" * 10)
    pair.carry(4)
    assert not pair.near.readers()
    with pytest.raises(BrokenPipeError):
        pair.there.sendall(b"more")


@pytest.mark.parametrize("head", [{"data": [[1, -1]]}, {"data": [[1, 5]]}])
def test_lengths_that_do_not_fit_are_refused(pair, head):
    with pytest.raises(ValueError, match="do not fit"):
        pair.near.apply(head, b"abc")


def test_numbers_that_nobody_knows_do_nothing(pair):
    pair.near.apply({"data": [[7, 3], [1, 2]], "eof": [7], "close": [7], "full": [7]}, b"abcde")
    assert pair.here.recv(10) == b"de"


def test_a_far_end_that_does_not_pause_loses_the_connection(pair):
    for _ in range(40):
        pair.near.apply({"data": [[1, FRAME]]}, bytes(FRAME))
    pair.near.collect()
    assert not pair.near.writers()
    assert not pair.near.readers()
