"""The Ansible role, with real ansible-core, against hosts in namespaces of their own whose service managers are played."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.helpers import ROOT, run

CONFIG = """
[project]
name = "fleet"
[rollout]
steps = ["50%", "100%"]
[rollout.slices.a]
CPUQuota = "100%"
"""
HERE = Path(__file__).parent


@pytest.fixture
def fleet(tmp_path):
    """`fleet({name: scenario}, **variables)`: exit status, output, the merged report and its Markdown."""
    namespace = subprocess.run(["unshare", "--mount", "--uts", "true"], capture_output=True, check=False)
    if namespace.returncode:
        pytest.skip("needs the right to make namespaces: run this as root")
    playbook = shutil.which("ansible-playbook", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert playbook, "ansible-core is not installed; run this through `nox -s clients`"
    tool = f'["{sys.executable}", "-m", "tests.clients.played_host", "/srv"]'
    local = tmp_path / "tool.sh"
    local.write_text(f'#!/bin/sh\nexec env PYTHONPATH="{ROOT}/src" "{sys.executable}" -m cgroup_preflight "$@"\n')
    local.chmod(0o755)
    (tmp_path / "cgroup-preflight.toml").write_text(CONFIG)

    def start(scenarios, *words, **variables):
        lines = []
        for name, scenario in scenarios.items():
            folder = tmp_path / "machines" / name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / "scenario").write_text(scenario)
            if scenario == "unreachable":
                (folder / "unreachable").touch()
            command = '["/absent/tool"]' if scenario == "no tool" else tool
            lines.append(f"{name} host_folder={folder} rollout_command='{command}'\n")
        (tmp_path / "inventory").write_text(
            "".join(lines) + f"[all:vars]\nansible_connection=namespaced\nansible_python_interpreter={sys.executable}\n"
        )
        given = {
            "rollout_local_command": [str(local)], "rollout_folder": f"{tmp_path}/reports", "rollout_become": False,
            "rollout_config": f"{tmp_path}/cgroup-preflight.toml", "rollout_config_on_host": "/srv/cgroup-preflight.toml",
            "rollout_state": "/srv", "rollout_serial": [1, 2, "100%"], **variables,
        }  # fmt: skip
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1",
            "PYTHONPATH": f"{ROOT}/src:{ROOT}", "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connections"),
            "ANSIBLE_FORKS": "8", "ANSIBLE_PIPELINING": "1",
        }  # fmt: skip
        argv = [playbook, "-i", "inventory", "-e", json.dumps(given), *words, str(ROOT / "ci/ansible/rollout.yml")]
        done = run(argv, tmp_path, environment)
        text = done.stdout + done.stderr
        assert (tmp_path / "reports/report.json").exists(), text
        report = json.loads((tmp_path / "reports/report.json").read_text())
        return done.returncode, text, report, (tmp_path / "reports/report.md").read_text()

    start.folder = tmp_path
    return start


def calls(fleet, name):
    path = fleet.folder / "machines" / name / "calls"
    return path.read_text().split() if path.exists() else []


def test_a_good_change_reaches_every_host_in_batches(fleet):
    names = [f"h{number}" for number in range(6)]
    status, text, report, page = fleet(dict.fromkeys(names, "good"))
    assert status == 0, text
    assert report["verdict"] == "pass"
    assert "**6 hosts:** ✅ 6 pass" in page
    ends = [item["message"] for item in report["findings"] if "phase" in item["evidence"]]
    assert len(ends) == 1
    assert "(on all 6 hosts)" in ends[0]
    for name in names:
        assert calls(fleet, name) == [name, "plan", name, "apply", name, "journal"], "in its own namespace"
        journal = json.loads((fleet.folder / "reports/hosts" / name / "journal.json").read_text())
        assert journal["records"][-1]["kind"] == "promoted"
        assert json.loads((fleet.folder / "reports/hosts" / name / "plan.json").read_text())["verdict"] == "pass"
    assert text.count("PLAY [Roll out the limits]") == 3
