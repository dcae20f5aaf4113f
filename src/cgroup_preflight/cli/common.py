"""What `check`, `smoke` and `run` share: reading config and host, and making the report."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

from cgroup_preflight import __version__
from cgroup_preflight.cli import options
from cgroup_preflight.config import DEFAULT_CONTROLLERS, FILE_NAME
from cgroup_preflight.core.reading import Known, Reading, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Finding, HostSummary, Report, ServiceResult
from cgroup_preflight.core.verdict import verdict_of

if TYPE_CHECKING:
    from pathlib import Path

    # Commands that read no host load none of these, and `check` starts a process only where a fact needs one.
    from cgroup_preflight.checks.base import Context
    from cgroup_preflight.config.model import Config
    from cgroup_preflight.host.command import CommandRunner, Completed
    from cgroup_preflight.host.delegation import Place
    from cgroup_preflight.host.facts import Facts
    from cgroup_preflight.host.remote.rounds import AskedFs
    from cgroup_preflight.plan.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """When a command began: by the wall clock for the report, by the monotonic clock for the duration."""

    wall: float
    steady: float


def start() -> Started:
    """Now."""
    return Started(wall=time.time(), steady=time.monotonic())


def load_config(path: "Path | None", outside: Sequence[str] = ()) -> "Config":
    """The config at `path`, or the one in this folder or above; its paths may lead into the folders `outside`, too.

    Raises UsageError, ConfigError.
    """
    from cgroup_preflight.config.load import find, load

    folder = options.here()
    config = load(path if path is not None else find(folder), outside)
    if config.rules.named:
        from cgroup_preflight.cli.policy import require_known

        require_known(config)
    return config


def try_config(path: "Path | None", outside: Sequence[str] = ()) -> "Config | None":
    """As `load_config`, or None where none is named and none exists. Raises UsageError, ConfigError."""
    # os.path, not Path: a folder that cannot be entered (sudo -u) has no config, and that is no error.
    if path is None and not any(os.path.isfile(f"{folder}/{FILE_NAME}") for folder in _folders()):
        return None
    return load_config(path, outside)


def _folders() -> tuple[str, ...]:
    """The current folder and those above it; empty where it was removed."""
    try:
        here = os.getcwd()
    except OSError:
        return ()
    parts = here.rstrip("/").split("/")
    return tuple("/".join(parts[:end]) for end in range(len(parts), 0, -1))


def plan_of(config: "Config") -> "Plan":
    """The plan of a config whose programs are read: a Go program gets the settings that fit its limits."""
    from cgroup_preflight.golang.program import read_programs
    from cgroup_preflight.plan.build import binary_paths, build_plan

    return build_plan(config, programs=read_programs(binary_paths(config)))


def context(
    config: "Config | None", engine: str, extra: Sequence[str], *, plan: "Plan | None" = None, root: str = "",
    cgroup: str = "",
) -> "Context":  # fmt: skip
    """What the checks need: read from this host, or from the recording or the tree of files at `root`.

    `plan` is that of the config, if the caller has made it; without it, one is made without reading the programs.
    `cgroup` is the one that the user named for the engine cgroupfs.

    Raises UsageError for a `root` that is neither.
    """
    facts = _facts(root)
    found = context_of(facts, config, engine, extra, plan=plan)
    return found if root else _with_place(found, engine, lambda: _place(facts, cgroup))


def context_on(
    fs: "AskedFs",
    runner: "CommandRunner",
    config: "Config | None",
    engine: str,
    extra: Sequence[str],
    plan: "Plan | None",
) -> "Context":
    """As `context`, of another machine."""
    from cgroup_preflight.host.delegation import ask_systemd, read_place
    from cgroup_preflight.host.gather import gather

    facts = gather(fs, runner)
    found = context_of(facts, config, engine, extra, plan=plan)
    return _with_place(
        found, engine,
        lambda: read_place(fs, facts, writable=fs.writable, attribute=fs.attribute, ask=ask_systemd(runner)),
    )  # fmt: skip


def _with_place(found: "Context", engine: str, place: "Callable[[], Place | None]") -> "Context":
    """The context with the engine cgroupfs where nothing else can be used, and where there is a place for it."""
    if found.engine.name is not None or engine not in ("auto", "cgroupfs"):
        return found
    from cgroup_preflight.core.records import replace
    from cgroup_preflight.engines.choice import choose_engine

    return replace(found, engine=choose_engine(found.facts, engine, found.required, place()))


def manager_context(config: "Config | None", engine: str) -> "Context":
    """What the checks need where only a service manager can do the work: never the engine cgroupfs."""
    return context_of(_facts(""), config, engine)


def context_of(
    facts: "Facts", config: "Config | None", engine: str, extra: Sequence[str] = (), *, plan: "Plan | None" = None
) -> "Context":  # fmt: skip
    """What the checks need, from facts that were read before."""
    from cgroup_preflight.checks.base import Context
    from cgroup_preflight.engines.choice import choose_engine

    require = config.require if config else None
    wanted = extra or (require.controllers if require else DEFAULT_CONTROLLERS)
    required = tuple(dict.fromkeys((*wanted, *_used(config))))
    choice = choose_engine(facts, engine, required)
    return Context(facts=facts, engine=choice, required=required, require=require, plan=plan or planned(config))


def plan_findings(context: "Context", config: "Config | None") -> tuple[Finding, ...]:
    """What is known of the plan before anything runs, with the numbers of this host (CGP212 to CGP215)."""
    if context.plan is None or config is None:
        return ()
    from cgroup_preflight.checks.numbers import numbers_of
    from cgroup_preflight.checks.plan import plan_findings as judged

    return judged(context.plan, numbers_of(context.facts), tiny=config.allow_tiny_limits)


def planned(config: "Config | None") -> "Plan | None":
    """The plan of a config, without its programs being read; None without a config."""
    if config is None:
        return None
    from cgroup_preflight.plan.build import build_plan

    return build_plan(config)


def _facts(root: str) -> "Facts":
    from cgroup_preflight.host.fs import LiveFs
    from cgroup_preflight.host.gather import gather

    if not root:
        return gather(LiveFs(), _Runner())
    from cgroup_preflight.host import snapshot

    if os.path.isdir(root):
        return gather(LiveFs(root), snapshot.SnapshotRunner({}))
    return gather(*snapshot.load(root))


def _place(facts: "Facts", cgroup: str) -> "Place | None":
    """Where the engine cgroupfs would work: read only where no service manager can be used."""
    from cgroup_preflight.host.delegation import ask_systemd, read_place
    from cgroup_preflight.host.fs import LiveFs

    return read_place(LiveFs(), facts, cgroup, ask=ask_systemd(_Runner()))


class _Runner:
    """Runs commands of this host; the first one imports what starts processes."""

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> "Reading[Completed]":
        """As `CommandRunner.run`; root asks systemd itself where it can, which spares a process."""
        from cgroup_preflight.host.command import Completed, LiveRunner
        from cgroup_preflight.host.systemd import MANAGER_PROPERTIES, SHOW_MANAGER

        if argv == SHOW_MANAGER and os.geteuid() == 0:
            from cgroup_preflight.engines import bus

            with suppress(bus.BusError), closing(bus.Connection()) as line:
                shown = line.of_manager(MANAGER_PROPERTIES)
                text = "".join(f"{name}={value}\n" for name, value in shown.items())
                return Known(value=Completed(argv=argv, returncode=0, stdout=text, stderr=""), source=" ".join(argv))
        return LiveRunner().run(argv, timeout=timeout, stdin=stdin)


def _used(config: "Config | None") -> tuple[str, ...]:
    """Controllers that the config's hard limits need; a share without its controller is only a warning."""
    if config is None:
        return ()
    from cgroup_preflight.config.properties import BY_NAME

    limits = (item for item in config.settings if item.property not in ("IOWeight", "CPUWeight"))
    return tuple(sorted({BY_NAME[item.property].controller for item in limits} - {""}))


def report(
    started: Started, context: "Context | None", findings: Sequence[Finding], services: Sequence[ServiceResult] = (),
    *, host: HostSummary | None = None, project: str | None = None,
) -> Report:  # fmt: skip
    """The report of a command that began at `started`; `host` is where the services ran, None for this host.

    `project` is that of the config, if there is one.
    """
    return Report(
        tool_version=__version__,
        verdict=verdict_of(findings),
        host=host or (host_summary(context) if context else None),
        findings=tuple(findings),
        services=tuple(services),
        started_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started.wall)),
        duration_seconds=time.monotonic() - started.steady,
        project=project,
    )


def host_summary(context: "Context") -> HostSummary:
    """What a report says of the machine of a context."""
    facts, choice = context.facts, context.engine
    from cgroup_preflight.checks.cgroup.hierarchy import hierarchy_name
    from cgroup_preflight.engines.choice import controllers_of

    offered = controllers_of(facts, choice)
    unified = isinstance(facts.cgroup_mount, Known)
    return HostSummary(
        kernel=value_or(facts.kernel, None),
        systemd=str(facts.systemd_version.value) if isinstance(facts.systemd_version, Known) else None,
        hierarchy="unified" if unified else hierarchy_name(value_or(facts.mounts, ())),
        mount_point=facts.mount_point if unified else None,
        controllers=tuple(sorted(offered.value)) if isinstance(offered, Known) else None,
        machine=value_or(facts.machine, None),
        engine=choice.name,
        cpus=len(facts.online_cpus.value) if isinstance(facts.online_cpus, Known) else None,
        memory_bytes=value_or(facts.meminfo, {}).get("MemTotal"),
    )
