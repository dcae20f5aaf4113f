"""The end of a process is seen at once, also where the kernel has no descriptors of processes."""

import os
import subprocess

import pytest

from cgroup_preflight.guest.ended import has_ended

pytestmark = pytest.mark.starts_processes


@pytest.fixture(params=[True, False], ids=["pidfd", "without"])
def way(request, monkeypatch):
    """Patched, because no kernel here is so old: the answer of Linux before 5.3."""
    if not request.param:

        def refused(_pid):
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", refused)


@pytest.mark.usefixtures("way")
def test_one_that_ends_and_one_that_does_not():
    with subprocess.Popen(["sh", "-c", "read x; exit 3"], stdin=subprocess.PIPE) as process:
        assert not has_ended(process, 0.05)
        assert process.returncode is None
        process.stdin.close()
        assert has_ended(process, 60.0)
        assert process.returncode == 3
        assert has_ended(process, 0.0)
