"""Debian packages; real dpkg-deb and lintian have their say in tests/slow, dpkg itself in tests/lab."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.artifacts.model import ArtifactError
from tests.unit.artifacts import making
from tests.unit.artifacts.making import (
    CONTROL,
    DROP_IN,
    PACKERS,
    SLICE,
    UNPACKERS,
    ar,
    ar_parts,
    deb,
    entry,
    put,
    request,
    tar,
    write,
)

#: As those of other artifacts, but with the name of the package.
_SLICE, _DROP_IN = (path.replace("preflight.conf", "preflight-user-api.conf") for path in (SLICE, DROP_IN))
_MANIFEST = "usr/share/cgroup-preflight/user-api.json"


@pytest.mark.parametrize("codec", PACKERS)
def test_data_and_the_lists_that_follow_from_it(tmp_path: Path, codec: str) -> None:
    md5sums = b"11111111111111111111111111111111  usr/bin/user-api\n"
    path = write(tmp_path, "a.deb", deb(codec, md5sums=md5sums, postinst=b"#!/bin/sh\n"))
    old = ar_parts(Path(path).read_bytes())
    put(path)
    new = ar_parts(Path(path).read_bytes())
    assert list(new) == list(old)
    suffix = f".{codec}" if codec else ""
    data = making.members(UNPACKERS[codec](new[f"data.tar{suffix}"]))
    control = making.members(UNPACKERS[codec](new[f"control.tar{suffix}"]))
    # 3 files of less than 1 KiB; new folders: usr/lib, its two below, two of drop-ins, usr/share and ours.
    assert control["./control"] == CONTROL.replace(b"Installed-Size: 100", b"Installed-Size: 110")
    lines = control["./md5sums"].decode().splitlines()
    assert lines[0] == md5sums.decode().strip()
    assert [line[34:] for line in lines] == sorted(["usr/bin/user-api", _SLICE, _DROP_IN, _MANIFEST])
    for line in lines[1:]:
        assert hashlib.md5(data[f"./{line[34:]}"]).hexdigest() == line[:32]
    assert control["./postinst"] == b"#!/bin/sh\n"
    assert put(path).changed is False


def test_headers_of_rewritten_lists_keep_owner_mode_and_time(tmp_path: Path) -> None:
    path = write(tmp_path, "a.deb", deb("", md5sums=b""))
    before = _control(path)
    put(path)
    after = _control(path)
    assert [item.name for item in after] == [item.name for item in before]
    for old, new in zip(before, after, strict=True):
        assert (new.mode, new.uid, new.uname, new.mtime, new.type) == (
            old.mode,
            old.uid,
            old.uname,
            old.mtime,
            old.type,
        )


def test_a_new_plan_changes_the_lists_with_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.deb", deb("gz", md5sums=b""))
    put(path)
    once = Path(path).read_bytes()
    put(path, request(limit="1G"))
    put(path)
    assert ar_parts(Path(path).read_bytes()) == ar_parts(once), "there and back again"


def test_what_a_package_does_not_have_is_not_made_up(tmp_path: Path) -> None:
    path = write(tmp_path, "a.deb", deb("xz", control=b"Package: user-api\nVersion: 1\n"))
    put(path)
    control = making.members(UNPACKERS["xz"](ar_parts(Path(path).read_bytes())["control.tar.xz"]))
    assert control == {"./control": b"Package: user-api\nVersion: 1\n"}


@pytest.mark.parametrize("conffiles", [b"", b"/etc/other.conf\n"])
def test_files_below_etc_are_conffiles(tmp_path: Path, conffiles: bytes) -> None:
    lists = {"conffiles": conffiles} if conffiles else {}
    path = write(tmp_path, "a.deb", deb("xz", md5sums=b"", **lists))
    put(path, request(prefix="etc"))
    control = making.members(UNPACKERS["xz"](ar_parts(Path(path).read_bytes())["control.tar.xz"]))
    assert f"/etc/{_SLICE}" in control["./conffiles"].decode().splitlines()
    assert control["./conffiles"].startswith(conffiles)
    assert control["./md5sums"] == b""


def test_signatures_inside_are_named_and_kept(tmp_path: Path) -> None:
    path = write(tmp_path, "a.deb", deb("xz", more=[("_gpgorigin", b"signature")]))
    done = put(path)
    assert done.stale == ("_gpgorigin",)
    assert ar_parts(Path(path).read_bytes())["_gpgorigin"] == b"signature"


def test_what_stands_behind_the_data_stays(tmp_path: Path) -> None:
    """deb(5): dpkg ignores it, and so may whoever put it there rely on it."""
    path = write(tmp_path, "a.deb", deb("gz", more=[("extra", b"odd")]))
    put(path)
    assert list(ar_parts(Path(path).read_bytes()).items())[-1] == ("extra", b"odd")


_PAX = [entry("./", None), entry("./usr/share/" + "long" * 40, pax_headers={"comment": "x"})]
_BROKEN = {
    "pax headers in its data": (
        ar(
            [
                ("debian-binary", b"2.0\n"),
                ("control.tar", tar([entry("./control", CONTROL)])),
                ("data.tar", tar(_PAX, tarfile.PAX_FORMAT)),
            ]
        ),
        "dpkg refuses",
    ),
    "data twice": (deb(more=[("data.tar.xz", b"")]), "not a Debian package"),
    "not a package": (ar([("x.o", b"elf")]), "not a Debian package"),
    "format 3": (deb().replace(b"2.0\n", b"3.0\n"), "format"),
    "wrong order": (ar([("debian-binary", b"2.0\n"), ("data.tar", b""), ("control.tar", b"")]), "not a Debian package"),
    "odd packing": (deb().replace(b"data.tar.xz ", b"data.tar.zip"), "compression"),
    "no control": (deb(control=b""), "names no package"),
    "truncated": (deb()[:-50], r"truncated|too early"),
    "header": (deb().replace(b"`\n", b"``"), "damaged"),
}


@pytest.mark.parametrize("name", _BROKEN)
def test_broken_packages_are_refused_untouched(tmp_path: Path, name: str) -> None:
    data, words = _BROKEN[name]
    path = write(tmp_path, "a.deb", data)
    with pytest.raises(ArtifactError, match=words):
        put(path)
    assert Path(path).read_bytes() == data


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0.0, 0.9999), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, at: float, value: int) -> None:
    data = bytearray(_SAMPLE)
    data[int(len(data) * at)] = value
    path = write(tmp_path_factory.mktemp("d"), "a.deb", bytes(data))
    try:
        put(path)
    except ArtifactError:
        assert Path(path).read_bytes() == bytes(data)


_SAMPLE = deb("gz", md5sums=b"")


def _control(path: str) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(ar_parts(Path(path).read_bytes())["control.tar"])) as archive:
        return archive.getmembers()
