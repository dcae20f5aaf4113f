"""The build info blob that Go's linker leaves in a program: finding it and taking its two strings out.

Source: cmd/link/internal/ld/data.go (`buildinfo`) and debug/buildinfo of Go 1.13 to 1.27. The blob starts
at a multiple of 16 with 32 bytes: magic (14), pointer size (1), flags (1), and up to Go 1.17 two pointers.
Flag 2 says that two strings with a varint length each follow it (Go 1.18 on); without it the pointers lead to
Go string headers, and flag 1 says that they are big-endian.
"""

import struct
from collections.abc import Iterator

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang.binary_file import BinaryError, Layout, Region

MAGIC = b"\xff Go buildinf:"
_ALIGN = 16
_HEADER_SIZE = 32
FLAG_BIG_ENDIAN, FLAG_INLINE = 1, 2
_VARINT_MAX = 10

#: Longest version and module text taken, bytes; texts above 64 KiB are real (golang/go#61644).
MAX_VERSION, MAX_TEXT = 1 << 10, 1 << 20
#: Bounds of the search, bytes and occurrences of the magic: programs have it at the start of their data.
CHUNK, MAX_SEARCH, MAX_HITS = 1 << 20, 32 << 20, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """The two strings as the linker wrote them; `modules` without its frame, empty if there was none."""

    version: bytes
    modules: bytes


def find_blob(layout: Layout) -> Blob | None:
    """The first blob in the candidate regions that can be decoded; None if nothing there looks like one.

    Raises:
        BinaryError: there is something that looks like one, but all of those are damaged.

    """
    damage: BinaryError | None = None
    for address in _addresses(layout):
        try:
            return _decode(layout, address)
        except BinaryError as error:
            damage = damage or error
    if damage is not None:
        raise damage
    return None


def _addresses(layout: Layout) -> Iterator[int]:
    """Aligned addresses of the magic, within the bounds of the search."""
    hits = searched = 0
    seen: set[Region] = set()
    for region in layout.candidates:
        if region in seen:
            continue
        seen.add(region)
        skip = -region.address % _ALIGN
        for start in range(skip, region.size, CHUNK):
            # An aligned magic cannot straddle two chunks: both start at a multiple of 16.
            chunk = layout.image.read(region.offset + start, min(CHUNK, region.size - start))
            position = chunk.find(MAGIC)
            while position >= 0:
                hits += 1
                if position % _ALIGN == 0:
                    yield region.address + start + position
                if hits >= MAX_HITS:
                    return
                position = chunk.find(MAGIC, position + 1)
            searched += len(chunk)
            if searched >= MAX_SEARCH:
                return


def _decode(layout: Layout, address: int) -> Blob:
    header = layout.read(address, _HEADER_SIZE)
    pointer_size, flags = header[14], header[15]
    if flags & FLAG_INLINE:
        version, after = _inline_string(layout, address + _HEADER_SIZE, MAX_VERSION)
        _require_version(version)
        modules, _ = _inline_string(layout, after, MAX_TEXT)
    else:
        if pointer_size not in (4, 8):
            raise BinaryError(f"is damaged: its Go build info claims pointers of {pointer_size} bytes")
        pair = struct.Struct((">" if flags & FLAG_BIG_ENDIAN else "<") + ("II" if pointer_size == 4 else "QQ"))
        version_at, modules_at = pair.unpack_from(header, 16)
        version = _go_string(layout, pair, version_at, MAX_VERSION)
        _require_version(version)
        modules = _go_string(layout, pair, modules_at, MAX_TEXT) if modules_at else b""
    return Blob(version=version, modules=_unframed(modules))


def _require_version(version: bytes) -> None:
    if not version:
        raise BinaryError("is damaged: its Go build info has no version")


def _inline_string(layout: Layout, address: int, limit: int) -> tuple[bytes, int]:
    """The string whose varint length is at `address`, and the address after it."""
    head = layout.read_up_to(address, _VARINT_MAX)
    length = shift = 0
    for count, byte in enumerate(head, start=1):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return _bounded(layout, address + count, length, limit), address + count + length
    raise BinaryError("is damaged: a length in its Go build info has no end")


def _go_string(layout: Layout, pair: struct.Struct, address: int, limit: int) -> bytes:
    """The string that the Go string header (pointer, length) at `address` describes."""
    data, length = pair.unpack(layout.read(address, pair.size))
    return _bounded(layout, data, length, limit) if length else b""


def _bounded(layout: Layout, address: int, length: int, limit: int) -> bytes:
    if length > limit:
        raise BinaryError(f"is damaged: its Go build info claims a text of {length} bytes")
    return layout.read(address, length) if length else b""


def _unframed(text: bytes) -> bytes:
    """Module text without the 16 bytes of sentinel at both ends; nothing without them."""
    if len(text) >= 33 and text[-17:-16] == b"\n":
        return text[16:-16]
    return b""
