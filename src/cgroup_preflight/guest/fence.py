"""A fence round an engine and all it starts: files by landlock(7), the network by a namespace of its own.

user-mode-linux is a process with the rights of the job, and root in there commands its kernel: what keeps the host's
files from it must be outside of it. Standard library only, for the keeper imports this, in the child it has forked.
"""

import ctypes
import os
import struct
from collections.abc import Iterable, Mapping

#: Numbers of the system calls, the same on every architecture (include/uapi/asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
#: LANDLOCK_ACCESS_FS_* (linux/landlock.h): how many rights each version of the interface has.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _READ_FILE | _READ_DIR
#: Since version 4: binding and connecting TCP sockets; since 6: abstract sockets and signals of others.
_NETWORK, _NETWORK_SINCE = 0b11, 4
_SCOPES, _SCOPES_SINCE = 0b11, 6
# linux/prctl.h, linux/sched.h
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def put_up(*, programs: Iterable[str], readable: Iterable[str], writable: Iterable[str], network: bool) -> str:
    """Fences this process in, for good, as far as this host can: what is in force, in words, for the report.

    Files and folders: what may be read and run, read, changed; those that are not there are left out. Without
    `network` there is none, not even loopback.
    """
    files = _fence_files({_READ | _EXECUTE: programs, _READ: readable, ~0: writable}, network=network)
    # After that: what landlock needs is allowed to everybody, and a user namespace is not.
    alone = not network and _own_network()
    return f"{files}; {'a network of its own' if alone else 'the network of the job'}"


def version() -> int:
    """The version of landlock here, 0 for none (an older kernel, or one where it is off)."""
    return max(int(_libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)), 0)


def _fence_files(allowed: Mapping[int, Iterable[str]], *, network: bool) -> str:
    known = version()
    if known == 0:
        return "no landlock here"
    rights = (1 << _RIGHTS.get(known, max(_RIGHTS.values()))) - 1
    sockets = _NETWORK if known >= _NETWORK_SINCE and not network else 0
    scopes = _SCOPES if known >= _SCOPES_SINCE else 0
    size = 24 if known >= _SCOPES_SINCE else 16 if known >= _NETWORK_SINCE else 8
    wanted = struct.pack("=QQQ", rights, sockets, scopes)[:size]
    rules = _libc.syscall(_CREATE_RULESET, wanted, ctypes.c_size_t(size), 0)
    if rules < 0:
        return f"no landlock: {os.strerror(ctypes.get_errno())}"
    try:
        for access, paths in allowed.items():
            for path in paths:
                _allow(rules, path, access & rights)
        # Without it, a program with more rights could be started; landlock demands it (landlock(7)).
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if _libc.syscall(_RESTRICT_SELF, rules, 0) != 0:
            return f"no landlock: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(rules)
    return f"landlock {known}"


def _allow(rules: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        mine = access if os.path.isdir(path) else access & _OF_FILES
        _libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", mine, place), 0)
    finally:
        os.close(place)


def _own_network() -> bool:
    """A network namespace with nothing in it; where only root may make one, inside a user namespace."""
    return any(_libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))
