"""The words of this room: the guest to boot with its kernel arguments, results of its commands, its error. Pure."""

import enum
from collections.abc import Mapping
from pathlib import Path

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.records import dataclass, field
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.overlay import QUICK_KERNEL_ARGS
from cgroup_preflight.guest.words import CHANNEL_ARGUMENT, FULL_TARGET, INPUT_ARGUMENT, QUICK_TARGET


class GuestError(HostError):
    """A guest that failed, which says nothing about the services in it: `what` is one line, `console` the last lines."""

    def __init__(self, what: str, *, console: tuple[str, ...] = (), remedy: Remedy) -> None:
        tail = "\n".join(f"  | {line}" for line in console)
        super().__init__(f"{what}; last console lines:\n{tail}" if tail else what, remedy=remedy)
        self.what = what
        self.console = console


class GuestEngine(enum.StrEnum):
    """What runs the guest's kernel: user-mode-linux (one CPU, no PSI, no cpuset) or QEMU."""

    UML = "uml"
    QEMU = "qemu"


class BootMode(enum.StrEnum):
    """The systemd target to boot: only what a smoke run needs, or all that Debian starts."""

    QUICK = QUICK_TARGET
    FULL = FULL_TARGET


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    """One guest. `inputs` maps names below /run/preflight/in to files or folders of the host.

    `tool` is the folder of this package compiled for the guest's Python, None for its source; the agent is of it, and a
    saved state has it loaded.
    `lines` is the number of lines into it, of which the agent uses the first. `kernel_args` come last and so override
    others; `boot_timeout` is the seconds until the agent must have answered. `accelerator` is QEMU's: "tcg", or "kvm" where
    KVM works. `states` is the folder of saved states that the guest may resume from, None to boot it plainly. `network`
    allows outgoing connections through QEMU's user
    network; nothing can connect to the guest.
    """

    engine: GuestEngine = GuestEngine.UML
    distro: str = "debian-12"
    mode: BootMode = BootMode.QUICK
    cpus: int = 1
    memory_mib: int = 512
    kernel_args: tuple[str, ...] = ()
    inputs: Mapping[str, Path] = field(default_factory=dict)
    tool: Path | None = None
    lines: int = 1
    boot_timeout: float = 120.0
    accelerator: str = "tcg"
    states: Path | None = None
    network: bool = False

    def __post_init__(self) -> None:
        if self.engine is GuestEngine.UML and self.cpus != 1:
            raise ValueError("user-mode-linux has one CPU; use the QEMU engine for more")
        if self.engine is GuestEngine.UML and self.states is not None:
            raise ValueError("the state of user-mode-linux cannot be saved; use the QEMU engine")
        if self.engine is GuestEngine.UML and self.network:
            raise ValueError("user-mode-linux has no network without privileges; use the QEMU engine")

    @property
    def name(self) -> str:
        """For messages: distribution, engine and extra kernel arguments."""
        return " ".join((f"{self.distro} guest ({self.engine})", *self.kernel_args))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """A command that ended; `returncode` is negative for a signal; `timed_out` means that we killed it."""

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
    """Kernel arguments that every engine passes; after a panic the machine ends at once, so that we notice it."""
    return (
        "quiet",
        "panic=-1",
        "fsck.mode=skip",
        # Silent until a unit fails or is slow: then its messages are worth reading on the console.
        "systemd.show_status=auto",
        f"systemd.unit={mode}",
        *(QUICK_KERNEL_ARGS if mode is BootMode.QUICK else ()),
        f"{INPUT_ARGUMENT}={input_device}",
        f"{CHANNEL_ARGUMENT}={channel_device}",
    )
