"""Starts a guest from the saved state of its machine, or boots it and saves its state.

A machine whose state may be saved pauses in its boot: systemd runs, Python has read its modules, the root is read-only,
and nothing of the project is in it. With the tool compiled, the machine pauses a second time, once the agent has loaded
that from a disk without the project (inside/loaded.py). A later run resumes there, with its own disks. A state that does not resume
is removed, and the machine boots. Right after the pause the machine becomes a new one: see inside/renewal.py.
"""

import contextlib
import fcntl
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cgroup_preflight.core.records import replace
from cgroup_preflight.guest import machine, saved_state, tools
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.lost import lost
from cgroup_preflight.guest.monitor import Monitor, MonitorError, RefusedError
from cgroup_preflight.guest.process import GuestProcess
from cgroup_preflight.guest.saved_state import Key, StateError
from cgroup_preflight.guest.spec import GuestEngine, GuestSpec
from cgroup_preflight.guest.words import PAUSED

#: The newest systemd of which we know that it reads neither the machine ID nor the boot ID before it needs them.
_SYSTEMD_READS_IDS_LATE = 257
#: Starts an engine: that of a machine that boots, or that waits for its state.
Engine = Callable[..., GuestProcess]
#: Seconds for each answer of the monitor, for the whole state, and until the agent of a resumed guest answers.
_ANSWER_SECONDS = 60.0
_STATE_SECONDS = 120.0
_RESUME_SECONDS = 120.0
_TURN_SECONDS = 0.005
_PIPE_BYTES = 1 << 20
_CONSOLE_LINES = 12
_RELEASE = b"\n"
_UNLIMITED = 1 << 40


def states_for(engine: GuestEngine, accelerated_by: str, image: RootImage, folder: Path) -> Path | None:
    """Where guests on an image of the cache `folder` resume from; None where they boot.

    With KVM a boot takes less time, and a state belongs to one model of CPU. A later systemd reads machine ID and boot ID
    when it starts, so that all guests that resume would have the same (seen with 262, not with 252 and 257).
    """
    found = re.match("[0-9]+", image.contents.packages.get("systemd", "")) if image.contents is not None else None
    late = found is not None and int(found[0]) <= _SYSTEMD_READS_IDS_LATE
    emulated = engine is GuestEngine.QEMU and accelerated_by == "tcg"
    return saved_state.states_folder(folder) if emulated and late else None


def start(spec: GuestSpec, image: RootImage, engine: Engine = machine.start) -> GuestProcess:
    """Starts the guest; `paused` and `resumed_from` say how. Raises what `engine` raises, GuestError."""
    if spec.states is not None:
        program = tools.find(machine.PROGRAMS[spec.engine])
        with contextlib.suppress(StateError, MonitorError):
            described = machine.qemu_machine(spec, image, program, disk=image.root.parent)
            key = saved_state.key_of(described, image, spec.tool)
            return _resumed(spec, image, key, engine) or _saved(spec, image, key, engine)
    process = engine(replace(spec, states=None), image)
    if machine.boots_before_disk(spec, image):
        with _closed_on_error(process):
            process.fill(alone=False)
            if _pauses(spec, process, image):
                _release(process)
    return process


def _resumed(spec: GuestSpec, image: RootImage, key: Key, engine: Engine) -> GuestProcess | None:
    """A guest that has resumed; None if there is no state, or none that resumes, which is removed then."""
    assert spec.states is not None
    try:
        with saved_state.opened(spec.states, key) as state:
            if state is None:
                return None
            with _closed_on_error(engine(spec, image, resumed=True)) as process:
                # While QEMU starts.
                process.fill(alone=False)
                _resume(process, state, key)
                process.paused, process.resumed_from = True, saved_state.path_of(key.name, spec.states)
                return process
    except (StateError, MonitorError):
        with contextlib.suppress(OSError):
            saved_state.remove(key.name, spec.states)
        return None


def _saved(spec: GuestSpec, image: RootImage, key: Key, engine: Engine) -> GuestProcess:
    """A guest that has booted, and whose state has been saved if that was possible.

    Raises GuestError for one that does not boot, MonitorError for one that does not go on after the pause.
    """
    with _closed_on_error(engine(spec, image)) as process:
        process.paused = True
        # While it boots: nothing of the disk is read before the pause.
        process.fill(alone=spec.tool is not None)
        if not _pauses(spec, process, image):
            return process  # its end shows where the agent's first words are expected
        if spec.tool is not None:
            # The agent loads the tool, takes the disk off and pauses again.
            _release(process)
            if not _pauses(spec, process, image):
                raise StateError("the tool could not be loaded before the pause")
        monitor = Monitor(process.lines[-1], seconds=_ANSWER_SECONDS)
        monitor.ask("stop")
        with contextlib.suppress(StateError):
            _save(monitor, spec, key)
        if spec.tool is not None:
            process.fill(alone=False)
        monitor.ask("cont")
        _release(process)
        return process


def _pauses(spec: GuestSpec, process: GuestProcess, image: RootImage) -> bool:
    """Waits for the next pause of a machine that boots; False if it has ended. Raises GuestError."""
    process.line.settimeout(spec.boot_timeout)
    try:
        said = process.line.recv(1)
    except TimeoutError:
        what = f"gave no answer for {spec.boot_timeout:.0f} s (booting)"
        raise lost(spec.name, image, what, process.console_tail(_CONSOLE_LINES)) from None
    except OSError:
        return False
    if said and said != PAUSED:
        raise lost(spec.name, image, "sent something else than that it pauses", process.console_tail(_CONSOLE_LINES))
    return bool(said)


@contextlib.contextmanager
def _closed_on_error(process: GuestProcess) -> Iterator[GuestProcess]:
    try:
        yield process
    except BaseException:
        process.close()
        raise


def _save(monitor: Monitor, spec: GuestSpec, key: Key) -> None:
    """Raises StateError where the state was not saved, MonitorError where the machine may not go on."""
    assert spec.states is not None
    with _pipe() as (source, sink):
        monitor.ask("migrate-set-parameters", max_bandwidth=_UNLIMITED)
        monitor.ask("getfd", descriptor=sink.take(), fdname="state")
        sink.close()
        try:
            monitor.ask("migrate", uri="fd:state")
        except RefusedError as error:
            raise StateError(str(error)) from None
        try:
            saved_state.save(
                spec.states, key, source.take(), lambda: _ended(monitor) == "completed", seconds=_STATE_SECONDS
            )  # fmt: skip
        except StateError:
            # The machine may not go on before its migration has ended.
            source.close()
            monitor.ask("migrate_cancel")
            _ended(monitor)
            raise


def _ended(monitor: Monitor) -> str:
    """How the migration ended: the pipe closes a moment before QEMU says so."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    while (status := str(monitor.ask("query-migrate").get("status"))) not in ("completed", "failed", "cancelled"):
        if time.monotonic() > deadline:
            raise MonitorError("does not end the migration")
        time.sleep(_TURN_SECONDS)
    return status


def _resume(process: GuestProcess, state: int, key: Key) -> None:
    """Returns when the agent answers. Raises StateError, MonitorError."""
    monitor = Monitor(process.lines[-1], seconds=_ANSWER_SECONDS)
    with _pipe() as (source, sink):
        monitor.ask("getfd", descriptor=source.take(), fdname="state")
        source.close()
        monitor.ask("migrate-incoming", uri="fd:state")
        os.set_blocking(sink.take(), False)
        saved_state.feed(state, key, sink.take(), seconds=_STATE_SECONDS)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while monitor.ask("query-status").get("status") == "inmigrate":
        if time.monotonic() > deadline:
            raise MonitorError("does not take the state")
        time.sleep(_TURN_SECONDS)
    monitor.ask("cont")
    _release(process)
    process.line.settimeout(_RESUME_SECONDS)
    try:
        answered = process.line.recv(1, socket.MSG_PEEK)
    except OSError as error:
        raise StateError(f"the guest does not answer ({error})") from None
    if not answered:
        raise StateError("the guest ended")


def _release(process: GuestProcess) -> None:
    with contextlib.suppress(OSError):
        process.line.sendall(_RELEASE)


class _End:
    """One end of a pipe, which is closed once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def take(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[_End, _End]]:
    """The end to read and the end to write."""
    source, sink = map(_End, os.pipe())
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(sink.take(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        yield source, sink
    finally:
        source.close()
        sink.close()
