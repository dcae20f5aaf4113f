"""Packages are unpacked as dpkg would, and its database says so. `dpkg-deb`, `chroot` and `unshare` are played."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from cgroup_preflight.guest.maintainer import CONFIGURE, is_known
from cgroup_preflight.guest.unpack import unpack

EXCLUDED = ("/usr/share/man/*", "/usr/share/doc/*")
#: A package file here has its two archives next to it.
_PLAYED = {
    "dpkg-deb": 'case $1 in --ctrl-tarfile) cat "$2.control";; --fsys-tarfile) cat "$2.data";; esac',
    "chroot": 'printf "%s\\n" "$@" > "$LOG.chroot"',
    "unshare": 'printf "%s\\n" "$@" > "$LOG.unshare"; [ "$2" = true ] || test -x root/usr/sbin/policy-rc.d',
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in _PLAYED.items():
        (folder / name).write_text(f"#!/bin/sh\nset -e\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.chdir(tmp_path)
    for name in ("var/cache/apt/archives", "usr/sbin"):
        (tmp_path / "root" / name).mkdir(parents=True)
    return Path("root")


def _archive(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content or b""))
    return stream.getvalue()


def put(root, name, fields, files, **control):
    """The package file of `name`: lines of its control file after the name, files to unpack, further control files."""
    file = root / f"var/cache/apt/archives/{name}_1_amd64.deb"
    file.touch()
    text = f"Package: {name}\n{fields}"
    control = {f"./{key}": value.encode() for key, value in {"control": text, **control}.items()}
    Path(f"{file}.control").write_bytes(_archive({"./": None, **control}))
    Path(f"{file}.data").write_bytes(_archive({"./": None, **files}))


@pytest.mark.starts_processes
def test_files_and_the_database(root):
    put(
        root,
        "base-files",
        "Version: 12\nArchitecture: amd64\n",
        {"./lib/": None, "./lib/os": b"x"},
        postinst="#!/bin/sh\n",
    )
    put(root, "libx", "Version: 1\nArchitecture: amd64\nMulti-Arch: same\nDescription: x\n more\n",
        {"./etc/": None, "./etc/x.conf": b"x=1\n", "./usr/share/doc/": None, "./usr/share/doc/x": b"", "./usr/lib/a\\x2db": b""},
        conffiles="/etc/x.conf\n", triggers="# comment\ninterest-noawait /usr/lib/x\ninterest ldconfig\nactivate-noawait y\n")  # fmt: skip
    unpack(root, EXCLUDED)
    assert (root / "lib").readlink() == Path("usr/lib")
    assert (root / "usr/lib/os").read_bytes() == b"x"
    assert not (root / "usr/share/doc/x").exists()
    info = root / "var/lib/dpkg/info"
    assert (info / "libx:amd64.list").read_text().splitlines() == [
        "/.", "/etc", "/etc/x.conf", "/usr/share/doc", "/usr/lib/a\\x2db",
    ]  # fmt: skip
    assert (info / "base-files.postinst").stat().st_mode & 0o777 == 0o755
    assert (info / "libx:amd64.conffiles").stat().st_mode & 0o111 == 0
    assert (root / "var/lib/dpkg/status").read_text() == (
        "Package: base-files\nStatus: install ok installed\nVersion: 12\nArchitecture: amd64\n\n"
        "Package: libx\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nMulti-Arch: same\n"
        "Description: x\n more\nConffiles:\n /etc/x.conf f968f33f844c98de1d3b4fe70f2e1a0f\n"
    )
    triggers = root / "var/lib/dpkg/triggers"
    assert (triggers / "File").read_text() == "/usr/lib/x libx/noawait\n"
    assert (triggers / "ldconfig").read_text() == "libx\n"
    assert Path("log.chroot").read_text() == f"root\n/bin/sh\n-euc\n{CONFIGURE}\n"
    assert not Path("log.unshare").exists()


@pytest.mark.starts_processes
def test_a_package_with_scripts_that_nobody_has_read_is_left_to_dpkg(root):
    put(root, "redis-server", "Version: 7\nArchitecture: amd64\n", {"./redis": b""}, postinst="#!/bin/sh\n")
    put(root, "plain", "Version: 7\nArchitecture: all\n", {"./plain": b""}, postrm="#!/bin/sh\n")
    unpack(root, EXCLUDED)
    assert not (root / "redis").exists()
    assert (root / "plain").exists()
    assert "redis" not in (root / "var/lib/dpkg/status").read_text()
    words = Path("log.unshare").read_text().splitlines()
    assert words[-2:] == ["root", "/var/cache/apt/archives/redis-server_1_amd64.deb"]
    assert not (root / "usr/sbin/policy-rc.d").exists()


@pytest.mark.starts_processes
@pytest.mark.parametrize("broken", ["control", "data"])
def test_a_damaged_package_ends_the_build(root, broken):
    put(root, "plain", "Version: 7\nArchitecture: all\n", {"./plain": b""})
    (root / f"var/cache/apt/archives/plain_1_amd64.deb.{broken}").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        unpack(root, EXCLUDED)


@pytest.mark.parametrize(
    ("package", "known"),
    [("systemd", True), ("python3.13-minimal", True), ("linux-image-6.1.0-44-cloud-amd64", True), ("systemd-timesyncd", False),
     ("python3-pip", False), ("redis-server", False), ("linux-image-cloud-amd64-dbg", False)],
)  # fmt: skip
def test_only_packages_that_have_been_read_are_known(package, known):
    assert is_known(package) is known
