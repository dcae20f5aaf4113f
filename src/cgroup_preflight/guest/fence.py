"""Confines an engine and all that it starts: files with landlock(7), the network with a network namespace.

user-mode-linux is a process with the rights of the job, and root in the guest controls its kernel. Only the host's
kernel can protect the host's files from it. Standard library only, because the keeper imports this.
"""

import ctypes
import os
import struct
from collections.abc import Iterable, Mapping

#: Numbers of the system calls, the same on every architecture (include/uapi/asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
#: The number of LANDLOCK_ACCESS_FS_* rights by version of the interface (linux/landlock.h).
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _READ_FILE | _READ_DIR
#: Version 4 added TCP (bind, connect), version 6 abstract sockets and signals to other processes.
_NETWORK, _NETWORK_SINCE = 0b11, 4
_SCOPES, _SCOPES_SINCE = 0b11, 6
# linux/prctl.h, linux/sched.h
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def put_up(*, programs: Iterable[str], readable: Iterable[str], writable: Iterable[str], network: bool) -> str:
    """Confines this process for the rest of its life, as far as this host supports; returns what is in force, in words.

    `programs` may be read and executed, `readable` read, `writable` changed; paths that do not exist are ignored.
    Without `network` there is no network, not even loopback.
    """
    files = _fence_files({_READ | _EXECUTE: programs, _READ: readable, ~0: writable}, network=network)
    # Landlock first: every process may use it, but not every process may make a user namespace.
    alone = not network and _own_network()
    return f"{files}; {'a network of its own' if alone else 'the network of the job'}"


def version() -> int:
    """The landlock version of this kernel, 0 if it has none or if landlock is disabled."""
    return max(int(_libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)), 0)


def _fence_files(allowed: Mapping[int, Iterable[str]], *, network: bool) -> str:
    known = version()
    if known == 0:
        return "no landlock"
    rights, wanted = _ruleset(known, network=network)
    rules = _libc.syscall(_CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), 0)
    if rules < 0:
        return f"no landlock: {os.strerror(ctypes.get_errno())}"
    try:
        for access, paths in allowed.items():
            for path in paths:
                _allow(rules, path, access & rights)
        # landlock(7) requires it; without it, the process could start a program with more rights.
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if _libc.syscall(_RESTRICT_SELF, rules, 0) != 0:
            return f"no landlock: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(rules)
    return f"landlock {known}"


def _ruleset(known: int, *, network: bool) -> tuple[int, bytes]:
    """The rights that this version of landlock controls, and its `struct landlock_ruleset_attr` (linux/landlock.h)."""
    rights = (1 << _RIGHTS.get(known, max(_RIGHTS.values()))) - 1
    sockets = _NETWORK if known >= _NETWORK_SINCE and not network else 0
    scopes = _SCOPES if known >= _SCOPES_SINCE else 0
    size = 24 if known >= _SCOPES_SINCE else 16 if known >= _NETWORK_SINCE else 8
    return rights, struct.pack("=QQQ", rights, sockets, scopes)[:size]


def _allow(rules: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = access if os.path.isdir(path) else access & _OF_FILES
        _libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def _own_network() -> bool:
    """Moves to an empty network namespace; without the right to make one, in a new user namespace."""
    return any(_libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))
