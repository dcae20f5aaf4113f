"""Makes a machine that resumed from a saved state a new one: clock, random numbers, machine ID, a root to write to.

Two machines that resume from the same state have the same memory. Nobody has read the boot ID by then, so the kernel
makes that of each machine from the new random numbers (drivers/char/random.c, proc_do_uuid).
"""

import ctypes
import fcntl
import os
import struct
import time

_MACHINE_ID = "/etc/machine-id"
# linux/mount.h
_MS_REMOUNT = 32
# linux/random.h: _IOW('R', 0x03, int[2]), _IO('R', 0x07)
_ADD_ENTROPY, _RESEED = 0x40085203, 0x5207


def renew(*, seconds: float, random: bytes, machine_id: str) -> None:
    """Sets the clock to `seconds` since 1970, seeds the kernel with `random`, and sets the machine ID. Raises OSError."""
    _seed(random)
    time.clock_settime(time.CLOCK_REALTIME, seconds)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/", None, _MS_REMOUNT, None):
        raise OSError(ctypes.get_errno(), "the root cannot be made writable")
    with open(_MACHINE_ID, "w", encoding="ascii") as file:
        file.write(f"{machine_id}\n")


def _seed(random: bytes) -> None:
    pool = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
    try:
        # struct rand_pool_info: bits of entropy, size, bytes. All CPUs then take new keys at their next use.
        fcntl.ioctl(pool, _ADD_ENTROPY, struct.pack("=ii", 8 * len(random), len(random)) + random)
        fcntl.ioctl(pool, _RESEED)
    finally:
        os.close(pool)
