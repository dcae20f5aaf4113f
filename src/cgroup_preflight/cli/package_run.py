"""`run --package`: which packages, what of them is known before the boot, and the order of the steps in the guest."""

import argparse
import os
from collections.abc import Callable

from cgroup_preflight.checks.base import Context
from cgroup_preflight.cli.smoke_run import refuse_packages
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.core.report import Finding, Remedy, Report, ServiceResult, Status
from cgroup_preflight.engines.choice import ENGINES
from cgroup_preflight.plan.model import Plan

if TYPE_CHECKING:
    # At run time only where there are packages: all of it takes longer to load than a check takes.
    from cgroup_preflight.guest.run import GuestPackages
    from cgroup_preflight.packages.selection import Selection

_Tested = tuple[list[Finding], tuple[ServiceResult, ...]]
#: What a package needs besides its steps: services that start, stop and are looked for.
_BASE_SECONDS = 60.0
_STEPS, _STEPS_OF_UPGRADE = 3, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRun:
    """The packages of a run, and the config with the services that are installed from them."""

    selection: "Selection"
    config: Config


def add_packages(to: argparse.ArgumentParser) -> None:
    """`--package` and `--previous`."""
    to.add_argument("--package", action="append", metavar="FILE", default=[],
                    help="install this built package (deb, tar) in a guest and test its services as installed; may be repeated")  # fmt: skip
    to.add_argument("--previous", action="append", metavar="FILE", default=[],
                    help="the package before it: also test the upgrade from it; may be repeated")  # fmt: skip
    to.add_argument("--selection", default="", help=argparse.SUPPRESS)


def prepare(args: argparse.Namespace, config: Config, engine: str) -> PackageRun | None:
    """The packages of the command line, or of the config; None without one. Raises UsageError."""
    if args.previous and not args.package:
        raise UsageError("there is no package to upgrade to", where="--previous",
                         remedy=Remedy(title="name it with --package"))  # fmt: skip
    if args.inside:
        return _inside(args.selection, config) if args.selection else None
    if args.service:
        if args.package:
            raise UsageError("the packages decide which services are tested", where="--package",
                             remedy=Remedy(title="leave out the names of services"))  # fmt: skip
        refuse_packages(config, args.service)
        return None
    if not args.package and not any(item.package for item in config.services):
        return None
    if engine in ENGINES:
        raise UsageError(
            f"a package is installed in a guest only, and the engine {engine} would install it on this host",
            where="--engine", remedy=Remedy(title="use --engine guest"),
        )  # fmt: skip
    if args.inject not in (None, "never"):
        raise UsageError("a package that was tested must stay as it is", where="--inject",
                         remedy=Remedy(title="inject first, then test the package: run --package"))  # fmt: skip
    from cgroup_preflight.packages.selection import applied, select

    selection = select(config, args.package, args.previous)
    assert selection is not None
    return PackageRun(selection=selection, config=_with_dependencies(applied(config, selection), selection))


def _with_dependencies(config: Config, selection: "Selection") -> Config:
    """Where the config allows a network, the image has what the packages depend on: the first of alternatives."""
    if not config.target.network:
        return config
    from cgroup_preflight.packages.dependencies import named

    wanted = named(file.fields for file in selection.files)
    packages = tuple(dict.fromkeys((*config.target.packages, *wanted)))
    return replace(config, target=replace(config.target, packages=packages))


def _inside(text: str, config: Config) -> PackageRun:
    from cgroup_preflight.packages.selection import applied, loaded

    selection = loaded(text)
    return PackageRun(selection=selection, config=applied(config, selection))


def guest_packages(run: PackageRun, plan: Plan) -> "GuestPackages":
    """What the guest gets of the packages, and what its report must say of them."""
    from cgroup_preflight.guest.run import GuestPackages
    from cgroup_preflight.guest.words import INPUT_DIR
    from cgroup_preflight.packages.before_boot import require_system
    from cgroup_preflight.packages.findings import contradiction
    from cgroup_preflight.packages.selection import dumped

    selection = run.selection
    names = {file.real: f"packages/{number}.{file.kind}" for number, file in enumerate(selection.files)}
    places = {real: f"{INPUT_DIR}/{name}" for real, name in names.items()}
    steps = _STEPS + (_STEPS_OF_UPGRADE if any(item.previous is not None for item in selection.packages) else 0)

    def accepts(report: Report) -> str:
        return contradiction(selection, plan, report.findings)

    return GuestPackages(
        words=(f"--selection={dumped(selection, places)}",), inputs={name: real for real, name in names.items()},
        seconds=_BASE_SECONDS + steps * run.config.target.install_timeout,
        require=lambda status, distro: require_system(selection, run.config, status, distro), contradiction=accepts,
    )  # fmt: skip


def notes(run: PackageRun, config: Config, plan: Plan, *, tested: bool) -> list[Finding]:
    """Which files were `tested`, by what this host has of them, and which services of the whole config were not."""
    from cgroup_preflight.core import codes
    from cgroup_preflight.packages.added_limits import added_units
    from cgroup_preflight.packages.findings import package_findings

    kept = {item.name for item in run.config.services}
    left = [
        codes.PACKAGE.finding(
            Status.SKIP, item.name, "it is in none of the packages, and was not tested", Remedy(title="name its package, too"),
            location=item.location,
        )
        for item in config.services
        if item.name not in kept
    ]  # fmt: skip
    return [*(package_findings(run.selection, plan, added_units(plan, run.selection)) if tested else ()), *left]


def try_packages(
    run: PackageRun, plan: Plan, context: Context, services: Callable[[], _Tested], progress: Callable[[str], None]
) -> _Tested:
    """In a guest: installs the packages, runs the test of the services, and removes the packages.

    Raises ConfigError for a limit of the config or of an installed unit that is too small here.
    """
    from cgroup_preflight.checks.numbers import host_numbers
    from cgroup_preflight.core.reading import value_or
    from cgroup_preflight.engines.run_scope import end_runs
    from cgroup_preflight.engines.session import local_door
    from cgroup_preflight.engines.systemd import Manager, private_bus
    from cgroup_preflight.packages.lifecycle import Lifecycle, Machine
    from cgroup_preflight.packages.steps import Steps
    from cgroup_preflight.plan.safe_sizes import refuse_tiny
    from cgroup_preflight.smoke import run as _loaded  # noqa: F401 - before scripts of packages can change a file of it

    refuse_tiny(plan.every_limit, host_numbers(context.facts), run.config.path, tiny=run.config.allow_tiny_limits)
    door, systemd = local_door({}), value_or(context.facts.systemd_version, 0)
    engine = Manager(context.engine, door, private_bus(context.engine, door.manager), uid=0, systemd=systemd)
    folder = "/run/preflight/packages"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    machine = Machine(
        door=door, mount=context.facts.mount_point, numbers=host_numbers(context.facts), systemd=systemd,
        end_test=lambda: end_runs(engine, door),
    )  # fmt: skip
    steps = Steps(door.programs, door.clock, folder, run.config.target.install_timeout)
    packages = Lifecycle(run.selection, plan, machine, steps, progress)
    findings, installed = packages.begin()
    if not installed:
        return findings, ()
    more, results = services()
    return [*findings, *more, *packages.end()], results
