"""Hosts that look right at a glance and are not, and the other way round: no false pass, no false fail."""

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.core.verdict import verdict_of
from tests.unit.checks import hosts
from tests.unit.checks.cases import NOT_IN_SYSTEM_SLICE

_FS = "/sys/fs/cgroup"
_SHOW = "systemctl show --property=Version,SystemState"


def _judged(name, *, commands=None, **answers):
    document = hosts.changed(hosts.recording(name), host=answers.get("host", {}), commands=commands or {})
    context, findings = hosts.judge(hosts.facts_of(document))
    return verdict_of(findings).value, context, findings


def _said(findings, code):
    return {item.status.value for item in findings if item.code == code}


def test_a_capped_system_slice_is_nothing_to_services_of_another():
    assert NOT_IN_SYSTEM_SLICE.statuses("CGP125") == {"pass"}


@pytest.mark.parametrize(
    "answer",
    [
        {"missing": "absent", "errno": "ENOENT"},
        {"missing": "failed", "detail": "no answer within 20 s"},
        {"status": 1, "out": "", "err": "Failed to connect to bus: Connection refused\n"},
        {"status": 0, "out": "Version=252\nSystemState=offline\n", "err": ""},
        {"status": 0, "out": "Version=252\nSystemState=stopping\n", "err": ""},
    ],
)
def test_a_systemd_that_does_not_answer_starts_no_unit(answer):
    """A container with the PID namespace and the /run of its host looks like one with systemd."""
    verdict, context, findings = _judged("debian-12", commands={_SHOW: answer})
    assert verdict == "unverified"
    assert context.engine.name is None
    assert "unverified" in _said(findings, "CGP105")
    remedies = [remedy for item in findings if item.code == "CGP105" for remedy in item.remedies]
    assert any("why systemd does not answer" in remedy.title for remedy in remedies)


def test_what_is_installed_is_not_what_runs():
    """An upgrade leaves the old PID 1 in place until the next boot; only it knows what it can do."""
    answer = {"status": 0, "out": "Version=249.11\nSystemState=running\n", "err": ""}
    document = hosts.changed(hosts.recording("debian-12"), commands={_SHOW: answer})
    config = hosts.config_of('[project]\nname="x"\n[services.a]\nbinary="a"\nMemoryZSwapMax="1M"\n')
    _, findings = hosts.judge(hosts.facts_of(document), config)
    assert "fail" in _said(findings, "CGP104")


def test_a_user_manager_does_without_the_system_manager():
    verdict, context, _ = _judged(
        "debian-12-user-delegated", commands={_SHOW: {"missing": "absent", "errno": "ENOENT"}}
    )
    assert context.engine.name == "user"
    assert verdict == "unverified", "its version is not known"


@pytest.mark.parametrize("controllers", ["cpuset\n", "cpuset cpu_x memoryless\n", "CPU MEMORY\n", "\n"])
def test_controllers_are_whole_words(controllers):
    verdict, _, findings = _judged("debian-12", host={f"read {_FS}/cgroup.controllers": {"value": controllers}})
    assert verdict == "fail"
    assert sum(item.status is Status.FAIL for item in findings if item.code == "CGP102") == 2


@pytest.mark.parametrize("over", ["tmpfs tmpfs rw", "sysfs sysfs ro", "cgroup cgroup rw,memory", "overlay o rw"])
def test_something_mounted_over_the_tree(over):
    """The last mount at a point is the one seen. PID 1 has the tree still: this job is in a sandbox."""
    entry = hosts.recording("debian-12")["host"]["pieces /proc/self/mountinfo"]
    line = f"99 1 0:99 / {_FS} rw - {over}"
    own = {"pieces /proc/self/mountinfo": {**entry, "value": [*entry["value"], line]}}
    assert _judged("debian-12", host={**own, "pieces /proc/1/mountinfo": entry})[0] == "unverified"
    assert (
        _judged("debian-12", host={**own, "pieces /proc/1/mountinfo": own["pieces /proc/self/mountinfo"]})[0] == "fail"
    )


def test_twice_the_same_mount_is_no_harm():
    entry = hosts.recording("debian-12")["host"]["pieces /proc/self/mountinfo"]
    twice = {**entry, "value": [*entry["value"], *(line for line in entry["value"] if "cgroup2" in line)]}
    assert _judged("debian-12", host={"pieces /proc/self/mountinfo": twice})[0] == "pass"


def test_a_bind_mount_of_a_part_of_the_tree_beside_it_is_no_harm():
    entry = hosts.recording("debian-12")["host"]["pieces /proc/self/mountinfo"]
    line = next(line for line in entry["value"] if "cgroup2" in line).replace(f" / {_FS} ", " /a.slice /mnt\\040b ")
    for value in ([*entry["value"], line], [line, *entry["value"]]):
        assert _judged("debian-12", host={"pieces /proc/self/mountinfo": {**entry, "value": value}})[0] == "pass"


@pytest.mark.parametrize("word", ["psi=0", "psi=N", "psi=Off", "psi=f"])
def test_all_ways_to_say_no(word):
    entry = hosts.recording("debian-13")["host"]["pieces /proc/cmdline"]
    _, _, findings = _judged("debian-13", host={"pieces /proc/cmdline": {**entry, "value": [word]}})
    assert _said(findings, "CGP112") == {"warn"}


@pytest.mark.parametrize("word", ["psi=1", "psi=y", "systemd.unified_cgroup_hierarchy=yes", "swapaccount=1"])
def test_all_ways_to_say_yes(word):
    entry = hosts.recording("debian-13")["host"]["pieces /proc/cmdline"]
    verdict, _, findings = _judged("debian-13", host={"pieces /proc/cmdline": {**entry, "value": [word]}})
    assert (verdict, _said(findings, "CGP112")) == ("pass", {"pass"})
