"""A reading is a fact, or the reason why it is missing; no function returns None for "could not read"."""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from typing import Generic, TypeVar

    T = TypeVar("T")
    T_co = TypeVar("T_co", covariant=True)
    U = TypeVar("U")

    class _Of(Generic[T_co]):
        """The type of a fact."""
else:
    T_co = None

    class _Of:
        """The type of a fact, for type checkers; importing typing takes as long as Python takes to start."""

        __slots__ = ()

        def __class_getitem__(cls, item):
            return cls


class Why(enum.StrEnum):
    """Why a fact is missing."""

    ABSENT = "absent"
    DENIED = "denied"
    UNSUPPORTED = "unsupported"
    MALFORMED = "malformed"
    NOT_RECORDED = "not recorded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known(_Of[T_co]):
    """A fact, and the file or command it comes from."""

    value: T_co
    source: str

    def __init__(self, *, value: T_co, source: str) -> None:
        """As that of other records, but quicker: of all records of a run, three in five are these."""
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "source", source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A missing fact: `why`, with the system's error number where a system call failed."""

    source: str
    why: Why
    errno: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        code = errno.errorcode.get(self.errno or 0, "")
        return f"{self.source}: {self.why}" + (f" ({code})" if code else f" ({self.detail})" if self.detail else "")


if TYPE_CHECKING:
    Reading = Known[T] | Missing
else:
    Reading = _Of


def missing(source: str, error: OSError) -> Missing:
    """The reading for a failed system call."""
    reasons = {
        errno.ENOENT: Why.ABSENT, errno.ENOTDIR: Why.ABSENT, errno.ENODEV: Why.ABSENT,
        errno.EACCES: Why.DENIED, errno.EPERM: Why.DENIED,
        errno.EOPNOTSUPP: Why.UNSUPPORTED, errno.EINVAL: Why.UNSUPPORTED,
    }  # fmt: skip
    return Missing(source=source, why=reasons.get(error.errno or 0, Why.FAILED), errno=error.errno)


def parsed(reading: Reading[T], parse: Callable[[T], U]) -> Reading[U]:
    """The reading with its value parsed; a ValueError of `parse` makes it malformed."""
    if isinstance(reading, Missing):
        return reading
    try:
        return Known(value=parse(reading.value), source=reading.source)
    except ValueError as error:
        return Missing(source=reading.source, why=Why.MALFORMED, detail=str(error)[:200])


def value_or(reading: Reading[T], default: U) -> T | U:
    """The value, or `default` where there is none."""
    return reading.value if isinstance(reading, Known) else default
