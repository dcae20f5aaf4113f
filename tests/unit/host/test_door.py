"""The door to this machine: processes by handle, and a clock that goes forward."""

import os
import signal
import subprocess
import time

import pytest

from cgroup_preflight.host.local import LocalClock, LocalProcesses


def test_the_clock_is_monotonic_and_sleeps():
    clock = LocalClock()
    before = clock.monotonic()
    clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.01
    assert abs(clock.monotonic() - time.monotonic()) < 60


@pytest.mark.starts_processes
def test_a_process_is_signalled_and_waited_for_by_its_handle():
    processes = LocalProcesses()
    with subprocess.Popen(("sleep", "60")) as child:
        handle = processes.open(child.pid)
        assert handle is not None
        assert not processes.wait([handle], 0)
        processes.signal(handle, signal.SIGTERM)
        assert processes.wait([handle], 20) == [handle]
        assert child.wait(timeout=20) == -signal.SIGTERM
        processes.signal(handle, signal.SIGKILL)  # it has ended: no error
        processes.close(handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_a_process_that_does_not_exist_has_no_handle():
    assert LocalProcesses().open((1 << 22) + 1) is None


def test_a_pipe_is_waited_for_as_well():
    reading, writing = os.pipe()
    assert not LocalProcesses().wait([reading], 0)
    os.write(writing, b"x")
    assert LocalProcesses().wait([reading], 1) == [reading]
    os.close(reading)
    os.close(writing)
