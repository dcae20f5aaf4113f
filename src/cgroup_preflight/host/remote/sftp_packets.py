"""Packets of SFTP version 3 (draft-ietf-secsh-filexfer-02), as OpenSSH speaks it; what comes is checked to the byte.

A packet is its length, a type, and fields: numbers of 32 and 64 bits, and strings with their length before them.
"""

import struct

from cgroup_preflight.core.records import dataclass

INIT, VERSION, OPEN, CLOSE, READ, WRITE, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, STAT, READLINK, EXTENDED = (
    1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 17, 19, 200,
)  # fmt: skip
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 101, 102, 103, 104, 105, 201
OK, END, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, UNSUPPORTED = 0, 1, 2, 3, 4, 8
READ_FLAG, WRITE_FLAG, CREATE_FLAG, EXCLUSIVE_FLAG = 0x1, 0x2, 0x8, 0x20
#: OpenSSH sends no longer packet (SFTP_MAX_MSG_LENGTH).
PACKET_MAX = 256 * 1024
#: What one read asks for at most: as much as OpenSSH answers.
READ_MAX = PACKET_MAX - 1024
_VERSION = b"\x02\x00\x00\x00\x03"
#: What a login may print before the first packet, bytes.
NOISE_MAX = 256 * 1024
_SIZE, _OWNER, _MODE, _TIMES, _EXTENDED = 0x1, 0x2, 0x4, 0x8, 0x80000000
_PAIRS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Of a file; None where the other end does not say it."""

    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    time: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The type of an answer, and its fields after the id."""

    kind: int
    body: bytes


class Fields:
    """Reads fields one after another. Each method raises ValueError where the packet ends too early."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise ValueError("a packet ends in the middle of a field")
        data, self._at = self._data[self._at : end], end
        return data

    def u32(self) -> int:
        """A number."""
        return int.from_bytes(self._take(4), "big")

    def u64(self) -> int:
        """A number."""
        return int.from_bytes(self._take(8), "big")

    def string(self) -> bytes:
        """A string."""
        return self._take(self.u32())

    def attributes(self) -> Attributes:
        """Attributes, those with a flag."""
        flags = self.u32()
        size = self.u64() if flags & _SIZE else None
        uid, gid = (self.u32(), self.u32()) if flags & _OWNER else (None, None)
        mode = self.u32() if flags & _MODE else None
        _, time = (self.u32(), self.u32()) if flags & _TIMES else (None, None)
        if flags & _EXTENDED:
            count = self.u32()
            if count > _PAIRS_MAX:
                raise ValueError("too many extended attributes")
            for _ in range(2 * count):
                self.string()
        return Attributes(size=size, uid=uid, gid=gid, mode=mode, time=time)

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            raise ValueError("a packet is longer than its fields")


class Packets:
    """Cuts what comes into packets; before the first one, whatever the login prints is skipped.

    Methods raise ValueError for what is no packet.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._skipped = 0
        self.begun = False

    def feed(self, data: bytes) -> None:
        """Adds what came."""
        self._data += data

    @property
    def noise(self) -> bytes:
        """What came so far that is no packet."""
        return b"" if self.begun else bytes(self._data)

    def next(self) -> tuple[int, bytes] | None:
        """The type and the content of the next packet; None until it is complete."""
        if not self.begun and not self._find_version():
            return None
        if len(self._data) < 5:
            return None
        size = int.from_bytes(self._data[:4], "big")
        if not 1 <= size <= PACKET_MAX:
            raise ValueError(f"a packet of {size} bytes")
        if len(self._data) < 4 + size:
            return None
        kind, content = self._data[4], bytes(self._data[5 : 4 + size])
        del self._data[: 4 + size]
        return kind, content

    def _find_version(self) -> bool:
        """Whether the data begins with the first packet now."""
        at = self._data.find(_VERSION)
        while at >= 0:
            if at >= 4 and 5 <= int.from_bytes(self._data[at - 4 : at], "big") <= PACKET_MAX:
                del self._data[: at - 4]
                self.begun = True
                return True
            at = self._data.find(_VERSION, at + 1)
        if len(self._data) > NOISE_MAX:
            raise ValueError("no SFTP server answers")
        return False


def packet(kind: int, number: int, *fields: int | bytes) -> bytes:
    """A request: an int is a number of 32 bits, bytes are a string; `raw` makes what is neither."""
    body = b"".join(
        field.data if isinstance(field, Raw)
        else struct.pack(">I", field) if isinstance(field, int)
        else struct.pack(">I", len(field)) + field
        for field in fields
    )  # fmt: skip
    return struct.pack(">IBI", len(body) + 5, kind, number) + body


class Raw(bytes):
    """Bytes that go into a packet as they are."""

    @property
    def data(self) -> bytes:
        """The same, as plain bytes."""
        return bytes(self)


def offset(number: int) -> Raw:
    """A number of 64 bits."""
    return Raw(struct.pack(">Q", number))


def mode_of(mode: int) -> Raw:
    """Attributes with a mode alone."""
    return Raw(struct.pack(">II", _MODE, mode))


NO_ATTRIBUTES = Raw(struct.pack(">I", 0))


def status_of(reply: Reply) -> tuple[int, str]:
    """The code and the message of a STATUS; older servers send no message. Raises ValueError."""
    if reply.kind != STATUS:
        raise ValueError(f"an answer of type {reply.kind} in place of a status")
    fields = Fields(reply.body)
    code = fields.u32()
    message = fields.string() if len(reply.body) > 4 else b""
    return code, message[:200].decode("utf-8", "replace")


def names_of(reply: Reply) -> list[tuple[bytes, Attributes]]:
    """The names of a NAME, with their attributes. Raises ValueError."""
    if reply.kind != NAME:
        raise ValueError(f"an answer of type {reply.kind} in place of names")
    fields, found = Fields(reply.body), list[tuple[bytes, Attributes]]()
    count = fields.u32()
    if count * 12 > len(reply.body):
        raise ValueError("more names than the packet has room for")
    for _ in range(count):
        name = fields.string()
        fields.string()
        found.append((name, fields.attributes()))
    fields.end()
    return found


def string_of(reply: Reply, kind: int) -> bytes:
    """The only field of a HANDLE or DATA. Raises ValueError."""
    if reply.kind != kind:
        raise ValueError(f"an answer of type {reply.kind} in place of {kind}")
    fields = Fields(reply.body)
    found = fields.string()
    fields.end()
    return found


def attributes_of(reply: Reply) -> Attributes:
    """The attributes of an ATTRS. Raises ValueError."""
    if reply.kind != ATTRS:
        raise ValueError(f"an answer of type {reply.kind} in place of attributes")
    fields = Fields(reply.body)
    found = fields.attributes()
    fields.end()
    return found
