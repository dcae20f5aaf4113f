"""A package file comes when the real apt has verified it, from a mirror on this host."""

import hashlib
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cgroup_preflight.guest.arrivals import ARCHIVES, downloaded

pytestmark = [
    pytest.mark.starts_processes,
    pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt"),
]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror with the packages a and b, and a root whose apt knows it."""
    archive, root = tmp_path / "archive", tmp_path / "root"
    for name in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial", f"{ARCHIVES}/partial"):
        (root / name).mkdir(parents=True)
    archive.mkdir()
    text = ""
    for name in ("a", "b"):
        data = name.encode() * 5000
        (archive / f"{name}.deb").write_bytes(data)
        text += f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\nFilename: {name}.deb\n"
        text += f"Size: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"
    (archive / "Packages").write_text(text)
    (root / "status").touch()
    settings = (
        f'Dir "{root}"; Dir::State::Status "{root}/status"; APT::Sandbox::User "root"; Acquire::Languages "none";'
    )
    (tmp_path / "settings").write_text(f'{settings} Acquire::http::Proxy "DIRECT"; Acquire::Retries "0";')
    monkeypatch.setenv("MMDEBSTRAP_APT_CONFIG", str(tmp_path / "settings"))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "settings"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(archive))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] http://127.0.0.1:{server.server_port} ./\n")
        subprocess.run(["apt-get", "update", "-qq"], check=True, timeout=60)
        yield archive, root
        server.shutdown()


def test_what_has_the_checksum_of_the_list_comes(mirror):
    _, root = mirror
    assert sorted(file.name for file in downloaded(root, ["a", "b"])) == ["a_1_all.deb", "b_1_all.deb"]


@pytest.mark.parametrize("change", [b"x" * 5000, b"x" * 100, b"b" * 4999])
def test_a_file_that_is_another_one_never_comes(mirror, change):
    archive, root = mirror
    (archive / "b.deb").write_bytes(change)
    come = []
    with pytest.raises(subprocess.CalledProcessError):
        come.extend(file.name for file in downloaded(root, ["a", "b"]))
    assert "b_1_all.deb" not in come
    assert not (root / ARCHIVES / "b_1_all.deb").exists()
