"""Packages of one plan under a real dpkg, in a root of their own: any of them, in any order."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.artifacts.making import CONTROL, PACKERS, UNITS, ar, entry, put, request, tar, write

pytestmark = [
    pytest.mark.starts_processes,
    pytest.mark.skipif(
        not shutil.which("dpkg") or os.geteuid() != 0, reason="needs dpkg, and root for its database"
    ),
]  # fmt: skip
_PLAN = """
[slices.shop]
MemoryMax = "{limit}"
[slices.shop-api]
CPUQuota = "80%"
[services.user-api]
binary = "dist/user-api"
slice = "shop-api"
MemoryMax = "64M"
[services.billing]
binary = "dist/billing"
slice = "shop-api"
[services.worker]
binary = "dist/worker"
slice = "shop"
"""
_NAMES = ("user-api", "billing", "worker")


def _package(folder: Path, name: str, version: str, limit: str) -> str:
    """A package with one program and its unit; `user-api` has a slice of its own, too."""
    control = CONTROL.replace(b"user-api", f"shop-{name}".encode()).replace(b"1.0", version.encode())
    control = control.replace(b"Architecture: amd64", b"Architecture: all\nMaintainer: A B <a@debian.org>")
    members = [(f"usr/bin/{name}", b"elf"), (f"{UNITS}/{name}.service", b"[Service]\nExecStart=/bin/true\n")]
    if name == "user-api":
        members.append((f"{UNITS}/shop-api.slice", b"[Slice]\nIOWeight=50\n"))
    folders = sorted({parent for path, _ in members for parent in _parents(path)})
    data = [entry("./", None), *(entry(f"./{item}/", None) for item in folders)]
    data += [entry(f"./{path}", content) for path, content in members]
    lists = tar([entry("./", None), entry("./control", control, mode=0o644)])
    parts = [("control.tar.gz", PACKERS["gz"](lists)), ("data.tar.gz", PACKERS["gz"](tar(data)))]
    path = write(folder, f"{name}-{version}.deb", ar([("debian-binary", b"2.0\n"), *parts]))
    done = put(path, request(_PLAN, limit=limit, services="present"))
    assert done.changed
    return path


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _dpkg(root: Path, *words: str) -> None:
    argv = ["dpkg", f"--root={root}", "--force-script-chrootless", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _files(root: Path) -> set[str]:
    return {
        str(path.relative_to(root)) for path in root.rglob("*")
        if not str(path.relative_to(root)).startswith("var/")
    }  # fmt: skip


def test_any_packages_of_a_plan_install_upgrade_and_purge_in_any_order(tmp_path: Path) -> None:
    old = {name: _package(tmp_path, name, "1.0", "192M") for name in _NAMES}
    new = {name: _package(tmp_path, name, "2.0", "256M") for name in _NAMES}
    orders = [*itertools.permutations(_NAMES, 2), _NAMES, _NAMES[::-1]]
    for number, order in enumerate(orders):
        root = tmp_path / f"root{number}"
        for folder in ("updates", "info"):
            (root / "var/lib/dpkg" / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        before = _files(root)
        for name in order:
            _dpkg(root, "--install", old[name])
        _dpkg(root, "--install", new[order[0]])
        for name in order:
            text = (root / f"{UNITS}/shop.slice.d/10-cgroup-preflight-shop-{name}.conf").read_text()
            assert ("MemoryMax=256M" if name == order[0] else "MemoryMax=192M") in text
        _dpkg(root, "--verify", *(f"shop-{name}" for name in order))
        for name in reversed(order):
            _dpkg(root, "--purge", f"shop-{name}")
        assert _files(root) - before == set()


def test_a_slice_of_the_package_keeps_its_other_settings(tmp_path: Path) -> None:
    path = _package(tmp_path, "user-api", "1.0", "192M")
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], capture_output=True, timeout=60, check=True)
    (tmp_path / "data.tar").write_bytes(done.stdout)
    text = subprocess.run(
        ["tar", "-xOf", str(tmp_path / "data.tar"), f"./{UNITS}/shop-api.slice"],
        capture_output=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert text == b"[Slice]\nIOWeight=50\n"
