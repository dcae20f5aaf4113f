"""What goes wrong with a guest: it is the machine that failed, never the services in it.

What guest to boot, and what a command in it came to. Plain data.

Kernel arguments that every engine passes. Pure.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.overlay import (
    CHANNEL_ARGUMENT,
    FULL_TARGET,
    INPUT_ARGUMENT,
    QUICK_KERNEL_ARGS,
    QUICK_TARGET,
)


class GuestError(HostError):
    """A guest that was lost: `what` happened in one line, `console` are its last lines."""

    def __init__(self, what: str, *, console: tuple[str, ...] = (), remedy: Remedy) -> None:
        tail = "\n".join(f"  | {line}" for line in console)
        super().__init__(f"{what}; last console lines:\n{tail}" if tail else what, remedy=remedy)
        self.what = what
        self.console = console


class GuestEngine(enum.StrEnum):
    """How the guest's kernel runs; `UML` has one CPU, no PSI, no cpuset."""

    UML = "uml"
    QEMU = "qemu"


class BootMode(enum.StrEnum):
    """How much is started: the least a smoke run needs, or all that Debian starts; values are systemd targets."""

    QUICK = QUICK_TARGET
    FULL = FULL_TARGET


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    """One kind of guest. `inputs` maps names below /run/preflight/in to files or folders of the host.

    `agent` is the folder of the agent compiled for the guest's Python, None for its source.
    `kernel_args` are added last, so that they win; `boot_timeout` is seconds until the agent must have answered.
    `accelerator` is QEMU's: "tcg", or "kvm" where that was seen to work. `network` is a way out, over QEMU's own
    translation: the guest cannot be reached, and sees no network of the host. `name` words it in messages.
    """

    engine: GuestEngine = GuestEngine.UML
    distro: str = "debian-12"
    mode: BootMode = BootMode.QUICK
    cpus: int = 1
    memory_mib: int = 512
    kernel_args: tuple[str, ...] = ()
    inputs: Mapping[str, Path] = field(default_factory=dict)
    agent: Path | None = None
    boot_timeout: float = 120.0
    accelerator: str = "tcg"
    network: bool = False

    def __post_init__(self) -> None:
        if self.engine is GuestEngine.UML and self.cpus != 1:
            raise ValueError("user-mode-linux has one CPU; more need the QEMU engine")
        if self.engine is GuestEngine.UML and self.network:
            raise ValueError("a network without privileges needs the QEMU engine")

    @property
    def name(self) -> str:
        """For messages: distribution, engine and what is special about the kernel's arguments."""
        return " ".join((f"{self.distro} guest ({self.engine})", *self.kernel_args))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """An ended command; `returncode` is negative for a signal; `timed_out` if we had to kill it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """A command started with `Guest.spawn`; `pid` is its PID in the guest."""

    argv: tuple[str, ...]
    job: int
    pid: int


def common_kernel_args(*, mode: BootMode, input_device: str, channel_device: str) -> tuple[str, ...]:
    """Kernel arguments of every engine; a panic ends the machine at once, so that it is noticed."""
    return (
        "quiet",
        "panic=-1",
        "fsck.mode=skip",
        # Silent until something fails or takes long: then it belongs into the console tail.
        "systemd.show_status=auto",
        f"systemd.unit={mode}",
        *(QUICK_KERNEL_ARGS if mode is BootMode.QUICK else ()),
        f"{INPUT_ARGUMENT}={input_device}",
        f"{CHANNEL_ARGUMENT}={channel_device}",
    )
