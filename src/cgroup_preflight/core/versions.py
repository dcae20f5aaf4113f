"""Version specifiers, such as `>=249,<258`, by Python's standard rules (packaging.python.org, "Version specifiers").

Plain comparisons of numbers are judged here: `packaging` takes longer to load than the rest of a config takes to read.
"""

import re

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

_PLAIN = re.compile(r"(==|!=|<=|>=|<|>)([0-9]{1,9}(?:\.[0-9]{1,9})*)", re.ASCII)


class Comparison(Protocol):
    """One comparison of a specifier, as `packaging.specifiers.Specifier`; `str` gives its text."""

    @property
    def version(self) -> str:
        """What is compared with."""

    def contains(self, version: str, /) -> bool:
        """Whether `version`, which is numbers and dots, satisfies it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plain:
    operator: str
    version: str

    def __str__(self) -> str:
        return f"{self.operator}{self.version}"

    def contains(self, version: str) -> bool:
        mine, other = _numbers(self.version), _numbers(version)
        # -1, 0 or 1, as the version is below, equal or above.
        order = (other > mine) - (other < mine)
        return order in {"==": (0,), "!=": (-1, 1), "<=": (-1, 0), ">=": (0, 1), "<": (-1,), ">": (1,)}[self.operator]


def comparisons(text: str) -> tuple[Comparison, ...]:
    """The comparisons of a specifier, which a version must satisfy all. Raises ValueError."""
    plain = [_PLAIN.fullmatch(part.strip()) for part in text.split(",")]
    if all(plain):
        return tuple(_Plain(operator=match[1], version=match[2]) for match in plain if match)
    from packaging.specifiers import SpecifierSet

    return tuple(SpecifierSet(text))


def canonical(text: str) -> str:
    """The specifier as this tool writes it. Raises ValueError."""
    return ",".join(sorted(set(map(str, comparisons(text)))))


def _numbers(version: str) -> tuple[int, ...]:
    """Numbers to compare: a zero at the end makes no difference."""
    numbers = [int(part) for part in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
