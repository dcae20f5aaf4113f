"""Command lines for systemd, as data: what is started is decided here, and nothing is started here.

Each unit has two gates, a plain `sleep` in its own cgroup: one before the program starts (`ExecStartPre=`), so
that limits are read before the first instruction of the program, and one after it ended (`ExecStopPost=`), so
that the counters of the kernel are read before systemd removes the cgroup. A signal to the control process
opens the gate (systemd.service(5), systemctl(1) `kill`).
"""

from collections.abc import Iterable

from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.base import Launch
from cgroup_preflight.plan.unit_syntax import specifiers

if TYPE_CHECKING:
    from cgroup_preflight.plan.run_unit import RunUnit

#: systemd-run expands `$` in arguments by default before 254 has the switch; there `$$` is the literal.
_EXPAND_SWITCH_SINCE = 254
#: The first systemd with LogRateLimitIntervalSec for units (systemd NEWS).
_LOG_RATE_SINCE = 240
#: systemd.service(5): ExecStop= runs also after the main process has ended with success, with no MAINPID then.
_END_GATE = """-{plus}/bin/sh -c '[ -n "$$MAINPID" ] || exec {sleep} {seconds:g}'"""


def run_properties(launch: Launch, *, sleep: str, systemd: int, protect: bool) -> list[tuple[str, str]]:
    """What a run adds to a service: its gates, its time-outs, no limit on its log.

    `protect`: the service cannot write to cgroup files, unless they are its own by `Delegate` (systemd.exec(5)).
    """
    return [*_gates(launch, sleep), *_run_settings(launch, systemd, protect=protect)]


def own_unit_lines(launch: Launch, own: "RunUnit", *, sleep: str, systemd: int, protect: bool) -> tuple[str, ...]:
    """The drop-in of a unit of the project, with the gates around its own commands.

    The gates run with full privileges (`+`): the sandbox of the unit may have no `sleep` (systemd.service(5)).
    """
    gates: dict[str, list[str]] = {"ExecStartPre": [], "ExecStop": [], "ExecStopPost": []}
    for name, value in _gates(launch, f"+{sleep}"):
        gates[name].append(value)
    commands = {
        "ExecStartPre": (*gates["ExecStartPre"], *own.before), "ExecStop": (*gates["ExecStop"], *own.stop),
        "ExecStopPost": (*own.after, *gates["ExecStopPost"]),
    }  # fmt: skip
    lines = [f"{name}={value}" for name, values in commands.items() for value in ("", *values)]
    # An ended unit that remains active has no cgroup, and with it no counters.
    lines += ["Restart=no", "RemainAfterExit=no"]
    lines += [f"{name}={value}" for name, value in _run_settings(launch, systemd, protect=protect)]
    if launch.output:
        lines += [f"{name}=append:{specifiers(launch.output)}" for name in ("StandardOutput", "StandardError")]
    if launch.uid is not None and not own.has_user:
        lines += [f"User={launch.uid}", f"Group={launch.gid if launch.gid is not None else launch.uid}"]
    return tuple(lines)


def _gates(launch: Launch, sleep: str) -> tuple[tuple[str, str], ...]:
    before = (("ExecStartPre", f"-{sleep} {launch.hold_before:g}"),) if launch.hold_before else ()
    if not launch.hold_after:
        return before
    # Where the program ends by itself, ExecStop keeps its cgroup, and what it left behind runs on until it has been seen.
    plus = "+" if sleep.startswith("+") else ""
    end = _END_GATE.format(plus=plus, sleep=sleep.removeprefix("+"), seconds=launch.hold_after)
    return (*before, ("ExecStopPost", f"-{sleep} {launch.hold_after:g}"), ("ExecStop", end))


def _run_settings(launch: Launch, systemd: int, *, protect: bool) -> list[tuple[str, str]]:
    """Time-outs, no limit on the log, and what keeps the service off cgroup files."""
    own = launch.own is not None and launch.own.delegates
    delegates = own or any(name == "Delegate" for name, _ in launch.settings)
    properties = [
        *((("ProtectControlGroups", "yes"),) if protect and not delegates else ()),
        # The tool keeps the time of the start, too: systemd's would count how long the gate waits for other services.
        ("TimeoutStartSec", f"{launch.start_timeout + launch.hold_before:g}s"),
        # The gate after the end counts as stopping: systemd's own time-out must not open it. The tool keeps the time.
        ("TimeoutStopSec", f"{launch.stop_timeout + launch.hold_after:g}s"),
        ("RuntimeMaxSec", f"{launch.runtime_max:g}s"),
    ]
    if systemd >= _LOG_RATE_SINCE:
        # journald leaves out lines of a service that writes many, and the ready line may be one of those.
        properties.append(("LogRateLimitIntervalSec", "0"))
    return properties


def systemd_run(launch: Launch, *, sleep: str, systemd: int, protect: bool = False) -> tuple[str, ...]:
    """The systemd-run call for a launch; the manager prefix (`--user`, sudo) is the engine's.

    Its settings are not in it: systemd-run has its own reading of values, such as a percentage as a fraction of 2^32
    (bus-unit-util.c, `UINT32_SCALE_FROM_PERMYRIAD`), so a drop-in of the unit has them as they ship.
    """
    properties = run_properties(launch, sleep=sleep, systemd=systemd, protect=protect)
    if launch.input:
        properties.append(("StandardInput", f"file:{launch.input}"))
    if launch.output:
        properties += [("StandardOutput", f"append:{launch.output}"), ("StandardError", f"append:{launch.output}")]
    argv = [
        "--quiet", "--no-block", "--no-ask-password", f"--unit={launch.unit}", f"--slice={launch.slice}",
        f"--description={launch.description}", f"--service-type={launch.type}", f"--working-directory={launch.folder}",
    ]  # fmt: skip
    argv += [f"--property={name}={value}" for name, value in properties]
    argv += [f"--setenv={name}={value}" for name, value in launch.env]
    if launch.uid is not None:
        argv += [f"--uid={launch.uid}", f"--gid={launch.gid if launch.gid is not None else launch.uid}"]
    if systemd >= _EXPAND_SWITCH_SINCE:
        return (*argv, "--expand-environment=no", "--", *launch.command)
    # The program itself is looked up before anything is expanded, so it is never escaped.
    program, *words = launch.command
    return (*argv, "--", program, *(word.replace("$", "$$") for word in words))


SHOW_PROPERTIES = (
    "Id", "ActiveState", "SubState", "Result", "MainPID", "ControlPID", "ControlGroup", "FragmentPath",
    "InvocationID", "ExecMainCode", "ExecMainStatus", "Job",
)  # fmt: skip


def show(units: Iterable[str], properties: Iterable[str] = SHOW_PROPERTIES) -> tuple[str, ...]:
    """The systemctl arguments that show some properties of some units."""
    return ("show", f"--property={','.join(properties)}", "--", *units)


def open_gates(units: Iterable[str]) -> tuple[str, ...]:
    """Ends the control process of units, which is the `sleep` of the gate and never the program."""
    return ("kill", "--kill-who=control", "--signal=SIGTERM", "--", *units)


def kill_all(units: Iterable[str]) -> tuple[str, ...]:
    """Kills every process of some units."""
    return ("kill", "--kill-who=all", "--signal=SIGKILL", "--", *units)
