"""What is on the disk of a machine that loads this tool before its state is saved. QEMU is played by a program that waits."""

import json
import subprocess
from contextlib import closing
from dataclasses import replace

import pytest

from cgroup_preflight.guest import machine, tools
from cgroup_preflight.guest.image import RootImage
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


def content(process, path):
    """A file on the disk of a machine, by debugfs(8); empty if it does not exist."""
    argv = (tools.find("debugfs"), "-R", f"cat {path}", process._folders[0] / machine._INPUT)
    return subprocess.run(argv, capture_output=True, check=True, timeout=30).stdout.decode()


def test_the_disk_has_the_tool_alone_until_the_machine_pauses(image, spec):
    with closing(machine.start(spec, image)) as process:
        disk = process._folders[0] / machine._INPUT
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
        process.fill()
        # QEMU has it open, and its size is that of all such disks.
        assert (disk.stat().st_ino, disk.stat().st_size) == (opened, machine.INPUT_BYTES)
        assert content(process, "project/secret") == "of the project"
        assert content(process, machine._ORDER_NAME) == ""
        assert content(process, f"agent/{agent}") == "agent"


@pytest.mark.parametrize(("changes", "resumed"), [({"tool": None}, False), ({"states": None}, False), ({}, True)])
def test_any_other_machine_has_the_inputs_at_once(image, spec, changes, resumed):
    with closing(machine.start(replace(spec, **changes), image, resumed=resumed)) as process:
        assert process.fill is None
        assert content(process, "project/secret") == "of the project"
        assert content(process, machine._ORDER_NAME) == ""
