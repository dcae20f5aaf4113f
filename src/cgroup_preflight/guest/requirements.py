"""Chooses the machine of a guest for a config: user-mode-linux where that is enough, QEMU for the rest. Pure.

user-mode-linux boots in one or two seconds, but has one CPU, no cpuset controller, no pressure information (PSI), no
network device and no IPv6. QEMU has all of them, and emulates every instruction where KVM does not work.
"""

import re
from collections.abc import Iterable

from cgroup_preflight.config.model import WITH_PORT, Config, Setting, Smoke
from cgroup_preflight.core.quantities import Infinity, Permyriad, Size
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.guest.spec import GuestEngine

#: MiB that the guest's kernel, systemd and this tool use; then what stays free while a probe fills the largest limit.
_SYSTEM_MIB = {GuestEngine.UML: 128, GuestEngine.QEMU: 256}
_SPARE_MIB = 96
_LEAST_MIB = {GuestEngine.UML: 256, GuestEngine.QEMU: 512}
_STEP_MIB = 32
#: For each service without a MemoryMax of its own.
_UNLIMITED_MIB = 128
#: The most CPUs of a guest. More CPUs than the host has slow each other down.
_CPUS_MAX = 16
_CPUS_EMULATED = 4
#: The largest share of the guest's memory that a limit may be, in hundredths of a percent. A probe has to fill it while
#: the system of the guest keeps what it needs: with a larger share, the guest would need gigabytes for that.
SHARE_MAX = 9_000
_SIZES = ("MemoryMax", "MemoryHigh", "MemoryMin", "MemoryLow")
_QEMU = 'set machine = "auto" or "qemu" in [target]'
#: A CPUQuota of one whole CPU, in hundredths of a percent.
_ONE_CPU = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What testing the limits of a config takes; `reasons` say why user-mode-linux is not enough.

    `memory_bytes` is the largest memory limit in bytes, `share` the largest in hundredths of a percent of the memory.
    `unlimited` is the number of services without a MemoryMax. `ipv6` names the services whose readiness is tested at an
    IPv6 address. `fixed_memory_mib` and `fixed_cpus` are what the config sets, 0 for nothing; `kernel` is a kernel besides
    the distribution's.
    """

    cpus: int
    cpuset: bool
    network: bool
    memory_bytes: int
    unlimited: int
    reasons: tuple[str, ...]
    share: int = 0
    ipv6: tuple[str, ...] = ()
    fixed_memory_mib: int = 0
    fixed_cpus: int = 0
    kernel: str = ""

    def impossible(self, machine: "GuestMachine") -> tuple[str, str]:
        """Why this machine could not run the services, whatever they are like, and what to do; empty where it can."""
        if machine.engine is GuestEngine.UML and self.kernel:
            return f"user-mode-linux has a kernel of its own, and kernel in [target] is {self.kernel}", _QEMU
        if machine.engine is GuestEngine.UML and self.network:
            return "user-mode-linux has no network, and [target] has network = true", _QEMU
        if machine.engine is GuestEngine.UML and (self.ipv6 or self.fixed_cpus > 1):
            lack = f"no IPv6, and {', '.join(self.ipv6)} is to be ready at an IPv6 address"
            lack = lack if self.ipv6 else f"one CPU, and cpus in [target] is {self.fixed_cpus}"
            return f"user-mode-linux has {lack}", _QEMU
        has = f"this host can give a guest {machine.memory_mib} MiB"
        if self.fixed_memory_mib > machine.memory_mib:
            return (
                f"memory in [target] is {self.fixed_memory_mib} MiB, and {has}",
                "set less memory, or run on a larger host",
            )
        if self.share > SHARE_MAX:
            what = f"a memory limit of {self.share / 100:g}% leaves too little memory for the system of a guest"
            return what, "set a limit in bytes, or a smaller percentage"
        needed = _least_mib(self, machine.engine)
        if self.share and needed > machine.memory_mib:
            what = f"a memory limit of {self.share / 100:g}% needs a guest with {needed} MiB, and {has}"
            more = "more memory in [target]" if self.fixed_memory_mib else "a host with more memory"
            return what, f"set a limit in bytes or a smaller percentage, or use {more}"
        return "", ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCapacity:
    """What this host offers: whether QEMU is installed, its CPUs, and its available memory in MiB."""

    qemu: bool
    cpus: int
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestMachine:
    """The machine to boot; `gaps` are sentences about limits that it cannot test."""

    engine: GuestEngine
    cpus: int
    memory_mib: int
    gaps: tuple[str, ...] = ()


def requirements_of(config: Config) -> Requirements:
    """What testing the limits of `config` takes."""
    settings = config.settings
    quota = max(_quotas(settings), default=0)
    allowed = max(_allowed(settings), default=-1) + 1
    nodes = any(item.property.endswith("AllowedMemoryNodes") for item in settings)
    cpuset = allowed > 0 or nodes or "cpuset" in config.require.controllers
    reasons = []
    if config.target.cpus > 1:
        reasons.append(f"cpus = {config.target.cpus} needs more than one CPU")
    if config.target.kernel:
        reasons.append(f'kernel = "{config.target.kernel}" needs QEMU')
    if quota >= _ONE_CPU:
        reasons.append(f"CPUQuota={quota / 100:g}% needs more than one CPU")
    if cpuset:
        reasons.append(
            f"{'AllowedMemoryNodes' if nodes and allowed <= 0 else 'AllowedCPUs'} needs the cpuset controller"
        )
    if any(item.property.startswith("ManagedOOM") for item in settings):
        reasons.append("ManagedOOM needs pressure information (PSI)")
    if config.target.network:
        reasons.append("network = true needs a network device")
    if any(_has_ipv6(item.smoke) for item in config.services):
        reasons.append("an IPv6 address needs IPv6")
    return Requirements(
        cpus=max(quota // _ONE_CPU + 1, allowed, 1), cpuset=cpuset, network=config.target.network,
        memory_bytes=max(_sizes(settings), default=0), reasons=tuple(reasons),
        unlimited=sum(not _has_memory_max(item.settings) for item in config.services),
        share=max(_shares(settings), default=0),
        ipv6=tuple(item.name for item in config.services if _is_ready_at_ipv6(item.smoke)),
        fixed_memory_mib=-(-config.target.memory.bytes >> 20) if config.target.memory else 0,
        fixed_cpus=config.target.cpus, kernel=config.target.kernel,
    )  # fmt: skip


def choose_machine(required: Requirements, wanted: str, host: HostCapacity) -> GuestMachine:
    """The machine for `required`. `wanted` is auto, uml or qemu.

    A program that this host lacks is reported when the machine is started.
    """
    use_qemu = wanted == "qemu" or (wanted == "auto" and _takes_qemu(required, host))
    engine = GuestEngine.QEMU if use_qemu else GuestEngine.UML
    memory = _memory_mib(required, engine, host)
    if engine is GuestEngine.UML:
        gaps = (f"{', '.join(required.reasons)}: unverified without QEMU",) if required.reasons else ()
        return GuestMachine(engine=engine, cpus=1, memory_mib=memory, gaps=gaps)
    cpus = required.fixed_cpus or min(max(required.cpus, 2), max(host.cpus, _CPUS_EMULATED), _CPUS_MAX)
    gaps = (f"limits that need more than {cpus} CPUs are unverified",) if required.cpus > cpus else ()
    return GuestMachine(engine=engine, cpus=cpus, memory_mib=memory, gaps=gaps)


def _takes_qemu(required: Requirements, host: HostCapacity) -> bool:
    # user-mode-linux could test nothing at all without cpuset, a network or IPv6, nor with the CPUs or the kernel that the
    # config sets: a missing QEMU is then the error to report.
    needs = (
        required.cpuset or required.network or bool(required.ipv6) or required.fixed_cpus > 1 or bool(required.kernel)
    )
    return bool(required.reasons) and (host.qemu or needs)


def _memory_mib(required: Requirements, engine: GuestEngine, host: HostCapacity) -> int:
    """In whole steps; at most half of the host's available memory, but never below the least of the engine.

    What the config sets may be all that is available.
    """
    if required.fixed_memory_mib:
        return min(max(required.fixed_memory_mib, _LEAST_MIB[engine]), max(host.memory_mib, _LEAST_MIB[engine]))
    return min(_least_mib(required, engine), max(host.memory_mib // 2, _LEAST_MIB[engine]))


def _least_mib(required: Requirements, engine: GuestEngine) -> int:
    """The memory of a guest that can test each limit, in whole steps."""
    own = _SYSTEM_MIB[engine] + _SPARE_MIB
    limits = -(-required.memory_bytes >> 20) + _UNLIMITED_MIB * required.unlimited
    share = min(required.share, SHARE_MAX)
    # What is left next to the largest share has to be enough for the system.
    mebibytes = max(own + limits, -(-own * 10_000 // (10_000 - share)) if share else 0, _LEAST_MIB[engine])
    return -(-mebibytes // _STEP_MIB) * _STEP_MIB


def _is_ready_at_ipv6(smoke: Smoke) -> bool:
    return smoke.ready.kind in WITH_PORT and "[" in smoke.ready.target


def _has_ipv6(smoke: Smoke) -> bool:
    """Whether an address of the config is an IPv6 address: of readiness, in an argument or in a variable."""
    words = (*smoke.args, *(value for _, value in smoke.env))
    return _is_ready_at_ipv6(smoke) or any(_IPV6.search(word) for word in words)


#: An IPv6 address with a port, as programs take it: `[::1]:8080`, `http://[fe80::1]/`.
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]")


def _has_memory_max(settings: Iterable[Setting]) -> bool:
    return any(item.property == "MemoryMax" and not isinstance(item.value, Infinity) for item in settings)


def _quotas(settings: Iterable[Setting]) -> list[int]:
    return [item.value.value for item in settings if item.property == "CPUQuota" and isinstance(item.value, Permyriad)]


def _allowed(settings: Iterable[Setting]) -> list[int]:
    """The highest CPU number of each AllowedCPUs."""
    return [
        max(item.value, default=-1) for item in settings
        if item.property.endswith("AllowedCPUs") and isinstance(item.value, frozenset)
    ]  # fmt: skip


def _shares(settings: Iterable[Setting]) -> list[int]:
    return [item.value.value for item in settings if item.property in _SIZES and isinstance(item.value, Permyriad)]


def _sizes(settings: Iterable[Setting]) -> list[int]:
    return [item.value.bytes for item in settings if item.property in _SIZES and isinstance(item.value, Size)]
