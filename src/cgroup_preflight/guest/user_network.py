"""QEMU's user network (qemu(1), -netdev user): its addresses, and how a guest gets them without DHCP. Pure."""

import socket
import struct

#: The guest's address, its gateway, and the name server.
ADDRESS, GATEWAY, RESOLVER = "10.0.2.15", "10.0.2.2", "10.0.2.3"
_MASK = "255.255.255.0"
#: The name that a kernel gives to its first device.
_DEVICE = b"eth0"
_SIOCADDRT, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x890B, 0x8914, 0x8916, 0x891C
_UP_AND_RUNNING, _UP_BY_GATEWAY = 0x1 | 0x40, 0x1 | 0x2


def _inet(address: str) -> bytes:
    return struct.pack("<HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _of_device(content: bytes) -> bytes:
    """Struct ifreq (netdevice(7))."""
    return struct.pack("16s24s", _DEVICE, content)


_ANY = struct.pack("<H14x", socket.AF_INET)
#: Requests of ioctl(2) on a socket that set address, mask, flags and the route (linux/sockios.h, linux/route.h).
IOCTLS = (
    (_SIOCSIFADDR, _of_device(_inet(ADDRESS))),
    (_SIOCSIFNETMASK, _of_device(_inet(_MASK))),
    (_SIOCSIFFLAGS, _of_device(struct.pack("<H", _UP_AND_RUNNING))),
    (_SIOCADDRT, struct.pack("<8x16s16s16sH62x", _ANY, _inet(GATEWAY), _ANY, _UP_BY_GATEWAY)),
)
