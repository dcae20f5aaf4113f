"""README's two commands on a machine that has Python and nothing else: a root of Debian with `python3` and no more.

It needs root, and minutes for each Debian: `nox -s lab -- -m measured -k bare`.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.measured
_ROOT = Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text("utf-8")
_TIMEOUT = 1500
#: What makes a network work there as it does here: names, certificates, the settings of pip and apt.
_SETTINGS = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/xdg/pip/pip.conf", "/etc/xdg/pip/constraints.txt")
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
#: In a mount namespace of its own, so that nothing stays mounted.
_ENTER = """\
mount --make-rprivate / && mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" || exit 99
exec chroot "$0" /usr/bin/env --chdir=/src "$@"
"""


def _commands() -> list[str]:
    """The two lines below `## Two commands`."""
    (part,) = [part for part in _README.split("\n## ") if part.startswith("Two commands")]
    return [line.strip() for line in part.splitlines() if line.startswith("    ")]


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a minimal Debian with python3, and this checkout in /src."""
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.skip("needs root and mmdebstrap")
    root = tmp_path_factory.mktemp("bare") / "root"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3", request.param, str(root)],
        timeout=_TIMEOUT, check=True,
    )  # fmt: skip
    files = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, check=True, timeout=60).stdout
    for name in filter(None, files.decode().split("\0")):
        (root / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_ROOT / name, root / "src" / name)
    for name in _SETTINGS:
        if os.path.exists(name):
            (root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, root / name.lstrip("/"))
    for path in Path("/etc/apt/apt.conf.d").glob("99*"):
        shutil.copyfile(path, root / "etc/apt/apt.conf.d" / path.name)
    if os.path.exists(_CERTIFICATES):
        shutil.copyfile(_CERTIFICATES, root / "certificates.crt")
    return root


def _call(root: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    if (root / "certificates.crt").exists():
        environment |= {"PIP_CERT": "/certificates.crt", "SSL_CERT_FILE": "/certificates.crt"}
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, str(root), *command.split()],
        env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False,
    )  # fmt: skip


def test_the_two_commands_do_all_the_set_up(bare: Path) -> None:
    preflight, tests = _commands()
    assert not (bare / "usr/bin/pip").exists()
    done = _call(bare, preflight)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nPASS: 21 limits of 3 services are in force" in done.stdout
    # The fast tests take minutes more, and run everywhere else.
    done = _call(bare, f"{tests} -- -k test_wrap")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed in " in done.stdout


def test_without_root_the_missing_package_is_named(bare: Path) -> None:
    """Before anything else has installed it, an ordinary user is told what to install."""
    shutil.rmtree(bare / "src" / ".nox", ignore_errors=True)
    name = next(path.name for path in (bare / "usr/bin").glob("python3.[0-9]*"))
    for path in (bare / "usr/lib" / name).glob("ensurepip"):
        shutil.rmtree(path)
    done = _call(bare, "setpriv --reuid=1000 --regid=1000 --clear-groups python3 ci/bootstrap.py -l")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"sudo apt-get install --yes --no-install-recommends {name}-venv" in done.stderr
