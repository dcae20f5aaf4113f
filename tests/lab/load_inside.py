"""Runs in the guest: the load probe of one config with the engine `systemd`, as root; prints the finding as JSON.

    python3 load_inside.py CONFIG [CGROUP=WEIGHT]

With `CGROUP=WEIGHT`, the end of a cgroup's path below that of the run, its `cpu.weight` is changed after everything has
started: what the kernel does then is not what the plan says.
"""

import glob
import json
import os
import sys
import tempfile
from pathlib import Path

from cgroup_preflight.cli.common import load_config
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.engines import run_scope
from cgroup_preflight.engines.choice import choose_engine
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.engines.systemd import Manager, bus_environment, private_bus
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.host.gather import gather
from cgroup_preflight.plan.build import build_plan, scoped
from cgroup_preflight.smoke.load import plan_load, untested
from cgroup_preflight.smoke.load_measure import LoadProbe
from cgroup_preflight.smoke.payloads import ServicePayloads


class Changed(ServicePayloads):
    """Payloads whose weights another process changes before they begin."""

    def __init__(self, *args: object, end: str, weight: str) -> None:
        super().__init__(*args)
        self._end, self._weight = end, weight

    def ask(self, item, line):
        if self._end:
            (path,) = glob.glob(f"/sys/fs/cgroup/cgpf*.slice/**/*{self._end}", recursive=True)
            with open(f"{path}/cpu.weight", "w") as file:
                file.write(self._weight)
            self._end = ""
        super().ask(item, line)


def main(path, change=""):
    facts = gather(LiveFs(), LiveRunner())
    choice = choose_engine(facts, "systemd", ("cpu",))
    door = local_door(bus_environment(choice, 0))
    engine = Manager(choice, door.programs, private_bus(choice), uid=0, systemd=value_or(facts.systemd_version, 0))
    name = run_scope.new_name()
    plan = scoped(build_plan(load_config(Path(path))), name)
    load, reason = plan_load(name, plan, frozenset(os.sched_getaffinity(0)))
    if load is None:
        return untested(reason)
    end, _, weight = change.partition("=")
    with (
        tempfile.TemporaryDirectory(prefix=f"{name}-") as folder,
        run_scope.run_scope(engine, door, plan, name, facts.mount_point) as run,
    ):
        payloads = Changed(engine, run.cgroups, folder, None, end=end, weight=weight)
        observer = Observer(door.files, facts.mount_point)
        (found,) = LoadProbe(load, payloads, observer, door.files, door.clock, run.cgroups).run()
        return found


if __name__ == "__main__":
    found = main(*sys.argv[1:])
    print(json.dumps({"status": found.status, "message": found.message, "evidence": dict(found.evidence)}))
