"""The sockets that listen, and which of them an address reaches.

/proc/net/tcp and /proc/net/tcp6 (proc_net_tcp.rst), and /proc/net/unix (proc_net(5)).
"""

import re
import socket
import struct
from collections.abc import Iterable

from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import dataclass

#: TCP_LISTEN of include/net/tcp_states.h, as the file spells it.
_LISTEN = "0A"
#: __SO_ACCEPTCON of include/linux/net.h: this socket listens.
_ACCEPTS = 0x10000
_NUMBER = r"[0-9]{1,20}"
_ANY_4, _ANY_6, _MAPPED = "0.0.0.0", "::", "::ffff:"  # noqa: S104 - compared, not bound
_NAMES = {"localhost": ("::1", "127.0.0.1")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One socket that listens: `address` as inet_ntop(3) spells it; `inode` names it in /proc/PID/fd."""

    address: str
    port: int
    inode: int

    @property
    def shown(self) -> str:
        """Address and port as a URL has them."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def parse_listeners(text: str) -> tuple[Listener, ...]:
    """The listening sockets of one table, also of an empty one. Raises ValueError for a line that is none of it."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 10:
            raise ValueError(f"not a socket: {line[:80]!r}")
        if words[3] == _LISTEN:
            address, _, port = words[1].partition(":")
            found.append(Listener(address=_address(address), port=int(port, 16), inode=int(words[9])))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixListener:
    """One unix socket that listens; `path` is what the program gave to bind(2), `@name` for an abstract one."""

    path: str
    inode: int

    @property
    def shown(self) -> str:
        """The path without characters that a terminal would not print."""
        return printable(self.path)


def parse_unix_listeners(text: str) -> tuple[UnixListener, ...]:
    """The listening sockets of /proc/net/unix.

    The kernel prints a path as it is, so one with a line end looks like a line of the table: it can add a socket to what
    is found here, and take none away. What is no line is left out.
    """
    found = []
    for line in text.split("\n")[1:]:
        words = line.split(" ", 6)
        # Num RefCount Protocol Flags Type St Inode Path; the inode is padded with spaces.
        inode, _, path = words[-1].lstrip(" ").partition(" ")
        if len(words) == 7 and path and re.fullmatch(_NUMBER, inode) and _is_accepting(words[3]):
            found.append(UnixListener(path=path, inode=int(inode)))
    return tuple(found)


def _is_accepting(flags: str) -> bool:
    try:
        return bool(int(flags, 16) & _ACCEPTS)
    except ValueError:
        return False


def _address(text: str) -> str:
    """The kernel prints each four bytes of an address as one number of the machine."""
    if len(text) not in (8, 32):
        raise ValueError(f"not an address: {text[:80]!r}")
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def reached(listeners: Iterable[Listener], host: str, port: int) -> frozenset[int]:
    """The inodes of the sockets that a connection to an address can reach; for `localhost`, by IPv4 or IPv6.

    The most specific address wins, and several sockets can share one (SO_REUSEPORT of socket(7)).
    """
    known = [item for item in listeners if item.port == port]
    return frozenset(inode for address in _NAMES.get(host, (host,)) for inode in _most_specific(known, address))


def _most_specific(known: list[Listener], address: str) -> set[int]:
    order = (address, _ANY_6) if ":" in address else (address, f"{_MAPPED}{address}", _ANY_4, _ANY_6)
    groups = ({item.inode for item in known if item.address == wanted} for wanted in order)
    return next((group for group in groups if group), set())
