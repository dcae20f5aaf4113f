"""Remedies are commands for the very host: its boot loader, its container, its user."""

import dataclasses

import pytest

from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.core.report import Remedy, Status
from cgroup_preflight.host import boot
from tests.unit.checks import hosts
from tests.unit.checks.cases import Case

_GRUB = "/etc/default/grub"
_REMOVED = ("sed", "-i", "s/ *cgroup_disable=memory//")


def _remedy(name: str, code: str, loader: str = "", container: str = "none") -> Remedy:
    facts = hosts.facts_of(hosts.recording(name))
    known = Known(value=loader, source="/boot") if loader else Missing(source="/boot", why=Why.ABSENT)
    facts = dataclasses.replace(facts, boot_loader=known, container=Known(value=container, source="/run/x"))
    return _worst(hosts.judge(facts)[1], code)


def _worst(findings, code: str) -> Remedy:
    return next(item.remedies[0] for item in findings if item.code == code and item.status in hosts.BAD)


def _of_case(code: str, case: Case) -> Remedy:
    config = hosts.config_of(case.config) if case.config else None
    return _worst(hosts.judge(hosts.facts_of(case.document()), config)[1], code)


@pytest.mark.parametrize(
    ("loader", "first", "make"),
    [
        (boot.UPDATE_GRUB, (*_REMOVED, _GRUB), ("update-grub",)),
        (boot.GRUB2, (*_REMOVED, _GRUB), ("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg")),
        (boot.GRUB, (*_REMOVED, _GRUB), ("grub-mkconfig", "-o", "/boot/grub/grub.cfg")),
        (boot.GRUBBY, ("grubby", "--update-kernel=ALL", "--remove-args=cgroup_disable=memory"), ("reboot",)),
        (boot.KERNEL_INSTALL, (*_REMOVED, "/etc/kernel/cmdline"), None),
    ],
)
@pytest.mark.parametrize("code", ["CGP102", "CGP112"])
def test_a_parameter_is_removed_with_the_hosts_own_tool(code, loader, first, make):
    remedy = _remedy("debian-12-memory-off", code, loader)
    assert remedy.commands[0] == first
    assert make is None or remedy.commands[1] == make
    assert remedy.commands[-1] == ("reboot",)
    assert (remedy.needs_root, remedy.persistent) == (True, True)


def test_on_a_raspberry_pi_the_later_word_wins():
    for code in ("CGP102", "CGP112"):
        remedy = _worst(hosts.judge(hosts.facts_of(hosts.recording("raspberry-pi-memory-off")))[1], code)
        assert remedy.commands[0] == ("sed", "-i", "1s/$/ cgroup_enable=memory/", "/boot/firmware/cmdline.txt")


def test_in_a_container_the_host_below_is_meant():
    remedy = _remedy("debian-12-memory-off", "CGP112", boot.UPDATE_GRUB, container="docker")
    assert remedy.commands == ()
    assert "this container (docker) uses the kernel of its host" in remedy.why


def test_without_a_known_boot_loader_no_command_is_guessed():
    remedy = _remedy("debian-12-memory-off", "CGP112")
    assert remedy.commands == ()
    assert "boot loader" in remedy.why


def test_wsl_is_configured_from_windows():
    remedy = _worst(hosts.judge(hosts.facts_of(hosts.recording("wsl2-hybrid")))[1], "CGP101")
    assert remedy.files[0].path.endswith(".wslconfig")
    assert "cgroup_no_v1=all" in remedy.files[0].content


def test_hybrid_by_parameter_loses_the_parameter():
    remedy = _remedy("debian-12-hybrid", "CGP101", boot.UPDATE_GRUB)
    assert remedy.commands[0] == ("sed", "-i", r"s/ *systemd\.unified_cgroup_hierarchy=0//", _GRUB)


def test_nspawn_on_version_1_is_started_otherwise():
    remedy = _worst(hosts.judge(hosts.facts_of(hosts.recording("nspawn-legacy")))[1], "CGP101")
    assert "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1" in remedy.title


@pytest.mark.parametrize("code", ["CGP102", "CGP105", "CGP110"])
def test_delegation_ends_with_a_restart_of_this_users_manager(code):
    remedy = _worst(hosts.judge(hosts.facts_of(hosts.recording("debian-12-user-without-cpu")))[1], code)
    assert remedy.commands == (("systemctl", "daemon-reload"), ("systemctl", "restart", "user@1000.service"))
    assert "Delegate=cpu" in remedy.files[0].content


def test_without_a_manager_this_user_is_made_to_linger():
    remedy = _worst(hosts.judge(hosts.facts_of(hosts.recording("debian-12-user-no-manager")))[1], "CGP105")
    assert remedy.commands == (("loginctl", "enable-linger", "1000"),)


def test_pressure_is_switched_on_by_what_switched_it_off():
    assert _remedy("debian-13-psi-off", "CGP117", boot.UPDATE_GRUB).title.startswith("remove psi=0")
    red_hat = _worst(hosts.judge(hosts.facts_of(hosts.recording("rhel-9")))[1], "CGP117")
    assert red_hat.commands[0] == ("grubby", "--update-kernel=ALL", "--args=psi=1")
    assert "CONFIG_PSI=y" in _remedy("debian-12", "CGP117").title


def test_no_remedy_asks_for_a_shell():
    for name in hosts.NAMES:
        for item in hosts.judge(hosts.facts_of(hosts.recording(name)), hosts.shop())[1]:
            for remedy in item.remedies:
                assert all(argv and argv[0] not in ("sh", "bash") for argv in remedy.commands), item


def test_a_required_controller_held_by_version_1_is_let_go():
    held = {"pieces /proc/self/mountinfo": _with_v1("memory")}
    lacking = {"read /sys/fs/cgroup/cgroup.controllers": {"value": "cpu io pids\n"}}
    remedy = _of_case("CGP102", Case(host="debian-12", says=Status.FAIL, change={**held, **lacking}))
    assert remedy.commands == (("umount", "/mnt/v1"),)


def _with_v1(controller: str):
    entry = hosts.recording("debian-12")["host"]["pieces /proc/self/mountinfo"]
    return {**entry, "value": [*entry["value"], f"99 1 0:99 / /mnt/v1 rw - cgroup cgroup rw,{controller}"]}
