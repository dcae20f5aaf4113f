"""What systemd says of a unit that it did not start: the lines of its file that it refuses, the conditions that are not met.

From `systemd-analyze` (`verify`, and `condition` of systemd 250 and later): the manager itself answers with less, and
forgets a unit that it did not start. Pure.
"""

import re
from collections.abc import Iterable

from cgroup_preflight.core.printable import printable

_UNMET = r"((?:Condition|Assert)[A-Za-z0-9]+=.*) failed\.$"
_LINES_MAX = 20
_LENGTH_MAX = 300


def refusal(said: Iterable[str], unit: str) -> str:
    """The lines about `unit` of what `systemd-analyze verify` said, without those that only sum up."""
    about = [printable(line.strip())[:_LENGTH_MAX] for line in said if unit in line]
    return "\n".join([line for line in about if not line.startswith("Unit ")][:_LINES_MAX])


def unmet(said: Iterable[str]) -> tuple[str, ...]:
    """The conditions and assertions that `systemd-analyze condition` calls failed, as the unit has them."""
    found = (re.search(_UNMET, line.strip()) for line in said)
    return tuple(printable(match[1])[:_LENGTH_MAX] for match in found if match)
