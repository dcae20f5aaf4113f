"""The one function that reads a host, over fabricated ones: what it finds, and what it does not ask."""

import errno

import pytest

from cgroup_preflight.core.reading import Known, Missing, Why, missing
from cgroup_preflight.host.gather import gather
from tests.unit.host.fabricate import (
    HYBRID,
    LEGACY,
    ROOT_MOUNT,
    RUNNING,
    SHOW,
    UNIFIED,
    FakeFs,
    FakeRunner,
    gathered,
    host,
)


def test_a_good_host():
    found = gathered()
    assert found.kernel.value == "6.1.0-18-amd64"
    assert found.uid.value == 0
    assert found.cgroup_mount.value.point == found.mount_point == "/sys/fs/cgroup"
    assert found.root_controllers.value >= {"memory", "cpu", "io", "pids", "cpuset"}
    assert (found.systemd_running.value, found.systemd_version.value, found.pid1.value) == (True, 252, "systemd")
    assert found.online_cpus.value == frozenset({0, 1, 2, 3})
    assert found.meminfo.value["MemTotal"] == 4030456 * 1024
    assert (found.pid_max.value, found.threads_max.value, found.page_size) == (4194304, 31402, 4096)


def test_an_ordinary_user_with_a_manager():
    found = gathered(1000, answers={"sudo -n true": (0, "")})
    assert found.uid.value == 1000
    assert found.sudo.value is True
    assert found.user_manager.socket.value == "/run/user/1000/systemd/private"
    assert found.user_manager.controllers.value == {"cpu", "io", "memory", "pids"}
    assert found.user_manager.controllers.source.endswith("user@1000.service/cgroup.controllers")


@pytest.mark.parametrize(
    ("mountinfo", "detail"),
    [
        (HYBRID, "/sys/fs/cgroup is tmpfs"),
        (LEGACY, "/sys/fs/cgroup is tmpfs"),
        (ROOT_MOUNT, "nothing is mounted at /sys/fs/cgroup"),
    ],
)
def test_hosts_without_version_2_where_it_counts(mountinfo, detail):
    """On a hybrid host the cgroup2 mount at unified holds no controller for services."""
    mount = gathered(mountinfo=mountinfo).cgroup_mount
    assert isinstance(mount, Missing)
    assert mount.why is Why.ABSENT
    assert detail in mount.detail


def test_version_2_mounted_elsewhere():
    found = gathered(mountinfo=ROOT_MOUNT + UNIFIED.replace("/sys/fs/cgroup", "/cgroup2"))
    assert found.mount_point == "/cgroup2"


def test_the_mount_made_last_counts():
    over = "99 29 0:99 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    assert isinstance(gathered(mountinfo=ROOT_MOUNT + UNIFIED + over).cgroup_mount, Missing)
    assert isinstance(gathered(mountinfo=ROOT_MOUNT + over + UNIFIED).cgroup_mount, Known)


@pytest.mark.parametrize("there", ["0:99", errno.ENOENT, errno.EACCES])
@pytest.mark.parametrize("point", ["/sys/fs/cgroup", "/cgroup2"])
def test_a_mount_that_another_hides(there, point):
    """A file system mounted over /sys is no line about /sys/fs/cgroup, and yet nothing of cgroup2 is seen."""

    class Hidden(FakeFs):
        def device(self, path):
            assert path == point
            return missing(path, OSError(there, "")) if isinstance(there, int) else Known(value=there, source=path)

    mounts = ROOT_MOUNT + UNIFIED.replace("/sys/fs/cgroup", point)
    mount = gather(Hidden(host(mountinfo=mounts)), FakeRunner(RUNNING)).cgroup_mount
    assert isinstance(mount, Missing)
    assert mount.why is (Why.DENIED if there == errno.EACCES else Why.FAILED)


PID_1 = {"/proc/1/mountinfo": ROOT_MOUNT + UNIFIED}


@pytest.mark.parametrize(
    ("mountinfo", "asked"), [(ROOT_MOUNT + UNIFIED, False), (ROOT_MOUNT, True), (HYBRID, True),
                             (ROOT_MOUNT + UNIFIED.replace("/sys/fs/cgroup", "/x"), True)])  # fmt: skip
def test_what_pid_1_has_is_asked_only_where_it_matters(mountinfo, asked):
    found = gather(FakeFs(host(mountinfo=mountinfo) | PID_1), FakeRunner(RUNNING))
    assert isinstance(found.manager_mount, Known) == asked
    assert isinstance(
        gather(FakeFs(host(mountinfo=mountinfo, booted=None) | PID_1), FakeRunner()).manager_mount, Missing
    )


def test_a_strange_mount_of_somebody_else_does_not_blind_the_tool():
    """FUSE lets any user mount at any name; the kernel escapes blanks, no form feeds or line separators."""
    for name in ("a\x0cb", "a\u2028b", "a\x85b", "a\rb", "a\\040b", "cgroup2 "):
        strange = f"98 22 0:77 / /home/me/{name.replace(' ', chr(92) + '040')} rw - fuse.x x rw,user_id=1000\n"
        assert isinstance(gathered(mountinfo=ROOT_MOUNT + strange + UNIFIED).cgroup_mount, Known), repr(name)


@pytest.mark.parametrize(
    "name",
    ["mountinfo", "status", "cgroup", "osrelease", "cmdline", "comm", "meminfo", "controllers", "pid_max", "online"],
)
@pytest.mark.parametrize("wrong", [errno.EACCES, errno.ENOENT, errno.EIO, errno.EOPNOTSUPP, "", "\0\x1b[2J", "\u2028"])
def test_any_file_may_be_missing_or_odd(name, wrong):
    """Never an error: a reading that says why."""
    found = gathered(1000, **{name: wrong})
    field = {
        "mountinfo": "mounts",
        "status": "uid",
        "cgroup": "own_cgroup",
        "osrelease": "kernel",
        "comm": "pid1",
        "controllers": "root_controllers",
        "online": "online_cpus",
    }.get(name, name)
    reading = getattr(found, field)
    if isinstance(wrong, int):
        assert isinstance(reading, Missing)
        assert reading.errno == wrong


@pytest.mark.parametrize(
    ("answers", "version", "state"),
    [
        ({SHOW: (0, "Version=249.11-0ubuntu3.12\nSystemState=degraded\n")}, 249, "degraded"),
        ({SHOW: (0, "SystemState=running\nVersion=258~rc1\n")}, 258, "running"),
        ({"systemctl --version": (0, "systemd 249 (249.11-0ubuntu3)\n+PAM\n")}, 249, Why.ABSENT),
        ({SHOW: (1, ""), "systemctl --version": (0, "systemd 252 (252.5)\n")}, 252, Why.MALFORMED),
        ({SHOW: (0, "Version=252\nSystemState=fine\n")}, 252, Why.MALFORMED),
        (
            {SHOW: (0, "Version=\nSystemState=running\n"), "systemctl --version": (0, "busybox\n")},
            Why.MALFORMED,
            "running",
        ),
        ({}, Why.ABSENT, Why.ABSENT),
    ],
)
def test_version_and_state_of_systemd(answers, version, state):
    """That of PID 1: after an upgrade the files are those of another version."""
    found = gathered(answers=answers)
    said = [getattr(item, "value", getattr(item, "why", None)) for item in (found.systemd_version, found.system_state)]
    assert said == [version, state]


@pytest.mark.parametrize(
    ("answers", "release"),
    [
        ({SHOW: (0, "Version=252.39-1~deb12u2\nSystemState=running\n")}, "252.39"),
        ({SHOW: (0, "Version=258~rc1\nSystemState=running\n")}, "258"),
        ({"systemctl --version": (0, "systemd 249 (249.11-0ubuntu3)\n")}, "249.11"),
        ({"systemctl --version": (0, "systemd 219\n")}, "219"),
        ({"systemctl --version": (0, "systemd 255 (v255.4-1.fc40)\n")}, "255"),
    ],
)
def test_the_release_of_systemd(answers, release):
    assert gathered(answers=answers).systemd_release.value == release


def test_nothing_is_started_where_systemd_does_not_run():
    runner = FakeRunner({"sudo -n true": (0, "")})
    found = gather(FakeFs(host(1000, booted=None)), runner)
    assert found.systemd_running.value is False
    assert runner.asked == []


def test_sudo_is_asked_only_where_it_could_help():
    runner = FakeRunner({"sudo -n true": (1, "")})
    assert gather(FakeFs(host(1000)), runner).sudo.value is False
    assert "sudo -n true" in runner.asked
    runner = FakeRunner()
    gather(FakeFs(host(0)), runner)
    assert "sudo -n true" not in runner.asked
    assert gather(FakeFs(host(1000)), FakeRunner()).sudo.value is False, "not installed"


def test_no_socket_no_user_manager():
    for changes in ({"private": None}, {"user_run": None}, {"user_run": errno.EACCES}):
        assert isinstance(gathered(1000, **changes).user_manager.socket, Missing)
