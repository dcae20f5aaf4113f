"""The codec of the line between host and guest."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.guest.inside.frames import BODY_MAX, MAGIC, Decoder, Frame, FrameError, encode

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FRAMES = st.builds(
    lambda head, body: Frame(head=head, body=body), st.dictionaries(st.text(), _JSON, max_size=4), st.binary()
)


@given(frames=st.lists(_FRAMES, max_size=4), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_frames_survive_any_cutting(frames, cuts):
    wire = b"".join(encode(frame) for frame in frames)
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    decoder = Decoder()
    decoded = [frame for start, end in pairwise(edges) for frame in decoder.feed(wire[start:end])]
    assert decoded == frames


@given(noise=st.binary(min_size=4).filter(lambda data: not data.startswith(MAGIC)))
def test_noise_is_noticed_at_once(noise):
    with pytest.raises(FrameError, match="not a frame"):
        list(Decoder().feed(noise))


@pytest.mark.parametrize("head", [b"[]", b"{", b"\xff"])
def test_head_must_be_a_json_object(head):
    with pytest.raises(FrameError, match="head is no JSON"):
        list(Decoder().feed(struct.pack(">4sII", MAGIC, len(head), 0) + head))


def test_garbled_length_is_not_waited_for():
    with pytest.raises(FrameError, match="too large"):
        list(Decoder().feed(struct.pack(">4sII", MAGIC, 2, BODY_MAX + 1)))
