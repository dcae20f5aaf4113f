"""The address map of a program file: which bytes of the file land at which address of the process."""

from collections.abc import Iterator

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang.image import BinaryError, Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """`size` bytes that the file holds at `offset` and the process sees at `address`."""

    address: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a format module found: all mapped regions, and those where build info may be, likeliest first."""

    image: Image
    mapped: tuple[Region, ...]
    candidates: tuple[Region, ...]

    def read(self, address: int, length: int) -> bytes:
        """Exactly `length` bytes at `address`, all from one region.

        Raises:
            BinaryError: no region holds them all, or the file is shorter than its headers say.

        """
        for region in self._at(address):
            if address + length <= region.address + region.size:
                return self.image.read(region.offset + address - region.address, length)
        raise BinaryError(f"is damaged: its headers map no {length} bytes at address {address:#x}")

    def read_up_to(self, address: int, length: int) -> bytes:
        """At most `length` bytes at `address`; fewer at the end of the region.

        Raises:
            BinaryError: no region holds the address.

        """
        for region in self._at(address):
            return self.read(address, min(length, region.address + region.size - address))
        raise BinaryError(f"is damaged: its headers map nothing at address {address:#x}")

    def _at(self, address: int) -> Iterator[Region]:
        return (part for part in self.mapped if part.address <= address < part.address + part.size)


def clip(region: Region, image: Image) -> Region | None:
    """The part of a region that the file really holds; None if that is nothing.

    A truncated file keeps the build info that precedes the cut.
    """
    size = min(region.size, image.size - region.offset)
    if size <= 0:
        return None
    return Region(address=region.address, offset=region.offset, size=size)
