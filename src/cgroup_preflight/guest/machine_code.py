"""Programs of a few system calls for an initial RAM disk: x86-64 code that is put together here, with its data behind it. Pure.

Formats: elf(5); calls by the x86-64 table of the kernel (arch/x86/entry/syscalls/syscall_64.tbl).
"""

import struct
from collections.abc import Callable, Sequence

SOCKET, EXECVE, EXIT, CHDIR, MKDIR, CHROOT, MOUNT, UMOUNT, INIT_MODULE = 41, 59, 60, 80, 83, 161, 165, 166, 175
_IOCTL = 16
#: The registers of the arguments of a system call: `mov $imm64, %rdi`, %rsi, %rdx, %r10, %r8.
_REGISTERS = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8")
#: `mov %rax, %r12` and `mov %r12, %rdi`: no call changes %r12.
_KEEP, _KEPT = b"\x49\x89\xc4", b"\x4c\x89\xe7"
#: The kernel leaves the count of arguments, the arguments and the environment on the stack: they are those of init.
#: lea 8(%rsp), %rsi; mov (%rsp), %rax; lea 16(%rsp,%rax,8), %rdx
_SAME_ARGUMENTS = b"\x48\x8d\x74\x24\x08\x48\x8b\x04\x24\x48\x8d\x54\xc4\x10"
_ADDRESS, _HEADERS = 0x400000, 120


class Data:
    """Bytes that follow the code; `put` returns their address."""

    def __init__(self, address: int) -> None:
        self._address = address
        self.content = b""

    def put(self, data: bytes) -> int:
        """More bytes, at an address that is a multiple of a word's size: modules are read as tables of words."""
        self.content += bytes(-(self._address + len(self.content)) % 8)
        place = self._address + len(self.content)
        self.content += data
        return place

    def text(self, text: str) -> int:
        """A string of C."""
        return self.put(text.encode() + b"\0")


def program(code: Callable[[Data], bytes]) -> bytes:
    """An ELF program of what `code` returns, which puts its data behind it. It is called twice."""
    length = len(code(Data(0)))
    data = Data(_ADDRESS + _HEADERS + length)
    body = code(data) + data.content
    size = _HEADERS + len(body)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    # One segment with the whole file, which can be read and executed.
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 4096) + body


def call(number: int, *arguments: int) -> bytes:
    """A system call; those that fail show in the end, when init cannot be started."""
    return _moves(_REGISTERS, arguments) + _made(number)


def requests(descriptor: bytes, ioctls: Sequence[tuple[int, bytes]], data: Data) -> bytes:
    """The requests of ioctl(2), each with what it points to, on the descriptor that the call `descriptor` returns."""
    code = descriptor + _KEEP
    for request, content in ioctls:
        code += _KEPT + _moves(_REGISTERS[1:], (request, data.put(content))) + _made(_IOCTL)
    return code


def become(programs: Sequence[str], data: Data) -> bytes:
    """The first of these paths that is a program, with the arguments and the environment of this one."""
    code = b"".join(_SAME_ARGUMENTS + call(EXECVE, data.text(path)) for path in programs)
    # Only if there is none: the kernel then panics, which ends the machine.
    return code + call(EXIT, 1)


def _moves(registers: Sequence[bytes], arguments: Sequence[int]) -> bytes:
    return b"".join(move + struct.pack("<Q", value) for move, value in zip(registers, arguments, strict=False))


def _made(number: int) -> bytes:
    return b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"
