"""What is on the disk of a machine that loads this tool before its state is saved. QEMU is played by a program that waits."""

import json
import subprocess
from contextlib import closing

import pytest

from cgroup_preflight.core.records import replace
from cgroup_preflight.guest import machine, tools
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.saved_state import StateError
from cgroup_preflight.guest.spec import GuestEngine, GuestSpec

pytestmark = [
    pytest.mark.starts_processes,
    pytest.mark.skipif(not tools.is_installed("mke2fs"), reason="e2fsprogs is not installed"),
]


@pytest.fixture
def image(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-system-x86_64").write_text("#!/bin/sh\nexec sleep 60\n")
    (programs / "qemu-system-x86_64").chmod(0o755)
    monkeypatch.setattr(tools, "_SEARCH_PATH", f"{programs}:{tools._SEARCH_PATH}")
    for name in ("root.ext4", "vmlinux", "initrd"):
        (tmp_path / name).write_bytes(b"")
    return RootImage(name="i", root=tmp_path / "root.ext4", kernel=tmp_path / "vmlinux", initrd=tmp_path / "initrd")


@pytest.fixture
def spec(tmp_path):
    tool = tmp_path / "compiled"
    (tool / "guest" / "inside").mkdir(parents=True)
    (tool / "guest" / "inside" / "agent.pyc").write_bytes(b"agent")
    (tmp_path / "secret").write_text("of the project")
    return GuestSpec(
        engine=GuestEngine.QEMU, states=tmp_path / "states", tool=tool,
        inputs={"project/secret": tmp_path / "secret", "src/cgroup_preflight": tool},
    )  # fmt: skip


def disk_of(process):
    (disk,) = [folder / machine._INPUT for folder in process._folders if (folder / machine._INPUT).exists()]
    return disk


def content(process, path):
    """A file on the disk of a machine, by debugfs(8); empty if it does not exist."""
    argv = (tools.find("debugfs"), "-R", f"cat {path}", disk_of(process))
    return subprocess.run(argv, capture_output=True, check=True, timeout=30).stdout.decode()


def test_the_disk_has_the_tool_alone_until_the_machine_pauses(image, spec):
    with closing(machine.start(spec, image)) as process:
        process.fill(alone=True)
        disk = disk_of(process)
        opened = disk.stat().st_ino
        assert json.loads(content(process, machine._ORDER_NAME)) == {
            "folders": ["/run/preflight/in/src", "/usr/lib/python3/dist-packages"],
            "disk": "/dev/vdb", "place": "/run/preflight/in",
        }  # fmt: skip
        agent = "cgroup_preflight/guest/inside/agent.pyc"
        assert [content(process, f"{folder}/{agent}") for folder in ("agent", "src")] == ["agent", "agent"]
        assert content(process, "project/secret") == ""
        with disk.open("rb") as file:
            assert b"of the project" not in file.read(64 << 20)
        process.fill(alone=False)
        # QEMU has it open, and its size is that of all such disks.
        assert (disk.stat().st_ino, disk.stat().st_size) == (opened, machine.INPUT_BYTES)
        assert content(process, "project/secret") == "of the project"
        assert content(process, machine._ORDER_NAME) == ""
        assert content(process, f"agent/{agent}") == "agent"


def test_a_machine_that_resumes_has_the_inputs_once_its_disk_is_filled(image, spec):
    with closing(machine.start(replace(spec, tool=None), image, resumed=True)) as process:
        disk = disk_of(process)
        assert (disk.stat().st_blocks, disk.stat().st_size) == (0, machine.INPUT_BYTES)
        process.fill(alone=False)
        assert disk.stat().st_size == machine.INPUT_BYTES
        assert disk.stat().st_blocks * 512 < 64 << 20
        assert content(process, "project/secret") == "of the project"


def test_a_machine_without_states_has_the_inputs_at_once(image, spec):
    with closing(machine.start(replace(spec, states=None), image)) as process:
        assert content(process, "project/secret") == "of the project"
        assert content(process, machine._ORDER_NAME) == ""


def test_inputs_that_the_disk_has_no_room_for(image, spec, monkeypatch):
    monkeypatch.setattr(machine, "INPUT_BYTES", 1 << 20)
    with closing(machine.start(spec, image, resumed=True)) as process, pytest.raises(StateError, match="larger"):
        process.fill(alone=False)
