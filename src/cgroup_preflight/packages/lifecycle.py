"""What becomes of packages on this machine, a guest: installed, started as installed, upgraded, removed, purged.

First the packages are installed, their services start as installed, their limits are read twice, and they stop; then the
services are tested as all others are. After that they start again, and the packages are removed while they run, and purged.
If there are packages before these, they are installed, started, upgraded while they run, removed and purged.
"""

import os
from collections.abc import Callable, Sequence

from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Finding
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.files import write_file
from cgroup_preflight.packages import findings as judged
from cgroup_preflight.packages.added_limits import added_files
from cgroup_preflight.packages.leftovers import (
    Leftovers,
    Scene,
    left_accounts,
    left_files,
    left_processes,
    left_units,
    scene,
    show_units,
)
from cgroup_preflight.packages.package_file import PackageFile, sha256_of
from cgroup_preflight.packages.readings import InstalledReading, read_installed
from cgroup_preflight.packages.relied_on import Identities, relied_on, replaced
from cgroup_preflight.packages.selection import Selection
from cgroup_preflight.packages.steps import Done, Say, Steps
from cgroup_preflight.plan.expect import HostNumbers
from cgroup_preflight.plan.model import Plan, ServicePlan

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Door

#: Between two readings of services that run as installed, in seconds.
_AGAIN_SECONDS = 1.0
_STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine that the steps change, and what is on it; `unit_folder` is for drop-ins of a run.

    `end_test` ends what the test of the services left: its units, their files and their gates.
    """

    door: "Door"
    mount: str
    numbers: HostNumbers
    systemd: int
    end_test: Callable[[], None]
    look: Callable[[], Scene] = scene
    running: Callable[[frozenset[str]], tuple[str, ...]] = left_processes
    relied_on: Callable[[], Identities] = relied_on
    unit_folder: str = "/run/systemd/system"


class Lifecycle:
    """The packages of one run; `plan` has the services that are installed from them."""

    def __init__(self, selection: Selection, plan: Plan, machine: Machine, steps: Steps, say: Say) -> None:
        self._selection = selection
        self._plan = plan
        self._machine = machine
        self._steps = steps
        self._say = say
        self._services = tuple(item for item in plan.services if item.label in selection.units)
        self._new = tuple(item.package for item in selection.packages)
        self._before = Scene(paths=frozenset(), users=frozenset(), groups=frozenset())
        self._observer = Observer(machine.door.files, machine.mount)
        self._relied: Identities = {}
        self._began = machine.door.clock.monotonic()
        self._seconds: dict[str, float] = {}

    def _note(self, step: str) -> None:
        """The time since the last call belongs to `step`."""
        now = self._machine.door.clock.monotonic()
        self._seconds[step], self._began = round(now - self._began, 2), now

    def begin(self) -> tuple[list[Finding], bool]:
        """Installs the packages and reads the limits of their services as installed; False where they are not installed."""
        self._before, self._relied = self._machine.look(), self._machine.relied_on()
        # Before anything of the packages runs: the host compares it with the files that it sent.
        received = [sha256_of(item.real) for item in self._new]
        self._add_limits()
        self._note("look")
        self._say("installing the packages")
        done = self._steps.install(self._new)
        self._note("install")
        findings = [judged.install_finding(self._new, done, received)]
        if not done.ok:
            return findings, False
        if found := self._replaced(self._new):
            return found, False
        by_scripts = self._running()
        findings += self._started(by_scripts)
        self._note("start")
        self._stop()
        self._note("stop")
        return findings, True

    def end(self) -> list[Finding]:
        """Removes and purges the packages; then the same after an upgrade, if there are packages to upgrade from."""
        self._note("test")
        # Units of the test, and drop-ins of packages, would be taken for what a package leaves.
        self._machine.end_test()
        self._note("end of test")
        # Nothing else shows a package that does not stop its services.
        self._start(self._services)
        self._note("start before the removal")
        findings = [self._removed(self._new, "")]
        if any(item.previous is not None for item in self._selection.packages):
            findings += self._upgraded()
        return findings

    def _replaced(self, files: Sequence[PackageFile]) -> list[Finding]:
        """That packages, which have just been installed, changed what the run relies on; nothing if they did not."""
        changed = replaced(self._relied, self._machine.relied_on())
        return [judged.replaced_finding(files, changed)] if changed else []

    def _add_limits(self) -> None:
        """Writes the drop-ins of the plan for units of which no package has one; they do not outlive a boot."""
        files = added_files(self._plan, self._selection)
        for file in files:
            path = os.path.join(self._machine.unit_folder, file.path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_file(path, file.content.encode())
        if files:
            self._systemctl("daemon-reload")

    def _of(self, files: Sequence[PackageFile]) -> tuple[ServicePlan, ...]:
        """The services of packages."""
        names = {item.name for item in files}
        return tuple(item for item in self._services if self._selection.owners[item.label] in names)

    def _running(self) -> frozenset[str]:
        shown = show_units(self._machine.door.programs, (item.unit for item in self._services), ("Id", "ActiveState"))
        return frozenset(item.get("Id", "") for item in shown if item.get("ActiveState") == "active")

    def _start(self, services: Sequence[ServicePlan]) -> dict[str, str]:
        """Starts services that do not run yet, and their sockets; the words of systemd by unit, for those it refused.

        systemd refuses a socket whose service runs: a package may start one of the two alone.
        """
        running = self._running()
        services = [item for item in services if item.unit not in running]
        if not services:
            return {}
        refused: dict[str, str] = {}
        longest = max(item.smoke.start_timeout for item in services)
        units = [name for service in services for name in (*_sockets(service), service.unit)]
        # One call for all, as each takes long in user-mode-linux; the words of each one only where something is wrong.
        if not self._systemctl("start", "--", *units, timeout=longest + len(services)):
            return {}
        for service in services:
            timeout = service.smoke.start_timeout
            words = self._systemctl("start", "--", *_sockets(service), service.unit, timeout=timeout)
            if words:
                refused[service.unit] = self._verified(service.unit) or words
        return refused

    def _verified(self, unit: str) -> str:
        """What systemd says of the unit file itself, with its line; empty where it finds nothing wrong."""
        answer = self._machine.door.programs.run(("systemd-analyze", "verify", unit), timeout=_STOP_SECONDS)
        lines = [] if isinstance(answer, Missing) else answer.value.stderr.splitlines()
        return printable(next((line for line in lines if unit in line), ""))[:400]

    def _stop(self) -> None:
        units = (
            unit
            for file in self._new
            for unit in file.units
            if unit.endswith((".service", ".socket", ".timer", ".path"))
        )
        names = dict.fromkeys((*(item.unit for item in self._services), *(os.path.basename(unit) for unit in units)))
        self._systemctl("stop", "--", *(name for name in names if "@." not in name), timeout=_STOP_SECONDS)
        self._systemctl("reset-failed", "--", *(name for name in names if "@." not in name))

    def _read(self, services: Sequence[ServicePlan]) -> tuple[InstalledReading, ...]:
        machine = self._machine
        return read_installed(machine.door.programs, self._observer, self._plan, services, machine.numbers)

    def _started(self, by_scripts: frozenset[str]) -> list[Finding]:
        """Starts the services as installed and reads their limits twice."""
        self._say("starting the services as installed")
        refused = self._start(self._services)
        first = self._read(self._services)
        self._machine.door.clock.sleep(_AGAIN_SECONDS)
        second = self._read(self._services)
        return [
            judged.start_finding(
                service, (early, late), refused.get(service.unit, ""), () if late.runs else self._log(service),
                by_script=service.unit in by_scripts,
            )
            for service, early, late in zip(self._services, first, second, strict=True)
        ]  # fmt: skip

    def _log(self, service: ServicePlan) -> tuple[str, ...]:
        argv = ("journalctl", "--no-pager", "--output=cat", "--lines=8", f"--unit={service.unit}")
        answer = self._machine.door.programs.run(argv, timeout=_STOP_SECONDS)
        return (
            ()
            if isinstance(answer, Missing)
            else tuple(printable(line)[:200] for line in answer.value.stdout.splitlines()[-8:])
        )

    def _upgraded(self) -> list[Finding]:
        """Installs the packages before these, starts their services, and upgrades while they run."""
        self._say("upgrading from the packages before")
        pairs = [(item.previous, item.package) for item in self._selection.packages if item.previous is not None]
        older, newer = tuple(old for old, _ in pairs), tuple(new for _, new in pairs)
        services = self._of(newer)
        done = self._steps.install(older)
        if not done.ok:
            return [judged.install_finding(older, done)]
        if found := self._replaced(older):
            return found
        self._note("install before the upgrade")
        refused = self._start(services)
        before = self._read(services)
        self._note("start before the upgrade")
        done = self._steps.upgrade(newer)
        self._note("upgrade")
        if not done.ok:
            return [judged.upgrade_failed(newer, done)]
        if found := self._replaced(newer):
            return found
        after = self._read(services)
        findings = [
            judged.upgrade_finding(service, (old, new), refused.get(service.unit, ""), self._machine.systemd, done)
            for service, old, new in zip(services, before, after, strict=True)
        ]
        return [*findings, self._removed(newer, " after the upgrade")]

    def _removed(self, files: Sequence[PackageFile], when: str) -> Finding:
        """Removes and purges packages; what is left."""
        self._say("removing the packages")
        programs = self._machine.door.programs
        shipped, units = self._steps.shipped(files), self._units(files)
        removed = self._steps.remove(files)
        running = self._machine.running(shipped)
        purged = self._steps.purge(files) if removed.ok else Done(what="purge", status=0, output=(), seconds=0.0)
        before, after = self._before, self._machine.look()
        # What is left now was told, and does not count again.
        self._before = after
        left, data = left_files(before, after, shipped)
        leftovers = Leftovers(
            files=left, data=data, units=left_units(programs, units), processes=running,
            accounts=left_accounts(before, after),
            slices=left_units(programs, (item.unit for item in self._plan.slices)),
        )  # fmt: skip
        self._note(f"removal{when}")
        return judged.removal_finding(files, (removed, purged), leftovers, when, self._seconds)

    def _units(self, files: Sequence[PackageFile]) -> tuple[str, ...]:
        names = (os.path.basename(path) for file in files for path in file.units)
        own = (name for name in names if not name.endswith((".conf", ".slice")) and "@." not in name)
        return tuple(dict.fromkeys((*own, *(item.unit for item in self._of(files)))))

    def _systemctl(self, *words: str, timeout: float = _STOP_SECONDS) -> str:
        """What systemctl said against it; empty where it did all of it."""
        answer = self._machine.door.programs.run(("systemctl", *words), timeout=timeout)
        if isinstance(answer, Missing):
            return answer.detail or str(answer)
        if answer.value.returncode == 0:
            return ""
        said = printable(" ".join(answer.value.stderr.split()))[:400]
        return said or f"exit status {answer.value.returncode}"


def _sockets(service: ServicePlan) -> tuple[str, ...]:
    """The socket unit of a service, if it has one."""
    has_socket = service.source is not None and service.source.socket
    return (f"{service.unit.removesuffix('.service')}.socket",) if has_socket else ()
