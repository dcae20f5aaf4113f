"""A machine becomes a new one: the requests to the kernel, kept by a libc and files of this test (nothing is set here)."""

import struct

import pytest

from cgroup_preflight.guest.inside import renewal


class Libc:
    def __init__(self, status=0) -> None:
        self.status, self.mounts = status, []

    def mount(self, *words):
        self.mounts.append(words)
        return self.status


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """What the kernel was asked, by name; the machine ID is below `tmp_path`."""
    asked = {"libc": Libc(), "entropy": [], "clock": []}
    monkeypatch.setattr(renewal, "_MACHINE_ID", str(tmp_path / "machine-id"))
    monkeypatch.setattr(renewal.fcntl, "ioctl", lambda _file, number, data=b"": asked["entropy"].append((number, data)))
    monkeypatch.setattr(renewal.time, "clock_settime", lambda _clock, seconds: asked["clock"].append(seconds))
    monkeypatch.setattr(renewal.ctypes, "CDLL", lambda *_, **__: asked["libc"])
    return asked


def test_the_kernel_is_seeded_before_anything_else_and_takes_new_keys(kernel, tmp_path):
    renewal.renew(seconds=1234.5, random=b"r" * 64, machine_id="ab" * 16)
    # _IOW('R', 0x03, int[2]) and _IO('R', 0x07) of linux/random.h
    assert kernel["entropy"] == [(0x40085203, struct.pack("=ii", 512, 64) + b"r" * 64), (0x5207, b"")]
    assert kernel["clock"] == [1234.5]
    assert kernel["libc"].mounts == [(b"none", b"/", None, 32, None)]
    assert (tmp_path / "machine-id").read_text() == "ab" * 16 + "\n"


def test_a_root_that_stays_read_only_is_an_error(kernel, tmp_path):
    kernel["libc"].status = -1
    with pytest.raises(OSError, match="writable"):
        renewal.renew(seconds=1.0, random=b"r", machine_id="ab" * 16)
    assert not (tmp_path / "machine-id").exists()
