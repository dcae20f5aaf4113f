"""What `smoke` and `run` share: the engine option, the names of services, the run itself."""

import argparse
from collections.abc import Callable, Sequence

from cgroup_preflight.checks.base import Context
from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common, guest_run, options, policy
from cgroup_preflight.config.keys import ENGINES
from cgroup_preflight.config.model import Config
from cgroup_preflight.config.tables import nearest
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.policy import Rules
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.core.report import Finding, Remedy, ServiceResult, Status
from cgroup_preflight.plan.build import only
from cgroup_preflight.plan.model import Plan

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Door
    from cgroup_preflight.smoke.elsewhere import Carried


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is known before anything runs: `guests` are those to use, None for an engine of this host.

    `names` are the services to run, all if empty. Without guests, the config has the text of the units that this machine has installed.
    """

    config: Config
    plan: Plan
    context: Context
    guests: guest_run.GuestChoice | None
    names: tuple[str, ...]

    def judging(self, rules: "Rules") -> "Rules":
        """The policy, about these guests."""
        return replace(rules, machines=self.guests.distros) if self.guests is not None else rules


def prepare(
    config: Config, engine: str, targets: Sequence[str], names: tuple[str, ...] = (), cgroup: str = ""
) -> Prepared:
    """The plan of a config, the host, and where the services `names` (empty: all) will run.

    `cgroup` is where the engine cgroupfs works, empty for the cgroup of this job.

    Raises UsageError, and ConfigError for units that this machine has not installed.
    """
    plan = common.plan_of(config)
    context = common.context(config, engine, (), plan=plan, cgroup=cgroup)
    guests = guest_run.choose_guests(targets, engine, config, context)
    if guests is None and any(item.is_installed for item in config.services):
        from cgroup_preflight.config.installed_units import UnitFolders, with_installed

        config = with_installed(config, UnitFolders(), names)
        plan = common.plan_of(config)
        context = replace(context, plan=plan)
    return Prepared(config=config, plan=plan, context=context, guests=guests, names=names)


def judge_host(prepared: Prepared, wanted: tuple[options.Rendering, ...]) -> list[Finding]:
    """What is found about this host before anything runs; loads what renders the report, too."""
    options.load(wanted)
    return [*run_checks(prepared.context), *common.plan_findings(prepared.context, prepared.config)]


def add_engine(to: argparse.ArgumentParser) -> None:
    """`--engine` and `--cgroup`."""
    to.add_argument("--engine", choices=ENGINES, help="who starts the units (default: the config's, else auto)")
    to.add_argument("--cgroup", default="", metavar="PATH",
                    help="the cgroup below which the engine cgroupfs works (default: that of this job)")  # fmt: skip


def check_names(config: Config, names: list[str]) -> tuple[str, ...]:
    """The named services, none where all are named. Raises UsageError for one that the config does not have."""
    known = [item.name for item in config.services]
    for name in names:
        if name not in known:
            raise UsageError(f"no service {name!r} in the config", where=config.path,
                             remedy=Remedy(title=f"{nearest(name, known)}services: {', '.join(known) or 'none'}"))  # fmt: skip
    if not known:
        raise UsageError("the config has no services to run", where=config.path,
                         remedy=Remedy(title="add [services.NAME] with binary and slice"))  # fmt: skip
    return () if set(names) == set(known) else tuple(dict.fromkeys(names))


def left_out(config: Config, names: Sequence[str]) -> tuple[Finding, ...]:
    """A warning that names the services which a run of `names` did not test; none where it is empty: all were."""
    others = [item.name for item in config.services if names and item.name not in names]
    if not others:
        return ()
    what = f"{len(others)} service{'s were' if len(others) > 1 else ' was'}"
    return (
        codes.SMOKE.finding(
            Status.WARN, "run", f"{what} left out of this run, so nothing is proven about {', '.join(others)}",
            Remedy(title="run all services before the merge", commands=(("cgroup-preflight", "run"),)),
        ),
    )  # fmt: skip


def refuse_packages(config: Config, names: Sequence[str]) -> None:
    """Raises UsageError where a service (of `names`, or of all) is installed from a package."""
    packed = [item for item in config.services if item.package and (not names or item.name in names)]
    if packed:
        raise UsageError(
            f"{', '.join(item.name for item in packed)} is installed from a package, and only `run` installs packages",
            where=config.path,
            remedy=Remedy(
                title="test it with run, or name the other services", commands=(("cgroup-preflight", "run"),)
            ),
        )


def without_run(broken: Sequence[Finding], host: Sequence[Finding]) -> list[Finding]:
    """The findings where programs are `broken`, so that nothing was run: they decide, and come first.

    What was found about the `host` stays as a warning: it is not why nothing ran, and a guest may be to run it.
    """
    from cgroup_preflight.guest.findings import host_findings

    return [*broken, *host_findings(host, "no service was run, because a program cannot run here")]


def try_services(
    config: Config, plan: Plan, context: Context, names: tuple[str, ...], progress: Callable[[str], None],
    *, inside: bool = False, door: "Door | None" = None, carried: "Carried | None" = None,
) -> tuple[list[Finding], tuple[ServiceResult, ...]]:  # fmt: skip
    """Findings and results of the smoke run. Where no engine works, no service runs, and a finding says so.

    On the machine behind `door`, with the files `carried` there, if that is another one.

    Raises HostError when the manager does not answer, ConfigError for a percentage that is too small here.
    """
    go = go_findings(plan, context, names)
    if context.engine.name is None:
        from cgroup_preflight.smoke.findings import not_run

        return [*go, not_run(context.engine)], ()
    from cgroup_preflight.checks.numbers import host_numbers
    from cgroup_preflight.plan.safe_sizes import refuse_tiny
    from cgroup_preflight.smoke.run import smoke

    refuse_tiny(plan.every_limit, host_numbers(context.facts), config.path, tiny=config.allow_tiny_limits)
    result = smoke(config, plan, context.facts, context.engine, names, progress, inside=inside,
                   door=door, carried=carried)  # fmt: skip
    return [*go, *result.findings], result.services


def test_machine(
    config: Config, context: Context, names: tuple[str, ...], command: str, rules: Rules, progress: Callable[[str], None],
    *, door: "Door", carried: "Carried | None" = None, inside: bool = False,
) -> tuple[list[Finding], tuple[ServiceResult, ...]]:  # fmt: skip
    """What `run` or `smoke` finds on the machine behind `door`, whose plan and facts are in `context`; see `try_services`.

    What `rules` ignore does not keep services from running.
    """
    from cgroup_preflight.checks.go.binary_format import unrunnable_programs

    plan = context.plan
    assert plan is not None
    known = [*run_checks(context), *common.plan_findings(context, config)]
    if command == "smoke":
        known = [item for item in known if item.status not in (Status.PASS, Status.SKIP)]
    if broken := unrunnable_programs(only(plan, names).services, context.facts):
        return [*broken, *known], ()
    if command == "run" and policy.fails(known, rules):
        return [*go_findings(plan, context, names), *known], ()
    more, services = try_services(config, plan, context, names, progress, inside=inside, door=door, carried=carried)
    return [*known, *more], services


def go_findings(plan: Plan, context: Context, names: tuple[str, ...]) -> list[Finding]:
    """What is known about the Go programs before they run (CGP4xx)."""
    from cgroup_preflight.smoke.go_findings import plan_findings, target_of

    return plan_findings(only(plan, names), target_of(context.facts))
