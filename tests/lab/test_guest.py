"""The guest itself, proven: what it promises, that it carries bytes faithfully, and how it ends."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest import fence, image, uml, uml_kernel
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import BootMode, GuestEngine, GuestSpec

_HELPER = "/usr/lib/dbus-1.0/dbus-daemon-launch-helper"
#: Every byte value, and text that a terminal line would translate, echo or act upon.
_ALL_BYTES = bytes(range(256)) * 300 + b"\r\n\x03\x04\x11\x13\x1a\x1c\x7f\xff\x00end"


@pytest.mark.requires("v2", "cpu", "io", "memory", "pids")
def test_version_2_with_its_controllers(guest: Guest) -> None:
    assert guest.run(["stat", "-fc", "%T", "/sys/fs/cgroup"]).text.strip() == "cgroup2fs"
    controllers = guest.read_file("/sys/fs/cgroup/cgroup.controllers").decode().split()
    assert {"cpu", "io", "memory", "pids"} <= set(controllers)


@pytest.mark.requires("no-psi", "no-cpuset", "cpus==1")
def test_what_user_mode_linux_lacks(guest: Guest) -> None:
    controllers = guest.read_file("/sys/fs/cgroup/cgroup.controllers").decode().split()
    assert "cpuset" not in controllers
    assert guest.run(["test", "-e", "/proc/pressure/cpu"]).returncode == 1
    assert guest.run(["nproc"]).text == "1\n"


@pytest.mark.requires("systemd")
def test_systemd_is_pid_1_and_done_starting(guest: Guest) -> None:
    assert guest.read_file("/proc/1/comm") == b"systemd\n"
    assert guest.run(["systemctl", "--version"]).text.startswith("systemd 252 ")
    assert guest.run(["systemctl", "is-system-running"]).text == "running\n"


@pytest.mark.requires("psi", "cpuset", "cpus>=4")
def test_qemu_has_what_user_mode_linux_lacks(guest: Guest) -> None:
    assert "cpuset" in guest.read_file("/sys/fs/cgroup/cgroup.controllers").decode().split()
    assert guest.read_file("/proc/pressure/cpu").startswith(b"some avg10=")
    assert int(guest.run(["nproc"]).text) >= 4
    assert guest.run(["systemctl", "--version"]).text.startswith("systemd 257 ")
    assert guest.run(["systemctl", "is-system-running"]).text == "running\n"
    assert guest.run(["cat"], stdin=_ALL_BYTES).stdout == _ALL_BYTES


@pytest.mark.parametrize(("distro", "systemd"), [("debian-12", "252"), ("debian-13", "257")])
def test_each_distribution_boots_in_qemu_with_its_own_kernel(distro: str, systemd: str) -> None:
    """What is a module in one kernel is built into the other: disks, and the line to the agent."""
    recipe = recipe_for(distro, with_kernel=True)
    spec = GuestSpec(engine=GuestEngine.QEMU, distro=distro, boot_timeout=240.0)
    with Guest(spec, image.ensure(recipe, image.cache_folder(os.environ))) as own:
        assert own.run(["systemctl", "--version"]).text.startswith(f"systemd {systemd} ")
        assert b"cloud-amd64" in own.read_file("/proc/sys/kernel/osrelease")


@pytest.mark.parametrize("distro", ["debian-12", "debian-13"])
def test_the_system_of_an_image_is_complete(distro: str) -> None:
    """No maintainer script has run: all units start, dpkg finds no fault, and the accounts and rights are there."""
    spec = GuestSpec(distro=distro, mode=BootMode.FULL)
    with Guest(spec, image.ensure(recipe_for(distro), image.cache_folder(os.environ))) as own:
        assert own.run(["systemctl", "--failed", "--no-legend"]).text == ""
        assert own.run(["systemctl", "is-system-running"]).text == "running\n"
        assert own.run(["dpkg", "--audit"]).text == ""
        assert own.run(["dpkg", "--verify", "systemd", "dbus", "python3-minimal", "bash", "base-files"]).text == ""
        assert own.run(["sudo", "-u", "runner", "sudo", "id", "-u"]).text == "0\n"
        assert (
            own.run(["stat", "-c", "%a %U:%G", "/etc/shadow", _HELPER]).text
            == "640 root:shadow\n4754 root:messagebus\n"
        )
        assert own.run(["awk", "BEGIN { print 6 * 7 }"]).text == "42\n"
        assert own.run(["python3", "-c", "import json, os; print(os.path.exists(json.__cached__))"]).text == "True\n"


@pytest.mark.measured
@pytest.mark.parametrize("distro", ["debian-12", "debian-13"])
def test_packages_with_scripts_of_their_own_are_configured(distro: str, tmp_path: Path) -> None:
    """Measured, because it builds an image: dpkg installs what is not known, with the user that its script adds."""
    recipe = recipe_for(distro)
    made = image.ensure(replace(recipe, packages=(*recipe.packages, "redis-server")), tmp_path)
    with Guest(GuestSpec(distro=distro), made) as own:
        assert own.run(["stat", "-c", "%U", "/var/lib/redis"]).text == "redis\n"
        assert "redis" in own.run(["getent", "passwd", "redis"]).text
        assert own.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "redis-server"]).text == "ii "
        assert own.run(["dpkg", "--audit"]).text == ""


def test_loopback_is_up(guest: Guest) -> None:
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(s.getsockname(), 5); print('ok')"
    )
    assert guest.run(["python3", "-c", code]).text == "ok\n"


def test_no_network_but_loopback(guest: Guest) -> None:
    interfaces = [line.split(":")[0].strip() for line in guest.read_file("/proc/net/dev").decode().splitlines()[2:]]
    assert interfaces == ["lo"]


#: Ways out of the folder that `hostfs=` names; the second one worked.
_WAYS_OUT = ("/", "../../../../../..", "../../../../../../etc")


@pytest.mark.parametrize("option", _WAYS_OUT)
def test_host_files_cannot_be_mounted(guest: Guest, option: str) -> None:
    assert guest.run(["mkdir", "-p", "/mnt/host"]).returncode == 0
    assert guest.run(["mount", "-t", "hostfs", "none", "/mnt/host", "-o", option]).returncode != 0
    assert guest.run(["ls", "-A", "/mnt/host"]).text == ""


def test_the_kernel_takes_no_code_from_inside(guest: Guest) -> None:
    """It is a process of the host: a module would run there."""
    assert guest.read_file("/proc/sys/kernel/modules_disabled") == b"1\n"
    assert guest.run(["sh", "-c", "echo 0 > /proc/sys/kernel/modules_disabled"]).returncode != 0


needs_landlock = pytest.mark.skipif(fence.version() == 0, reason="this kernel has no landlock, and the fence says so")


@needs_landlock
def test_a_kernel_that_lets_out_meets_the_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hostfs in it, as if somebody had found another way: the host's kernel itself does not hand anything out."""
    whole = uml.uml_argv
    monkeypatch.setattr(
        uml, "uml_argv", lambda machine: tuple(w for w in whole(machine) if not w.startswith("initcall_blacklist"))
    )
    with Guest(GuestSpec(), _image()) as own:
        assert own.fence.startswith("landlock ")
        own.run(["mkdir", "/mnt/host"])
        for option in _WAYS_OUT[1:]:
            own.run(["mount", "-t", "hostfs", "none", "/mnt/host", "-o", option])
        for path in ("/mnt/host", "/mnt/host/root", "/mnt/host/home", "/mnt/host/passwd", "/mnt/host/etc/passwd"):
            assert own.run(["sh", "-c", 'ls "$0"/* || cat "$0"', path]).stdout == b"", path
        done = own.run(["sh", "-c", "echo x > /mnt/host/tmp/cgpf-was-here"])
        assert done.returncode != 0
    assert not Path("/tmp/cgpf-was-here").exists()


def _engines_of(folder: Path) -> list[str]:
    """PIDs of the user-mode-linux that uses the guest's `folder`."""
    return [
        pid
        for pid in _users_of(folder)
        if Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].endswith(b"linux.uml")
    ]


@pytest.mark.parametrize("newer", [True, False])
def test_the_newer_user_mode_linux_is_used_and_that_of_this_host_is_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = _image()
    own = uml_kernel.version_of(uml.PROGRAM)
    if root.uml is None:
        assert tuple(map(int, own.split(".")[:2])) >= (6, 16)
        pytest.skip("the user-mode-linux of this host is new enough")
    with Guest(GuestSpec(), root if newer else replace(root, uml=None)) as made:
        (folder,) = tmp_path.iterdir()
        assert _engines_of(folder)
        # The C library that came along is for this program alone: the guest has that of its distribution.
        assert b"GLIBC 2.36" in made.run(["/lib/x86_64-linux-gnu/libc.so.6"]).stdout
        version = made.run(["uname", "-r"]).text.strip()
    assert version == (uml_kernel.version_of(root.uml) if newer else own)
    assert (version == own) is not newer


def test_the_engine_runs_behind_the_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Guest(GuestSpec(), _image()) as own:
        (folder,) = tmp_path.iterdir()
        pids = _engines_of(folder)
        assert pids
        if "landlock" in own.fence and "no landlock" not in own.fence:
            assert all("NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text() for pid in pids)
        if "a network of its own" in own.fence:
            mine = os.readlink("/proc/self/ns/net")
            assert all(os.readlink(f"/proc/{pid}/ns/net") != mine for pid in pids)


@pytest.mark.requires("users")
def test_users_and_their_rights(guest: Guest) -> None:
    assert guest.run(["id", "-un"]).text == "root\n"
    assert guest.run(["id", "-u"], user="tester").text == "1000\n"
    assert guest.run(["sudo", "-n", "id", "-u"], user="tester").returncode != 0
    assert guest.run(["sudo", "-n", "id", "-u"], user="runner").text == "0\n"


@pytest.mark.requires("users")
def test_user_manager_on_demand(guest: Guest) -> None:
    guest.start_user_manager("tester")
    done = guest.run(["systemd-run", "--user", "--wait", "--pipe", "cat", "/proc/self/cgroup"], user="tester")
    assert "/user.slice/user-1000.slice/user@1000.service/" in done.text


def test_bytes_survive_both_ways(guest: Guest) -> None:
    done = guest.run(["sh", "-c", "tee /dev/stderr"], stdin=_ALL_BYTES)
    assert (done.returncode, done.stdout, done.stderr) == (0, _ALL_BYTES, _ALL_BYTES)


def test_files_survive_both_ways(guest: Guest) -> None:
    path = "/var/tmp/some/where/file"
    guest.write_file(path, _ALL_BYTES, mode=0o640)
    assert guest.read_file(path) == _ALL_BYTES
    assert guest.run(["stat", "-c", "%a %U", path]).text == "640 root\n"


def test_environment_and_directory(guest: Guest) -> None:
    done = guest.run(["sh", "-c", "pwd; echo $HOME $USER $EXTRA"], user="tester", env={"EXTRA": "ä b"})
    assert done.text == "/home/tester\n/home/tester tester ä b\n"
    assert guest.run(["pwd"], cwd="/usr").text == "/usr\n"


def test_own_cgroup_for_each_command(guest: Guest) -> None:
    places = {guest.run(["cat", "/proc/self/cgroup"], user=user).text for user in (None, None, "tester")}
    assert len(places) == 3


def test_input_can_be_written_to_and_nothing_comes_back(tmp_path: Path) -> None:
    """Services find a working folder as on a host; the disk is made for one boot."""
    (tmp_path / "old").write_text("old\n")
    with Guest(GuestSpec(mode=BootMode.QUICK, inputs={"folder": tmp_path}), _image()) as made:
        place = input_path("folder")
        assert made.run(["sh", "-c", f"echo changed > {place}/old && touch {place}/new"]).returncode == 0
        assert made.read_file(f"{place}/old") == b"changed\n"
    assert (tmp_path / "old").read_text() == "old\n"
    assert os.listdir(tmp_path) == ["old"]


def test_timeout_kills_all_that_was_started(guest: Guest) -> None:
    started = time.monotonic()
    done = guest.run(["sh", "-c", "setsid sleep 987 & sleep 987"], timeout=1.0)
    assert done.timed_out
    assert done.returncode == -signal.SIGKILL
    assert time.monotonic() - started < 10
    assert guest.run(["pgrep", "-f", "sleep 987"]).text == ""


def test_failing_and_impossible_commands(guest: Guest) -> None:
    assert guest.run(["sh", "-c", "exit 7"]).returncode == 7
    with pytest.raises(HostError, match="No such file"):
        guest.run(["/no/such/program"])
    assert guest.run(["true"]).returncode == 0


def test_background_is_interrupted(guest: Guest) -> None:
    code = "import signal,sys,time; signal.signal(2, lambda *_: sys.exit(42)); print('up', flush=True); time.sleep(60)"
    background = guest.spawn(["python3", "-c", code])
    assert guest.poll(background, timeout=2.0) is None
    guest.signal(background, signal.SIGINT, group=True)
    done = guest.wait(background, timeout=10.0)
    assert (done.returncode, done.stdout) == (42, b"up\n")


def test_timeout_kills_all_on_hybrid_too(boot: Callable[..., Guest]) -> None:
    hybrid = boot(kernel_args=("systemd.unified_cgroup_hierarchy=0",))
    assert hybrid.run(["stat", "-fc", "%T", "/sys/fs/cgroup"]).text == "tmpfs\n"
    assert hybrid.run(["sh", "-c", "setsid sleep 987 & sleep 987"], timeout=1.0).timed_out
    assert hybrid.run(["pgrep", "-f", "sleep 987"]).text == ""


def test_kernel_without_a_controller(boot: Callable[..., Guest]) -> None:
    lacking = boot(kernel_args=("cgroup_disable=memory",))
    assert "memory" not in lacking.read_file("/sys/fs/cgroup/cgroup.controllers").decode().split()


def test_input_can_be_copied_to_where_it_is_writable(guest: Guest, guest_copy: Callable[..., Path]) -> None:
    copy = guest_copy(input_path("src"), owner="tester")
    assert guest.run(["touch", str(copy / "new")], user="tester").returncode == 0


def test_guest_that_was_lost_is_booted_again(boot: Callable[..., Guest]) -> None:
    base = GuestSpec(memory_mib=300)
    first = boot(base=base)
    assert boot(base=base) is first
    with pytest.raises(HostError):
        first.run(["systemctl", "poweroff", "--force", "--force"])
    assert boot(base=base) is not first


def _image() -> image.RootImage:
    return image.ensure(recipe_for("debian-12"), image.cache_folder(os.environ))


def test_panic_is_told_with_the_console() -> None:
    with Guest(GuestSpec(), _image()) as own, pytest.raises(HostError, match=r"Kernel panic|sysrq") as caught:
        own.run(["sh", "-c", "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"], timeout=10)
    assert caught.value.exit_status == 3


def test_no_boot_is_told_within_the_limit() -> None:
    started = time.monotonic()
    spec = GuestSpec(kernel_args=("root=/dev/nothing", "rootwait"), boot_timeout=6.0)
    with pytest.raises(HostError, match="gave no answer for 6 s"), Guest(spec, _image()):
        pass
    assert time.monotonic() - started < 15


def test_an_input_larger_than_the_memory_of_the_guest_goes_in_whole(tmp_path: Path) -> None:
    """It is a disk: nothing is unpacked into memory."""
    (tmp_path / "big").write_bytes(b"x" * (400 << 20))
    spec = GuestSpec(mode=BootMode.QUICK, memory_mib=300, inputs={"big": tmp_path / "big"})
    with Guest(spec, _image()) as made:
        assert made.run(["stat", "-c", "%s", str(input_path("big"))]).text.split() == [str(400 << 20)]


def test_two_at_once_do_not_meet(guest: Guest) -> None:
    guest.write_file("/var/tmp/mine", b"first")
    with Guest(GuestSpec(mode=BootMode.QUICK), _image()) as other:
        assert other.run(["test", "-e", "/var/tmp/mine"]).returncode == 1
        other.write_file("/var/tmp/mine", b"second")
        assert guest.read_file("/var/tmp/mine") == b"first"


_ABANDON = """
import os, sys, time
from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import GuestSpec
with Guest(GuestSpec(), image.ensure(recipe_for("debian-12"), image.cache_folder(os.environ))) as guest:
    guest.run(["systemd-run", "sleep", "600"])
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_the_parent_is_ended(number: signal.Signals, short_folder: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "XDG_CACHE_HOME": str(_image().root.parents[3]),
        "TMPDIR": str(short_folder),
    }
    with subprocess.Popen([sys.executable, "-c", _ABANDON], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert _users_of(short_folder)
        # The guest's memory is in a folder of the same name.
        shared = [Path("/dev/shm") / folder.name for folder in short_folder.iterdir()]
        assert shared
        parent.send_signal(number)
        parent.wait(20)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and (_users_of(short_folder) or any(short_folder.iterdir())):
        time.sleep(0.1)
    assert _users_of(short_folder) == []
    assert list(short_folder.iterdir()) == []
    assert [folder for folder in shared if folder.exists()] == []


def _users_of(folder: Path) -> list[str]:
    """PIDs of processes whose command line names `folder`: the keeper, and all of user-mode-linux."""
    found: list[str] = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_nothing_is_left_after_an_exception(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short_folder))
    with pytest.raises(ZeroDivisionError), Guest(GuestSpec(), _image()) as own:
        own.run(["true"])
        assert list(short_folder.iterdir())
        raise ZeroDivisionError
    assert list(short_folder.iterdir()) == []
