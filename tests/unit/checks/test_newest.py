"""What systemd 258 to 262 and kernels from 6.12 on changed: each rule on a host where it is true, and where it is not."""

import dataclasses

import pytest

from cgroup_preflight.checks.kernel.rt_group_sched import settled
from cgroup_preflight.checks.runner import load_check
from cgroup_preflight.config.unit_source import UnitSource, UnitText
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.core.report import LimitResult, ServiceResult, Status
from cgroup_preflight.host.procfs import OPTIONS, parse_kernel_config
from tests.unit.checks.contexts import context, manager, one, run
from tests.unit.host.fabricate import facts

V1_WORDS = ("systemd.unified_cgroup_hierarchy=0", "systemd.unified_cgroup_hierarchy=no")
UNIT = "[Service]\nExecStart=/bin/true\n"


def known(value, source="here"):
    return Known(value=value, source=source)


def on(systemd, **changes):
    """A host with this systemd."""
    return dataclasses.replace(
        facts(), systemd_version=known(systemd), systemd_release=known(str(systemd)), **changes
    )  # fmt: skip


@pytest.mark.parametrize("word", V1_WORDS)
@pytest.mark.parametrize(
    ("systemd", "status"), [(252, Status.WARN), (257, Status.WARN), (258, Status.PASS), (262, Status.PASS)]
)
def test_a_boot_word_for_v1_is_a_warning_where_systemd_obeys_it(word, systemd, status):
    finding = one("CGP112", on(systemd, cmdline=known(word)))
    assert finding.status is status
    assert (word in finding.message) == (status is Status.WARN)


def test_without_a_version_the_boot_word_is_a_warning():
    gone = Missing(source="systemctl", why=Why.ABSENT)
    found = dataclasses.replace(facts(), systemd_version=gone, cmdline=known(V1_WORDS[0]))
    assert one("CGP112", found).status is Status.WARN


@pytest.mark.parametrize(("systemd", "names"), [(257, True), (258, False), (262, False)])
def test_no_remedy_names_a_boot_word_that_systemd_ignores(systemd, names):
    v1 = Missing(source="/proc/self/mountinfo", why=Why.ABSENT)
    found = on(systemd, cgroup_mount=v1, manager_mount=v1, mounts=facts().mounts, cmdline=known(V1_WORDS[0]))
    finding = one("CGP101", found)
    said = " ".join(
        word for remedy in finding.remedies for command in remedy.commands for word in (remedy.title, *command)
    )
    assert finding.status is Status.FAIL
    assert ("unified_cgroup_hierarchy" in said) == names or "cgroup v2" in said


RT = {"CONFIG_RT_GROUP_SCHED": "y"}
OFF = {**RT, "CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED": "y"}


@pytest.mark.parametrize(
    ("config", "words", "status"),
    [
        (RT, "", Status.UNVERIFIED),
        (RT, "rt_group_sched=0", Status.PASS),
        (RT, "rt_group_sched=1", Status.UNVERIFIED),
        (OFF, "", Status.PASS),
        (OFF, "rt_group_sched=1", Status.UNVERIFIED),
        (OFF, "rt_group_sched=1 rt_group_sched=off", Status.PASS),
        ({**RT, "CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED": "n"}, "", Status.UNVERIFIED),
        ({"CONFIG_RT_GROUP_SCHED": "n"}, "", Status.PASS),
    ],
)
def test_real_time_group_scheduling_that_a_kernel_has_turned_off(config, words, status):
    """systemd 258 and later boot without cpu at the root, so that the list there says nothing."""
    root = dataclasses.replace(facts().root, subtree_control=known(frozenset({"memory", "pids"})))
    finding = one("CGP114", on(262, kernel_config=known(config), cmdline=known(words), root=root))
    assert finding.status is status


def test_without_the_boot_words_it_may_have_been_turned_on():
    root = dataclasses.replace(facts().root, subtree_control=known(frozenset({"memory", "pids"})))
    gone = Missing(source="/proc/cmdline", why=Why.ABSENT)
    assert one("CGP114", on(262, kernel_config=known(OFF), cmdline=gone, root=root)).status is Status.UNVERIFIED


def test_recordings_have_the_longer_option_already():
    """A recording keeps the lines that contain one of OPTIONS; asking for another one would make old ones incomplete."""
    assert "CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED" not in OPTIONS
    assert parse_kernel_config(("CONFIG_RT_GROUP_SCHED=y", "CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y")) == OFF


def result(*limits):
    return ServiceResult(name="x", engine="systemd", unit="x.service", cgroup="/x", limits=limits)


QUOTA = LimitResult(file="a.slice/x.service/cpu.max", expected="50000 100000", actual="50000 100000", ok=True)


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ((QUOTA,), Status.PASS),
        ((dataclasses.replace(QUOTA, ok=False),), Status.UNVERIFIED),
        ((dataclasses.replace(QUOTA, file="x.service/memory.max"),), Status.UNVERIFIED),
        ((), Status.UNVERIFIED),
    ],
)
def test_a_quota_that_was_in_force_settles_real_time_scheduling(limits, status):
    root = dataclasses.replace(facts().root, subtree_control=known(frozenset({"memory", "pids"})))
    asked = one("CGP114", on(262, kernel_config=known(RT), root=root))
    other = one("CGP112", on(262))
    found = settled([other, asked], [result(*limits)])
    assert [item.status for item in found] == [other.status, status]
    assert found[0] is other


def test_a_user_manager_gets_a_controller_by_delegation_also_where_the_root_has_not_enabled_it_yet():
    """systemd 262: the root enables memory and pids; PID 1 enables cpuset there as soon as it delegates it."""
    root = dataclasses.replace(
        facts(1000).root, subtree_control=known(frozenset({"memory", "pids"}), "/sys/fs/cgroup/cgroup.subtree_control"),
        controllers=known(frozenset({"cpuset", "cpu", "io", "memory", "pids"})),
    )  # fmt: skip
    user = manager(controllers=frozenset({"cpu", "memory", "pids"}))
    user = dataclasses.replace(user, levels=(root, *user.levels[1:]))
    found = dataclasses.replace(facts(1000), root=root, user_manager=user)
    for code in ("CGP102", "CGP110"):
        (finding,) = (
            item for item in run(code, found, wanted="user", required=("cpuset",)) if item.status is Status.FAIL
        )
        files = [file.content for remedy in finding.remedies for file in remedy.files]
        assert files == ["[Service]\nDelegate=cpu cpuset io memory pids\n"], code


@pytest.mark.parametrize(
    ("lines", "systemd", "found"),
    [
        ("MemoryLimit=1G\nCPUShares=10", 258, [("MemoryLimit", Status.FAIL), ("CPUShares", Status.WARN)]),
        ("MemoryLimit=1G", 257, [("MemoryLimit", Status.WARN)]),
        ("MemoryLimit=1G\nMemoryMax=1G", 258, []),
        ("MemoryLimit=infinity", 258, []),
        ("MemoryLimit=1G\nMemoryLimit=", 258, []),
        ("MemoryLimit=1G\nMemoryLimit=2G", 258, [("MemoryLimit", Status.FAIL)]),
    ],
)
def test_a_name_of_v1_in_a_unit_counts_where_it_would_have_been_a_limit(lines, systemd, found):
    made = context(on(systemd), config=ALLOWED.format("0"))
    source = UnitSource(name="x.service", files=(UnitText(path="x.service", text=f"{UNIT}{lines}\n"),))
    services = tuple(dataclasses.replace(item, source=source) for item in made.plan.services)
    made = dataclasses.replace(made, plan=dataclasses.replace(made.plan, services=services))
    shown = [(item.subject, item.status) for item in load_check("CGP104").run(made) if item.status is not Status.PASS]
    assert shown == found


ALLOWED = "[slices.a]\n[services.x]\nbinary = 'x'\nslice = 'a'\nAllowedCPUs = '{}'\n"


@pytest.mark.parametrize(
    ("cpus", "status", "says"),
    [
        ("0-3", Status.PASS, "online"),
        ("2-4", Status.UNVERIFIED, "CPU 4 is not online"),
        ("0-8", Status.FAIL, "CPU 8 does not exist here, so the kernel refuses the whole list"),
        ("64", Status.FAIL, "runs on all CPUs"),
    ],
)
def test_a_cpu_that_does_not_exist_is_a_fail_and_one_that_is_offline_is_not(cpus, status, says):
    finding = one("CGP120", facts(), config=ALLOWED.format(cpus))
    assert finding.status is status
    assert says in finding.message


def test_nodes_of_memory_are_no_cpus():
    config = ALLOWED.replace("AllowedCPUs", "AllowedMemoryNodes").format("64")
    assert one("CGP120", facts(), config=config).status is Status.SKIP
