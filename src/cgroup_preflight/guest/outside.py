"""A guest without an agent, booted with the files of a project, whose services are run from this host over its lines."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from cgroup_preflight.config.model import ReadyKind
from cgroup_preflight.core.errors import PreflightError
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import Remedy, Report, Verdict
from cgroup_preflight.guest import foreign, foreign_kernel, image, units
from cgroup_preflight.guest.bare import BareGuest
from cgroup_preflight.guest.capacity import host_capacity
from cgroup_preflight.guest.findings import GuestRun
from cgroup_preflight.guest.lines import GuestLines
from cgroup_preflight.guest.project import Project, project_of
from cgroup_preflight.guest.qemu import accelerator
from cgroup_preflight.guest.requirements import GuestMachine, choose_machine, requirements_of
from cgroup_preflight.guest.run import (
    BOOT_SECONDS,
    Clock,
    GuestTask,
    Now,
    Say,
    booted,
    exhausted,
    lost,
    place_files,
    require_system,
    time_limit,
)
from cgroup_preflight.guest.spec import GuestEngine, GuestError, GuestSpec

Boot = Callable[[GuestSpec, image.RootImage], BareGuest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """A guest that has booted and has the files of the project; `lines` lead into it, `task` has the units of its root."""

    guest: BareGuest
    lines: GuestLines
    root: image.RootImage
    task: GuestTask
    project: Project
    machine: GuestMachine
    lost_boot: str


#: Tests the services in a guest, over its lines. Raises HostError, OSError, ConfigError.
Test = Callable[[Outside], Report]


def imported_root(distro: str, environment: Mapping[str, str], where: str = "--target") -> image.RootImage:
    """The root that was imported with this name. Raises UsageError for none, which says `where` the name is from."""
    folder = image.cache_folder(environment)
    item = foreign.imported(distro, folder)
    if item is None:
        raise foreign.unknown(distro, folder, where)
    return item


def run_outside(
    task: GuestTask, environment: Mapping[str, str], say: Say, test: Test, *, boot: Boot = BareGuest,
    now: Now = time.monotonic,
) -> GuestRun:  # fmt: skip
    """Boots the imported root that `task` names and returns the report that `test` makes of it.

    Raises UsageError for a task that no imported root can do, HostError if no guest can be made, GuestError if the guest
    was lost, ConfigError, OSError.
    """
    clock = Clock(now)
    with ready_outside(task, environment, say, clock.note, boot=boot, now=now) as ready:
        say("testing the limits in the guest")
        report = _tested(ready, test)
        clock.note("run")
    clock.note("end")
    return GuestRun(
        report=report, machine=ready.machine, distro=task.distro, fence=ready.guest.fence, lost_boot=ready.lost_boot,
        seconds=clock.seconds, image=ready.root.name, from_here=True, kernel_image=ready.root.kernel_image,
    )  # fmt: skip


@contextlib.contextmanager
def ready_outside(
    task: GuestTask, environment: Mapping[str, str], say: Say, note: Callable[[str], None], *, lines: int = 1,
    boot: Boot = BareGuest, now: Now = time.monotonic,
) -> Iterator[Outside]:  # fmt: skip
    """Boots the imported root of `task` with its files; it has at least so many `lines`. `note` is called after each step.

    Raises UsageError for a task that no imported root can do, HostError, GuestError, ConfigError, OSError.
    """
    root = imported_root(task.distro, environment)
    foreign.refuse(task.config.target, task.distro, packages=task.packages is not None)
    project = project_of(task.config, task.names)
    required = requirements_of(task.config)
    machine = choose_machine(required, task.config.target.machine, host_capacity())
    what, instead = required.impossible(machine)
    if what:
        raise GuestError(f"{what}; no service was run", remedy=Remedy(title=instead))
    task = replace(task, config=units.with_units(task.config, root, task.names, task.distro))
    require_system(task, root, project)
    _require_bash(task, root)
    found, accelerated_by = foreign.found_of(root), "tcg"
    if machine.engine is GuestEngine.QEMU:
        folder = image.cache_folder(environment)
        root = foreign_kernel.with_kernel(root, task.config.target.kernel, folder, say)
        accelerated_by = accelerator(folder)
    spec = GuestSpec(
        engine=machine.engine, distro=task.distro, cpus=machine.cpus, memory_mib=machine.memory_mib,
        inputs=project.inputs, boot_timeout=BOOT_SECONDS[machine.engine], accelerator=accelerated_by, lines=lines,
        network=task.config.target.network,
        kernel_args=(*foreign.kernel_args(found), *task.kernel_args),
    )  # fmt: skip
    say(f"booting the {task.distro} guest ({machine.engine})")
    with booted(lambda: boot(spec, root), say, now) as (guest, lost_boot):
        note("boot")
        place_files(guest, project)
        if spec.network:
            guest.start_network()
        note("prepare")
        ends = GuestLines(guest, os.path.join("/", found.file_server) if found.file_server else "")
        yield Outside(guest=guest, lines=ends, root=root, task=task, project=project, machine=machine,
                      lost_boot=lost_boot)  # fmt: skip


def _require_bash(task: GuestTask, root: image.RootImage) -> None:
    """Raises GuestError where services are asked over a connection, and the root lacks what makes it (`guest.dial`)."""
    is_up = task.words[0] == "up"
    asked = [
        item.name
        for item in task.config.services
        if (is_up or item.smoke.ready.kind in (ReadyKind.HTTP, ReadyKind.GRPC))
        and (not task.names or item.name in task.names)
    ]
    lines = root.listing.read_text().splitlines() if asked and root.listing is not None else ["/bin/bash"]
    if not any(line.endswith("bin/bash") for line in lines):
        raise GuestError(
            f"{task.distro} has no bash, with which {', '.join(asked[:5])} would be "
            f"{'reached' if is_up else 'asked'} in it{'' if is_up else ' over HTTP or gRPC'}; no service was run",
            remedy=Remedy(
                title="install bash in that root and import it again"
                + ("" if is_up else ', or use ready = "tcp://HOST:PORT"')
            ),
        )


def _tested(ready: Outside, test: Test) -> Report:
    """The report of `test`. Raises GuestError for a guest that was lost, or ran short of something, or takes too long."""
    guest, limit = ready.guest, time_limit(ready.task)
    over = threading.Event()

    def end() -> None:
        over.set()
        guest.end()

    timer = threading.Timer(limit, end)
    timer.daemon = True
    timer.start()
    try:
        report = test(ready)
        guest.require("testing the limits")
        short = exhausted(guest) if report.verdict is not Verdict.PASS else ""
    except (PreflightError, OSError) as error:
        if over.is_set():
            raise lost(guest, f"did not finish within {limit:.0f} s") from None
        raise failed(guest, "testing the limits", f"could not be tested: {error}") from None
    finally:
        timer.cancel()
    if short:
        raise lost(guest, short)
    return report


def failed(guest: BareGuest, doing: str, what: str) -> GuestError:
    """The error for `what` failed in a guest. Raises GuestError for one that is gone, which says so itself."""
    guest.require(doing)
    return lost(guest, exhausted(guest) or what)
