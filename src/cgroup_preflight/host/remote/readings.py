"""What is read of a machine at the other end, by whatever way the questions about it are answered."""

import os
from typing import cast

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed, value_or
from cgroup_preflight.host.fs import pieces_of, text_of, whole
from cgroup_preflight.host.remote.questions import Kind, Numbers


class AskedReadings:
    """The reading part of `MachineFs`; a child says how a question is answered."""

    def _ask(self, kind: Kind, path: str = "", name: str = "") -> Reading[object]:
        """The answer to one question."""
        raise NotImplementedError

    def data(self, path: str) -> Reading[bytes]:
        """As `MachineFs.data`."""
        return whole_answer(path, self._ask(Kind.DATA, path))

    def quick(self, path: str) -> Reading[bytes]:
        """As `MachineFs.quick`."""
        return cast("Reading[bytes]", self._ask(Kind.DATA, path))

    def read(self, path: str) -> Reading[str]:
        """As `HostFs.read`."""
        return parsed(self.data(path), text_of)

    def pieces(self, path: str, keep: tuple[str, ...], separator: str) -> Reading[tuple[str, ...]]:
        """As `HostFs.pieces`."""
        return parsed(self.data(path), lambda data: pieces_of(data, keep, separator))

    def link(self, path: str) -> Reading[str]:
        """As `HostFs.link`."""
        return cast("Reading[str]", self._ask(Kind.LINK, path))

    def exists(self, path: str) -> Reading[bool]:
        """As `HostFs.exists`."""
        return _exists(self._ask(Kind.STATUS, path))

    def device(self, path: str) -> Reading[str]:
        """As `HostFs.device`."""
        return file_system_of(self._ask(Kind.NUMBERS, path))

    def names(self, path: str, keep: tuple[str, ...] | None = None) -> Reading[tuple[str, ...]]:
        """As `HostFs.names`."""
        return _names(self._ask(Kind.NAMES, path), keep)

    def folders(self, path: str) -> Reading[tuple[str, ...]]:
        """As `MachineFs.folders`."""
        return cast("Reading[tuple[str, ...]]", self._ask(Kind.FOLDERS, path))

    def read_only(self, path: str) -> Reading[bool]:
        """As `HostFs.read_only`."""
        return cast("Reading[bool]", self._ask(Kind.READ_ONLY, path))

    def machine(self) -> Reading[str]:
        """As `HostFs.machine`."""
        return cast("Reading[str]", self._ask(Kind.MACHINE, ""))

    def page_size(self) -> Reading[int]:
        """As `HostFs.page_size`."""
        return cast("Reading[int]", self._ask(Kind.PAGE_SIZE, ""))

    def writable(self, path: str) -> bool:
        """As `Files.writable`."""
        return bool(value_or(self._ask(Kind.WRITABLE, path), default=False))

    def attribute(self, path: str, name: str) -> Reading[bytes]:
        """As `Files.attribute`; it needs getfattr(1) there."""
        return cast("Reading[bytes]", self._ask(Kind.ATTRIBUTE, path, name))


def _exists(reading: Reading[object]) -> Reading[bool]:
    """Whether a path exists, from its STATUS."""
    if isinstance(reading, Missing):
        return Known(value=False, source=reading.source) if reading.why is Why.ABSENT else reading
    return Known(value=True, source=reading.source)


def file_system_of(reading: Reading[object]) -> Reading[str]:
    """MAJOR:MINOR of the file system of a path, from its NUMBERS."""
    return parsed(cast("Reading[Numbers]", reading), lambda numbers: device_number(numbers.device))


def _names(reading: Reading[object], keep: tuple[str, ...] | None) -> Reading[tuple[str, ...]]:
    """Of the NAMES of a folder, those that begin with one of `keep`."""
    found = cast("Reading[tuple[str, ...]]", reading)
    return (
        found if keep is None else parsed(found, lambda names: tuple(each for each in names if each.startswith(keep)))
    )


def device_number(number: int) -> str:
    """MAJOR:MINOR of a device number."""
    return f"{os.major(number)}:{os.minor(number)}"


def whole_answer(path: str, reading: Reading[object]) -> Reading[bytes]:
    """The content of a file from its DATA: unpacked, and malformed where it is too long."""
    return reading if isinstance(reading, Missing) else whole(path, cast("Known[bytes]", reading).value)
