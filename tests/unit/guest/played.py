"""A guest that is played, as no unit test boots one: answers as told, and keeps what it was asked."""

import dataclasses
from typing import Self

from cgroup_preflight import __version__
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.report import Finding, HostSummary, LimitResult, Report, ServiceResult, Status
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.guest.spec import Background, CommandResult, GuestSpec
from tests.unit.core.making import config_of

TEXT = """
[slices.shop]
TasksMax = 64
[services.api]
binary = "api"
slice = "shop"
MemoryMax = "64M"
CPUQuota = "50%"
[services.web]
binary = "web"
MemoryMax = "32M"
"""
HOST = HostSummary(
    kernel="6.1.1", systemd="252", hierarchy="unified", mount_point="/sys/fs/cgroup", controllers=("cpu",), machine="x86_64"
)  # fmt: skip
#: Files by service: attribute and text, as the config above has them, outermost level first.
LIMITS = {
    "api": (("pids.max", "64"), ("memory.max", str(64 << 20)), ("cpu.max", "50000 100000")),
    "web": (("memory.max", str(32 << 20)),),
}


def config(**changes: object) -> Config:
    """The config of `TEXT`."""
    return dataclasses.replace(config_of(TEXT), **changes)


def service(name: str, limits: tuple[tuple[str, str], ...]) -> ServiceResult:
    """A service that ran well under these limits."""
    read = tuple(LimitResult(file=f"x.slice/{file}", expected=text, actual=text, ok=True) for file, text in limits)
    return ServiceResult(name=name, engine="systemd", unit=f"{name}.service", cgroup=f"x.slice/{name}", limits=read,
                         oom_kills=0, result="success", exit_status=0)  # fmt: skip


def finding(code: str, status: Status, subject: str, **changes: object) -> Finding:
    return Finding(code=code, name="n", status=status, subject=subject, message="m", **changes)


def report(
    limits: dict[str, tuple[tuple[str, str], ...]] = LIMITS, *more: Finding, version: str = __version__
) -> Report:
    """What the tool in the guest would say after services with these limits ran well."""
    findings = [finding(code, Status.PASS, name) for name in limits for code in ("CGP501", "CGP503")] + list(more)
    return Report(
        tool_version=version, verdict=verdict_of(findings), host=HOST, findings=tuple(findings),
        services=tuple(service(name, files) for name, files in limits.items()),
        started_at="2026-01-01T00:00:00Z", duration_seconds=1.0,
    )  # fmt: skip


def ended(stdout: bytes = b"", returncode: int = 0, stderr: bytes = b"") -> CommandResult:
    return CommandResult(argv=(), returncode=returncode, stdout=stdout, stderr=stderr)


class PlayedGuest:
    """The tool in it ends as `done` after `turns` polls; other commands end as `commands` has them, by a word in them."""

    def __init__(self, done: CommandResult | None = None, *, turns: int = 0, **commands: CommandResult) -> None:
        self.spec = GuestSpec()
        self.fence = "landlock 7"
        self.resumed = False
        self.done, self.turns, self.commands = done or ended(), turns, commands
        self.asked: list[tuple[str, ...]] = []
        self.spawned: dict[str, object] = {}
        self.polled: list[float] = []
        self.network = 0
        self.open = False

    def __enter__(self) -> Self:
        self.open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False

    def end(self):
        """After it, nothing can be asked."""
        assert self.open
        self.open = False

    def run(self, argv, *, timeout=60.0):
        assert self.open
        assert 0 < timeout <= 120
        self.asked.append(tuple(argv))
        return next((made for word, made in self.commands.items() if any(word in item for item in argv)), ended())

    def spawn_tool(self, words, *, folders, cwd, env, piped=False):
        assert not piped
        self.spawned = {"words": list(words), "folders": list(folders), "cwd": cwd, "env": dict(env)}
        return Background(argv=tuple(words), job=1, pid=2)

    def poll(self, background, *, timeout):
        assert background.job == 1
        self.polled.append(timeout)
        return self.done if len(self.polled) > self.turns else None

    def start_network(self):
        self.network += 1

    def console_tail(self):
        return ("last console line",)
