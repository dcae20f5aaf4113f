"""Puts a rollout together: the manager of this host, the folder of its journals, its lock, its samples."""

import calendar
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from cgroup_preflight.config.model import Rollout
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Known, Reading, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Finding, Remedy
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.engines.systemd import bus_environment, private_bus
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.command import CommandRunner
from cgroup_preflight.host.facts import Facts
from cgroup_preflight.host.local import LocalClock
from cgroup_preflight.metrics.names import slice_path
from cgroup_preflight.rollout import journal as journals
from cgroup_preflight.rollout.apply import Hands
from cgroup_preflight.rollout.far_samples import FarTree
from cgroup_preflight.rollout.hook import Hooks
from cgroup_preflight.rollout.judge import Answer, Window
from cgroup_preflight.rollout.outcome import findings_of, present
from cgroup_preflight.rollout.prepare import Prepared
from cgroup_preflight.rollout.run import Runner
from cgroup_preflight.rollout.saved import Saved, fields, saved_of
from cgroup_preflight.rollout.systemd import Systemd
from cgroup_preflight.rollout.watch import Watch, ask_seconds, manager_root, tree_of

if TYPE_CHECKING:
    from cgroup_preflight.engines.bus import Bus
    from cgroup_preflight.host.door import Door

SYSTEM_FOLDER = "/var/lib/cgroup-preflight/rollout"
#: How much longer than its time-out the answers of a Prometheus server are waited for.
_ASK_MORE = 0.5
#: How long `abort` waits for a tool that runs elsewhere to take everything back.
_ABORT_SECONDS = 180.0
_TIME = "%Y%m%d-%H%M%S"
_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}\.journal", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The manager and the files of the machine at a door.

    `folder` has what the timer needs there; empty: the folder of the journals, which are on this machine, as `hooks` are,
    which runs the commands of [rollout.hook]. `folders` lists all cgroups of another machine.
    """

    manager: Systemd
    observer: Observer
    door: "Door"
    hooks: CommandRunner
    mount: str
    page: int
    folder: str = ""
    folders: "Callable[[], Reading[Sequence[tuple[str, int]]]] | None" = None


def host_of(facts: Facts, choice: EngineChoice) -> Host:
    """The manager of this machine that was chosen. Raises HostError where none can be used."""
    uid = value_or(facts.uid, 0)
    door = local_door(bus_environment(choice, uid))
    return host_at(door, facts, choice, private_bus(choice, door.manager), home=os.path.expanduser("~"))


def host_at(door: "Door", facts: Facts, choice: EngineChoice, bus: "Bus | None", *, home: str) -> Host:
    """The manager that was chosen of the machine at a door; `home` is that of its user. Raises HostError where none can be used."""
    if choice.name is None or not isinstance(facts.cgroup_mount, Known):
        raise HostError(f"no service manager can change limits here: {choice.why_not or 'no cgroup v2'}", where="rollout",
                        remedy=Remedy(title="run as root, or with passwordless sudo, on a host with systemd and cgroup v2",
                                      commands=(("cgroup-preflight", "check"),)))  # fmt: skip
    observer = Observer(door.files, facts.mount_point)
    manager = Systemd(
        choice, door.programs, bus, observer, door.files, door.clock, uid=value_or(facts.uid, 0), home=home
    )
    return Host(
        manager=manager,
        observer=observer,
        door=door,
        hooks=door.programs,
        mount=facts.mount_point,
        page=facts.page_size,
    )


def state_folder(named: str) -> str:
    """The folder of the journals, only for this user. Raises UsageError."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    folder = os.path.abspath(named or (SYSTEM_FOLDER if os.geteuid() == 0 else f"{home}/cgroup-preflight/rollout"))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        status = os.stat(folder)
    except OSError as error:
        raise UsageError(f"cannot use the folder of the journals: {error.strerror}", where=folder,
                         remedy=Remedy(title="choose another one with --state")) from None  # fmt: skip
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UsageError("the folder of the journals must belong to you, and nobody else may write to it", where=folder,
                         remedy=Remedy(title="choose another one with --state", commands=(("chmod", "700", folder),)))  # fmt: skip
    return folder


class BusyError(UsageError):
    """Another rollout has the lock."""


@contextmanager
def locked(folder: str, seconds: float = 0.0) -> Iterator[None]:
    """Only one rollout at a time; the lock ends with the process. Raises BusyError, HostError."""
    try:
        handle = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostError(f"cannot use the lock of the rollout: {error.strerror}", where=folder,
                        remedy=Remedy(title="free space, or choose another folder with --state")) from None  # fmt: skip
    until = time.monotonic() + seconds
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise BusyError("another rollout is running", where=folder, remedy=Remedy(
                        title="wait for its end, or take it back", commands=(("cgroup-preflight", "rollout", "abort"),))) from None  # fmt: skip
                time.sleep(0.2)
        yield
    finally:
        os.close(handle)


def last(folder: str) -> tuple[str, journals.Read] | None:
    """The newest journal with a whole record, and its path. Raises HostError."""
    for path in reversed(journals.names(folder)):
        found = journals.read(path)
        if found is not None:
            return path, found
    return None


def saved_in(path: str, found: journals.Read) -> Saved:
    """The rollout of a journal. Raises HostError."""
    try:
        return saved_of(found.records[0])
    except ValueError as error:
        raise HostError(f"the journal cannot be used: {error}", where=path,
                        remedy=Remedy(title="compare the limits with the config by hand, then move the file away")) from None  # fmt: skip


def begun(prepared: Prepared, config: Rollout, host: Host, folder: str, say: Callable[[str], None]) -> journals.Journal:
    """Measures what is usual, and writes the first record of a new journal. Raises HostError."""
    root = manager_root(prepared.units[0].cgroup)
    control = tuple(root + slice_path(f"{name}.slice") for name in config.control)
    watch = _watch(host, [unit.cgroup for unit in prepared.units], control, config)
    baseline = _baseline(watch, config, say)
    rollout = new_name(journals.names(folder), time.time())
    saved = Saved(
        rollout=rollout, boot=host.manager.boot(), manager=host.manager.name, units=prepared.units, stages=prepared.stages,
        baseline=baseline, control=control, config=config, kills=watch.killed(), services=watch.states(),
    )  # fmt: skip
    journal = journals.create(os.path.join(folder, f"{rollout}.journal"))
    journal.add("begin", time.time(), **fields(saved))
    return journal


def new_name(paths: Sequence[str], now: float) -> str:
    """The name of a rollout, by the time `now` in seconds since 1970; after those of `paths`, also if the clock was set back."""
    times = [name[:15] for path in paths if _NAME.fullmatch(name := os.path.basename(path))]
    second = calendar.timegm(time.strptime(max(times), _TIME)) + 1 if times else 0
    return f"{time.strftime(_TIME, time.gmtime(max(int(now), second)))}-{os.urandom(2).hex()}"


def _baseline(watch: Watch, config: Rollout, say: Callable[[str], None]) -> tuple[Window, ...]:
    count = config.thresholds.samples_min
    watch.begin()
    windows = []
    for number in range(count):
        say(f"measuring before the first change: {number + 1} of {count}")
        time.sleep(max(config.interval / count, 1.0))
        windows.append(watch.window())
    return tuple(windows)


def _watch(
    host: Host, units: Sequence[str], control: Sequence[str], config: Rollout, saved: Saved | None = None
) -> Watch:
    most = ask_seconds(config.restore_after)

    def ask() -> tuple[Answer, ...]:
        from cgroup_preflight.rollout.prometheus import ask as asked  # only where a server is named

        return asked(config.prometheus, most - _ASK_MORE)

    tree = (
        FarTree(host.door.files, host.folders, host.mount, units=units, control=control)
        if host.folders else tree_of(host.mount, units[0])
    )  # fmt: skip
    return Watch(
        tree, host.observer, units, control, stalled_max=config.thresholds.memory_stalled_max,
        services=host.manager.services, ask=ask if config.prometheus.url else None, ask_seconds=most,
        killed=saved.kills if saved else None, states=saved.services if saved else None,
    )  # fmt: skip


def runner_of(saved: Saved, journal: journals.Journal, host: Host, say: Callable[[str], None]) -> Runner:
    """What goes on with a journal."""
    folder, config = os.path.dirname(journal.path), saved.config
    hands = _hands(saved, host, folder)
    watch = _watch(host, [unit.cgroup for unit in saved.units], saved.control, config, saved)
    wish = abort_file(folder, saved.rollout)
    return Runner(
        hands, journal, saved.stages, saved.baseline, config, watcher=watch, clock=LocalClock(),
        hook=Hooks(config.hook, host.hooks, saved.rollout, host.door.host).run, say=say, stop=lambda: os.path.exists(wish),
    )  # fmt: skip


def _hands(saved: Saved, host: Host, folder: str) -> Hands:
    return Hands(
        host.manager, saved.units, rollout=saved.rollout, folder=host.folder or folder, page=host.page,
        seconds=saved.config.restore_after,
    )  # fmt: skip


def refuse_other(host: Host, rollout: str) -> None:
    """Raises BusyError where the timer of the manager belongs to another rollout, which would lose it."""
    other = host.manager.armed_for()
    if other not in ("", rollout):
        raise BusyError("another rollout of this service manager is under way", where=printable(other)[:80], remedy=Remedy(
            title="wait for its end, or abort it with its own --state"))  # fmt: skip


def present_findings(path: str, found: journals.Read, host: Host) -> tuple[Finding, ...]:
    """The journal, and what of it is in force now. Raises HostError."""
    saved = saved_in(path, found)
    hands = _hands(saved, host, os.path.dirname(path))
    now = present(
        found.state, saved.units, hands.read_back(hands.old, held=False), hands.read_back(hands.new, held=False)
    )
    return (*now, *findings_of(found.state, found.records, by_timer=hands.was_restored()))


def abort_file(folder: str, rollout: str) -> str:
    """What `abort` creates for a tool that runs elsewhere."""
    return os.path.join(folder, f"{rollout}.abort")


@contextmanager
def taking_over(folder: str, rollout: str) -> Iterator[None]:
    """The lock, after a tool that runs elsewhere was told to take everything back. Raises BusyError, HostError."""
    wish, seconds = abort_file(folder, rollout), _ABORT_SECONDS
    try:
        os.close(os.open(wish, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError:
        # On a full disk. Where no tool runs, nobody needs to be told.
        seconds = 0.0
    try:
        with locked(folder, seconds):
            yield
    finally:
        with suppress(OSError):
            os.unlink(wish)
