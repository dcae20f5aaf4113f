"""Shows that limits bite: runs the payload against each one, in the slice tree of the run."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cgroup_preflight.facts.flat_keyed import parse_flat_keyed
from cgroup_preflight.reading import Known, parsed
from cgroup_preflight.smoke import argv
from cgroup_preflight.smoke.manager import Manager
from cgroup_preflight.smoke.observe import Observer
from cgroup_preflight.smoke.probe_plan import Probe

_DEADLINE = 15.0
_HELD_SECONDS = 20.0
_PAYLOAD = os.path.join(os.path.dirname(__file__), "payload.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEvidence:
    """What one probe saw: `said` its own lines, `before` and `after` the target's counters, systemd's words."""

    probe: Probe
    cgroup: str
    in_force: str | None
    said: tuple[Mapping[str, object], ...]
    before: Mapping[str, int]
    after: Mapping[str, int]
    show: Mapping[str, str]
    refused: str = ""


class Probes:
    """Runs probes one after another; all of them wait in their cgroups from the beginning."""

    def __init__(self, manager: Manager, observer: Observer, slices: Mapping[str, str], mount: str, folder: str) -> None:
        self._manager = manager
        self._observer = observer
        self._slices = slices
        self._mount = mount.rstrip("/")
        self._folder = folder

    def run_all(
        self, scope: str, probes: tuple[Probe, ...], user: tuple[int, int] | None, say: Callable[[str], None]
    ) -> tuple[ProbeEvidence, ...]:
        """One evidence for each probe. Raises HostError."""
        seen = []
        for number, probe in enumerate(probes):
            say(f"pushing against {probe.expectation.property.name} of {probe.label} ({number + 1}/{len(probes)})")
            seen.append(self._run(scope, number, probe, user))
        return tuple(seen)

    def _launch(self, scope: str, number: int, probe: Probe, user: tuple[int, int] | None) -> argv.Launch:
        unit = f"{scope}-probe-{number}.service"
        swap = (("MemorySwapMax", "0"),) if probe.kind in ("max", "high") else ()
        cgroup = self._slices[probe.in_slice] + ("" if probe.is_slice else f"/{unit}")
        return argv.Launch(
            unit=unit, slice=probe.in_slice, description=f"cgroup-preflight probe {probe.kind}",
            command=(sys.executable, "-I", "-S", _PAYLOAD, probe.kind, f"{self._mount}{cgroup}", str(probe.amount),
                     f"{_DEADLINE:g}"),
            settings=argv.setting_pairs(probe.settings) + swap, uid=user[0] if user else None,
            gid=user[1] if user else None, start_timeout=_HELD_SECONDS, stop_timeout=5.0,
            runtime_max=_DEADLINE * 2, output=self._output(number),
        )  # fmt: skip

    def _output(self, number: int) -> str:
        return os.path.join(self._folder, f"probe-{number}")

    def _run(self, scope: str, number: int, probe: Probe, user: tuple[int, int] | None) -> ProbeEvidence:
        launch = self._launch(scope, number, probe, user)
        refused = self._manager.start([launch]).get(launch.unit, "")
        show = self._wait(launch.unit, lambda unit: unit.get("ControlPID", "0") != "0", _HELD_SECONDS)
        own = show.get("ControlGroup", "")
        target = self._slices[probe.target] if probe.is_slice else own
        if refused or not target or not own:
            return ProbeEvidence(probe=probe, cgroup=target, in_force=None, said=(), before={}, after={}, show=show,
                                 refused=refused or "it has no cgroup")  # fmt: skip
        if probe.is_slice and probe.kind == "max":
            # Beyond memory.high the kernel only slows down; of our own slice it may be lifted to get to memory.max.
            self._manager.systemctl("set-property", "--runtime", probe.target, "MemoryHigh=infinity")
        reading = self._observer.read(target, probe.expectation.attribute)
        before = self._events(target, own, probe.kind)
        self._manager.systemctl(*argv.release([launch.unit]))
        show = self._wait(launch.unit, lambda unit: unit.get("SubState") == "stop-post", _DEADLINE * 2)
        after = self._events(target, own, probe.kind)
        self._manager.systemctl(*argv.release([launch.unit]))
        return ProbeEvidence(
            probe=probe, cgroup=target, in_force=reading.value.strip() if isinstance(reading, Known) else None,
            said=_lines(self._output(number)), before=before, after=after, show=show,
        )  # fmt: skip

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

    def _wait(self, unit: str, done: Callable[[Mapping[str, str]], bool], seconds: float) -> Mapping[str, str]:
        deadline, pause = time.monotonic() + seconds, 0.01
        while True:
            show = self._manager.show([unit]).get(unit, {})
            if done(show) or show.get("ActiveState") in ("failed", "inactive", None) or time.monotonic() > deadline:
                return show
            time.sleep(pause)
            pause = min(pause * 2, 0.1)


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
