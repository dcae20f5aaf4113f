"""Reads the counters during a rollout: all cgroups for the windows, and a few files for what cannot wait."""

from collections.abc import Callable, Mapping, Sequence

from cgroup_preflight.core.reading import Known, parsed
from cgroup_preflight.core.records import replace
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.cgroupfs import parse_flat_keyed
from cgroup_preflight.metrics.samples import Snapshot
from cgroup_preflight.metrics.tree import Tree
from cgroup_preflight.rollout.judge import Answer, Window
from cgroup_preflight.rollout.windows import Services, Watched, kills, neighbours_of, troubles, window_of


class Watch:
    """As `base.Watcher`. `services` asks the manager for the states of services, `ask` asks a Prometheus server.

    `killed` are the OOM kills by cgroup before the rollout, `states` the services as `states()` gave them then; without
    them, what was until the first sample does not count.
    """

    def __init__(
        self, tree: Tree, observer: Observer, units: Sequence[str], control: Sequence[str], *, stalled_max: float,
        services: Callable[[Sequence[str]], Mapping[str, Mapping[str, str]]], ask: Callable[[], tuple[Answer, ...]] = tuple,
        killed: Mapping[str, int] | None = None, states: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:  # fmt: skip
        self._tree, self._observer = tree, observer
        self._watched = Watched(units=tuple(units), control=tuple(control))
        self._stalled_max, self._services, self._ask = stalled_max, services, ask
        self._last: Snapshot | None = None
        self._states = Services(states=states or {})
        self._counts: dict[str, Mapping[str, int]] = {
            path: {"oom_kill": count} for path, count in (killed or {}).items()
        }

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
        if not self._counts:
            self._counts = {path: self._events(path) for path in self._watched.units}

    def window(self) -> Window:
        """As `Watcher.window`."""
        before = self._last
        assert before is not None
        now = self._tree.snapshot(full=True)
        states = Services(states=self._services(tuple(self._states.states)))
        found = window_of(
            before,
            now,
            self._watched,
            stalled_max=self._stalled_max,
            services=(self._states, states),
            answers=self._ask(),
        )
        self._last = now
        return found

    def alarms(self) -> tuple[str, ...]:
        """As `Watcher.alarms`: OOM kills since the first sample, and services that failed since the last one."""
        return self.kills() or troubles(self._states, Services(states=self._services(tuple(self._states.states))))

    def kills(self) -> tuple[str, ...]:
        """As `Watcher.kills`."""
        return tuple(kill for path, before in self._counts.items() for kill in kills(path, before, self._events(path)))

    def killed(self) -> dict[str, int]:
        """The OOM kills so far by cgroup."""
        return {path: self._events(path).get("oom_kill", 0) for path in self._watched.units}

    def states(self) -> dict[str, dict[str, str]]:
        """What the manager said of each service when it was first seen."""
        return {unit: dict(state) for unit, state in self._states.states.items()}

    def _events(self, path: str) -> Mapping[str, int]:
        reading = parsed(self._observer.read(path, "memory.events"), parse_flat_keyed)
        return reading.value if isinstance(reading, Known) else {}
