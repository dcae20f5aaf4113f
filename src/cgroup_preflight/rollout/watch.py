"""Reads the counters during a rollout: all cgroups for the windows, and a few files for what cannot wait."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Reading, parsed
from cgroup_preflight.core.records import TYPE_CHECKING, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.cgroupfs import parse_flat_keyed
from cgroup_preflight.metrics.door import LiveDoor
from cgroup_preflight.metrics.names import slice_path
from cgroup_preflight.metrics.samples import Snapshot
from cgroup_preflight.metrics.tree import Scope, Tree
from cgroup_preflight.rollout.judge import Answer, Window
from cgroup_preflight.rollout.windows import Services, Watched, killed, kills, neighbours_of, troubles, window_of

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

#: How long a Prometheus server may take to answer everything.
_ASK_SECONDS = 15.0
#: How often OOM kills are looked for while a Prometheus server is asked, which may take long to answer.
_KILL_POLL = 0.1

#: How many levels below `user@UID.service`: its slices, those in them, and their services.
_USER_DEPTH = 8


def manager_root(cgroup: str) -> str:
    """Where the slices of a manager are, from the cgroup of one: empty for the system's, `user@UID.service` for a user's."""
    return cgroup.removesuffix(slice_path(cgroup.rpartition("/")[2]))


def ask_seconds(restore_after: float) -> float:
    """How long a Prometheus server may take: the timer of the manager must not take one without an answer for a dead tool."""
    return min(_ASK_SECONDS, restore_after / 4)


class Samples(Protocol):
    """What reads counters."""

    def snapshot(self, *, full: bool = False) -> Snapshot:
        """One reading. Raises HostError."""


def tree_of(mount: str, cgroup: str) -> Tree:
    """All cgroups of the manager to which the slice at `cgroup` belongs. Of the system's, a user's manager is only a service."""
    root = manager_root(cgroup)
    return Tree(LiveDoor(mount), Scope(slices=(root,), depth=_USER_DEPTH) if root else None)


class Watch:
    """As `base.Watcher`. `services` asks the manager for the states of services, `ask` asks a Prometheus server if there is one.

    `killed` are the OOM kills by cgroup before the rollout, `states` the services as `states()` gave them then; without
    them, what was until the first sample does not count. The answers of the server are waited for `ask_seconds` at most.
    """

    def __init__(
        self, tree: Samples, observer: Observer, units: Sequence[str], control: Sequence[str], *, stalled_max: float,
        services: Callable[[Sequence[str]], Mapping[str, Mapping[str, str]]], ask: Callable[[], tuple[Answer, ...]] | None = None,
        ask_seconds: float = _ASK_SECONDS, killed: Mapping[str, int] | None = None, states: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:  # fmt: skip
        self._tree, self._observer = tree, observer
        self._watched = Watched(units=tuple(units), control=tuple(control))
        self._stalled_max, self._services = stalled_max, services
        self._ask, self._ask_seconds, self._asking = ask, ask_seconds, threading.Thread()
        self._last: Snapshot | None = None
        self._states = Services(states=states or {})
        self._counts = dict(killed or {})

    def begin(self) -> None:
        """As `Watcher.begin`."""
        self._last = self._tree.snapshot(full=True)
        paths = self._last.samples
        siblings = neighbours_of(self._watched.units, paths, self._watched.control)
        self._watched = replace(self._watched, neighbours=siblings)
        below = [path for path in paths if any(path.startswith(f"{unit}/") for unit in self._watched.units)]
        names = sorted(
            {name for path in (*below, *self._watched.units) if (name := path.rpartition("/")[2]).endswith(".service")}
        )
        # What is known already stays: a service that failed since then must not look as if it had been so before.
        self._states = Services(states={**self._services(names), **self._states.states})
        known = ((path, self._killed(path)) for path in self._watched.units if path not in self._counts)
        self._counts |= {path: count for path, count in known if count is not None}

    def window(self) -> Window:
        """As `Watcher.window`."""
        before = self._last
        assert before is not None
        # First: an OOM kill while the server is asked is in this window.
        answers = self._answers()
        now = self._tree.snapshot(full=True)
        states = Services(states=self._services(tuple(self._states.states)))
        found = window_of(
            before,
            now,
            self._watched,
            stalled_max=self._stalled_max,
            services=(self._states, states),
            answers=answers,
        )
        self._last = now
        return found

    def _answers(self) -> tuple[Answer, ...]:
        """What the server says; nothing where an OOM kill came first, which decides without it."""
        ask, found = self._ask, list[tuple[Answer, ...]]()
        if ask is None:
            return ()
        if self._asking.is_alive():
            return (_no_answer("the server has not answered the question before"),)
        self._asking = threading.Thread(target=lambda: found.append(ask()), name="prometheus", daemon=True)
        self._asking.start()
        until = time.monotonic() + self._ask_seconds
        while self._asking.is_alive() and time.monotonic() < until and not self.kills():
            self._asking.join(_KILL_POLL)
        if found or self.kills():
            return found[0] if found else ()
        # A server that answers byte by byte must not look like a dead tool to the timer of the manager.
        late = f"no whole answer within {self._ask_seconds:g}s"
        return (_no_answer(late if self._asking.is_alive() else "asking the server ended without an answer"),)

    def alarms(self) -> tuple[str, ...]:
        """As `Watcher.alarms`: OOM kills since the first sample, and services that failed since the last one."""
        found = self.kills()
        if not found:
            failed = troubles(self._states, Services(states=self._services(tuple(self._states.states))))
            # The manager takes a while to answer, and the kill of which a service died can be younger than the look before.
            found = (*(self.kills() if failed else ()), *failed)
        return found

    def kills(self) -> tuple[str, ...]:
        """As `Watcher.kills`."""
        found: list[str] = []
        for path, before in tuple(self._counts.items()):
            now = self._killed(path)
            # What cannot be read is not known: the sample is void, and the number before stays.
            if now is not None:
                if now < before:
                    # That of another cgroup, which began with none.
                    self._counts[path] = 0
                found += kills(path, self._counts[path], now)
        return tuple(found)

    def killed(self) -> dict[str, int]:
        """The OOM kills so far by cgroup. Raises HostError where they are not known: later ones could not be told from them."""
        found = {path: self._killed(path) for path in self._watched.units}
        unknown = next((path for path, count in found.items() if count is None), "")
        if unknown:
            raise HostError(f"OOM kills cannot be counted: {self._events(unknown)}", where=unknown, remedy=Remedy(
                title="look at this file; without it, nobody would see an OOM kill"))  # fmt: skip
        return {path: count for path, count in found.items() if count is not None}

    def states(self) -> dict[str, dict[str, str]]:
        """What the manager said of each service when it was first seen."""
        return {unit: dict(state) for unit, state in self._states.states.items()}

    def _killed(self, path: str) -> int | None:
        return killed(self._events(path))

    def _events(self, path: str) -> Reading[Mapping[str, int]]:
        return parsed(self._observer.read(path, "memory.events"), parse_flat_keyed)


def _no_answer(why: str) -> Answer:
    return Answer(query="all queries", error=why)
