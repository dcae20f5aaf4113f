"""Ends a run on another machine if this tool no longer can: a transient unit there, made of the system's own programs.

The unit looks every few seconds whether the process that stands for this tool still runs, and whether the tool has given
a sign: a line in a file, which it writes while it waits. If not, it does what the end of the run does: stops every unit,
removes the unit files and the private folder. First of all it removes the file of the signs, so that the tool, if it only
was slow, knows from its next sign that this run proves nothing. What is on the host after a lost connection is so gone after
`SILENCE_SECONDS` and the time that the end takes; after the end of the process at once.
"""

import re
from collections.abc import Sequence

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines.answers import first_line
from cgroup_preflight.engines.base import Launch
from cgroup_preflight.engines.command_lines import systemd_run
from cgroup_preflight.engines.run_scope import Guarded, start_time
from cgroup_preflight.host.delegating import DelegatingClock, DelegatingProcesses
from cgroup_preflight.host.door import Clock, Processes

if TYPE_CHECKING:
    from cgroup_preflight.engines.choice import EngineChoice
    from cgroup_preflight.host.door import Door

#: Without a sign for so long, the run is ended. Longer than the longest call of the tool.
SILENCE_SECONDS = 150
#: Seconds between two signs, and between two looks of the guard.
SIGN_SECONDS, LOOK_SECONDS = 10.0, 3
#: What an upload, or anything else that gives no sign, may take; seconds.
LONG_SECONDS = 1800
#: The guard itself ends after this time, and ends the run.
LIFE_SECONDS = 6 * 3600
#: No name of a run: the end of a run stops all units with such a name.
PREFIX = "cgroup-preflight-guard-"
_START_SECONDS = 30.0
_END_SECONDS = 300.0
_NAME = re.compile(r"[a-z0-9]{1,40}")
#: Arguments: the name of the run, the private folder, the folder of unit files, the process and its start time, seconds to
#: live, and `--user` for the manager of a user. 20 is the 22nd field of /proc/PID/stat, without the number and the name.
SCRIPT = r"""
scope=$1 folder=$2 units=$3 pid=$4 start=$5 life=$6 manager=$7
ctl() { systemctl $manager "$@" >/dev/null 2>&1; }
runs() {
    read -r stat < "/proc/$pid/stat" || return 1
    set -- ${stat##*) }
    [ "${20}" = "$start" ]
}
quiet=0 last= lived=0
while runs && read -r sign allowed < "$folder/alive" && [ "$lived" -lt "$life" ]; do
    if [ "$sign" = "$last" ]; then quiet=$((quiet + LOOK)); else quiet=0 last=$sign; fi
    [ "$quiet" -le "$allowed" ] || break
    sleep LOOK
    lived=$((lived + LOOK))
done
rm -f -- "$folder/alive"
tries=0
while [ "$tries" -lt 150 ] && systemctl $manager list-units --plain --no-legend "$scope-*.service" | grep -q .; do
    ctl stop --no-block "$scope-*.service"
    ctl kill --kill-who=all --signal=KILL "$scope-*.service"
    ctl reset-failed "$scope-*"
    sleep 0.2
    tries=$((tries + 1))
done
ctl stop "$scope.slice" "${scope}_*.slice"
ctl reset-failed "$scope-*"
rm -rf -- "$units/$scope.slice" "$units/$scope-"* "$units/${scope}_"* "$folder"
ctl daemon-reload
exit 0
""".replace("LOOK", str(LOOK_SECONDS))


class Guard:
    """The guard of one run on the machine of a door."""

    def __init__(self, choice: "EngineChoice", door: "Door", guarded: Guarded, systemd: int) -> None:
        assert _NAME.fullmatch(guarded.scope)
        self._door, self._guarded, self._systemd = door, guarded, systemd
        self._prefix = ("sudo", "-n") if choice.sudo else ()
        self._user = ("--user",) if choice.name == "user" else ()
        self._unit = f"{PREFIX}{guarded.scope}.service"
        self._signs = 0
        self._due = 0.0

    def begin(self) -> None:
        """Starts it. Raises HostError."""
        files = self._door.files
        files.write(self._path, self._line(LONG_SECONDS), 0o600)
        pid = self._door.processes.own()
        given = self._guarded
        words = (given.scope, given.folder, given.unit_folder, str(pid), start_time(files, pid), str(LIFE_SECONDS),
                 *self._user)  # fmt: skip
        launch = Launch(
            unit=self._unit, slice="app.slice" if self._user else "system.slice",
            description="cgroup-preflight: ends a run whose connection is lost",
            command=("/bin/sh", "-c", SCRIPT, "cgroup-preflight-guard", *words), settings=(),
            runtime_max=LIFE_SECONDS + _END_SECONDS, hold_before=0.0, hold_after=0.0,
        )  # fmt: skip
        # Not from a file: root must not execute one that the programs under test may write.
        argv = (*self._prefix, "systemd-run", *self._user, *systemd_run(launch, sleep="", systemd=self._systemd))
        done = self._door.programs.run(argv, timeout=_START_SECONDS)
        if isinstance(done, Missing) or done.value.returncode != 0:
            why = str(done) if isinstance(done, Missing) else first_line(done.value.stderr)
            raise HostError(
                f"the guard that ends the run after a lost connection does not start: {why}", where=self._door.host,
                remedy=Remedy(title="look at the state of systemd there", commands=(("systemctl", "status"),)),
            )  # fmt: skip

    def end(self) -> None:
        """Stops it, without the end of a run. Raises HostError."""
        self._door.programs.run(
            (*self._prefix, "systemctl", *self._user, "stop", "--", self._unit), timeout=_START_SECONDS
        )

    def sign(self, seconds: int = SILENCE_SECONDS) -> None:
        """Says that the tool works, and that the next sign may take `seconds`."""
        self._signs += 1
        self._door.files.write_attribute(self._path, self._line(seconds).decode())
        self._due = self._door.clock.monotonic() + SIGN_SECONDS

    def sign_if_due(self) -> None:
        """As `sign`, if the last one was long enough ago."""
        if self._door.clock.monotonic() >= self._due:
            self.sign()

    @property
    def _path(self) -> str:
        return f"{self._guarded.folder}/alive"

    def _line(self, seconds: int) -> bytes:
        """All lines are equally long, so that each takes the place of the one before."""
        return f"{self._signs:08d} {seconds:06d}\n".encode()


class SigningClock(DelegatingClock):
    """A clock that gives the guard its signs while somebody waits."""

    def __init__(self, guard: Guard, clock: Clock) -> None:
        super().__init__(clock)
        self._guard = guard

    def sleep(self, seconds: float) -> None:
        self._guard.sign_if_due()
        super().sleep(seconds)


class SigningProcesses(DelegatingProcesses):
    """Processes that are waited for while the guard gets its signs."""

    def __init__(self, guard: Guard, processes: Processes) -> None:
        super().__init__(processes)
        self._guard = guard

    def wait(self, handles: Sequence[int], seconds: float, pipes: Sequence[int] = ()) -> Sequence[int]:
        self._guard.sign_if_due()
        return super().wait(handles, seconds, pipes)
