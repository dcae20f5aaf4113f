"""Artifacts made to confuse or to exhaust: a clear error, and the artifact as it was."""

import contextlib
import gzip
import hashlib
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cgroup_preflight.artifacts.model import KEEP_MAX, ArtifactError, Limits
from tests.unit.artifacts import making
from tests.unit.artifacts.making import PACKERS, SLICE, UNITS, entry, put, tar, write, zipped

_LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc"}
_SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
HOSTILE = {
    "climbs": ([entry("a/../../etc/passwd")], "leads out"),
    "absolute": ([entry("/etc/passwd")], "absolute"),
    "linked folder": ([entry("usr", None, **_LINK)], "'usr' must be a folder for unit files, but is a symbolic link"),
    "linked drop-in folder": ([entry(f"{UNITS}/user-api.service.d", None, **_LINK)], "symbolic link"),
    "linked file": ([entry(SLICE, None, **_LINK)], "is a symbolic link"),
    "hard-linked file": ([entry("x"), entry(SLICE, None, type=tarfile.LNKTYPE, linkname="x")], "is a hard link"),
    "second way": (
        [entry("short", None, type=tarfile.SYMTYPE, linkname="usr/lib"), entry("short/systemd/system/api.slice.d")],
        "'short/systemd/system/api.slice.d' leads through a link to 'usr/lib/systemd/system/api.slice.d', where the plan is written",
    ),
    "second way by the root": (
        [entry("a/b", None, type=tarfile.SYMTYPE, linkname="../.."), entry(f"a/b/{SLICE}")],
        "through a link",
    ),
    "folder in the place of a file": ([entry(SLICE, None)], "is a folder"),
    "folder for a file": ([entry("usr/lib", b"x")], "is a file"),
    "twice": ([entry("a"), entry("./a")], "in the artifact twice"),
    "twice ours": ([entry(SLICE, b"1"), entry(SLICE, b"2")], "in the artifact twice"),
    "block device": ([entry("dev/sda", None, type=tarfile.BLKTYPE, devmajor=8)], "device node"),
    "character device": ([entry("dev/null", None, type=tarfile.CHRTYPE)], "device node"),
    "not UTF-8": ([entry("caf\udce9", b"x")], "not UTF-8"),
    "control characters": ([entry("a\nb", b"x")], "control characters"),
    "unknown type": ([entry("a", b"", type=b"Q")], "unknown type"),
    "sparse": ([entry(SLICE, b"x", pax_headers=_SPARSE)], "sparse file"),
    "second name by a sparse header": ([entry(SLICE, b"x", pax_headers={"GNU.sparse.name": "a"})], "second name"),
    "name too long": ([entry("a/" * 3000 + "b")], "a name of 6001 bytes"),
    "link too long": ([entry("a", None, type=tarfile.SYMTYPE, linkname="a/" * 3000)], "a link of 6000 bytes"),
    "folder for a unit": ([entry(f"{UNITS}/user-api.service.d/10-cgroup-preflight.conf", None)], "is a folder"),
    "Arch package": ([entry(".PKGINFO", b"x")], "marks an Arch or Alpine package"),
    "huge extended header": ([entry("a", b"x", pax_headers={"comment": "x" * (2 << 20)})], "extended tar header of"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("codec", ["", "gz"])
def test_hostile_tar_is_refused_untouched(tmp_path: Path, name: str, codec: str) -> None:
    entries, words = HOSTILE[name]
    file = io.BytesIO()
    style = tarfile.PAX_FORMAT if any(info.pax_headers for info, _ in entries) else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=file, mode="w", format=style, errors="surrogateescape") as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if data is not None else None)
    data = PACKERS[codec](file.getvalue())
    path = write(tmp_path, "a", data)
    with pytest.raises(ArtifactError, match=words) as caught:
        put(path, force=True)
    assert caught.value.where == path
    assert caught.value.remedy.title
    assert Path(path).read_bytes() == data
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("size", [b"-0000000010", b"1_0", b"+10", b"0o17", b"\xff" * 12, b"\x81" + bytes(11), b"9"])
def test_sizes_that_unpackers_read_in_two_ways_are_refused(tmp_path: Path, size: bytes) -> None:
    block = bytearray(entry("a", b"")[0].tobuf(tarfile.GNU_FORMAT))
    block[124:136] = size.ljust(12, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    data = bytes(block) + bytes(10240)
    with pytest.raises(ArtifactError, match="tar header"):
        put(write(tmp_path, "a.tar", data))


@pytest.mark.parametrize("key", ["path", "size", "uname", "SCHILY.xattr.security.capability", "GNU.sparse.map"])
def test_a_header_for_all_members_may_not_change_ours(tmp_path: Path, key: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={key: "1"}):
        pass
    with pytest.raises(ArtifactError, match=f"header for all members sets '{key}'"):
        put(write(tmp_path, "a.tar", out.getvalue()))


def test_a_hard_link_to_a_file_that_has_to_change_is_refused(tmp_path: Path) -> None:
    link = entry("other", None, type=tarfile.LNKTYPE, linkname=SLICE)
    path = write(tmp_path, "a.tar", tar([entry(SLICE, b"x"), link]))
    with pytest.raises(ArtifactError, match="hard link to"):
        put(path, force=True)


def _raw_zip(name: str, mode: int = 0o100644, **fields: object) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        raw = name.encode("utf-8", "surrogateescape")
        info = zipfile.ZipInfo("placeholder"[: len(raw)].ljust(len(raw), "p"))
        info.external_attr, info.create_system = mode << 16, 3
        for key, value in fields.items():
            setattr(info, key, value)
        archive.writestr(info, b"data")
        placeholder = info.filename.encode()
    return file.getvalue().replace(placeholder, raw)


HOSTILE_ZIPS = {
    "climbs": (_raw_zip("../etc/x"), "leads out"),
    "absolute": (_raw_zip("/etc/passwd"), "absolute"),
    "backslash": (_raw_zip("..\\etc\\x"), "backslash"),
    "odd encoding": (_raw_zip("n\udce9"), "how its name is encoded"),
    "linked folder": (_raw_zip("usr", stat.S_IFLNK | 0o777), "symbolic link"),
    "linked file": (_raw_zip(SLICE, stat.S_IFLNK | 0o777), "symbolic link"),
    "device": (_raw_zip("dev", stat.S_IFBLK | 0o600), "device node"),
    "twice": (zipped([("a", b"1"), ("b", b"2")]).replace(b"b", b"a"), "in the artifact twice"),
    "second name": (_raw_zip("abc", extra=b"up\x08\x00\x01xxxxabd"), "second name"),
    "two names": (zipped([("abc", b"1")]).replace(b"abc", b"abd", 1), "second name"),
    "no end": (zipped([("a", b"1")])[:-4], "no end record"),
    "something behind": (zipped([("a", b"1")]) + b"\nmore", "no end record"),
}


@pytest.mark.parametrize("name", HOSTILE_ZIPS)
def test_hostile_zip_is_refused_untouched(tmp_path: Path, name: str) -> None:
    data, words = HOSTILE_ZIPS[name]
    path = write(tmp_path, "a.zip", data)
    with pytest.raises(ArtifactError, match=words):
        put(path, force=True)
    assert Path(path).read_bytes() == data


def test_zip_entries_that_only_some_unpackers_find_are_refused(tmp_path: Path) -> None:
    hidden = zipped([(SLICE, b"hidden")])
    hidden = hidden[: hidden.index(b"PK\x01\x02")]
    shown = zipped([("a", b"1"), ("b", b"2")])
    second = shown.index(b"PK\x03\x04", 4)
    for data in (hidden + shown, _moved(shown, second, hidden)):
        with pytest.raises(ArtifactError, match="its directory does not name"):
            put(write(tmp_path, "a.zip", data))


def _moved(data: bytes, at: int, more: bytes) -> bytes:
    """The zip with `more` at `at`, and the offsets behind it counted on."""
    out = bytearray(data[:at] + more + data[at:])
    directory = out.rindex(b"PK\x01\x02")
    out[directory + 42 : directory + 46] = (at + len(more)).to_bytes(4, "little")
    end = out.rindex(b"PK\x05\x06")
    out[end + 16 : end + 20] = out.index(b"PK\x01\x02").to_bytes(4, "little")
    return bytes(out)


def test_a_zip_that_says_twice_how_it_is_packed_is_refused(tmp_path: Path) -> None:
    data = zipped([("a", b"1" * 99)])
    with pytest.raises(ArtifactError, match="contradict each other"):
        put(write(tmp_path, "a.zip", data[:8] + b"\0\0" + data[10:]))


def test_zip_entries_that_share_a_body_are_refused(tmp_path: Path) -> None:
    data = zipped([("a", b"1"), ("b", b"1")])
    second = data.rindex(b"PK\x01\x02")
    data = data[: second + 42] + bytes(4) + data[second + 46 :]
    with pytest.raises(ArtifactError, match="share one body"):
        put(write(tmp_path, "a.zip", data))


def test_bombs_are_stopped_by_ratio_and_by_size(tmp_path: Path) -> None:
    # 80 MiB of zeros: above the floor where a ratio begins to count.
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0) as file:
        header, _ = entry("zeros", b"")
        header.size = 80 << 20
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(80):
            file.write(bytes(1 << 20))
        file.write(bytes(1024))
    path = write(tmp_path, "a.tar.gz", out.getvalue())
    with pytest.raises(ArtifactError, match="times its size") as caught:
        put(path)
    assert "--max-ratio" in caught.value.remedy.title
    with pytest.raises(ArtifactError, match="more than 1048576 bytes") as caught:
        put(path, limits=Limits(unpacked=1 << 20))
    assert "--max-size" in caught.value.remedy.title
    with pytest.raises(ArtifactError, match="more than 2 members"):
        put(write(tmp_path, "b.tar", tar([entry(str(n)) for n in range(3)])), limits=Limits(members=2))


def test_a_zip_that_says_it_is_large_is_a_bomb(tmp_path: Path) -> None:
    data = zipped([("zeros", bytes(70 << 20))])
    with pytest.raises(ArtifactError, match="times its size"):
        put(write(tmp_path, "a.zip", data))


def test_an_xz_that_wants_gigabytes_of_memory_is_refused(tmp_path: Path) -> None:
    head = bytearray(lzma.compress(b"x", lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]))
    head[16] = 40  # a dictionary of 4 GiB; the block header's checksum follows
    head[20:24] = zlib.crc32(head[12:20]).to_bytes(4, "little")
    with pytest.raises(ArtifactError, match=r"[Mm]emory"):
        put(write(tmp_path, "a.tar.xz", bytes(head)))


_TREES = {
    **{f"tar.{codec}" if codec else "tar": pack(tar(making.tree())) for codec, pack in PACKERS.items()},
    "zip": zipped([("usr/bin/user-api", b"elf" * 50), ("b/", b"")], b"note"),
}


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(_TREES)), share=st.floats(0.0, 0.999))
def test_truncated_files_are_refused(tmp_path_factory: pytest.TempPathFactory, kind: str, share: float) -> None:
    data = _TREES[kind]
    cut = data[: int(len(data) * share)]
    if kind == "tar":
        cut = cut[: len(data.rstrip(b"\0")) // 512 * 512]  # what is cut of the padding is not missed
    path = write(tmp_path_factory.mktemp("t"), f"a.{kind}", cut)
    with pytest.raises(ArtifactError):
        put(path)
    assert Path(path).read_bytes() == cut


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(_TREES)), at=st.floats(0.0, 0.9999), value=st.integers(0, 255))
@example(kind="tar", at=0.0, value=0)
def test_a_changed_byte_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, kind: str, at: float, value: int
) -> None:
    data = bytearray(_TREES[kind])
    data[int(len(data) * at)] = value
    path = write(tmp_path_factory.mktemp("t"), f"a.{kind}", bytes(data))
    with contextlib.suppress(ArtifactError):
        if put(path).changed:
            assert making.check(path).edit.empty
            return
    assert Path(path).read_bytes() == bytes(data)


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=600),
    head=st.sampled_from([b"", b"PK\x03\x04", b"!<arch>\n", b"\x1f\x8b\x08", b"BZh9", b"PK\x05\x06"]),
)
def test_any_bytes_at_all_give_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, head: bytes
) -> None:
    if set(data) <= {0} and not head:
        return
    with pytest.raises(ArtifactError):
        put(write(tmp_path_factory.mktemp("t"), "a", head + data))


@pytest.mark.parametrize(("size", "kept"), [(KEEP_MAX, True), (KEEP_MAX + 1, False)])
def test_a_unit_file_is_kept_up_to_its_limit(tmp_path: Path, size: int, kept: bool) -> None:
    data = b"#" * size
    found = making.check(write(tmp_path, "a.tar", tar([entry(making.SLICE, data)]))).scan.found[making.SLICE]
    assert (found.data == data) is kept
    assert found.sha256 == hashlib.sha256(data).hexdigest()
