"""Zip archives."""

import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.artifacts.model import ArtifactError
from cgroup_preflight.artifacts.zip_records import moved, new_entry, parse_record
from tests.unit.artifacts import making
from tests.unit.artifacts.making import DROP_IN, MANIFEST, SLICE, put, request, write, zipped

_TREE = [("usr/", b""), ("usr/bin/user-api", b"elf" * 500), ("README", b"hello")]


def test_plan_is_in_and_old_entries_keep_their_bytes(tmp_path: Path) -> None:
    old = zipped(_TREE, b"the comment")
    path = write(tmp_path, "a.zip", old)
    put(path)
    new = Path(path).read_bytes()
    directory = old.index(b"PK\x01\x02")
    assert new[:directory] == old[:directory]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment == b"the comment"
        assert archive.namelist()[:3] == [name for name, _ in _TREE]
        assert archive.namelist()[-3:] == [SLICE, DROP_IN, MANIFEST]
        assert archive.getinfo(SLICE).external_attr >> 16 == 0o100644
        assert archive.getinfo(SLICE).date_time == (2024, 1, 2, 3, 4, 6)
    assert put(path).changed is False
    assert Path(path).read_bytes() == new


@settings(max_examples=30, deadline=None)
@given(
    entries=st.lists(
        st.tuples(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}", fullmatch=True), st.binary(max_size=300)),
        max_size=6, unique_by=lambda item: item[0],
    ),
    comment=st.binary(max_size=40), prefix=st.binary(max_size=50), extra=st.booleans(),
)  # fmt: skip
def test_central_records_stay_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, entries: list, comment: bytes, prefix: bytes, extra: bool
) -> None:
    if b"PK" in comment or b"PK" in prefix:
        return
    prefix = b"#!" + prefix if prefix else prefix
    old = prefix + _with_extra(entries, comment) if extra else prefix + zipped(entries, comment)
    path = write(tmp_path_factory.mktemp("z"), "a.zip", old)
    put(path)
    new = Path(path).read_bytes()
    end = old.rindex(b"PK\x05\x06")
    size, offset = struct.unpack("<2I", old[end + 12 : end + 20])
    start = offset + len(prefix)
    assert new[:start] == old[:start]
    assert old[start : start + size] in new
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment == comment
        assert {name: archive.read(name) for name, _ in entries} == dict(entries)


def test_replaced_entries_keep_their_place_and_others_their_bodies(tmp_path: Path) -> None:
    path = write(tmp_path, "a.zip", zipped([("first", b"1"), (SLICE, b"other"), ("last", b"2" * 99)]))
    with pytest.raises(ArtifactError, match="other content"):
        put(path)
    put(path, force=True)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()[:3] == ["first", SLICE, "last"]
        assert (archive.read("first"), archive.read("last")) == (b"1", b"2" * 99)
        assert archive.testzip() is None
    put(path, request(limit="1G"))
    assert making.check(path, request(limit="1G")).edit.empty


def test_empty_zip_and_zip64_records(tmp_path: Path) -> None:
    path = write(tmp_path, "a.zip", zipped([]))
    put(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [SLICE, DROP_IN, MANIFEST]
    old = zipped(_TREE)
    end = old.rindex(b"PK\x05\x06")
    size, offset = struct.unpack("<2I", old[end + 12 : end + 20])
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 3, 3, size, offset)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    tail = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path = write(tmp_path, "b.zip", old[:end] + record + locator + tail)
    put(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert SLICE in archive.namelist()
    assert b"PK\x06\x06" in Path(path).read_bytes()


def _with_extra(entries: list[tuple[str, bytes]], comment: bytes) -> bytes:
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name, (1999, 1, 1, 0, 0, 0))
            info.extra, info.comment = b"UT\x05\x00\x03\x00\x00\x00\x01", b"entry comment"
            info.external_attr, info.create_system = 0o100600 << 16, 3
            archive.writestr(info, data)
        archive.comment = comment
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "system", "found"), [(0o755, 3, True), (0o100, 3, True), (0o644, 3, False), (0o644, 0, True)]
)
def test_a_program_is_known_by_its_executable_bit_if_the_zip_has_modes(
    tmp_path: Path, mode: int, system: int, found: bool
) -> None:
    """System 0 is MS-DOS, which has no modes; 3 is Unix."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        item = zipfile.ZipInfo("usr/bin/user-api")
        item.external_attr, item.create_system = mode << 16, system
        archive.writestr(item, b"elf")
    assert bool(making.check(str(tmp_path / "a.zip")).scan.programs) is found


@pytest.mark.parametrize("kept", [0, 3, 4, 20, 45])
@pytest.mark.parametrize("before", [b"", b"x" * 60])
def test_a_cut_off_directory_is_damaged(kept: int, before: bytes) -> None:
    _, central = new_entry("usr/bin/x", b"data", 7, making.TIME)
    with pytest.raises(ArtifactError, match="directory is damaged"):
        parse_record(before + central[:kept], len(before))
    with pytest.raises(ArtifactError, match="directory is damaged"):
        parse_record(before + central[:-1], len(before))
    assert parse_record(before + central, len(before)).raw == central


@pytest.mark.parametrize("offset", [0x01000001, 0x1_0000_0001])
def test_an_offset_is_moved_in_all_its_bytes(offset: int) -> None:
    """32 bits, or 64 in the field of zip64: the lower bytes borrow from the highest."""
    _, central = new_entry("a", b"", offset, making.TIME)
    changed = parse_record(moved(parse_record(central, 0), 2), 0)
    assert changed.offset == offset - 2
    _, same = new_entry("a", b"", offset - 2, making.TIME)
    assert offset > 0xFFFFFFFF or changed.raw == same
