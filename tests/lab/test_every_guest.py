"""Each distribution under each machine: the example, and a project with socket activation as nfpm packages it.

The report says what the services met: the versions of systemd and of the kernel, and those of the packages in the image.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.configs import said
from tests.lab.test_projects import greeter_project

_ROOT = Path(__file__).parents[2]
#: The versions of systemd, and of the kernels: of user-mode-linux, then of the distribution.
_SYSTEMD = {"debian-12": "252", "debian-13": "257", "debian-14": "262"}
_KERNELS = {"debian-12": r"6\.1\.", "debian-13": r"6\.12\.", "debian-14": r"7\.[2-9]"}
_MACHINES = ("uml", "qemu")
pytestmark = pytest.mark.newest


def _run(folder: Path, distro: str, machine: str, kernel: str = "") -> dict[str, Any]:
    """The report of a run in that guest."""
    words = [f'machine = "{machine}"', *([f'kernel = "{kernel}"'] if kernel else [])]
    with (folder / "cgroup-preflight.toml").open("a") as file:
        file.write("\n".join(("", "[target]", *words, "")))
    done = subprocess.run(
        [sys.executable, "-m", "cgroup_preflight", "run", f"--target={distro}", "--format=json=report.json"], cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_ROOT / "src")}, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    bad = [item["message"] for item in report["findings"] if item["status"] in ("fail", "unverified")]
    assert (done.returncode, report["verdict"], bad) == (0, "pass", []), done.stderr
    return report


def _example(folder: Path) -> Path:
    return Path(shutil.copytree(_ROOT / "examples" / "shop", folder / "shop"))


@pytest.mark.parametrize("machine", _MACHINES)
@pytest.mark.parametrize("distro", _SYSTEMD)
def test_the_example_passes_and_the_report_says_what_is_in_the_guest(tmp_path: Path, distro: str, machine: str) -> None:
    report = _run(_example(tmp_path), distro, machine)
    (where,) = (item["evidence"] for item in report["findings"] if item["code"] == "CGP512")
    assert (where["systemd"], report["host"]["systemd"]) == (_SYSTEMD[distro],) * 2
    assert re.match(_KERNELS[distro] if machine == "qemu" else r"[67]\.", where["kernel"])
    assert re.fullmatch(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", where["archive"])
    assert f"systemd {_SYSTEMD[distro]}" in where["packages"]
    assert ("linux-image" in where["packages"]) == (machine == "qemu")
    moving = f"{where['archive'].replace('-', '')}-" in where["image"]
    assert moving == (distro == "debian-14")


@pytest.mark.parametrize("machine", _MACHINES)
@pytest.mark.parametrize("distro", _SYSTEMD)
def test_a_project_with_socket_activation_passes(tmp_path: Path, distro: str, machine: str) -> None:
    project = greeter_project(tmp_path)
    report = _run(project, distro, machine)
    assert {"CGP501", "CGP503"} <= {code for code, _ in said(report, "greeter", "pass")}


def test_the_example_passes_on_a_kernel_of_backports(tmp_path: Path) -> None:
    report = _run(_example(tmp_path), "debian-13", "qemu", "backports")
    (where,) = (item["evidence"] for item in report["findings"] if item["code"] == "CGP512")
    assert tuple(map(int, where["kernel"].split(".")[:2])) >= (6, 16), where
    assert where["systemd"] == "257"
