"""What Debian's own tools say of packages that were injected into: dpkg-deb, lintian, zip and tar programs.

Needs dpkg-deb and lintian; `apt-get install lintian`.
"""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]
_CONFIG = """
[project]
name = "shop"
[slices.api]
MemoryMax = "192M"
[services.demo]
binary = "demo"
slice = "api"
"""
_CONTROL = """\
Package: demo
Version: 1.0-1
Architecture: all
Maintainer: A B <a@debian.org>
Installed-Size: 10
Section: net
Priority: optional
Description: demonstrates limits
 It does nothing else.
"""
_UNIT = "[Unit]\nDescription=x\nDocumentation=https://debian.org\n[Service]\nExecStart=/usr/bin/demo\n[Install]\nWantedBy=multi-user.target\n"
_LOG = "demo (1.0-1) unstable; urgency=low\n\n  * x.\n\n -- A B <a@debian.org>  Mon, 01 Jan 2024 00:00:00 +0000\n"


def _run(*argv: str, cwd: Path | None = None, check: bool = True) -> str:
    environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY / "src"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done
    return done.stdout


def _tree(root: Path) -> None:
    files = {
        "DEBIAN/control": _CONTROL,
        "DEBIAN/conffiles": "/etc/demo.conf\n",
        "etc/demo.conf": "x\n",
        "usr/bin/demo": "#!/bin/sh\nexec sleep 1000\n",
        "usr/lib/systemd/system/demo.service": _UNIT,
        "usr/share/doc/demo/copyright": "Copyright 2024 A B\nLicense: Apache-2.0\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "usr/bin/demo").chmod(0o755)
    (root / "usr/share/doc/demo/changelog.Debian.gz").write_bytes(gzip.compress(_LOG.encode(), 9, mtime=0))
    names = sorted(str(path.relative_to(root)) for path in root.glob("usr/**/*") if path.is_file())
    (root / "DEBIAN/md5sums").write_text(_run("md5sum", *names, cwd=root))


@pytest.mark.parametrize("uniform", ["--uniform-compression", "--no-uniform-compression"])
@pytest.mark.parametrize("packing", ["none", "gzip", "xz", "zstd"])
def test_dpkg_deb_reads_every_packing(tmp_path: Path, packing: str, uniform: str) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    _tree(root)
    _run("dpkg-deb", "--root-owner-group", uniform, f"-Z{packing}", "-b", str(root), str(tmp_path / "demo.deb"))
    before = _run("ar", "t", str(tmp_path / "demo.deb"))
    listing = _run("dpkg-deb", "-c", str(tmp_path / "demo.deb"))
    (tmp_path / "cgroup-preflight.toml").write_text(_CONFIG)
    _run(sys.executable, "-m", "cgroup_preflight", "inject", "demo.deb", cwd=tmp_path)
    once = (tmp_path / "demo.deb").read_bytes()
    _run(sys.executable, "-m", "cgroup_preflight", "inject", "demo.deb", cwd=tmp_path)
    assert (tmp_path / "demo.deb").read_bytes() == once
    assert _run("ar", "t", str(tmp_path / "demo.deb")) == before
    assert _run("dpkg-deb", "-c", str(tmp_path / "demo.deb")).startswith(listing)
    _run("dpkg-deb", "-R", str(tmp_path / "demo.deb"), str(out))
    _run("md5sum", "--strict", "--quiet", "-c", "DEBIAN/md5sums", cwd=out)
    files = {str(path.relative_to(out)) for path in out.glob("usr/**/*") if path.is_file()}
    assert {line[34:] for line in (out / "DEBIAN/md5sums").read_text().splitlines()} == files
    # dpkg-gencontrol's rule: 1 KiB begun for each file, 1 KiB for each folder; 3 files, 2 new folders here.
    assert "Installed-Size: 15\n" in (out / "DEBIAN/control").read_text()


def test_lintian_finds_nothing_that_it_did_not_find_before(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _tree(root)
    _run("dpkg-deb", "--root-owner-group", "-Zxz", "-b", str(root), str(tmp_path / "demo.deb"))
    (tmp_path / "cgroup-preflight.toml").write_text(_CONFIG)
    # Errors and warnings; hints such as "no init.d script" come for any file below systemd/.
    argv = ("lintian", "--allow-root", "--no-cfg", "--fail-on", "none", str(tmp_path / "demo.deb"))
    before = _run(*argv)
    _run(sys.executable, "-m", "cgroup_preflight", "inject", "demo.deb", cwd=tmp_path)
    assert set(_run(*argv).splitlines()) <= set(before.splitlines())
