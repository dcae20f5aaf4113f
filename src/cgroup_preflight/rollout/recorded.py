"""The slices of a recorded host, so that a plan can be made where the host cannot be reached: reads only.

`record` asks once for all slices, because the config of a later plan can name any of them. What a recording lacks is an
error, and never taken for "no limit" or "no memory in use".
"""

from collections.abc import Sequence
from contextlib import suppress

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Why
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.cgroup import Effective, Observer, levels
from cgroup_preflight.rollout.limits import LIMITS
from cgroup_preflight.rollout.systemd import Systemd

if TYPE_CHECKING:
    from cgroup_preflight.engines.choice import EngineChoice
    from cgroup_preflight.host.command import CommandRunner
    from cgroup_preflight.host.door import Files
    from cgroup_preflight.host.facts import Facts
    from cgroup_preflight.host.fs import HostFs
    from cgroup_preflight.rollout.base import Shown

_ALL = ("*.slice",)
_AGAIN = Remedy(
    title="record the host again", commands=(("cgroup-preflight", "snapshot", "--slices", "-o", "host.json"),)
)
#: What `prepare` reads of a slice apart from the files of its limits.
_MORE = ("cpu.pressure", "memory.current", "memory.stat")
_ABOVE = ("memory.max", "cpu.max", "pids.max")


class Recorded:
    """As `base.Reader`, from a recording that `record` made. It has nothing that could change a host."""

    def __init__(self, facts: "Facts", choice: "EngineChoice", fs: "HostFs", runner: "CommandRunner") -> None:
        self._fs, self._mount = fs, facts.mount_point
        self._manager, self._observer = _manager(facts, choice, fs, runner)

    def show(self, units: Sequence[str]) -> dict[str, "Shown"]:
        """As `Reader.show`: of the slices that were loaded then."""
        try:
            found = self._manager.show(_ALL)
        except HostError as error:
            raise HostError(f"the recording does not have the slices of this manager: {error.message}", where=error.where,
                            remedy=_AGAIN) from None  # fmt: skip
        return {unit: found[unit] for unit in units if unit in found}

    def attribute(self, cgroup: str, name: str) -> str | None:
        """As `Reader.attribute`; None only where the host had no such file."""
        found = self._fs.read(f"{self._mount}{cgroup}/{name}")
        if isinstance(found, Known):
            return found.value
        if found.why is Why.ABSENT:
            return None
        raise HostError(f"the recording does not have {name}: {found}", where=cgroup, remedy=_AGAIN)

    def effective(self, cgroup: str) -> Effective:
        """As `Reader.effective`."""
        for level in levels(cgroup):
            for name in _ABOVE:
                self.attribute(level, name)
        return self._observer.effective(cgroup)

    def control_files(self, unit: str, names: Sequence[str]) -> tuple[str, ...]:
        """None: they are for who changes the unit."""
        del unit, names
        return ()

    def hold_file(self, unit: str) -> str:
        """As `Reader.hold_file`."""
        return self._manager.hold_file(unit)

    def read_file(self, path: str) -> str | None:
        """As `Reader.read_file`."""
        return self._manager.read_file(path)


def record(facts: "Facts", choice: "EngineChoice", fs: "HostFs", runner: "CommandRunner") -> tuple[str, ...]:
    """Reads through `fs` and `runner`, which record, all that `Recorded` will be asked; the names of the slices.

    Raises HostError where the manager does not answer.
    """
    manager, observer = _manager(facts, choice, fs, runner)
    shown = manager.show(_ALL)
    for unit, item in shown.items():
        for path in (*item.drop_ins, manager.hold_file(unit)):
            manager.read_file(path)
        if item.cgroup:
            for name in (*(limit.attribute for limit in LIMITS.values()), *_MORE):
                # What cannot be read is recorded, too: `Recorded` says so.
                with suppress(HostError):
                    manager.attribute(item.cgroup, name)
            observer.effective(item.cgroup)
    return tuple(shown)


def _manager(facts: "Facts", choice: "EngineChoice", fs: "HostFs", runner: "CommandRunner") -> tuple[Systemd, Observer]:
    from cgroup_preflight.core.reading import value_or
    from cgroup_preflight.host.local import LocalClock

    # Of a live host, only `read` and `exists` are used here, which every HostFs has.
    files: Files = fs  # type: ignore[assignment]
    observer = Observer(files, facts.mount_point)
    # No path below a home is needed: DropInPaths names the drop-ins that exist.
    manager = Systemd(choice, runner, None, observer, files, LocalClock(), uid=value_or(facts.uid, 0), home="")
    return manager, observer
