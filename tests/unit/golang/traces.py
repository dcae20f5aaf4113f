"""Execution traces for tests, byte by byte as the runtime writes them (src/internal/trace/tracev2 in Go's tree)."""

from collections.abc import Sequence

#: Kinds of events, and one tick of the trace's clock in nanoseconds on Linux.
PROCS, CREATE, START, STOP, BLOCK, UNBLOCK, SYSCALL, SYSCALL_END, SYSCALL_BLOCKED, STATUS = (
    9,
    14,
    16,
    19,
    20,
    21,
    22,
    23,
    24,
    25,
)
TICK = 64
_OFFSET = 10**9


def varint(number: int) -> bytes:
    """LEB128, as Go's binary.PutUvarint."""
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def batch(thread: int, time: int, data: bytes, generation: int = 1) -> bytes:
    """One batch of the events of a thread."""
    return b"\x01" + b"".join(map(varint, (generation, thread, time, len(data)))) + data


def events(*items: Sequence[int]) -> bytes:
    """Kind, ticks since the event before, and the other numbers of each event."""
    return b"".join(bytes([kind]) + b"".join(map(varint, numbers)) for kind, *numbers in items)


def sync(time: int, generation: int = 1) -> bytes:
    """The batch with the frequency and both clocks: tick 0 is one second of CLOCK_MONOTONIC."""
    clocks = b"\x32\x08" + varint(10**9 // TICK) + b"\x33" + b"".join(map(varint, (0, _OFFSET + time * TICK, 5, 6)))
    return batch(2**64 - 1, time, clocks, generation)


def header(version: int) -> bytes:
    return b"go 1.%d trace\0\0\0" % version


def trace(*batches: bytes, version: int = 26) -> bytes:
    """A whole trace of one generation; formats before 1.25 have the frequency alone."""
    first = sync(0) if version >= 25 else batch(2**64 - 1, 0, b"\x08" + varint(10**9 // TICK))
    return header(version) + first + b"".join(batches) + (b"\x34" if version >= 26 else b"")
