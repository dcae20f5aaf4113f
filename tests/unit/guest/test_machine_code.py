"""Programs of a few system calls do what they say, run here without any right."""

import socket
import subprocess

import pytest

from cgroup_preflight.guest import machine_code, user_network
from cgroup_preflight.guest.machine_code import SOCKET, become, call, program, requests

pytestmark = pytest.mark.starts_processes
#: fcntl(2) by ioctl: the socket no longer waits.
_FIONBIO, _YES = 0x5421, b"\1\0\0\0"


def run(folder, code, *words):
    path = folder / "made"
    path.write_bytes(program(code))
    path.chmod(0o755)
    return subprocess.run([path, *words], capture_output=True, text=True, timeout=10, check=False)


def test_it_becomes_the_first_program_that_there_is(tmp_path):
    words = ("/nowhere/init", "/bin/sh", "/bin/false")
    done = run(tmp_path, lambda data: become(words, data), "-c", 'echo "$0 $1"', "a b", "c")
    assert (done.returncode, done.stdout) == (0, "a b c\n")
    assert run(tmp_path, lambda data: become(("/nowhere/init",), data)).returncode == 1


def test_requests_reach_the_descriptor_that_was_opened(tmp_path):
    opened = call(SOCKET, socket.AF_INET, socket.SOCK_DGRAM, 0)
    done = run(
        tmp_path,
        lambda data: requests(opened, ((_FIONBIO, _YES), (_FIONBIO, _YES)), data) + become(("/bin/sh",), data),
        "-c", "cat /proc/$$/fdinfo/3",
    )  # fmt: skip
    # O_NONBLOCK and O_RDWR.
    assert "flags:\t04002" in done.stdout, done.stderr


def test_data_is_where_words_may_be():
    data = machine_code.Data(0x400001)
    first, second = data.put(b"abc"), data.text("x")
    assert (first, second) == (0x400008, 0x400010)
    assert data.content == bytes(7) + b"abc" + bytes(5) + b"x\0"


def test_the_network_of_qemu():
    """As struct ifreq and struct rtentry have it on x86-64 (linux/if.h, linux/route.h)."""
    address, mask, flags, route = (content for _, content in user_network.IOCTLS)
    assert [request for request, _ in user_network.IOCTLS] == [0x8916, 0x891C, 0x8914, 0x890B]
    assert address == b"eth0".ljust(16, b"\0") + b"\2\0\0\0\x0a\0\2\x0f" + bytes(16)
    assert mask[16:24] == b"\2\0\0\0\xff\xff\xff\0"
    assert flags[16:18] == b"\x41\0"
    assert len(route) == 120
    assert (route[8:16], route[24:32], route[40:48]) == (b"\2\0" + bytes(6), b"\2\0\0\0\x0a\0\2\2", b"\2\0" + bytes(6))
    assert route[56:58] == b"\3\0"
