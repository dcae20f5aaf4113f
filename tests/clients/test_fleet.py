"""The Ansible role, with real ansible-core, against hosts in namespaces of their own whose service managers are played."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.helpers import PLAYED_CONFIG, ROOT, run

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
    (tmp_path / "cgroup-preflight.toml").write_text(PLAYED_CONFIG)

    def start(scenarios, *words, **variables):
        lines = []
        for name, scenario in scenarios.items():
            folder = tmp_path / "machines" / name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / "scenario").write_text(scenario)
            if scenario == "unreachable":
                (folder / "unreachable").touch()
            command = '["/absent/tool"]' if scenario == "no tool" else tool
            place = "/proc/absent/c.toml" if scenario == "no place" else "/srv/cgroup-preflight.toml"
            lines.append(f"{name} host_folder={folder} rollout_command='{command}' rollout_config_on_host={place}\n")
        (tmp_path / "inventory").write_text(
            "".join(lines) + f"[all:vars]\nansible_connection=namespaced\nansible_python_interpreter={sys.executable}\n"
        )
        given = {
            "rollout_local_command": [str(local)], "rollout_folder": f"{tmp_path}/reports", "rollout_become": False,
            "rollout_config": f"{tmp_path}/cgroup-preflight.toml",
            "rollout_state": "/srv", "rollout_serial": [1, "100%"], **variables,
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


def published(text):
    """What became of the task in each batch: the one report goes out once."""
    return re.findall(r"^TASK \[rollout : Publish the report\] \*+\n(\w+)", text, re.MULTILINE)


def calls(fleet, name):
    path = fleet.folder / "machines" / name / "calls"
    return path.read_text().split() if path.exists() else []


def test_a_good_change_reaches_every_host_in_batches(fleet):
    names = [f"h{number}" for number in range(4)]
    status, text, report, page = fleet(dict.fromkeys(names, "good"), rollout_publish="auto")
    assert status == 0, text
    assert report["verdict"] == "pass"
    assert "**4 hosts:** ✅ 4 pass" in page
    ends = [item["message"] for item in report["findings"] if "phase" in item["evidence"]]
    assert len(ends) == 1
    assert "(on all 4 hosts)" in ends[0]
    for name in names:
        assert calls(fleet, name) == [name, "plan", name, "apply", name, "journal"], "in its own namespace"
        journal = json.loads((fleet.folder / f"reports/journals/{name}.json").read_text())
        assert journal["records"][-1]["kind"] == "promoted"
    assert text.count("PLAY [Roll out the limits]") == 2
    assert published(text) == ["skipping", "ok"]


def test_it_stops_after_the_batch_that_was_taken_back_and_forgets_nobody(fleet):
    """One of each kind in the second batch: each decides the verdict, and no later host is touched."""
    scenarios = {
        "h0": "good",
        "h1": "harm",
        "h2": "cut",
        "h3": "unreachable",
        "h4": "torn",
        "h5": "no tool",
        "h6": "killed",
        "h7": "no place",
    }
    late = {f"late{number}": "good" for number in range(2)}
    status, text, report, page = fleet({**scenarios, **late}, rollout_serial=[1, 7, "100%"], rollout_publish="auto")
    assert status != 0
    assert report["verdict"] == "fail"
    assert "**10 hosts:** ❌ 1 fail, ⚠️ 8 unverified, ✅ 1 pass" in page, text
    found = {
        (item["code"], item["status"]): item["message"]
        for item in report["findings"]
        if item["status"] in ("fail", "unverified")
    }
    assert "throttled" in found["CGP805", "fail"]
    assert "(on 1 of 10 hosts: h1)" in found["CGP805", "fail"]
    assert "(on 1 of 10 hosts: h6)" in found["CGP807", "unverified"]
    told = [item["message"] for item in report["findings"] if item["code"] == "CGP608"]
    assert [message for message in told if "turn of this host" in message and "late0, late1" in message]
    assert [message for message in told if "this is not a report" in message and "h4" in message]
    assert [message for message in told if "gave no report" in message and "h2, h3, h5, h7" in message]
    assert [calls(fleet, name) for name in late] == [[], []]
    assert published(text) == ["skipping", "ok"]
    assert calls(fleet, "h2")[:4] == ["h2", "plan", "h2", "apply"]


def test_a_plan_changes_nothing_and_a_refused_one_is_not_applied(fleet):
    status, _, report, page = fleet(
        {"h0": "good", "h1": "unknown slice"}, "--check", rollout_serial=2, rollout_max_fail_percentage=50
    )
    assert status != 0
    assert report["verdict"] == "fail"
    assert "| <code>a.slice</code> | CPUQuota" in page
    assert "CGP802" in page
    assert calls(fleet, "h0") == ["h0", "plan"]
    assert not list((fleet.folder / "machines/h0").glob("*.toml*"))
    status, *_ = fleet({"h0": "good", "h1": "unknown slice"}, rollout_serial=2, rollout_max_fail_percentage=50)
    assert status != 0
    assert "apply" in calls(fleet, "h0")
    assert "apply" not in calls(fleet, "h1")


@pytest.mark.extra
def test_failures_that_are_allowed_do_not_hide_a_later_stop(fleet):
    """One of three is allowed, two of three are not."""
    scenarios = {"h0": "good", "h1": "good", "h2": "harm", "h3": "harm", "h4": "harm", "h5": "good", "late": "good"}
    status, text, _, page = fleet(scenarios, rollout_serial=[3, 3, 1], rollout_max_fail_percentage=40)
    assert status != 0
    assert calls(fleet, "h3")[-1] == "journal"
    assert calls(fleet, "late") == []
    assert "**7 hosts:** ❌ 3 fail, ⚠️ 1 unverified, ✅ 3 pass" in page, text
