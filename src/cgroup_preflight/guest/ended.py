"""Waits for the end of a process, and returns at once when it comes: Popen.wait with a time-out looks every 50 ms."""

import os
import select
import subprocess


def has_ended(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Whether a process of this one has ended within `seconds`; its exit status is known then."""
    if process.poll() is not None:
        return True
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        # Linux before 5.3, or a container that does not allow the call.
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
    try:
        # Not select(2), which knows no descriptor above 1023.
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(max(seconds, 0.0) * 1000)
    finally:
        os.close(handle)
    return process.poll() is not None
