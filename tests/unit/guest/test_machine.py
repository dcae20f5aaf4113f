"""How an engine is started: what it may write to, when it starts, and what stays of a start that fails."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest import machine, tools
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.input_disk import stage
from cgroup_preflight.guest.spec import GuestEngine, GuestSpec
from cgroup_preflight.guest.words import PAUSE_ARGUMENT

pytestmark = [
    pytest.mark.starts_processes,
    pytest.mark.skipif(not tools.is_installed("mke2fs"), reason="e2fsprogs is not installed"),
]

#: In place of user-mode-linux: says which input disk it was given, and whether to pause.
_ENGINE = """#!/bin/sh
for word in "$@"; do case $word in ubd1=*) echo "at ${word#ubd1=}" ;; preflight.pause) echo "with $word" ;; esac; done
echo ready
exec sleep 100
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "bin").mkdir()
    engine = tmp_path / "bin" / "engine"
    engine.write_text(_ENGINE)
    engine.chmod(0o755)
    (tmp_path / "root.ext4").touch()
    return RootImage(name="played", root=tmp_path / "root.ext4", kernel=None, uml=engine, bare=True)


@pytest.fixture
def folders(tmp_path, short_folder, monkeypatch):
    """The temporary folder and that of shared memory, both empty."""
    memory = tmp_path / "shm"
    memory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(short_folder))
    monkeypatch.setattr(machine, "_SHARED_MEMORY", memory)
    return short_folder, memory


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "program").write_bytes(b"x" * 5000)
    return GuestSpec(inputs={"project/program": tmp_path / "program"}, memory_mib=64)


def _said(process) -> list[str]:
    """The lines of the console until the engine is ready."""
    process.line.settimeout(30)
    for _ in range(600):
        lines = list(process.console_tail(20))
        if "ready" in lines:
            return lines
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError(process.console_tail(20))


@pytest.mark.parametrize(
    ("room", "largest"), [(True, 5000), (False, 5000), (True, 4999)], ids=["in memory", "no room", "too large"]
)
def test_a_small_input_disk_is_in_memory_where_there_is_room(root, folders, spec, monkeypatch, room, largest):
    temporary, memory = folders
    monkeypatch.setattr(machine, "_MEMORY_DISK", largest)
    # The memory of the guest fits, and its disk as well, or not.
    monkeypatch.setattr(machine, "_has_room", lambda _folder, mebibytes: room or mebibytes <= spec.memory_mib)
    process = machine.start(spec, root)
    try:
        (at,) = [line.removeprefix("at ") for line in _said(process) if line.startswith("at ")]
        assert Path(at).parent.parent == (memory if room and largest == 5000 else temporary)
        # The links to files of this host are gone.
        assert len(list(temporary.iterdir())) == 1
        assert len(list(memory.iterdir())) == 1
    finally:
        process.close()
    assert [*temporary.iterdir(), *memory.iterdir()] == []


def test_nothing_stays_of_a_disk_that_cannot_be_written(root, folders, spec, monkeypatch):
    temporary, memory = folders
    started = []
    monkeypatch.setattr(machine.GuestProcess, "begin", started.append)

    def refused(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine, "write_disk", refused)
    with pytest.raises(HostError, match=r"cannot make the guest's files in .*: No space left on device"):
        machine.start(spec, root)
    assert [*temporary.iterdir(), *memory.iterdir(), *started] == []


def test_a_guest_with_an_agent_boots_before_its_disk_is_written(root, folders, spec):
    process = machine.start(spec, replace(root, bare=False))
    try:
        (at,) = [line.removeprefix("at ") for line in _said(process) if line.startswith("at ")]
        assert f"with {PAUSE_ARGUMENT}" in _said(process)
        empty = os.stat(at)
        assert (empty.st_blocks, len(list(folders[0].iterdir()))) == (0, 2)
        process.fill(alone=False)
        assert os.stat(at).st_size == empty.st_size
        assert os.stat(at).st_ino == empty.st_ino
        listed = subprocess.run(["debugfs", "-R", "ls -p /project", at], capture_output=True, text=True, check=True)
        assert "/program/5000/" in listed.stdout
        assert len(list(folders[0].iterdir())) == 1
    finally:
        process.close()


def test_a_disk_that_cannot_be_filled_says_so(root, folders, spec, monkeypatch):
    def refused(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine, "write_disk", refused)
    process = machine.start(spec, replace(root, bare=False))
    with pytest.raises(HostError, match="No space left on device"):
        process.fill(alone=False)
    process.close()
    assert [*folders[0].iterdir(), *folders[1].iterdir()] == []


def test_nothing_stays_of_an_input_that_is_gone(root, folders, tmp_path):
    temporary, memory = folders
    with pytest.raises(HostError, match="No such file or directory"):
        machine.start(GuestSpec(inputs={"x": tmp_path / "gone"}), root)
    assert [*temporary.iterdir(), *memory.iterdir()] == []


def test_nothing_stays_after_ctrl_c(root, folders, spec, monkeypatch):
    temporary, memory = folders

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "write_disk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        machine.start(spec, root)
    assert [*temporary.iterdir(), *memory.iterdir()] == []


def test_the_engine_has_no_access_to_the_links(root, folders, spec, monkeypatch):
    seen = {}
    monkeypatch.setattr(machine, "stage", lambda inputs, place: seen.setdefault("staged", stage(inputs, place)))
    monkeypatch.setattr(machine, "_fence", lambda *args: seen.setdefault("writable", args[-1]) and None)
    machine.start(spec, root).close()
    place = str(seen["staged"].place)
    assert os.path.commonpath([place, str(folders[0])]) == str(folders[0])
    assert not any(place.startswith(f"{path}/") for path in seen["writable"])


def test_the_large_disk_of_a_machine_with_states_is_not_in_memory(tmp_path, spec, monkeypatch):
    """A guest could fill it, and nobody can take memory back from such a file."""
    monkeypatch.setattr(machine, "_has_room", lambda _folder, _mebibytes: True)
    staged, memory = stage(spec.inputs, tmp_path / "staged"), tmp_path / "memory"
    places = [
        machine._disk_folder(tmp_path, memory, replace(spec, engine=GuestEngine.QEMU, states=states), staged)
        for states in (None, tmp_path)
    ]
    assert places == [memory, tmp_path]
