"""Runs `smoke` and `run` in a guest with an imported root, which has no agent: from this host, over the guest's lines."""

import os
from collections.abc import Callable

from cgroup_preflight.checks.base import Context
from cgroup_preflight.cli import common, policy
from cgroup_preflight.cli.smoke_run import test_machine
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Remedy, Report
from cgroup_preflight.engines.far_network import FarNetwork
from cgroup_preflight.guest.findings import GuestRun
from cgroup_preflight.guest.outside import Outside, run_outside
from cgroup_preflight.guest.run import GuestTask
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.bridge import BridgedManager
from cgroup_preflight.host.remote.files import RemoteFiles
from cgroup_preflight.host.remote.programs import RemoteClock, RemoteProcesses, RemotePrograms
from cgroup_preflight.host.remote.rounds import Rounds
from cgroup_preflight.plan.build import build_plan


def run_imported(task: GuestTask, say: Callable[[str], None], progress: Callable[[str], None]) -> GuestRun:
    """The run of `task` in the root that was imported with its name. Raises what `run_outside` raises.

    `say` gets a line about the guest, `progress` one about each step of the services in it.
    """
    return run_outside(task, os.environ, say, lambda ready: _report(ready, progress))


def _report(ready: Outside, say: Callable[[str], None]) -> Report:
    """What a guest shows. Raises HostError, OSError, ConfigError."""
    asker = Asker(ready.lines.shell, ready.lines.files)
    try:
        report = _tested(ready, asker, say)
        if asker.lost:
            raise HostError(asker.lost, remedy=Remedy(title="read the console lines"))
        return report
    finally:
        asker.close()


def _tested(ready: Outside, asker: Asker, say: Callable[[str], None]) -> Report:
    started, task = common.start(), ready.task
    config, context, door = machine_at(ready, asker)
    rules = policy.rules_of(config, started, machines=(task.distro,))
    findings, services = test_machine(config, context, task.names, task.words[0], rules, say, door=door, inside=True)
    if task.words[0] == "run":
        from cgroup_preflight.checks.kernel.rt_group_sched import settled

        findings = settled(findings, services)
    return common.report(started, context, findings, services, project=config.project)


def machine_at(ready: Outside, asker: Asker) -> tuple[Config, Context, Door]:
    """The guest as a machine: the config with its paths, what is known of it, and the door to it. Raises HostError."""
    task = ready.task
    programs = {item.label: item.program for item in common.plan_of(task.config).services if item.program}
    # Programs and files have the paths of the guest from here on.
    config = replace(task.config, folder=ready.project.folder)
    plan = build_plan(config, programs=programs)
    context = Rounds(asker).read(lambda fs, runner: common.context_on(fs, runner, config, "systemd", (), plan))
    files = RemoteFiles(asker)
    door = Door(
        files=files, processes=RemoteProcesses(asker), programs=RemotePrograms(asker, ready.lines.channel),
        clock=RemoteClock(asker), network=FarNetwork(files, context.facts.mount_point, ready.lines.connection),
        manager=BridgedManager(ready.lines.bridge), host=ready.guest.spec.name,
    )  # fmt: skip
    return config, context, door
