"""Changes near the end of an .xz stream; what it unpacks to is judged by Python's own lzma."""

import lzma
import random
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.artifacts.compression import vli
from cgroup_preflight.artifacts.model import Splice
from cgroup_preflight.artifacts.xz_tail import Cut, find_cut, write_continued
from cgroup_preflight.host.files import Sink
from tests.unit.artifacts import making
from tests.unit.artifacts.making import entry, put, tar, write

_CHECKS = (lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_CRC64)


def _text(seed: int, size: int) -> bytes:
    """Bytes that pack to about half their size, in chunks of some 100 KiB."""
    source = random.Random(seed)
    words = [source.randbytes(source.randrange(3, 30)) for _ in range(3000)]
    return b"".join(source.choices(words, k=size // 16 + 1))[:size]


def _number(value: int) -> bytes:
    return bytes((value,)) if value < 0x80 else bytes((value & 0x7F | 0x80,)) + _number(value >> 7)


def _stream(parts: list[bytes], check: int, *, sizes: bool = False, **more: Any) -> bytes:
    """A stream with a block for each part, as `xz -T2` makes them, with `sizes` in their headers."""
    singles = [
        lzma.compress(part, check=check, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, **more}]) for part in parts
    ]
    blocks, index = b"", b"\0" + _number(len(parts))
    for single, part in zip(singles, parts, strict=True):
        end = len(single) - 12 - (int.from_bytes(single[-8:-4], "little") + 1) * 4
        packed, _ = vli(single, end + 2)
        length = (single[12] + 1) * 4
        header, body = single[12 : 12 + length], single[12 + length : end]
        if sizes:
            stated = _number(packed - length - {0: 0, 1: 4, 4: 8}[check]) + _number(len(part))
            head = b"\xc0" + stated + header[2:5]
            head = bytes(((len(head) + 1 + 4 + 3) // 4 - 1,)) + head
            head += b"\0" * (-len(head) % 4)
            packed += len(head) + 4 - length
            header = head + zlib.crc32(head).to_bytes(4, "little")
        blocks += header + body
        index += _number(packed) + _number(len(part))
    index += b"\0" * (-len(index) % 4)
    index += zlib.crc32(index).to_bytes(4, "little")
    end_sizes = (len(index) // 4 - 1).to_bytes(4, "little") + singles[0][6:8]
    return singles[0][:12] + blocks + index + zlib.crc32(end_sizes).to_bytes(4, "little") + end_sizes + b"YZ"


def _continued(stream: bytes, *splices: Splice) -> tuple[bytes, Cut] | None:
    """The new stream; the old one lies somewhere in a file."""
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as out:
        file.write(b"before" + stream + b"behind")
        file.flush()
        cut = find_cut(file, 6, len(stream), splices[0].offset)
        if cut is None:
            return None
        write_continued(Sink(out.fileno()), file, 6, cut, splices)
        out.seek(0)
        return out.read(), cut


def _spliced(data: bytes, *splices: Splice) -> bytes:
    for item in reversed(splices):
        data = data[: item.offset] + item.data + data[item.offset + item.remove :]
    return data


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_it_unpacks_to_what_was_changed(data: st.DataObject) -> None:
    check = data.draw(st.sampled_from(_CHECKS))
    parts = [
        _text(number, data.draw(st.sampled_from([1, 700, 60_000, 300_000])))
        for number in range(data.draw(st.integers(1, 3)))
    ]
    old = b"".join(parts)
    places = sorted(data.draw(st.lists(st.integers(0, len(old) - 1), min_size=1, max_size=3, unique=True)))
    ends = [*places[1:], len(old)]
    splices = [
        Splice(
            offset=place, remove=data.draw(st.integers(0, end - place)), data=_text(9, data.draw(st.integers(0, 5000)))
        )
        for place, end in zip(places, ends, strict=True)
    ]
    stream = _stream(parts, check, sizes=data.draw(st.booleans()))
    assert lzma.decompress(stream) == old, "the test's own stream"
    found = _continued(stream, *splices)
    assert found is not None
    assert lzma.decompress(found[0]) == _spliced(old, *splices)
    if lzma.decompress(found[0]):
        again = _continued(found[0], Splice(offset=0, remove=0, data=b"again"))
        assert again is not None
        assert lzma.decompress(again[0]) == b"again" + _spliced(old, *splices)


@pytest.mark.parametrize("check", _CHECKS)
def test_what_is_before_the_change_stays_packed_as_it_is(check: int) -> None:
    old = _text(1, 2_000_000)
    stream = _stream([old[:900_000], old[900_000:]], check)
    change = Splice(offset=1_990_000, remove=10_000, data=b"new")
    found = _continued(stream, change)
    assert found is not None
    new, cut = found
    assert len(cut.whole) == 1
    assert cut.kept > 150_000
    same = cut.start + len(cut.header) + cut.kept
    assert new[: cut.start] == stream[: cut.start]
    assert new[cut.start + 12 : same - len(cut.header) + 12] == stream[cut.start + len(cut.header) : same]
    assert len(new) < len(stream) + 65_536  # what one chunk has at most
    assert lzma.decompress(new) == _spliced(old, change)


def test_a_change_behind_everything_is_no_change_of_a_block() -> None:
    assert _continued(_stream([b"abc"], 1), Splice(offset=3, remove=0, data=b"d")) is None
    assert _continued(lzma.compress(b""), Splice(offset=0, remove=0, data=b"d")) is None


_OLD = _text(2, 5000)


@pytest.mark.parametrize(
    "stream",
    [
        lzma.compress(_OLD, check=lzma.CHECK_SHA256),
        lzma.compress(_OLD, filters=[{"id": lzma.FILTER_DELTA, "dist": 4}, {"id": lzma.FILTER_LZMA2, "preset": 1}]),
        lzma.compress(_OLD[:2000]) + lzma.compress(_OLD[2000:]),
        lzma.compress(_OLD) + bytes(8),
        lzma.compress(_OLD)[:-1],
        lzma.compress(_OLD)[:20],
        b"",
    ],
    ids=["sha256", "two filters", "two streams", "padding", "cut", "cut early", "empty"],
)
def test_other_streams_are_left_to_the_ordinary_way(stream: bytes) -> None:
    assert _continued(stream, Splice(offset=4000, remove=1, data=b"")) is None


def test_so_is_a_change_with_more_behind_it_than_is_kept_in_memory() -> None:
    stream = _stream([bytes(9 << 20)], lzma.CHECK_CRC64)
    assert _continued(stream, Splice(offset=10, remove=0, data=b"x")) is None
    assert _continued(stream, Splice(offset=(9 << 20) - 10, remove=0, data=b"x")) is not None


@pytest.mark.parametrize("limit", [30, 4000])
def test_an_index_that_lies_about_its_blocks_is_not_believed(limit: int) -> None:
    good = _stream([_OLD], lzma.CHECK_CRC32)
    for at in range(len(good) - limit, len(good)) if limit == 30 else range(12, 40):
        bad = bytearray(good)
        bad[at] ^= 0x55
        with tempfile.TemporaryFile() as file:
            file.write(bad)
            file.flush()
            find_cut(file, 0, len(bad), 4900)  # any answer, but no other exception and no endless loop


def test_a_package_keeps_its_packed_program(tmp_path: Path) -> None:
    program = _text(3, 600_000)
    old = lzma.compress(tar([entry("usr/bin/user-api", program)]))
    path = write(tmp_path, "a.tar.xz", old)
    put(path)
    new = Path(path).read_bytes()
    assert making.members(lzma.decompress(new))["usr/bin/user-api"] == program
    shared = next(number for number, (a, b) in enumerate(zip(old[24:], new[24:], strict=False)) if a != b)
    assert shared > len(old) // 2
    assert put(path).changed is False


def test_a_change_at_the_beginning_packs_all_of_it(tmp_path: Path) -> None:
    """Our files come first here, and what follows is too much to keep."""
    path = write(tmp_path, "a.tar.xz", lzma.compress(tar([entry("a", b"x")]), preset=0))
    put(path)
    ours = making.members(lzma.decompress(Path(path).read_bytes()))
    big = [*((name, data) for name, data in ours.items() if data is not None), ("usr/bin/user-api", bytes(9 << 20))]
    path = write(tmp_path, "b.tar.xz", lzma.compress(tar([entry(name, data) for name, data in big]), preset=0))
    put(path, making.request(limit="1G"))
    assert len(making.members(lzma.decompress(Path(path).read_bytes()))["usr/bin/user-api"]) == 9 << 20
