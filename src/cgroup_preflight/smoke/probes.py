"""Shows that limits bite: runs the payload against each one, in the slice tree of the run."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cgroup_preflight.facts.flat_keyed import parse_flat_keyed
from cgroup_preflight.plan.expect import agrees
from cgroup_preflight.reading import Known, parsed
from cgroup_preflight.smoke import argv
from cgroup_preflight.smoke.hold import holder, let_go, wait_until
from cgroup_preflight.smoke.manager import Manager
from cgroup_preflight.smoke.observe import Observer
from cgroup_preflight.smoke.probe_plan import Probe

_DEADLINE = 15.0
_HELD_SECONDS = 20.0
_PAYLOAD = os.path.join(os.path.dirname(__file__), "payload.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEvidence:
    """What one probe saw: `said` its own lines, `before` and `after` the target's counters."""

    probe: Probe
    cgroup: str
    in_force: str | None
    said: tuple[Mapping[str, object], ...]
    before: Mapping[str, int]
    after: Mapping[str, int]
    refused: str = ""


class Probes:
    """Runs probes one after another; all of them wait in their cgroups from the beginning."""

    def __init__(
        self, manager: Manager, observer: Observer, slices: Mapping[str, str], mount: str, folder: str,
        user: tuple[int, int] | None,
    ) -> None:  # fmt: skip
        self._manager = manager
        self._observer = observer
        self._slices = slices
        self._mount = mount.rstrip("/")
        self._folder = folder
        self._user = user

    def run_all(self, scope: str, probes: tuple[Probe, ...], say: Callable[[str], None]) -> tuple[ProbeEvidence, ...]:
        """One evidence for each probe. Raises HostError."""
        units = [f"{scope}-probe-{number}.service" for number in range(len(probes))]
        # The last one waits for all the others, each of which may take its whole time.
        turn = _HELD_SECONDS + (_DEADLINE * 2 + 1) * len(probes)
        launches = [self._launch(unit, probe, turn) for unit, probe in zip(units, probes, strict=True)]
        refused = self._manager.start(launches)
        seen = []
        for number, (unit, probe) in enumerate(zip(units, probes, strict=True)):
            say(f"pushing against {probe.expectation.property.name} of {probe.label} ({number + 1}/{len(probes)})")
            seen.append(self._run(unit, probe, refused.get(unit, "")))
        return tuple(seen)

    def _own_cgroup(self, unit: str, probe: Probe) -> str:
        return f"{self._slices[probe.in_slice]}/{unit}"

    def _launch(self, unit: str, probe: Probe, turn: float) -> argv.Launch:
        # Nothing else may get in the way: swap, or the manager's own DefaultTasksMax in front of a slice's limit.
        extra = (("MemorySwapMax", "0"),) if probe.kind in ("max", "high") else ()
        extra += (("TasksMax", "infinity"),) if probe.kind == "tasks" and probe.is_slice else ()
        target = self._slices[probe.target] if probe.is_slice else self._own_cgroup(unit, probe)
        return argv.Launch(
            unit=unit, slice=probe.in_slice, description=f"cgroup-preflight probe {probe.kind}",
            command=(sys.executable, "-I", "-S", _PAYLOAD, probe.kind, f"{self._mount}{target}", str(probe.amount),
                     f"{_DEADLINE:g}"),
            settings=argv.setting_pairs(probe.settings) + extra, uid=self._user[0] if self._user else None,
            gid=self._user[1] if self._user else None, start_timeout=turn + _HELD_SECONDS,
            runtime_max=_DEADLINE * 2, hold_before=turn, output=os.path.join(self._folder, unit),
        )  # fmt: skip

    def _run(self, unit: str, probe: Probe, refused: str) -> ProbeEvidence:
        own = self._own_cgroup(unit, probe)
        target = self._slices[probe.target] if probe.is_slice else own
        observer, gate = self._observer, 0
        if not refused:
            wait_until(lambda: holder(observer, own) > 0, _HELD_SECONDS)
            gate = holder(observer, own)
        if gate == 0:
            return ProbeEvidence(probe=probe, cgroup=target, in_force=None, said=(), before={}, after={},
                                 refused=refused or "its cgroup did not appear")  # fmt: skip
        reading = observer.read(target, probe.expectation.attribute)
        in_force = reading.value.strip() if isinstance(reading, Known) else None
        if in_force is None or not agrees(probe.expectation, in_force):
            # Nothing to push against; what waits in front of its program is ended with the run.
            return ProbeEvidence(probe=probe, cgroup=target, in_force=in_force, said=(), before={}, after={})
        before = self._events(target, own, probe.kind)
        with self._without_high(target if probe.is_slice and probe.kind == "max" else ""):
            let_go(self._manager, observer, unit, own, gate)
            wait_until(lambda: holder(observer, own, other_than=gate) > 0 or not observer.exists(own), _DEADLINE * 2)
        after = self._events(target, own, probe.kind)
        let_go(self._manager, observer, unit, own, holder(observer, own, other_than=gate))
        return ProbeEvidence(
            probe=probe, cgroup=target, in_force=in_force,
            said=_lines(os.path.join(self._folder, unit)), before=before, after=after,
        )  # fmt: skip

    @contextmanager
    def _without_high(self, cgroup: str) -> Iterator[None]:
        """Lifts memory.high of a slice of the run: beyond it the kernel slows down, and memory.max is never reached.

        In the kernel's file, for `systemctl set-property` leaves a drop-in behind.
        """
        high = self._observer.read(cgroup, "memory.high") if cgroup else None
        if not isinstance(high, Known) or high.value.strip() == "max":
            yield
            return
        path = f"{self._mount}{cgroup}/memory.high"
        self._manager.write_attribute(path, "max")
        try:
            yield
        finally:
            self._manager.write_attribute(path, high.value)

    def _events(self, target: str, own: str, kind: str) -> Mapping[str, int]:
        """The counters that tell whether the limit of `target` acted.

        A refused fork counts where it was tried before kernel 6.11, and where the limit is from then on.
        """
        if kind == "cpu":
            return {}
        if kind == "tasks":
            return {"max": sum(self._keyed(cgroup, "pids.events").get("max", 0) for cgroup in {own, target})}
        local = self._keyed(target, "memory.events.local")
        return {**local, "oom_kill": self._keyed(target, "memory.events").get("oom_kill", 0)}

    def _keyed(self, cgroup: str, attribute: str) -> Mapping[str, int]:
        reading = parsed(self._observer.read(cgroup, attribute), parse_flat_keyed)
        return reading.value if isinstance(reading, Known) else {}


def _lines(path: str) -> tuple[Mapping[str, object], ...]:
    """The payload's JSON lines; a line cut by its death is left out."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file.read(1 << 16).splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
    except OSError:
        return ()
    return tuple(item for item in found if isinstance(item, dict))
