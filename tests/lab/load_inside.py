"""Runs in the guest: the load probe of one config with the engine `systemd`, as root; prints the finding as JSON.

    python3 load_inside.py CONFIG [few|all|free] [FILE=TEXT]

`all` binds the processes of each service to all CPUs, one to each. `free` has one process for each service, which is bound to
no CPU, so that there is a CPU for each. With `FILE=TEXT`, the end of a path below the cgroup
of the run, that file is changed after everything has started: what the kernel does then is not what the plan says.
"""

import glob
import json
import os
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

from cgroup_preflight.cli.common import load_config
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import replace
from cgroup_preflight.engines import run_scope
from cgroup_preflight.engines.choice import choose_engine
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.engines.systemd import Manager, bus_environment, private_bus
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.host.gather import gather
from cgroup_preflight.plan.build import build_plan, scoped
from cgroup_preflight.plan.share_tree import share_tree
from cgroup_preflight.smoke.load import plan_load
from cgroup_preflight.smoke.load_findings import untested
from cgroup_preflight.smoke.load_measure import LoadPlace, LoadProbe
from cgroup_preflight.smoke.payloads import ServicePayloads


class Changed(ServicePayloads):
    """Payloads whose cgroups another process changes before they begin."""

    def __init__(self, *args: object, change: str) -> None:
        super().__init__(*args)
        self._change = change

    def ask(self, item, line):
        if self._change:
            end, _, text = self._change.partition("=")
            (path,) = glob.glob(f"/sys/fs/cgroup/cgpf*.slice/**/*{end}", recursive=True)
            with open(path, "w") as file:
                file.write(text)
            self._change = ""
        super().ask(item, line)


class Free(Changed):
    """Payloads with one process each, on any CPU."""

    def ask(self, item, line):
        cpus = sorted(os.sched_getaffinity(0))
        super().ask(item, f"load {cpus[0]}-{cpus[-1]}" if line.startswith("load ") else line)


def on_all(load, plan, cpus):
    """The same processes on all CPUs, with the plan's quotas in force."""
    tree = replace(share_tree(plan, cpus), cpus=cpus)
    masks = dict.fromkeys(load.masks, sum(1 << cpu for cpu in cpus))
    hogs = tuple(replace(item, settings=_service(plan, load.unit_of[item.unit]).settings) for item in load.hogs)
    return replace(load, cpus=cpus, tree=tree, masks=masks, hogs=hogs, lifted=())


def free(load, cpus):
    """One process each that may run on all CPUs; there have to be more CPUs than processes."""
    tree = load.tree
    top = _of_one_cpu(tree.top, cpus)
    return replace(load, cpus=cpus, tree=replace(tree, top=top, cpus=cpus))


def _of_one_cpu(node, cpus):
    children = tuple(_of_one_cpu(child, cpus) for child in node.children)
    return replace(node, cpus=cpus, children=children, **({} if children else {"most": Fraction(1)}))


def _service(plan, unit):
    return next(item for item in plan.services if item.unit == unit)


def main(path, places="few", change=""):
    facts = gather(LiveFs(), LiveRunner())
    choice = choose_engine(facts, "systemd", ("cpu",))
    door = local_door(bus_environment(choice, 0))
    engine = Manager(choice, door, private_bus(choice, door.manager), uid=0, systemd=value_or(facts.systemd_version, 0))
    name = run_scope.new_name()
    plan = scoped(build_plan(load_config(Path(path))), name)
    cpus = frozenset(os.sched_getaffinity(0))
    load, reason = plan_load(name, plan, cpus)
    if load is None:
        return untested(reason)
    if places == "all":
        load = on_all(load, plan, cpus)
    if places == "free":
        load = free(load, cpus)
    with (
        tempfile.TemporaryDirectory(prefix=f"{name}-") as folder,
        run_scope.run_scope(engine, door, plan, name, facts.mount_point) as run,
    ):
        place = LoadPlace(
            payloads=(Free if places == "free" else Changed)(
                engine, door.files, run.cgroups, folder, None, change=change
            ),
            engine=engine,
            observer=Observer(door.files, facts.mount_point), door=door, slices=run.cgroups,
        )  # fmt: skip
        (found,) = LoadProbe(load, place).run()
        return found


if __name__ == "__main__":
    found = main(*sys.argv[1:])
    print(json.dumps({"status": found.status, "message": found.message, "evidence": dict(found.evidence)}))
