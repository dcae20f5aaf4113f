"""What the runtime of a Go program will choose at start, from its build info, environment and limits. Pure.

The rule of Go 1.25 and later (`src/runtime/cgroup_linux.go`, confirmed in a guest by tests/lab/test_go_runtime.py):
GOMAXPROCS = min(CPUs of the affinity mask, max(2, ceil(quota / period))), the quota being that of the process's own
cgroup only (golang/go#81180); before, the CPUs of the mask. GOMEMLIMIT comes from the environment only
(golang/go#75164).
"""

import math
from collections.abc import Mapping

from cgroup_preflight.core.limits import Chain
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang import runtime_env as env
from cgroup_preflight.golang.modinfo import BuildInfo
from cgroup_preflight.golang.runtime_rules import RuntimeRules, rules_for

#: A quota never makes the runtime go below this (`adjustCgroupGOMAXPROCS`), only too few CPUs in the mask do.
_FLOOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimePrediction:
    """What the program will have at start, and why, in words.

    `gomaxprocs`: None where the Go version is unknown and versions differ. `gomemlimit_bytes`: None for no limit.
    `aware`: whether the runtime reads the quota of its own cgroup, None if unknown. `follows_cpu_max`: whether it also
    follows later changes of that quota. `fatal`: the error with which it ends at its start, empty if it does not.
    """

    gomaxprocs: int | None
    gomemlimit_bytes: int | None
    follows_cpu_max: bool
    why: tuple[str, ...]
    aware: bool | None = None
    from_environment: bool = False
    fatal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Procs:
    number: int | None
    follows: bool
    why: tuple[str, ...]
    from_environment: bool = False


def predict(
    build_info: BuildInfo, environment: Mapping[str, str], limits_chain: Chain, visible_cpus: frozenset[int]
) -> RuntimePrediction:
    """The runtime's choice; `visible_cpus` are those of the machine (or of the mask it is started with)."""
    rules = rules_for(build_info.go_version)
    cpus = len(limits_chain.affinity(visible_cpus))
    awake = awareness(build_info, environment)
    procs = _procs(build_info, environment, limits_chain, cpus, awake)
    limit, limit_why, fatal = _memory(rules, environment, build_info.go_version)
    return RuntimePrediction(
        gomaxprocs=procs.number,
        gomemlimit_bytes=limit,
        follows_cpu_max=procs.follows,
        why=(*procs.why, limit_why),
        aware=awake[0],
        from_environment=procs.from_environment,
        fatal=fatal,
    )


def awareness(build_info: BuildInfo, environment: Mapping[str, str]) -> tuple[bool | None, str]:
    """Whether the runtime reads its quota (None: unknown version), and what decides that, in words."""
    rules = rules_for(build_info.go_version)
    if rules is None:
        return None, f"whether it reads cpu.max is unknown, because its Go version is {build_info.go_version!r}"
    if not rules.reads_cpu_max:
        return False, f"{build_info.go_version} does not read cpu.max (Go >= 1.25 does)"
    default = build_info.setting("DefaultGODEBUG") or ""
    variable = environment.get("GODEBUG", "")
    if env.godebug_numbers(default, variable)["containermaxprocs"] > 0:
        return True, f"{build_info.go_version} reads cpu.max of its own cgroup"
    if "containermaxprocs" in env.parse_godebug(variable):
        return False, "GODEBUG=containermaxprocs=0 switches reading cpu.max off"
    cause = "a //go:debug or godebug line" if switched_off_by_author(build_info) else "a go line below 1.25 in go.mod"
    return False, f"the build switches reading cpu.max off (DefaultGODEBUG has containermaxprocs=0: {cause})"


def switched_off_by_author(build_info: BuildInfo) -> bool:
    """Whether the program's author switched reading cpu.max off; an old go line sets both names to 0 instead."""
    default = env.parse_godebug(build_info.setting("DefaultGODEBUG") or "")
    return default.get("containermaxprocs") == "0" and "updatemaxprocs" not in default


def updates(build_info: BuildInfo, environment: Mapping[str, str]) -> bool:
    """Whether an aware runtime reads its quota again while it runs (at most once a second)."""
    default = build_info.setting("DefaultGODEBUG") or ""
    return env.godebug_numbers(default, environment.get("GODEBUG", ""))["updatemaxprocs"] != 0


def _aware_procs(quota: float | None, cpus: int) -> int:
    """GOMAXPROCS of a runtime that sees `quota` (CPUs) on `cpus` CPUs."""
    return cpus if quota is None else min(cpus, max(_FLOOR, math.ceil(quota)))


def _procs(
    build_info: BuildInfo,
    environment: Mapping[str, str],
    chain: Chain,
    cpus: int,
    awake: tuple[bool | None, str],
) -> _Procs:
    rules, (aware, switch) = rules_for(build_info.go_version), awake
    text = environment.get("GOMAXPROCS", "")
    taken = env.parse_gomaxprocs(text, plus_sign=bool(rules and rules.plus_sign))
    if taken is not None:
        return _Procs(
            number=taken,
            follows=False,
            from_environment=True,
            why=(f"GOMAXPROCS={taken} in the environment is used as it is and never updated",),
        )
    ignored = (f"GOMAXPROCS={text!r} is not a positive whole number, so the runtime ignores it",) if text else ()
    seen = chain.v1_cpus if chain.v1_cpu else chain.leaf.cpus
    if aware is None:
        number = cpus if _aware_procs(seen, cpus) == cpus else None
        return _Procs(number=number, follows=False, why=(*ignored, switch))
    if not aware:
        return _Procs(number=cpus, follows=False, why=(*ignored, switch, f"it takes all {cpus} CPUs of its mask"))
    number = _aware_procs(seen, cpus)
    has_file = chain.v1_cpu or chain.leaf.has_cpu_max
    follows = has_file and updates(build_info, environment)
    return _Procs(number=number, follows=follows, why=(*ignored, switch, *_aware_why(chain, seen, number, cpus)))


def _aware_why(chain: Chain, seen: float | None, number: int, cpus: int) -> tuple[str, ...]:
    """Why an aware runtime chooses `number`, and which quota above it cannot see."""
    where = "the cpu controller of cgroup v1" if chain.v1_cpu else chain.leaf.name or "its own cgroup"
    said = []
    if seen is None:
        said.append(f"{where} has no quota, so it takes all {cpus} CPUs of its mask")
    elif number == cpus and math.ceil(seen) >= cpus:
        said.append(f"the quota of {seen:g} CPUs is not below the {cpus} CPUs of its mask")
    elif seen <= 1:
        said.append(f"the quota of {seen:g} CPUs gives {number}: the runtime never goes below {min(_FLOOR, cpus)}")
    else:
        said.append(f"the quota of {seen:g} CPUs gives {number}" + (", rounded up" if number > seen else ""))
    tightest, level = chain.cpus()
    if level is not None and tightest is not None and level is not chain.leaf and (seen is None or tightest < seen):
        said.append(f"it cannot see the quota of {tightest:g} CPUs at {level.name}")
    return tuple(said)


def _memory(rules: RuntimeRules | None, environment: Mapping[str, str], version: str) -> tuple[int | None, str, str]:
    text = environment.get("GOMEMLIMIT", "")
    if rules is not None and not rules.memory_limit:
        return None, f"{version} has no memory limit (GOMEMLIMIT came with Go 1.19)", ""
    try:
        limit = env.parse_gomemlimit(text, plus_sign=bool(rules and rules.plus_sign))
    except env.MalformedLimitError as error:
        fatal = "" if rules is None else f"{error}: the program ends at once with status 2"
        return None, str(error), fatal or f"{error}: Go >= 1.19 ends at once with status 2"
    if limit is None:
        return None, "no GOMEMLIMIT: no Go version takes a memory limit from the cgroup", ""
    return limit, f"GOMEMLIMIT={text} in the environment", ""
