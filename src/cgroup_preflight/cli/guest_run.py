"""Runs `smoke` and `run` in guests: decides whether to use guests, and adds their part to the report."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from cgroup_preflight.checks.base import Context
from cgroup_preflight.cli import options
from cgroup_preflight.cli.progress import Progress
from cgroup_preflight.config import DEFAULT_DISTRO
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Finding, HostSummary, Remedy, ServiceResult
from cgroup_preflight.engines.choice import ENGINES, GUEST
from cgroup_preflight.report.escape import plain

if TYPE_CHECKING:
    # At run time only where a guest is used: in the guest itself each module costs time.
    from cgroup_preflight.config.model import Config, Target
    from cgroup_preflight.guest.findings import GuestReport, GuestRun
    from cgroup_preflight.guest.run import GuestPackages, GuestTask


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestChoice:
    """The guests to use, in order. `chosen`: the user named them. `fallback`: used because this host has no engine."""

    distros: tuple[str, ...]
    chosen: bool
    fallback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPart:
    """What guests add to the report; `host` describes them, None where no guest reported.

    `decides`: the findings are complete, with those about this host, which then do not decide. Otherwise no guest
    could be made, and this host is judged as if there were none.
    """

    decides: bool
    findings: tuple[Finding, ...]
    services: tuple[ServiceResult, ...]
    host: HostSummary | None


class HostWorkError(Exception):
    """The work on this host failed, with its error as the cause: nobody takes it for an error of the guest."""


class HostWork:
    """What finds out about this host, done once: while a guest works, or else when the findings are needed."""

    def __init__(self, work: Callable[[], list[Finding]]) -> None:
        self._work = work
        self._results: list[list[Finding]] = []

    def do(self) -> None:
        """Does it now. Raises HostWorkError."""
        try:
            self.result()
        except Exception as error:
            raise HostWorkError from error

    def result(self) -> list[Finding]:
        """The findings about this host. Raises what the work raises."""
        if not self._results:
            self._results.append(self._work())
        return self._results[0]


def add_target(to: argparse.ArgumentParser) -> None:
    """`--target`."""
    from cgroup_preflight.config.keys import DISTROS  # `check`, which asks where a run would be, starts sooner

    to.add_argument("--target", action="append", default=[], metavar="DISTRO",
                    help=f"run in a guest VM with this distribution ({', '.join(DISTROS)}, or the name of a `guest import`); may be given several times")  # fmt: skip


def add_inside(to: argparse.ArgumentParser) -> None:
    """`--inside`, which the engine `guest` passes to the command in the guest: that machine is discarded afterwards."""
    to.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)


def choose_guests(targets: Sequence[str], engine: str, config: "Config | None", context: Context) -> GuestChoice | None:
    """The guests to use, None for an engine of this host; `config` is None where there is none. Raises UsageError for options that exclude each other."""
    if targets and engine in ENGINES:
        raise UsageError(f"--target runs in a guest, and --engine {engine} does not", where="--target",
                         remedy=Remedy(title="use only one of the two options"))  # fmt: skip
    target = config.target if config is not None else None
    named = tuple(dict.fromkeys(targets)) or ((target.distro,) if target is not None and target.distro else ())
    # Packages are installed in a guest, never on this machine.
    wanted = bool(named or (target is not None and target.packages))
    if engine == GUEST or (engine == "auto" and (wanted or context.engine.name is None)):
        _require_known(named, targets, target)
        fallback = engine == "auto" and not wanted
        return GuestChoice(distros=named or (DEFAULT_DISTRO,), chosen=bool(named), fallback=fallback)
    return None


def is_imported(distro: str) -> bool:
    """Whether it is no distribution that this tool builds, but a root that somebody imported."""
    from cgroup_preflight.config.keys import DISTROS

    return distro not in DISTROS


def _require_known(distros: Sequence[str], targets: Sequence[str], target: "Target | None") -> None:
    """Raises UsageError, before any guest runs, for a name that is unknown, and for what an imported root cannot do."""
    others = [name for name in distros if is_imported(name)]
    if not others:
        return
    from cgroup_preflight.guest.foreign import refuse
    from cgroup_preflight.guest.outside import imported_root

    for name in others:
        imported_root(name, os.environ, "--target" if targets else "[target] distro")
        if target is not None:
            refuse(target, name)


def run_in_guests(
    choice: GuestChoice | None, config: "Config", words: tuple[str, ...], names: tuple[str, ...], host: HostWork,
    progress: Progress, packages: "GuestPackages | None" = None,
) -> GuestPart | None:  # fmt: skip
    """The guests' part of the report, None where no guest is to be used. `host` is done while the first guest works.

    `packages` are built packages that are installed in each guest. Raises what `host` raises; no guest runs then.
    """
    if choice is None:
        return None
    from cgroup_preflight.guest.run import GuestTask, run_task

    def run(task: GuestTask) -> "GuestRun":
        if is_imported(task.distro):
            from cgroup_preflight.cli.guest_outside import run_imported

            host.do()
            return run_imported(task, lambda text: progress(text, say), progress)
        return run_task(task, os.environ, lambda text: progress(text, say), host.do)

    tasks = [
        GuestTask(config=config, words=words, names=names, distro=distro, packages=packages)
        for distro in choice.distros
    ]
    try:
        return try_guests(tasks, choice, host, run)
    except HostWorkError as error:
        assert error.__cause__ is not None
        raise error.__cause__ from None


def try_guests(
    tasks: Sequence["GuestTask"], choice: GuestChoice, host: HostWork, run: Callable[["GuestTask"], "GuestRun"]
) -> GuestPart:
    """Runs each task with `run`. A guest that fails becomes a finding."""
    from cgroup_preflight.guest.spec import GuestError

    findings: list[Finding] = []
    reports: list[GuestReport] = []
    booted = False
    for task in tasks:
        label = task.distro if len(tasks) > 1 else ""
        try:
            done = run(task)
        except GuestError as error:
            booted = True
            findings.append(_lost(label, error.what, error.console, error.remedy))
        except HostError as error:
            first, *more = str(error).split("\n")
            findings.append(_lost(label, f"no service was run: {first}", more, error.remedy))
        except OSError as error:
            findings.append(_lost(label, f"no service was run: {error}", (), _SPACE))
        else:
            from cgroup_preflight.guest import findings as found

            made = found.GuestReport(run=done, label=label, chosen=choice.chosen, config_path=task.config.path)
            reports.append(made)
            findings += found.guest_findings(made)
    # Loaded late: a guest starts sooner.
    from cgroup_preflight.guest import findings as found

    decides = booted or bool(reports) or not choice.fallback
    return GuestPart(
        decides=decides,
        findings=(*findings, *(found.host_findings(host.result()) if decides else ())),
        services=tuple(item for made in reports for item in found.guest_services(made)),
        host=found.guest_summary(reports),
    )


def _lost(label: str, what: str, more: Sequence[str], remedy: Remedy) -> Finding:
    from cgroup_preflight.guest.findings import lost_guest

    return lost_guest(label, what, more, remedy)


_SPACE = Remedy(title="free space in the temporary folder (TMPDIR) and in /dev/shm, or raise the limit of open files")


def say(text: str) -> None:
    """One line about long work. Without a terminal only about images, so that a CI log does not stop for minutes."""
    if sys.stderr is not None and sys.stderr.isatty():
        options.progress(text)
    elif text.startswith(("building", "built", "waiting", "downloading", "installing")):
        options.write_stderr(f"cgroup-preflight: {plain(text)}\n")
