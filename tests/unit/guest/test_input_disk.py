"""The disk with a guest's input: what is on it, and whose it is. Needs mke2fs, as a guest does."""

import os
import shutil
import subprocess

import pytest

from cgroup_preflight.guest import input_disk, tools

pytestmark = [
    pytest.mark.starts_processes,
    pytest.mark.skipif(not tools.is_installed("mke2fs"), reason="e2fsprogs is not installed"),
]


def made(tmp_path, inputs):
    input_disk.write_disk(input_disk.stage(inputs, tmp_path / "staging"), tmp_path / "disk")
    shutil.rmtree(tmp_path / "staging")
    return tmp_path / "disk"


def asked(disk, *requests):
    """The answers of debugfs(8), which is part of e2fsprogs."""
    return [subprocess.run([tools.find("debugfs"), "-R", request, disk], capture_output=True, text=True, check=True, timeout=30).stdout
            for request in requests]  # fmt: skip


def test_files_folders_and_links_with_their_modes(tmp_path):
    source = tmp_path / "source"
    (source / "deep" / "__pycache__").mkdir(parents=True)
    (source / "deep" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (source / "deep" / "data").write_bytes(b"content" * 1000)
    (source / "link").symlink_to("deep/data")
    (source / "deep" / "up").symlink_to("..")
    os.mkfifo(source / "fifo")
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o750)
    program_before = program.stat()
    disk = made(tmp_path, {"a/b": source, "project/run": program})
    checked = subprocess.run(
        [tools.find("e2fsck"), "-fn", disk], capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked
    content, below, link, run, top = asked(
        disk, "cat /a/b/deep/data", "ls -p /a/b/deep", "stat /a/b/link", "stat /project/run", "ls -p /a/b"
    )
    assert content == "content" * 1000
    assert "pycache" not in below
    assert "/up/" in below
    assert 'Fast link dest: "deep/data"' in link
    assert "Mode:  0750" in run
    assert "fifo" not in top
    after = program.stat()
    assert (after.st_mtime_ns, after.st_uid, after.st_nlink) == (program_before.st_mtime_ns, program_before.st_uid, 1)


def test_root_owns_everything_and_no_time_of_the_host_is_in_it(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    if os.geteuid() == 0:
        os.chown(file, 70_000, 70_001)
    (status,) = asked(made(tmp_path, {"file": file}), "stat /file")
    assert "User:     0   Group:     0" in status
    assert [line.split()[1] for line in status.splitlines() if "time:" in line] == ["0x00000000:00000000"] * 4


@pytest.mark.parametrize("count", [1, 6000])
def test_it_has_room_for_what_services_write(tmp_path, count):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(count):
        (source / str(number)).write_text("x")
    (text,) = asked(made(tmp_path, {"many": source}), "stats")
    numbers = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    assert int(numbers["Free blocks"]) * 4096 > 400 << 20
    assert int(numbers["Free inodes"]) > 4000
    # And that room takes no space on the host.
    assert (tmp_path / "disk").stat().st_blocks * 512 < (8 << 20) + count * 8192


def test_a_file_that_is_gone_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        input_disk.stage({"x": tmp_path / "gone"}, tmp_path / "staging")


def test_where_no_link_can_be_made_the_file_is_copied(tmp_path):
    source, place = tmp_path / "source", tmp_path / "place"
    source.write_text("x")
    source.chmod(0o751)

    def refused(*_, **__):
        raise PermissionError

    handle = os.open(tmp_path, os.O_PATH)
    try:
        input_disk._link("source", handle, place, refused)
        assert (place.read_text(), place.stat().st_mode & 0o777, source.stat().st_nlink) == ("x", 0o751, 1)
        input_disk._link("source", handle, tmp_path / "second")
    finally:
        os.close(handle)
    assert source.stat().st_nlink == 2


def test_the_sizes_of_the_files_are_known(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "one").write_bytes(b"x" * 1000)
    (tmp_path / "source" / "two").symlink_to("one")
    (tmp_path / "three").write_bytes(b"x" * 24)
    staged = input_disk.stage({"a": tmp_path / "source", "b/c": tmp_path / "three"}, tmp_path / "staging")
    assert (staged.size, staged.count) == (1000 + len("one") + 24, 3)
    assert sorted(os.listdir(staged.place)) == ["a", "b"]


def test_the_umask_of_the_job_does_not_matter(tmp_path):
    source = tmp_path / "file"
    source.write_text("x")
    before = os.umask(0o077)
    try:
        (status, folder) = asked(made(tmp_path, {"p/q/file": source}), "stat /", "stat /p/q")
    finally:
        os.umask(before)
    assert "Mode:  0755" in status
    assert "Mode:  0755" in folder


@pytest.fixture
def project(tmp_path):
    """A project with a folder and a file for a guest, and a file of this host that is none of its business."""
    folder = tmp_path / "project"
    (folder / "etc").mkdir(parents=True)
    (folder / "other").write_text("of the project\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "secret").write_text("of the host\n")
    return folder


def inputs_of(project, *names):
    """The folder, and the other file below it under each name."""
    return {"etc/app": project / "etc", **{f"etc/app/{name}": project / "other" for name in names}}


@pytest.mark.parametrize("name", ["sub/secret", "sub/new", "sub/deep/new"])
def test_an_input_below_another_one_is_not_put_behind_its_links(tmp_path, project, name):
    (project / "etc" / "sub").symlink_to(tmp_path / "home")
    with pytest.raises(OSError, match="/etc/app/sub is below another input, which has a link there"):
        input_disk.stage(inputs_of(project, name), tmp_path / "staged")
    assert [(item.name, item.read_text()) for item in (tmp_path / "home").iterdir()] == [("secret", "of the host\n")]


def test_an_input_in_place_of_a_link_or_a_file_of_another_one_changes_neither(tmp_path, project):
    (project / "etc" / "link").symlink_to(tmp_path / "home" / "secret")
    (project / "etc" / "file").write_text("before\n")
    input_disk.stage(inputs_of(project, "link", "file"), tmp_path / "staged")
    assert (tmp_path / "home" / "secret").read_text() == "of the host\n"
    assert (project / "etc" / "file").read_text() == "before\n"
    for name in ("link", "file"):
        put = tmp_path / "staged" / "etc" / "app" / name
        assert (put.is_symlink(), put.read_text()) == (False, "of the project\n")


def test_an_input_in_place_of_a_folder_of_another_one_is_an_error(tmp_path, project):
    (project / "etc" / "sub").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        input_disk.stage(inputs_of(project, "sub"), tmp_path / "staged")
