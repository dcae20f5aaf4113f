"""docs/tutorial.md, step by step on a new project: the commands as they stand on the page, and what the page says of them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "tutorial.md").read_text("utf-8")
_UNIT = "[Service]\nExecStart=/opt/shop/user-api --listen=:8080\nMemoryLimit=256M\nCPUShares=512\nCPUQuota=200.000%\n"


def _commands() -> list[str]:
    """The command lines of the page, in order, without their comments."""
    lines = re.findall(r"^    (?:\$ )?(cgroup-preflight .+)$", _PAGE, re.MULTILINE)
    return [re.split(r"\s+# ", line)[0].strip() for line in lines]


class _Project:
    """A folder with a built Go service, and the commands that were called in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "cgroup-preflight.toml"
        self.called: list[str] = []

    def call(self, line: str, *, times_out: float = 400) -> tuple[int, str]:
        """One command line of the page: its exit status, and what it printed."""
        assert line in _commands(), f"the page has no line {line!r}"
        self.called.append(line)
        argv = [sys.executable, "-m", "cgroup_preflight", *shlex.split(line)[1:]]
        done = subprocess.run(argv, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(_ROOT / "src")}, check=False,
                              capture_output=True, text=True, timeout=times_out)  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def limit(self, value: str) -> str:
        """Sets MemoryMax of the service; what it was."""
        text = self.config.read_text()
        section = text.index("[services.user-api]")
        before = re.compile(r'MemoryMax = "([^"]+)"').search(text, section)
        assert before
        self.config.write_text(text[: before.start(1)] + value + text[before.end(1) :])
        return before[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> _Project:
    built = _ROOT / "examples" / "shop" / "dist" / "user-api"
    if not built.is_file():
        pytest.skip("examples/shop is not built (nox builds it)")
    folder = tmp_path_factory.mktemp("shop")
    shutil.copytree(_ROOT / "examples" / "shop" / "user-api", folder / "user-api")
    (folder / "dist").mkdir()
    shutil.copy(built, folder / "dist")
    (folder / "deploy" / "systemd").mkdir(parents=True)
    (folder / "deploy" / "systemd" / "user-api.service").write_text(_UNIT)
    return _Project(folder)


def test_the_steps_of_the_page_lead_to_a_verdict(project: _Project) -> None:
    status, said = project.call("cgroup-preflight check")
    assert (status in (0, 1, 3), said.split(":")[0] in ("CHECKED", "FAIL", "UNVERIFIED")) == (True, True), said
    if status:
        assert "read:" in said
        assert "do:" in said
    assert project.call("cgroup-preflight init")[0] == 0
    made = project.config.read_text()
    assert 'binary = "dist/user-api"' in made
    assert project.call("cgroup-preflight init")[0] == 2, "init never overwrites a file"
    assert project.config.read_text() == made

    before = project.limit("128MB")
    status, said = project.call("cgroup-preflight slices")
    assert status == 2
    assert re.search(r"cgroup-preflight\.toml:\d+: MemoryMax: '128MB' is not a size\n +use 128M", said), said
    project.limit(before)

    status, said = project.call("cgroup-preflight run")
    assert (status, said.startswith("PASS: ") or "\nPASS: " in said) == (0, True), said
    columns = re.search(r"^service +MemoryMax +peak +headroom .*throttled +limits +result$", said, re.MULTILINE)
    assert columns, said

    assert project.limit("1M") == before
    (tiny,) = re.findall(r"```toml\n(\[smoke\]\n.*?)```", _PAGE, re.DOTALL)
    text = project.config.read_text()
    project.config.write_text(text + tiny if "\n[smoke]\n" not in text else text.replace("[smoke]\n", tiny))
    status, said = project.call("cgroup-preflight run")
    assert status == 1, said
    assert re.search(r"^FAIL: ", said, re.MULTILINE), said
    assert re.search(r"raise MemoryMax to 16M", said), said
    project.config.write_text(made)


def test_what_ships_has_exactly_this_plan(project: _Project) -> None:
    """After the steps above; a gate that passes, and one that does not."""
    if not project.config.exists():
        project.call("cgroup-preflight init")
    assert project.call("cgroup-preflight slices --out units/")[0] == 0
    assert list((project.folder / "units").rglob("*.slice"))
    subprocess.run(["tar", "-czf", "dist/shop.tar.gz", "-C", "dist", "user-api"], cwd=project.folder, check=True)
    assert project.call("cgroup-preflight inject --check dist/shop.tar.gz")[0] == 1
    status, said = project.call("cgroup-preflight run --format json=report.json")
    assert status == 0, said
    status, said = project.call("cgroup-preflight inject --report report.json dist/shop.tar.gz")
    assert status == 0, said
    status, said = project.call("cgroup-preflight inject --check dist/shop.tar.gz")
    assert status == 0, said


def test_existing_unit_files_are_taken_over_as_the_table_says(project: _Project, tmp_path: Path) -> None:
    shutil.copytree(project.folder / "deploy", tmp_path / "deploy")
    other = _Project(tmp_path)
    status, said = other.call("cgroup-preflight init --from-units deploy/systemd")
    assert status == 0, said
    made = other.config.read_text()
    assert 'unit = "deploy/systemd/user-api.service"' in made
    assert 'MemoryMax = "256M"' in made
    assert "CPUWeight = 50" in made.replace('"', "")
    assert re.search(r"^# not taken over: .*CPUQuota", made, re.MULTILINE), made


def test_every_command_of_the_page_is_tried() -> None:
    """`init --installed` asks the systemd of this host, and the lab has it elsewhere (test_installed_units.py)."""
    tried = set(re.findall(r'call\("(cgroup-preflight [^"]+)"\)', Path(__file__).read_text("utf-8")))
    assert set(_commands()) - tried == {"cgroup-preflight init --installed redis-server"}
