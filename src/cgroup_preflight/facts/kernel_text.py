"""Files whose text the kernel makes: each of them ends its last line."""

from __future__ import annotations

from collections.abc import Callable

from cgroup_preflight.core.reading import Reading, parsed
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.fs import HostFs

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


def read_kernel(fs: HostFs, path: str, parse: Callable[[str], T]) -> Reading[T]:
    """The file at `path`, parsed; text without a newline at its end was cut off, and is malformed."""
    return parsed(fs.read(path), lambda text: parse(_whole(text)))


def _whole(text: str) -> str:
    if text and not text.endswith("\n"):
        raise ValueError("cut off: no newline at its end")
    return text
