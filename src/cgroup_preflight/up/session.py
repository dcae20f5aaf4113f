"""One `up` from its start to Ctrl-C: the stream, the services, the table, and what is rebuilt meanwhile."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.up.build import Build, run_builds
from cgroup_preflight.up.services import UpServices
from cgroup_preflight.up.stream import Stream
from cgroup_preflight.up.table import table_lines
from cgroup_preflight.up.watching import digest

if TYPE_CHECKING:
    from typing import Protocol

    from cgroup_preflight.up.watching import Watching
else:
    Protocol = object

_LOOK = 0.2
#: Seconds between two tables.
_TABLE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was requested: `builds` run again when sources change, `programs` are paths by the name of the service."""

    builds: tuple[Build, ...] = ()
    programs: Mapping[str, str]
    table: bool = False


class Show(Protocol):
    """Prints lines of this command."""

    def say(self, text: str) -> None:
        """One line."""

    def say_all(self, lines: Iterable[str]) -> None:
        """Several lines."""


def keep_up(
    services: UpServices, stream: Stream, names: Sequence[str], wishes: Wishes, now: Callable[[], float],
    watching: "Watching | None" = None,
) -> tuple[str, ...]:  # fmt: skip
    """Runs services until none runs any more, or an exception ends it (Ctrl-C), which passes after all were stopped.

    Returns the names of those that failed.
    """
    try:
        services.start(names)
        table_at = now()
        while services.running or watching is not None:
            services.wait(_LOOK)
            services.look()
            changed = watching.changed() if watching is not None else ()
            if changed and (differ := rebuilt(stream, wishes, changed)):
                services.restart(differ)
            if wishes.table and now() >= table_at:
                table_at = now() + _TABLE
                stream.say_all(table_lines(services.rows()))
    finally:
        services.stop_all()
        stream.pump(last=True)
    return services.failed


def rebuilt(show: "Show", wishes: Wishes, changed: Sequence[str]) -> tuple[str, ...]:
    """Builds again; the services whose program differs from before."""
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    show.say(f"{changed[0]}{more} changed")
    before = {name: digest(path) for name, path in wishes.programs.items()}
    failures = run_builds(wishes.builds, show.say)
    for failure in failures:
        show.say(f"the build of {', '.join(failure.build.services)} failed: {failure.why}; it runs on as it was")
        show.say_all(f"  {line}" for line in failure.lines)
    differ = tuple(name for name, path in wishes.programs.items() if digest(path) not in ("", before[name]))
    if not differ and not failures:
        show.say("no program differs from before")
    return differ
