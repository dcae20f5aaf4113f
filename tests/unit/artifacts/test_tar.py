"""Tar archives: what is put in, and that nothing else changes."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.artifacts import tar_header
from cgroup_preflight.artifacts.model import ArtifactError
from tests.unit.artifacts import making
from tests.unit.artifacts.making import DROP_IN, MANIFEST, PACKERS, SLICE, UNPACKERS, entry, put, request, tar, write


@pytest.mark.parametrize("codec", PACKERS)
@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_codec_holds_the_plan_afterwards(tmp_path: Path, codec: str, style: int) -> None:
    entries = [item for item in making.tree() if style != tarfile.USTAR_FORMAT or len(item[0].name) < 100]
    old = tar(entries, style)
    path = write(tmp_path, "a", PACKERS[codec](old))
    done = put(path)
    new = UNPACKERS[codec](Path(path).read_bytes())
    assert done.compared.format == (f"tar.{codec}" if codec else "tar")
    found = making.members(new)
    assert found[SLICE].decode().splitlines()[-1] == "MemoryMax=192M"
    assert "Slice=api.slice" in found[DROP_IN].decode()
    said = making.manifest_in(found[MANIFEST])
    assert dict(said.files) == {SLICE: _sha(found[SLICE]), DROP_IN: _sha(found[DROP_IN])}
    assert done.after == _sha(Path(path).read_bytes())


@pytest.mark.parametrize("codec", PACKERS)
def test_twice_is_once_byte_for_byte(tmp_path: Path, codec: str) -> None:
    path = write(tmp_path, "a", PACKERS[codec](tar(making.tree())))
    put(path)
    once, status = Path(path).read_bytes(), Path(path).stat()
    assert put(path).changed is False
    assert Path(path).read_bytes() == once
    assert Path(path).stat().st_ino == status.st_ino, "it was written again"


@pytest.mark.parametrize("codec", PACKERS)
def test_same_input_same_bytes_whatever_the_clock_and_the_umask(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = PACKERS[codec](tar(making.tree()))
    first, second = write(tmp_path, "a", data), write(tmp_path, "b", data)
    put(first)
    monkeypatch.setattr("time.time", lambda: 0.0)
    put(second)
    assert Path(first).read_bytes() == Path(second).read_bytes()


def test_time_of_new_members_is_source_date_epoch_or_the_newest_member(tmp_path: Path) -> None:
    for source_date, time in ((None, making.TIME), (86400, 86400)):
        path = write(tmp_path, "a", tar(making.tree()))
        put(path, source_date=source_date)
        with tarfile.open(path) as archive:
            new = archive.getmember(SLICE)
        assert (new.mtime, new.uid, new.gid, new.uname, new.mode) == (time, 0, 0, "root", 0o644)


_NAMES = st.lists(st.sampled_from(["usr2", "bin", "ä b", "x" * 60, "y" * 101, "opt"]), min_size=1, max_size=4).map(
    "/".join
)
_FILES = st.tuples(_NAMES, st.binary(max_size=1500), st.integers(0, 0o7777), st.integers(0, 3_000_000), st.booleans())


@settings(max_examples=40, deadline=None)
@given(
    files=st.lists(_FILES, max_size=6, unique_by=lambda item: item[0]),
    style=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    dotted=st.booleans(),
    padding=st.integers(0, 3),
)
def test_every_old_member_keeps_its_very_bytes(
    tmp_path_factory: pytest.TempPathFactory, files: list, style: int, dotted: bool, padding: int
) -> None:
    entries = [
        entry(
            ("./" if dotted else "") + name,
            data,
            mode=mode,
            uid=uid,
            pax_headers={"SCHILY.xattr.user.a": "b"} if extra else {},
        )
        for name, data, mode, uid, extra in files
    ]
    old = tar(entries, style)
    marker = len(old.rstrip(b"\0")) if not files else _marker(old)
    old += bytes(512 * padding)
    path = write(tmp_path_factory.mktemp("t"), "a.tar", old)
    put(path)
    new = Path(path).read_bytes()
    assert new[:marker] == old[:marker]
    assert (len(new) % 10240 == 0) == (len(old) % 10240 == 0)
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert names[: len(files)] == [info.name for info, _ in entries]
    dot = "./" if dotted and files else ""
    assert names[-3:] == [dot + SLICE, dot + DROP_IN, dot + MANIFEST]


def test_sparse_members_and_their_maps_stay(tmp_path: Path) -> None:
    # GNU's old sparse format with an extended map, made by hand: header, map block, content.
    info = tarfile.TarInfo("disk")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[482], block[483:495] = 1, b"%011o\0" % (1 << 20)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    old = bytes(block) + bytes(512) + b"d" * 512 + tar([entry("after", b"z")])
    path = write(tmp_path, "a.tar", old)
    put(path)
    new = Path(path).read_bytes()
    assert new[: 512 * 5] == old[: 512 * 5]
    assert SLICE in making.members(new)


def test_concatenated_and_padded_gzip_is_one_stream(tmp_path: Path) -> None:
    old = tar(making.tree())
    path = write(tmp_path, "a.tar.gz", PACKERS["gz"](old[:700]) + PACKERS["gz"](old[700:]) + bytes(1000))
    put(path)
    assert SLICE in making.members(UNPACKERS["gz"](Path(path).read_bytes()))


def test_header_and_level_of_gzip_stay(tmp_path: Path) -> None:
    out = io.BytesIO()
    with __import__("gzip").GzipFile("name.tar", "wb", 9, out, mtime=77) as file:
        file.write(tar(making.tree()))
    path = write(tmp_path, "a.tgz", out.getvalue())
    put(path)
    assert Path(path).read_bytes()[:19] == out.getvalue()[:19]


def test_a_new_plan_replaces_what_the_old_one_put_in(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tar", tar(making.tree()))
    put(path)
    before = _order(path)
    put(path, request(limit="1G"))
    assert _order(path) == before, "a replaced member keeps its place"
    assert b"MemoryMax=1G" in making.members(Path(path).read_bytes())[SLICE]
    renamed = making.ONE_SERVICE.replace("api]", "web]", 1).replace('slice = "api"', 'slice = "web"')
    put(path, request(renamed))
    assert SLICE not in _order(path), "a slice that the plan has no more is removed"
    assert SLICE.replace("api.slice", "web.slice") in _order(path)


def test_other_content_is_a_conflict_that_names_both(tmp_path: Path) -> None:
    old = tar([*making.tree(), entry(SLICE, b"[Slice]\nMemoryMax=1G\n")])
    path = write(tmp_path, "a.tar", old)
    with pytest.raises(ArtifactError) as caught:
        put(path)
    plan = making.check(path).expected[SLICE]
    assert _sha(b"[Slice]\nMemoryMax=1G\n") in str(caught.value)
    assert _sha(plan) in str(caught.value)
    assert caught.value.code.code == "CGP303"
    assert Path(path).read_bytes() == old
    put(path, force=True)
    assert making.members(Path(path).read_bytes())[SLICE] == plan


def test_a_file_of_ours_that_was_edited_is_a_conflict(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tar", tar(making.tree()))
    put(path)
    data = Path(path).read_bytes().replace(b"MemoryMax=192M", b"MemoryMax=999M")
    Path(path).write_bytes(data)
    with pytest.raises(ArtifactError, match="other content"):
        put(path)


def test_prefix_and_user_layout(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tar", tar([entry("shop-1/user-api", b"elf")]))
    put(path, request(prefix="shop-1", layout="user"))
    names = _order(path)
    assert "shop-1/usr/lib/systemd/user/api.slice.d/10-cgroup-preflight.conf" in names
    assert "shop-1/usr/share/cgroup-preflight/shop.json" in names


def test_folders_are_named_only_where_the_archive_names_folders(tmp_path: Path) -> None:
    bare = write(tmp_path, "a.tar", tar([entry("user-api", b"elf")]))
    put(bare)
    assert _order(bare) == ["user-api", SLICE, DROP_IN, MANIFEST]
    full = write(tmp_path, "b.tar", tar(making.tree()))
    put(full)
    assert "usr/lib/systemd/system/user-api.service.d" in _order(full)
    assert _order(full).count("usr") == 1


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _order(path: str) -> list[str]:
    with tarfile.open(path) as archive:
        return archive.getnames()


def _marker(data: bytes) -> int:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        last = archive.getmembers()[-1]
    return last.offset_data + -(-last.size // 512) * 512


@pytest.mark.parametrize("codec", PACKERS)
def test_an_empty_archive_is_a_tar_whatever_its_name(tmp_path: Path, codec: str) -> None:
    """Zeros only: a name ends with .tar or does not, and the content alone tells."""
    path = write(tmp_path, "empty", PACKERS[codec](tar([])))
    put(path)
    assert SLICE in making.members(UNPACKERS[codec](Path(path).read_bytes()))


@given(
    st.binary(max_size=120).filter(lambda name: b"\0" not in name), st.sampled_from([b"0", b"5", b"2", b"1", b"\0", b"L", b"S"]),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT]),
    st.lists(st.tuples(st.integers(100, 511), st.sampled_from([b"\0", b" ", b"7", b"8", b"_", b"+", b"-", b"\x80", b"\xff"])), max_size=3),
    st.booleans(),
)  # fmt: skip
def test_the_short_way_to_read_a_header_is_the_one_of_the_library(name, kind, style, changes, again):
    """Whatever a header has, also damaged ones: the same fields, or the short way does not apply."""
    info = tarfile.TarInfo(os.fsdecode(name))
    info.type, info.size, info.mtime = kind, 8**9, 1_700_000_000
    try:
        block = bytearray(info.tobuf(style, "utf-8", "surrogateescape")[-512:])
    except ValueError:
        return
    for place, byte in changes:
        block[place : place + 1] = byte
    if again:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    ours = tar_header._plain_header(bytes(block))
    if ours is None:
        return
    theirs = tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape")
    if block[257:264] == b"ustar  ":
        theirs.name = os.fsdecode(bytes(block[:100]).split(b"\0", 1)[0])
        theirs.name = theirs.name.rstrip("/") if theirs.isdir() else theirs.name
    for field in ("name", "mode", "size", "mtime", "type", "linkname"):
        assert getattr(ours, field) == getattr(theirs, field), field


def test_the_short_way_applies_to_what_tar_writes():
    for style in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT):
        for kind in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE):
            info = tarfile.TarInfo("usr/bin/x")
            info.type = kind
            assert tar_header._plain_header(info.tobuf(style)) is not None
