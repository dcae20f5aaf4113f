"""Libraries that change the runtime's choice, if the program calls them: automaxprocs and automemlimit.

Source: the code of uber-go/automaxprocs v1.6.0 and KimMachineGun/automemlimit v0.7. A module in the build info is
linked; that does not prove that the program calls it.
"""

import math
import re
from collections.abc import Mapping

from cgroup_preflight.core.limits import Chain
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang.modinfo import BuildInfo, Module

AUTOMAXPROCS = "go.uber.org/automaxprocs"
AUTOMEMLIMIT = "github.com/KimMachineGun/automemlimit"
_RATIO = 0.9
#: The first version of automemlimit that reads the cgroups above its own, too (KimMachineGun/automemlimit#31).
_WALKS_UP = (0, 7, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one linked library sets if the program calls it; None: it does not change that."""

    module: str
    version: str
    gomaxprocs: int | None = None
    gomemlimit_bytes: int | None = None
    words: str = ""


def effects(build_info: BuildInfo, environment: Mapping[str, str], chain: Chain) -> tuple[Effect, ...]:
    """The effect of each linked library."""
    found = []
    for module in build_info.deps:
        if module.path == AUTOMAXPROCS:
            found.append(_maxprocs(module, environment, chain))
        elif module.path == AUTOMEMLIMIT:
            found.append(_memlimit(module, environment, chain))
    return tuple(found)


def _maxprocs(module: Module, environment: Mapping[str, str], chain: Chain) -> Effect:
    version = _version(module)
    if "GOMAXPROCS" in environment:
        return Effect(
            module=module.path, version=version, words="does nothing, because GOMAXPROCS is in the environment"
        )
    quota = chain.v1_cpus if chain.v1_cpu else chain.leaf.cpus
    if quota is None:
        return Effect(
            module=module.path, version=version, words="sees no quota: it reads only the program's own cgroup"
        )
    procs = max(1, math.floor(quota))
    return Effect(
        module=module.path,
        version=version,
        gomaxprocs=procs,
        words=f"sets GOMAXPROCS={procs} once (the quota rounded down), which ends the runtime's own updates",
    )


def _memlimit(module: Module, environment: Mapping[str, str], chain: Chain) -> Effect:
    version = _version(module)
    if "GOMEMLIMIT" in environment:
        return Effect(
            module=module.path, version=version, words="does nothing, because GOMEMLIMIT is in the environment"
        )
    ratio = _ratio(environment.get("AUTOMEMLIMIT", ""))
    if ratio is None:
        return Effect(module=module.path, version=version, words="is switched off by AUTOMEMLIMIT")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    limit = chain.memory_max()[0] if numbers >= _WALKS_UP else chain.leaf.memory_max
    if limit is None:
        return Effect(module=module.path, version=version, words="sees no memory.max in its own cgroup")
    value = int(limit * ratio)
    return Effect(
        module=module.path,
        version=version,
        gomemlimit_bytes=value,
        words=f"sets a memory limit of {value} bytes ({ratio:g} of memory.max; it never reads memory.high)",
    )


def _ratio(text: str) -> float | None:
    if text == "off":
        return None
    try:
        ratio = float(text)
    except ValueError:
        return _RATIO
    return ratio if 0 < ratio <= 1 else _RATIO


def _version(module: Module) -> str:
    """The version of the replacement; a local folder has none, and then the version that go.mod requires."""
    replaced = module.replace.version if module.replace is not None else ""
    return replaced if re.search(r"\d", replaced) else module.version
