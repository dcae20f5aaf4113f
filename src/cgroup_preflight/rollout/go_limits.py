"""GOMEMLIMIT of the processes that run in a slice: the config may say nothing of it."""

from cgroup_preflight.core.reading import Known, value_or
from cgroup_preflight.golang.runtime_env import MalformedLimitError, parse_gomemlimit
from cgroup_preflight.host.fs import MachineFs

_NAME = b"GOMEMLIMIT="
#: Of one slice: more than that are workers of the same programs.
_PROCESSES_MAX = 500


def live_limits(files: MachineFs, mount: str, cgroup: str) -> dict[str, int]:
    """Bytes by the name of the unit, the largest of each; processes whose environment cannot be read are left out."""
    found: dict[str, int] = {}
    todo, left = [cgroup], _PROCESSES_MAX
    while todo and left > 0:
        path = todo.pop()
        todo += (f"{path}/{name}" for name in value_or(files.folders(f"{mount}{path}"), ()))
        for pid in value_or(files.read(f"{mount}{path}/cgroup.procs"), "").split()[:left]:
            left -= 1
            limit = _limit(files, pid)
            name = path.rpartition("/")[2]
            if limit is not None:
                found[name] = max(limit, found.get(name, 0))
    return found


def _limit(files: MachineFs, pid: str) -> int | None:
    environ = files.data(f"/proc/{pid}/environ")
    if not isinstance(environ, Known):
        return None
    text = next((item for item in environ.value.split(b"\0") if item.startswith(_NAME)), b"")
    try:
        return parse_gomemlimit(text.removeprefix(_NAME).decode("utf-8", "replace")) if text else None
    except MalformedLimitError:
        return None
