"""What the units in an artifact do to the environment that the plan gives a service. Pure.

Variables of EnvironmentFile= override those of Environment=, also those of a later drop-in (systemd.exec(5)), so a file
of the package can undo what was tested.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.core.env_file import variables_of_file
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.unit_text import UnitLine, parse_unit, values, with_names
from cgroup_preflight.plan.model import ServicePlan

#: Variables that the Go runtime reads (package runtime, "Environment Variables").
_GO = ("GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG")
#: One word of Environment=: quoted as a whole, or up to the next space (systemd.syntax(7), "Quoting").
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|(\S+)', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """What `source` does to the environment of a service; `certain`: it changes a variable of the plan for sure."""

    source: str
    message: str
    certain: bool


def environment_files(texts: Iterable[str], service: ServicePlan) -> list[str]:
    """The absolute paths of EnvironmentFile= in unit files and drop-ins, in order; an empty one forgets the earlier.

    Of the specifiers, those of the unit's name are replaced (systemd.unit(5)).
    """
    found = (item.value.removeprefix("-").strip("\"'") for item in _assigned(texts, "EnvironmentFile"))
    return [with_names(path, service.unit) for path in found if path]


def own_variables(texts: Iterable[str]) -> dict[str, str]:
    """The variables of Environment= in unit files and drop-ins; an empty one forgets the earlier."""
    lines = [item.value for item in _assigned(texts, "Environment")]
    words = (next(filter(None, match.groups()), "") for line in lines for match in _WORD.finditer(line))
    return {name: rest for name, _, rest in (word.partition("=") for word in words)}


def _assigned(texts: Iterable[str], key: str) -> tuple[UnitLine, ...]:
    """The assignments to a list of [Service] in several files."""
    return values((item for text in texts for item in parse_unit(text)), "Service", key)


def conflicts(service: ServicePlan, texts: Iterable[str], files: Mapping[str, bytes | None]) -> Iterator[Conflict]:
    """What changes the environment of `service`; `files` are those of the artifact by absolute path (None: unread)."""
    units = tuple(texts)
    planned = dict(service.environment)
    if service.go is not None:
        planned = dict(service.go.environment(service.environment))
    for path in environment_files(units, service):
        names = [name for name in files if name == path or fnmatch.fnmatchcase(name, path)]
        for name in names or [path]:
            yield from _of_file(name, files.get(name), planned, in_artifact=bool(names))
    run = dict(service.smoke.env)
    for name, value in own_variables(units).items():
        if name in _GO and name not in planned and run.get(name) != value:
            message = f"the unit sets {name}={value}, which the run of this plan does not have"
            yield Conflict(source=service.unit, message=message, certain=False)


def _of_file(path: str, data: bytes | None, planned: Mapping[str, str], *, in_artifact: bool) -> Iterator[Conflict]:
    if data is None:
        names = ", ".join(sorted(planned))
        if planned:
            why = "its content is unknown" if in_artifact else "it is not in this artifact"
            message = f"EnvironmentFile={path} may change {names}: it overrides Environment=, and {why}"
            yield Conflict(source=path, message=message, certain=False)
        return
    for name, value in variables_of_file(data.decode("utf-8", "replace")).items():
        if planned.get(name, value) != value:
            message = f"EnvironmentFile={path} sets {name}={value}, over {name}={planned[name]} of the plan"
            yield Conflict(source=path, message=message, certain=True)
        elif name in _GO and name not in planned:
            message = f"EnvironmentFile={path} sets {name}={value}, which the run of this plan does not have"
            yield Conflict(source=path, message=message, certain=False)
