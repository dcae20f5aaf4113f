"""Two Go projects as they ship, each tried at the first try: `init`, `run`, `inject`, and `inject --check`.

`greeter` is packaged by nfpm and started by its socket; `ticker` has the layout of GoReleaser, its own user and
Type=notify. Their sources are in tests/fixtures/go.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.lab.configs import said

_REPOSITORY = Path(__file__).parents[2]
_SOURCES = _REPOSITORY / "tests/fixtures/go"
_NAME = "ticker_1.2.3_linux_amd64"


def _sh(folder: Path, *words: str, timeout: float = 60.0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY / "src")}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _preflight(folder: Path, *words: str, timeout: float = 60.0) -> str:
    return _sh(folder, sys.executable, "-m", "cgroup_preflight", *words, timeout=timeout)


def _nfpm(folder: Path, target: str) -> None:
    nfpm = shutil.which("nfpm", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if nfpm is None:
        pytest.fail("nfpm is not installed: run `nox -s lab`, which installs it", pytrace=False)
    _sh(folder, nfpm, "package", "--packager", "deb", "--target", target)


def _project(folder: Path, name: str, built: str) -> Path:
    """The project with its program built, as GoReleaser or a Makefile leaves it."""
    project = folder / name
    shutil.copytree(_SOURCES / name, project)
    program = project / built
    program.parent.mkdir(parents=True)
    shutil.copy(Path(os.environ["CGPF_LAB_FIXTURES"]) / name, program)
    return project


def _greeter(folder: Path) -> Path:
    project = _project(folder, "greeter", "dist/greeter")
    _nfpm(project, "dist/")
    return project


def greeter_project(folder: Path) -> Path:
    """The project with its config, ready to run."""
    project = _greeter(folder)
    _preflight(project, "init", "--from-units", "deploy")
    return project


def _ticker(folder: Path) -> Path:
    project = _project(folder, "ticker", "dist/ticker_linux_amd64_v1/ticker")
    _nfpm(project, f"dist/{_NAME}.deb")
    with tarfile.open(project / f"dist/{_NAME}.tar.gz", "w:gz") as archive:  # wrap_in_directory: true
        archive.add(project / "dist/ticker_linux_amd64_v1/ticker", f"{_NAME}/ticker")
        archive.add(project / "deploy/ticker.service", f"{_NAME}/deploy/ticker.service")
    _write_checksums(project / "dist")
    return project


def _write_checksums(dist: Path) -> None:
    lines = [f"{_sha256(path)}  {path.name}\n" for path in sorted(dist.glob(f"{_NAME}.*"))]
    (dist / "ticker_1.2.3_checksums.txt").write_text("".join(lines))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _members(path: Path) -> list[str]:
    if path.suffix == ".deb":
        listing = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(path)], capture_output=True, check=True).stdout
        tar = subprocess.run(["tar", "-t"], input=listing, capture_output=True, check=True).stdout
        return [name.removeprefix("./") for name in tar.decode().splitlines()]
    with tarfile.open(path) as archive:
        return archive.getnames()


def _whole_way(project: Path, artifacts: list[Path]) -> None:
    """Each step ends with status 0, and the artifacts have the drop-in and the proof in the end."""
    name = project.name
    _preflight(project, "init", "--from-units", "deploy")
    report = project / "report.json"
    _preflight(project, "run", "--target=debian-12", "--format=json=report.json", timeout=400)
    found = json.loads(report.read_text())
    assert said(found, name, "fail", "unverified") == []
    assert {"CGP501", "CGP503"} <= {code for code, _ in said(found, name, "pass")}
    names = [str(path.relative_to(project)) for path in artifacts]
    _preflight(project, "inject", "--report", "report.json", "--rewrite-checksums", *names)
    _preflight(project, "inject", "--check", "--report", "report.json", *names)
    for path in artifacts:
        inside = _members(path)
        assert any(f"{name}.service.d/10-cgroup-preflight" in member for member in inside), path
        assert any(member.endswith(f"usr/share/cgroup-preflight/{name}.json") for member in inside), path


def test_a_project_with_socket_activation_packaged_by_nfpm(tmp_path: Path) -> None:
    project = _greeter(tmp_path)
    _whole_way(project, sorted((project / "dist").glob("*.deb")))


def test_a_project_with_a_user_and_type_notify_in_the_layout_of_goreleaser(tmp_path: Path) -> None:
    project = _ticker(tmp_path)
    artifacts = sorted((project / "dist").glob(f"{_NAME}.*"))
    assert [path.suffix for path in artifacts] == [".deb", ".gz"]
    _whole_way(project, artifacts)
    before = (project / "dist/ticker_1.2.3_checksums.txt").read_text()
    _write_checksums(project / "dist")
    assert before == (project / "dist/ticker_1.2.3_checksums.txt").read_text()
    top = f"{_NAME}/usr/lib/systemd/system/ticker.service.d"
    assert any(member.startswith(top) for member in _members(artifacts[1]))
