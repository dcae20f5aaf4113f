"""What each Go release's runtime does by itself: one table, looked up by the version text of the build info.

Sources: `src/runtime/proc.go`, `mgcpacer.go`, `runtime1.go`, `cgroup_linux.go` and `internal/runtime/cgroup` of Go
1.21 to 1.27; golang/go#48409 (GOMEMLIMIT, 1.19), golang/go#73193 (cgroup-aware GOMAXPROCS, 1.25), golang/go#76390
(cgroup mounts with another root, 1.26). No release reads memory.max or memory.high (golang/go#75164).
"""

import re

from cgroup_preflight.core.records import dataclass

#: "devel go1.28-hash", "go1.25.5 X:arenas", vendor suffixes: the number stands anywhere in the text.
_VERSION = re.compile(r"\bgo(\d{1,3})\.(\d{1,4})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRules:
    """The rules from Go 1.`since` on, until the next row of the table.

    `memory_limit`: knows GOMEMLIMIT. `reads_cpu_max`: takes the quota of its own cgroup into account, unless switched
    off. `mount_roots`: also below a cgroup mount whose root is not `/`. `plus_sign`: takes `+4` for a number.
    """

    since: int
    memory_limit: bool
    reads_cpu_max: bool
    mount_roots: bool
    plus_sign: bool


#: Newest first.
_TABLE = (
    RuntimeRules(since=26, memory_limit=True, reads_cpu_max=True, mount_roots=True, plus_sign=True),
    RuntimeRules(since=25, memory_limit=True, reads_cpu_max=True, mount_roots=False, plus_sign=False),
    RuntimeRules(since=19, memory_limit=True, reads_cpu_max=False, mount_roots=False, plus_sign=False),
    RuntimeRules(since=0, memory_limit=False, reads_cpu_max=False, mount_roots=False, plus_sign=False),
)


def minor(go_version: str) -> int | None:
    """The 25 of `go1.25.5`; None for a text without a version (obfuscated builds say "unknown")."""
    found = _VERSION.search(go_version)
    if found is None:
        return None
    return int(found[2]) if int(found[1]) == 1 else 1000


def rules_for(go_version: str) -> RuntimeRules | None:
    """The row for a version text of the build info; None where the text does not tell, which is never "old"."""
    number = minor(go_version)
    if number is None:
        return None
    return next(row for row in _TABLE if row.since <= number)
