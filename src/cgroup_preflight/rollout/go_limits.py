"""GOMEMLIMIT of the processes that run in a slice: the config may say nothing of it."""

from cgroup_preflight.core.reading import Known, Reading, value_or
from cgroup_preflight.golang.runtime_env import MalformedLimitError, parse_gomemlimit
from cgroup_preflight.host.fs import MachineFs

_NAME = b"GOMEMLIMIT="
#: Of one slice: more than that are workers of the same programs.
_PROCESSES_MAX, _CGROUPS_MAX = 500, 500


def live_limits(files: MachineFs, mount: str, cgroup: str) -> dict[str, int]:
    """Bytes by the name of the unit, the largest of each; processes whose environment cannot be read are left out."""
    below = _below(files, mount, cgroup)
    procs = files.many(f"{mount}{path}/cgroup.procs" for path in below)
    pids = [
        (path, pid) for path in below
        for pid in value_or(procs[f"{mount}{path}/cgroup.procs"], b"").decode("ascii", "replace").split() if pid.isdigit()
    ][:_PROCESSES_MAX]  # fmt: skip
    environs = files.many(f"/proc/{pid}/environ" for _, pid in pids)
    found: dict[str, int] = {}
    for path, pid in pids:
        limit = _limit(environs[f"/proc/{pid}/environ"])
        name = path.rpartition("/")[2]
        if limit is not None:
            found[name] = max(limit, found.get(name, 0))
    return found


def _below(files: MachineFs, mount: str, cgroup: str) -> list[str]:
    """The cgroup and those in it, the outer ones first."""
    found = [cgroup]
    for path in found:
        if len(found) < _CGROUPS_MAX:
            found += [f"{path}/{name}" for name in value_or(files.folders(f"{mount}{path}"), ())]
    return found[:_CGROUPS_MAX]


def _limit(environ: Reading[bytes]) -> int | None:
    if not isinstance(environ, Known):
        return None
    text = next((item for item in environ.value.split(b"\0") if item.startswith(_NAME)), b"")
    try:
        return parse_gomemlimit(text.removeprefix(_NAME).decode("utf-8", "replace")) if text else None
    except MalformedLimitError:
        return None
