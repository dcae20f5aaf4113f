"""Where an answer turns: the last value that is right and the first that is not, and facts that are seldom missing."""

import dataclasses

import pytest

from cgroup_preflight.core.reading import Known, Why
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.host.cgroupfs import CgroupReading, Mount
from tests.unit.checks.contexts import one, run
from tests.unit.host.fabricate import HYBRID, ROOT_MOUNT, facts, gathered, unreadable

GONE = unreadable(why=Why.ABSENT)
MEMORY = 4030456
NAMED_ONLY = (
    ROOT_MOUNT
    + "31 22 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    + "33 31 0:29 / /sys/fs/cgroup/openrc rw,relatime - cgroup cgroup rw,name=openrc\n"
    + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)


def _service(line: str) -> str:
    return f'[services.x]\nbinary = "x"\n{line}\n'


def _level(path: str, kind: str) -> CgroupReading:
    root = facts().root
    return dataclasses.replace(root, path=path, type=Known(value=kind, source=f"{path}/cgroup.type"))


def _mount(point: str) -> Mount:
    known = facts().cgroup_mount
    assert isinstance(known, Known)
    return dataclasses.replace(known.value, point=point)


# --- CGP101: remedies that can work on this host ------------------------------------------------------------


def _hybrid(version: int, mountinfo: str = HYBRID) -> Finding:
    made = gathered(mountinfo=mountinfo)
    return one("CGP101", dataclasses.replace(made, systemd_version=Known(value=version, source="systemctl")))


@pytest.mark.parametrize("version", [226, 257])
def test_systemd_that_knows_both_hierarchies_is_given_its_parameter(version):
    (remedy,) = _hybrid(version).remedies
    assert "systemd.unified_cgroup_hierarchy=1" in remedy.title


@pytest.mark.parametrize(("version", "words"), [(225, "systemd 226 or later"), (258, "what mounts cgroup v1")])
def test_systemd_for_which_that_parameter_does_nothing_is_given_another_remedy(version, words):
    (remedy,) = _hybrid(version).remedies
    assert words in remedy.title
    assert "unified_cgroup_hierarchy" not in f"{remedy.title} {remedy.commands}"


def test_a_hierarchy_without_any_version_1_controller_is_given_no_parameter_of_the_kernel():
    found = _hybrid(252, NAMED_ONLY)
    assert found.status is Status.FAIL
    assert "no cgroup v1 mount has a controller" in found.message
    assert "kernel parameter" not in found.remedies[0].title


def test_another_init_system_is_given_no_parameter_of_systemd():
    found = one("CGP101", gathered(mountinfo=HYBRID, booted=None, comm="init\n"))
    assert "unified_cgroup_hierarchy" not in found.remedies[0].title


# --- CGP102 -------------------------------------------------------------------------------------------------


def test_a_list_of_a_container_where_pid_1_cannot_be_read_says_nothing_of_the_host():
    root = dataclasses.replace(_level("", "domain"), controllers=Known(value=frozenset({"cpu"}), source="list"))
    found = run("CGP102", facts(systemd_running=unreadable(), root=root))
    assert {item.subject: item.status for item in found} == {"memory": "unverified", "cpu": "pass"}


# --- CGP109, CGP111, CGP124: where the job itself is ---------------------------------------------------------


def test_a_mount_elsewhere_for_this_job_says_where_pid_1_has_it():
    found = one("CGP109", facts(cgroup_mount=_mount("/cgroup2"), manager_mount=_mount("/sys/fs/cgroup")))
    assert found.status is Status.WARN
    assert found.message == "cgroup v2 is mounted at /cgroup2 only for this job; PID 1 sees it at /sys/fs/cgroup"


def test_a_threaded_cgroup_of_the_job_itself_is_a_warning():
    found = one("CGP111", facts(own=(_level("/job", "threaded"),)))
    assert (found.status, "/job is threaded" in found.message.replace("'", "")) == (Status.WARN, True)


def test_a_cgroup_that_the_mount_does_not_show_is_a_warning():
    found = one("CGP124", facts(container="none", cgroup_namespace="host", own=()))
    assert found.status is Status.WARN
    assert "does not contain this job's own cgroup" in found.message


def test_without_version_2_the_jobs_cgroup_is_not_called_hidden():
    found = one("CGP124", facts(container="none", cgroup_namespace="host", own=(), cgroup_mount=GONE))
    assert (found.status, found.message) == (Status.PASS, "not in a container, host cgroup namespace")


def test_a_container_without_systemd_is_named_as_people_name_it():
    found = one(
        "CGP124",
        facts(container="docker", cgroup_namespace="private", systemd_running=False, own=(_level("", "domain"),)),
    )
    assert found.message == "Running in Docker without systemd: the result describes this container, not the host"


# --- CGP112, CGP113, CGP117: the kernel ----------------------------------------------------------------------


def test_a_parameter_that_is_off_and_not_about_cgroups_is_let_pass():
    assert one("CGP112", facts(cmdline="splash=0 nowatchdog=off")).status is Status.PASS


def test_a_kernel_without_pressure_information_is_a_warning():
    found = run("CGP113", facts(kernel_config={"CONFIG_PSI": "n"}))
    assert [(item.subject, item.status) for item in found] == [("CONFIG_PSI", "warn")]


@pytest.mark.parametrize(("line", "status"), [('CPUQuota = "50%"', Status.FAIL), ("CPUWeight = 50", Status.WARN)])
def test_a_kernel_without_quotas_fails_only_those_who_use_one(line, status):
    found = run("CGP113", facts(kernel_config={"CONFIG_CFS_BANDWIDTH": "n"}), config=_service(line))
    assert [(item.subject, item.status) for item in found] == [("CONFIG_CFS_BANDWIDTH", status)]


def test_of_the_pressure_only_the_last_ten_seconds_are_shown():
    evidence = one("CGP117", facts(pressure={"some_avg10": 1.5, "some_avg60": 2.0, "some_total": 7.0})).evidence
    assert [key.rpartition(" ")[2] for key in evidence] == ["some_avg10"]


# --- CGP126: as much as the host has, and a little more --------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f'MemoryMax = "{MEMORY}K"', Status.PASS),
        (f'MemoryMax = "{MEMORY + 4}K"', Status.WARN),
        ('CPUQuota = "400%"', Status.PASS),
        ('CPUQuota = "401%"', Status.WARN),
        (f'MemoryMin = "{MEMORY}K"', Status.PASS),
        (f'MemoryMin = "{MEMORY + 4}K"', Status.FAIL),
    ],
)
def test_all_of_the_host_is_not_more_than_the_host(line, status):
    assert one("CGP126", gathered(), config=_service(line)).status is status


@pytest.mark.parametrize(
    ("option", "controller"),
    [("CONFIG_MEMCG", "memory"), ("CONFIG_CGROUP_SCHED", "cpu"), ("CONFIG_CGROUP_PIDS", "pids"),
     ("CONFIG_CPUSETS", "cpuset"), ("CONFIG_BLK_CGROUP", "io")],
)  # fmt: skip
def test_an_option_that_the_kernel_lacks_fails_only_where_its_controller_is_required(option, controller):
    found = dataclasses.replace(facts(), kernel_config=Known(value={option: "n"}, source="/proc/config.gz"))
    (finding,) = run("CGP113", found, required=(controller,))
    assert (finding.status, option in finding.message) == (Status.FAIL, True)
    assert one("CGP113", found, required=("none",)).status is Status.PASS


@pytest.mark.parametrize(("flag", "option"), [(True, "rw"), (False, "ro"), (True, "ro"), (False, "rw")])
def test_a_mount_is_read_only_by_its_flag_or_by_its_options(flag, option):
    found = facts()
    mount = dataclasses.replace(found.cgroup_mount.value, options=(option, "relatime"))
    found = dataclasses.replace(
        found, cgroup_mount=Known(value=mount, source="mountinfo"), cgroup_read_only=Known(value=flag, source="statfs")
    )
    finding = one("CGP108", found)
    assert ("read-write" in finding.message and "alone" not in finding.message) is (not flag and option == "rw")
