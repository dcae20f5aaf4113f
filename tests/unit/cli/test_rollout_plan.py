"""`rollout plan --snapshot` on a recording of a real Debian 12 with two slices, and on ones that were changed or broken."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cgroup_preflight.cli.guard import guarded
from cgroup_preflight.cli.rollout import main

RECORDING = Path(__file__).parents[2] / "fixtures" / "slices" / "debian-12.json"
CONFIG = '[project]\nname = "shop"\n[rollout]\nsteps = ["50%", "100%"]\n[rollout.slices.api]\n'
_USED = "/sys/fs/cgroup/api.slice/memory"
LOWER = f'{CONFIG}CPUQuota = "100%"\nMemoryMax = "128M"\n'


@pytest.fixture
def plan(tmp_path, monkeypatch, capfd):
    """`plan(config, {name: text of a recording})`: exit status, the report, and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", _no_program)

    def run(config, recordings, *words):
        (tmp_path / "c.toml").write_text(config)
        (tmp_path / "hosts").mkdir(exist_ok=True)
        for name, text in recordings.items():
            (tmp_path / "hosts" / f"{name}.json").write_text(text)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        call = ["plan", "--config", "c.toml", "--snapshot", *(words or ["hosts"]), "--format", "json"]
        status = guarded(lambda: main(call))
        out, err = capfd.readouterr()
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before, "it writes nothing"
        return status, json.loads(out) if out else None, err

    return run


def _no_program(*words, **_more):
    raise AssertionError(f"a plan of recorded hosts starts no program: {words}")


def recording(**changes):
    """The recording, with the answers to some questions replaced; None removes one. `show` changes systemd's answer."""
    document = json.loads(RECORDING.read_text())
    old, new = changes.pop("show", ("", ""))
    for argv, entry in document["commands"].items():
        if "*.slice" in argv:
            assert old in entry["out"]
            entry["out"] = entry["out"].replace(old, new)
    for question, value in changes.items():
        if value is None:
            del document["host"][question]
        else:
            document["host"][question] = {"value": value}
    return json.dumps(document)


def messages(report, *statuses):
    return [item["message"] for item in report["findings"] if item["status"] in statuses]


def test_it_says_what_the_host_itself_said(plan):
    """`rollout plan` on that host, at the time of the recording, gave the first two lines."""
    status, report, _ = plan(LOWER, {"one": recording()})
    assert (status, report["verdict"]) == (0, "pass")
    assert messages(report, "pass") == ["CPUQuota: 200% -> 150% -> 100%", "MemoryMax: 256M -> 192M -> 128M"]
    assert [text for text in messages(report, "skip") if "GOMEMLIMIT" in text]
    assert "1 host as recorded at 2026-11-29T19:02:41Z; later changes are not in the plan" in messages(report, "skip")


def test_hosts_with_equal_changes_are_one_line_and_others_their_own(plan):
    other = recording(show=("CPUQuotaPerSecUSec=2s", "CPUQuotaPerSecUSec=4s"))
    ready = recording(show=("CPUQuotaPerSecUSec=2s", "CPUQuotaPerSecUSec=1s"))
    status, report, _ = plan(
        f'{CONFIG}CPUQuota = "100%"\n', {"a": recording(), "b": recording(), "c": other, "d": ready}
    )
    assert status == 0
    assert sorted(messages(report, "pass")) == [
        "CPUQuota: 200% -> 150% -> 100% (on 2 of 4 hosts: a, b)", "CPUQuota: 400% -> 250% -> 100% (on 1 of 4 hosts: c)",
        "nothing to change: every target is in force already (on 1 of 4 hosts: d)",
    ]  # fmt: skip


@pytest.mark.parametrize(("config", "code", "said"), [
    (CONFIG.replace(".api", ".absent") + 'CPUQuota = "100%"\n', "CGP802", "does not know it"),
    (CONFIG.replace(".api", ".web") + "TasksMax = 50\n", "CGP804", "override.conf sets TasksMax"),
    (f'{CONFIG}MemoryMax = "128M"\n', "CGP803", "cannot be reclaimed"), (f'{CONFIG}MemoryMax = "1%"\n', "CGP208", "below 16M"),
])  # fmt: skip
def test_what_a_host_would_refuse_fails_before_the_merge(plan, config, code, said):
    used = {f"read {_USED}.stat": f"anon {200 << 20}\nslab_unreclaimable 0\n"} if code == "CGP803" else {}
    status, report, _ = plan(config, {"one": recording(**used), "two": recording(**used)})
    assert (status, report["verdict"]) == (1, "fail")
    failed = [item for item in report["findings"] if item["status"] == "fail"]
    assert [item["code"] for item in failed] == [code]
    assert said in failed[0]["message"]


@pytest.mark.parametrize(("text", "said"), [
    ("{", "not a snapshot"), ("[]", "not a snapshot"), ('{"format": 1, "host": {}, "commands": {}}', "no service manager"),
    (recording(**{f"read {_USED}.current": None}), "does not have memory.current"),
    (recording(**{f"read {_USED}.stat": None}), "does not have memory.stat"),
    (recording(**{"read /sys/devices/system/cpu/online": None}), "does not have the CPUs"),
    (recording(**{"read /proc/sys/kernel/pid_max": None, "read /proc/sys/kernel/threads-max": None}), "number of tasks"),
    (recording(show=("MemoryMax=268435456", "MemoryMax=many")), "not understood"),
    (json.dumps(json.loads(RECORDING.read_text()) | {"commands": {"systemctl show --property=Version,SystemState": {
        "status": 0, "out": "Version=252\nSystemState=running\n", "err": ""}}}), "does not have the slices of this manager: no answer"),
])  # fmt: skip
def test_a_recording_that_does_not_tell_is_unverified_and_hides_no_other_host(plan, text, said):
    status, report, _ = plan(LOWER, {"good": recording(), "poor": text})
    assert (status, report["verdict"]) == (3, "unverified")
    (unknown,) = messages(report, "unverified")
    assert said in unknown
    assert "(on 1 of 2 hosts: poor)" in unknown
    assert "CPUQuota: 200% -> 150% -> 100% (on 1 of 2 hosts: good)" in messages(report, "pass")


def test_no_recording_is_a_wrong_call_and_this_host_is_never_read_instead(plan, tmp_path):
    assert plan(LOWER, {})[0] == 2
    status, report, _ = plan(LOWER, {}, "absent.json")
    assert (status, messages(report, "pass")) == (3, [])
    os.mkfifo(tmp_path / "pipe.json")
    status, report, _ = plan(LOWER, {}, "pipe.json")
    assert status == 3
    assert plan('[project]\nname = "shop"\n', {"one": recording()})[0] == 2


def test_what_a_recording_says_stays_text(plan):
    """Whoever can write to the repository can write a recording."""
    evil = "/etc/systemd/system/api.slice.d/x\x1b[31m|@all.conf"
    text = recording(show=("Id=api.slice\nLoadState=loaded\nActiveState=active\nDropInPaths=", f"Id=api.slice\nLoadState=loaded\nActiveState=active\nDropInPaths={evil}"),
                     **{f"read {evil}": "[Slice]\nCPUQuota=1%\n"})  # fmt: skip
    status, report, _ = plan(LOWER, {"one": text})
    assert status == 1
    assert "\x1b" not in json.dumps(report)
