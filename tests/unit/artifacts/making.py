"""Artifacts and requests for tests, made with other tools than those under test: tarfile, zipfile, dpkg-deb."""

import bz2
import gzip
import io
import lzma
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cgroup_preflight.artifacts import inject, manifest
from cgroup_preflight.artifacts.content import ContentRequest, Tested
from cgroup_preflight.artifacts.inject import Comparison, InjectOptions, Written
from cgroup_preflight.plan.build import build_plan
from tests.unit.core.making import config_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

UNITS = "usr/lib/systemd/system"
SLICE = f"{UNITS}/api.slice.d/10-cgroup-preflight.conf"
DROP_IN = f"{UNITS}/user-api.service.d/10-cgroup-preflight.conf"
#: The slice's own file, which packages bring and this tool leaves alone.
SLICE_UNIT = f"{UNITS}/api.slice"
MANIFEST = "usr/share/cgroup-preflight/shop.json"
TIME = 1_700_000_000
ONE_SERVICE = """
[slices.api]
MemoryMax = "{limit}"
[services.user-api]
binary = "dist/user-api"
slice = "api"
CPUQuota = "50%"
"""
PACKERS = {
    "": lambda data: data,
    "gz": lambda data: gzip.compress(data, mtime=TIME),
    "xz": lzma.compress,
    "zst": zstd.compress,
    "bz2": bz2.compress,
}
UNPACKERS = {
    "": lambda data: data,
    "gz": gzip.decompress,
    "xz": lzma.decompress,
    "zst": zstd.decompress,
    "bz2": bz2.decompress,
}


def request(text: str = ONE_SERVICE, *, limit: str = "192M", **more: Any) -> ContentRequest:
    plan = build_plan(config_of(text.replace("{limit}", limit)))
    more = {"services": "all", **more}  # Most artifacts of the tests hold no program.
    return ContentRequest(plan=plan, config_sha256=more.pop("config_sha256", "c" * 64), **more)


def proof(**digests: str) -> Tested:
    return Tested(verdict="pass", binaries={name.replace("_", "-"): digest for name, digest in digests.items()})


def entry(name: str, data: bytes | None = b"x", **more: Any) -> tuple[tarfile.TarInfo, bytes | None]:
    """A file, or with None a folder unless `type` says otherwise."""
    info = tarfile.TarInfo(name)
    info.mtime, info.mode = TIME, 0o755
    if data is None:
        info.type = tarfile.DIRTYPE
    info.size = len(data or b"")
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def tar(entries: Iterable[tuple[tarfile.TarInfo, bytes | None]], style: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=style) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if data is not None else None)
    return file.getvalue()


def tree() -> list[tuple[tarfile.TarInfo, bytes | None]]:
    """What a build might pack: folders, program, links, an odd owner, attributes."""
    return [
        entry("usr/", None),
        entry("usr/bin/", None),
        entry("usr/bin/user-api", b"\x7fELF" + bytes(5000), uid=1234, gid=99, uname="me", gname="us", mode=0o4711),
        entry("usr/bin/twin", None, type=tarfile.LNKTYPE, linkname="usr/bin/user-api"),
        entry("usr/bin/alias", None, type=tarfile.SYMTYPE, linkname="user-api"),
        entry("usr/share/" + "long" * 40 + "/file", b"text", pax_headers={"SCHILY.xattr.user.x": "y", "comment": "ä"}),
    ]


def write(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def zipped(entries: Iterable[tuple[str, bytes]], comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 2, 3, 4, 6)), data, zipfile.ZIP_DEFLATED)
        archive.comment = comment
    return file.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    """Content by name, as tarfile unpacks it."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {item.name: (archive.extractfile(item) or io.BytesIO()).read() for item in archive if item.isfile()}


def put(path: str, goal: ContentRequest | None = None, **how: Any) -> Written:
    return inject.put(path, goal or request(), InjectOptions(**how))


def check(path: str, goal: ContentRequest | None = None) -> Comparison:
    return inject.compare(path, goal or request(), InjectOptions(force=True))


def manifest_in(data: bytes) -> manifest.Manifest:
    found = manifest.parse(data)
    assert found is not None
    return found


def ar(parts: Iterable[tuple[str, bytes]]) -> bytes:
    out = b"!<arch>\n"
    for name, data in parts:
        out += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name.encode(), TIME, 0, 0, b"100644", len(data)) + data
        out += b"\n" * (len(data) % 2)
    return out


CONTROL = b"Package: user-api\nVersion: 1.0\nInstalled-Size: 100\nArchitecture: amd64\nDescription: x\n more\n"


def deb(codec: str = "xz", control: bytes = CONTROL, more: Iterable[tuple[str, bytes]] = (), **lists: bytes) -> bytes:
    """A package as dpkg-deb lays it out: folders named, `./` before each name, root everywhere."""
    suffix = f".{codec}" if codec else ""
    files = [entry("./", None), entry("./control", control, mode=0o644)]
    files += [entry(f"./{name}", data, mode=0o644) for name, data in lists.items()]
    data = [entry(f"./{info.name}", data) for info, data in tree()[:3]]
    parts = [("debian-binary", b"2.0\n"), (f"control.tar{suffix}", PACKERS[codec](tar(files)))]
    return ar([*parts, (f"data.tar{suffix}", PACKERS[codec](tar([entry("./", None), *data]))), *more])


def ar_parts(data: bytes) -> dict[str, bytes]:
    parts, at = {}, 8
    while at < len(data):
        name, size = data[at : at + 16].decode().strip(), int(data[at + 48 : at + 58])
        parts[name] = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return parts
