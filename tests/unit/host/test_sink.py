"""Ranges go from file to file in the kernel, or through memory where that cannot be."""

import errno
import os
from pathlib import Path

import pytest

from cgroup_preflight.host import files
from cgroup_preflight.host.files import Sink


@pytest.mark.parametrize("in_kernel", [True, False])
def test_a_range_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_kernel: bool) -> None:
    monkeypatch.setattr(files, "_HAS_RANGES", in_kernel and hasattr(os, "copy_file_range"))
    data = os.urandom(700_000)
    (tmp_path / "a").write_bytes(data)
    with open(tmp_path / "a", "rb", buffering=0) as source, open(tmp_path / "b", "wb", buffering=0) as target:
        out = Sink(target.fileno())
        out.write(b"<")
        out.copy(source, 1000, 600_000)
        out.write(b">")
        out.patch(0, b"[")
        assert out.tell() == 600_002
        with pytest.raises(EOFError, match="became shorter"):
            out.copy(source, 699_999, 2)
    assert (tmp_path / "b").read_bytes().startswith(b"[" + data[1000:601_000] + b">")


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with open("/dev/full", "r+b", buffering=0) as full, pytest.raises(OSError) as caught:
        Sink(full.fileno()).write(b"x")
    assert caught.value.errno == errno.ENOSPC
