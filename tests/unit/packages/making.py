"""Packages for tests: a deb laid out as dpkg-deb does, from a control file and the texts of files, and tar releases."""

from collections.abc import Mapping
from pathlib import Path

from cgroup_preflight.config.model import Config
from cgroup_preflight.packages.package_file import PackageFile, read_package
from tests.unit.artifacts.making import PACKERS, ar, entry, tar
from tests.unit.core.making import config_of

UNITS = "usr/lib/systemd/system"
SERVICE = "[Service]\nExecStart=/usr/bin/user-api\nMemoryMax=64M\n"
CONFIG = """
[slices.api]
TasksMax = 100
[services.user-api]
package = "user-api.deb"
slice = "api"
MemoryMax = "96M"
"""


def control(name: str = "user-api", version: str = "1.0", machine: str = "amd64", **fields: str) -> str:
    more = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in fields.items())
    return f"Package: {name}\nVersion: {version}\nArchitecture: {machine}\n{more}Description: x\n more\n"


def deb(files: Mapping[str, str], fields: str = "", codec: str = "gz") -> bytes:
    """A package with these files."""
    lists = [entry("./", None), entry("./control", (fields or control()).encode())]
    data = [entry(f"./{path}", text.encode(), mode=0o644) for path, text in files.items()]
    suffix = f".{codec}" if codec else ""
    return ar(
        [("debian-binary", b"2.0\n"), (f"control.tar{suffix}", PACKERS[codec](tar(lists))),
         (f"data.tar{suffix}", PACKERS[codec](tar(data)))]
    )  # fmt: skip


def release(files: Mapping[str, str], codec: str = "gz") -> bytes:
    """A tar archive with these files."""
    return PACKERS[codec](tar(entry(path, text.encode(), mode=0o644) for path, text in files.items()))


def package(folder: Path, data: bytes | None = None, name: str = "user-api.deb", **how: str) -> PackageFile:
    path = folder / name
    path.write_bytes(deb({f"{UNITS}/user-api.service": SERVICE}) if data is None else data)
    return read_package(str(path), name, **how)


def config(folder: Path, text: str = CONFIG) -> Config:
    return config_of(text, folder=str(folder))
