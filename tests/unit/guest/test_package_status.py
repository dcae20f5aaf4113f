"""Which packages an image has, read by debugfs from a file system that a test makes."""

import subprocess

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest import tools
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.package_status import status_file

pytestmark = [
    pytest.mark.starts_processes,
    pytest.mark.skipif(not tools.is_installed("mke2fs"), reason="e2fsprogs is not installed"),
]


def image(folder, text=None):
    root = folder / "root"
    (root / "var/lib/dpkg").mkdir(parents=True)
    if text is not None:
        (root / "var/lib/dpkg/status").write_text(text)
    made = folder / "root.ext4"
    subprocess.run((tools.find("mke2fs"), "-q", "-F", "-t", "ext4", "-d", str(root), str(made), "2M"), check=True)
    return RootImage(name="debian-12-x", root=made, kernel=None)


def test_the_status_file_of_an_image_is_read_without_a_boot(tmp_path):
    text = "Package: libc6\nStatus: install ok installed\nVersion: 2.36\n" * 1000
    assert status_file(image(tmp_path, text)) == text


def test_an_image_without_one_says_what_to_do(tmp_path):
    with pytest.raises(HostError, match="cannot read which packages the image has") as lost:
        status_file(image(tmp_path))
    assert lost.value.remedy.commands == (("cgroup-preflight", "guest", "remove", "debian-12-x"),)
