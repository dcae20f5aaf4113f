"""Each core check both ways, on fabricated hosts: found, wrong, and not readable."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.checks.runner import load_check
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.core.report import Status
from cgroup_preflight.engines.choice import EngineChoice
from tests.unit.checks.contexts import context, manager, one, run
from tests.unit.host.fabricate import CONTROLLERS, HYBRID, LEGACY, ROOT_MOUNT, UNIFIED, facts, gathered, unreadable

GONE = unreadable(why=Why.ABSENT)


# --- CGP101 hierarchy ---------------------------------------------------------------------------------------


def test_version_2_where_services_run():
    found = one("CGP101", gathered())
    assert found.status is Status.PASS
    assert "/sys/fs/cgroup" in found.message
    assert "cgroup2" in str(found.evidence)
    assert (
        one("CGP101", gathered(mountinfo=ROOT_MOUNT + UNIFIED.replace("/sys/fs/cgroup", "/cgroup2"))).status
        is Status.PASS
    )


@pytest.mark.parametrize(
    ("mountinfo", "word"), [(HYBRID, "hybrid"), (LEGACY, "only cgroup v1"), (ROOT_MOUNT, "no cgroup")]
)
def test_version_2_is_not_there(mountinfo, word):
    found = one("CGP101", gathered(mountinfo=mountinfo))
    assert found.status is Status.FAIL
    assert word in found.message
    (remedy,) = found.remedies
    if "cgroup v1" in found.message:
        assert "systemd.unified_cgroup_hierarchy=1" in remedy.title
        assert "/sys/fs/cgroup/memory" in str(found.evidence)


def test_no_remedy_mounts_with_controllers_as_options():
    """`mount -t cgroup2 -o memory,cpu` is not a thing."""
    (remedy,) = one("CGP101", gathered(mountinfo=ROOT_MOUNT)).remedies
    assert remedy.commands == (("mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"),)


@pytest.mark.parametrize("mountinfo", [13, 5, "junk cgroup2 line\n", "x - cgroup2 \n"])
def test_mounts_that_cannot_be_read(mountinfo):
    assert one("CGP101", gathered(mountinfo=mountinfo)).status is Status.UNVERIFIED


# --- CGP102 controllers -------------------------------------------------------------------------------------


def test_every_required_controller_has_a_finding():
    found = run("CGP102", gathered(), required=("memory", "cpu", "io"))
    assert [(item.subject, item.status) for item in found] == [("memory", "pass"), ("cpu", "pass"), ("io", "pass")]
    assert all("/sys/fs/cgroup/cgroup.controllers" in item.message for item in found)


@pytest.mark.parametrize(
    ("offered", "failed"),
    [
        ("cpuset io memory\n", ["cpu"]),
        ("cpuset\n", ["memory", "cpu"]),
        ("cpu\n", ["memory"]),
        ("\n", ["memory", "cpu"]),
        ("memory\n", ["cpu"]),
        ("memory_x cpuacct\n", ["memory", "cpu"]),
    ],
)
def test_whole_words_and_each_one(offered, failed):
    """`grep -q "memory\\|cpu"` passes with either, and with cpuset alone."""
    found = run("CGP102", gathered(controllers=offered))
    assert [item.subject for item in found if item.status is Status.FAIL] == failed
    assert all(item.remedies for item in found if item.status is Status.FAIL)


def test_the_user_manager_has_a_list_of_its_own():
    """systemd 249 delegates no cpu; the root offers it all the same."""
    undelegated = manager(controllers=frozenset({"memory", "pids"}))
    found = one("CGP102", facts(1000, sudo=False, user_manager=undelegated), wanted="user", required=("memory",))
    assert found.status is Status.PASS
    assert "user@1000.service" in found.message


def test_delegation_is_the_remedy_of_the_user_engine():
    found = facts(1000, user_manager=manager(controllers=frozenset({"memory"})))
    made = dataclasses.replace(context(found, required=("cpu",)), engine=EngineChoice(name="user"))
    check = load_check("CGP102")
    (finding,) = check.run(made)
    assert finding.status is Status.FAIL
    (remedy,) = finding.remedies
    assert "Delegate=cpu" in remedy.files[0].content
    assert ("systemctl", "restart", "user@1000.service") in remedy.commands, (
        "the manager reads its list once, at its start"
    )


@pytest.mark.parametrize(
    ("cmdline", "parameter"),
    [
        ("ro cgroup_disable=memory quiet", "cgroup_disable=memory"),
        ("cgroup_disable=io,memory", "cgroup_disable=io,memory"),
        ("cgroup_disable=memory cgroup_no_v1=memory", "cgroup_disable=memory"),
        ("cgroup_disable=memory cgroup_disable=pids", "cgroup_disable=memory"),
        ("cgroup_disable=memory cgroup_no_v1=all", "cgroup_disable=memory"),
    ],
)
def test_the_kernel_parameter_that_switches_it_off_is_named(cmdline, parameter):
    found = run("CGP102", gathered(controllers="cpuset cpu io pids\n", cmdline=cmdline + "\n"))[0]
    assert (found.subject, found.status) == ("memory", Status.FAIL)
    assert parameter in found.remedies[0].title


@pytest.mark.parametrize(
    "cmdline",
    ["ro quiet", "cgroup_disable=pids", "xcgroup_disable=memory", "cgroup_disable=memory_x", "cgroup_no_v1=memory"],
)
def test_no_parameter_is_blamed_that_does_not_switch_it_off(cmdline):
    found = run("CGP102", gathered(controllers="cpu\n", cmdline=cmdline + "\n"))[0]
    assert found.status is Status.FAIL
    assert "kernel command line" not in found.remedies[0].title


def test_a_version_1_mount_that_holds_the_controller_is_named():
    stray = "44 22 0:40 / /mnt/v1 rw - cgroup cgroup rw,memory\n"
    found = run("CGP102", gathered(mountinfo=ROOT_MOUNT + UNIFIED + stray, controllers="cpu\n"))[0]
    assert found.remedies[0].commands == (("umount", "/mnt/v1"),)


def test_controllers_without_a_hierarchy_are_skipped_and_unreadable_ones_unverified():
    assert one("CGP102", gathered(mountinfo=HYBRID)).status is Status.SKIP
    for wrong in (13, 2, "<html>\n"):
        found = one("CGP102", gathered(controllers=wrong))
        assert found.status is Status.UNVERIFIED
        assert "cgroup.controllers" in found.message


@given(
    st.frozensets(st.sampled_from(CONTROLLERS.split())),
    st.lists(st.sampled_from(["memory", "cpu", "io", "pids", "cpuset"]), min_size=1, unique=True).map(tuple),
)
def test_what_is_offered_decides(offered, required):
    found = run("CGP102", facts(root_controllers=offered), required=required)
    assert {item.subject: item.status for item in found} == {
        name: Status.PASS if name in offered else Status.FAIL for name in required
    }


# --- CGP103 systemd as PID 1 --------------------------------------------------------------------------------


def test_systemd_is_pid_1():
    assert one("CGP103", gathered()).status is Status.PASS


@pytest.mark.parametrize("comm", ["tini\n", "tail\n", "systemd\n", 2, ""])
def test_systemd_is_not_pid_1(comm):
    """/run/systemd/system decides (sd_booted), not the name of PID 1."""
    found = one("CGP103", gathered(booted=None, comm=comm))
    assert found.status is Status.UNVERIFIED
    assert found.remedies
    assert one("CGP103", facts(systemd_running=unreadable())).status is Status.UNVERIFIED


# --- CGP104 version of systemd ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "spec", "status"),
    [
        (252, "", "pass"),
        (252, ">=249", "pass"),
        (249, ">=249", "pass"),
        (248, ">=249", "fail"),
        (257, ">=249,<258", "pass"),
        (258, ">=249,<258", "fail"),
        (252, "==252", "pass"),
        (252, "!=252", "fail"),
        (100, ">=99", "pass"),
        (99, ">=100", "fail"),
    ],
)
def test_the_version_that_is_required(version, spec, status):
    found = one("CGP104", facts(systemd_version=version, systemd_release=str(version)), systemd=spec)
    assert found.status == status
    if status == "fail":
        assert (found.location.file, found.location.line) == ("c.toml", 3)
        assert spec in found.message
        assert str(version) in found.message


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        (">=252.5", "pass"), (">=252.40", "fail"), ("==252.39", "pass"), ("==252.*", "pass"), ("<252.40", "pass"),
        ("==252", "pass"), ("<=252", "pass"), (">252", "fail"), ("!=252", "fail"), (">=252,<252.30", "fail"),
    ],
)  # fmt: skip
def test_a_release_counts_where_one_is_named(spec, status):
    found = one("CGP104", facts(systemd_release="252.39", systemd_version=252), systemd=spec)
    assert found.status == status
    assert "252.39" in found.message


@pytest.mark.parametrize(
    ("line", "since"),
    [
        ("Type = 'notify-reload'", 253), ("Type = 'exec'", 240), ("Type = 'idle'", 201), ("Type = 'notify'", 201),
        ("CPUWeight = 'idle'", 252), ("StartupCPUWeight = 'idle'", 252), ("StartupCPUWeight = 9", 232), ("User = 'idle'", 201),
        ("StartupAllowedCPUs = 0", 250), ("OOMPolicy = 'kill'", 243), ("MemoryZSwapWriteback = false", 256),
        ("StateDirectory = 'x'", 235), ("ManagedOOMMemoryPressureLimit = '50%'", 248), ("StartupMemoryMax = '64M'", 254),
    ],
)  # fmt: skip
def test_the_first_systemd_with_a_key_or_with_its_value(line, since):
    config = f"[services.x]\nbinary = 'x'\n{line}\n"
    assert one("CGP104", facts(systemd_version=since), config=config).status is Status.PASS
    (found,) = run("CGP104", facts(systemd_version=since - 1), config=config)
    assert (found.status, found.location.line) == (Status.FAIL, 3)
    assert f"needs systemd {since}" in found.message


def test_properties_that_this_systemd_does_not_know():
    config = (
        "[slices.a]\nMemoryZSwapMax = '64M'\nCPUWeight = 'idle'\nMemoryMax = '64M'\n"
        "[services.x]\nbinary='x'\nMemoryMin = 0\n"
    )
    assert one("CGP104", facts(systemd_version=253), config=config).status is Status.PASS
    found = run("CGP104", facts(systemd_version=251), config=config)
    assert {(item.subject, item.status, item.location.line) for item in found} == {
        ("MemoryZSwapMax", "fail", 2),
        ("CPUWeight", "fail", 3),
    }
    assert all("ignores" in item.message for item in found)
    assert {item.subject for item in run("CGP104", facts(systemd_version=239), config=config)} == {
        "MemoryZSwapMax",
        "CPUWeight",
        "MemoryMin",
    }


def test_an_unknown_version_is_no_pass():
    assert one("CGP104", facts(systemd_version=unreadable())).status is Status.UNVERIFIED
    assert one("CGP104", facts(systemd_version=GONE)).status is not Status.PASS
    assert one("CGP104", facts(systemd_running=False)).status is Status.SKIP


# --- CGP105 engine ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "sudo", "words"),
    [
        (0, False, ["system manager"]),
        (1000, True, ["system manager", "sudo -n"]),
        (1000, False, ["user manager", "not root"]),
    ],
)
def test_somebody_can_start_units(uid, sudo, words):
    found = one("CGP105", facts(uid, sudo=sudo))
    assert found.status is Status.PASS
    assert all(word in found.message for word in words)


def test_nobody_at_all_is_unverified():
    for overrides in (
        {"systemd_running": False},
        {"cgroup_mount": GONE},
        {"sudo": False, "user_manager": manager(socket=GONE)},
    ):
        found = one("CGP105", facts(1000, **overrides))
        assert found.status is Status.UNVERIFIED
        assert found.remedies
        assert {"systemd", "user"} <= set(found.evidence)


def test_a_manager_without_delegation_is_a_fail_with_the_remedy():
    found = one("CGP105", facts(1000, sudo=False, user_manager=manager(controllers=frozenset({"memory"}))))
    assert found.status is Status.FAIL
    assert "cpu not delegated" in found.message
    assert "user@1000.service" in str(found.remedies[0].commands)


def test_a_good_user_manager_is_not_blamed_when_the_system_manager_was_asked_for():
    found = one("CGP105", facts(1000, sudo=False), wanted="systemd")
    assert found.status is Status.UNVERIFIED
    assert "sudo" in found.remedies[0].title


# --- CGP106 kernel ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "spec", "status"),
    [
        ("6.1.0-18-amd64", "", "pass"),
        ("6.1.0-18-amd64", ">=5.15", "pass"),
        ("5.14.0", ">=5.15", "fail"),
        ("6.8.0-1017-azure", ">=6.8", "pass"),
        ("6.10", ">=6.9", "pass"),
        ("6.18.44-fc-v669", "<6.18", "fail"),
        ("5.15.153.1-microsoft-standard-WSL2", ">=5.15", "pass"),
        ("junk", ">=5", "unverified"),
        ("junk", "", "unverified"),
    ],
)
def test_the_kernel_that_is_required(release, spec, status):
    found = one("CGP106", facts(kernel=release), kernel=spec)
    assert found.status == status
    if status == "fail":
        assert found.location.line == 3
        assert found.remedies


def test_an_unknown_kernel_is_unverified():
    assert one("CGP106", facts(kernel=unreadable("/proc/sys/kernel/osrelease"))).status is Status.UNVERIFIED


# --- what could not be read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("CGP101", "mounts"),
        ("CGP101", "cgroup_mount"),
        ("CGP102", "root_controllers"),
        ("CGP103", "systemd_running"),
        ("CGP104", "systemd_version"),
        ("CGP106", "kernel"),
    ],
)
@pytest.mark.parametrize("why", [Why.DENIED, Why.MALFORMED, Why.FAILED, Why.NOT_RECORDED, Why.UNSUPPORTED])
def test_a_missing_reading_is_unverified_and_named(code, field, why):
    reading = Missing(source="/some/file", why=why)
    (found,) = run(code, facts(**{field: reading}))
    assert found.status is Status.UNVERIFIED
    assert "/some/file" in found.message
    assert str(why) in found.message
    assert found.remedies[0].title


def test_readings_are_not_mistaken_for_their_values():
    """A known false or empty value is a fact."""
    assert one("CGP103", facts(systemd_running=Known(value=False, source="x"))).status is Status.UNVERIFIED
    assert [item.status for item in run("CGP102", facts(root_controllers=frozenset()))] == [Status.FAIL, Status.FAIL]
