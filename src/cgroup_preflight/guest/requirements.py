"""Which machine a plan needs: user-mode-linux where that will do, QEMU for what it lacks. Pure.

user-mode-linux has one CPU, no cpuset controller, no pressure information and no network without privileges, and
starts in a second or two; QEMU has them all, and emulates every instruction where KVM does not work.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cgroup_preflight.config.model import Config, Setting
from cgroup_preflight.core.quantities import Permyriad, Size
from cgroup_preflight.guest.spec import GuestEngine

#: What a guest needs for itself, and what must be left over while a probe eats up the largest limit (MiB).
_OWN_MIB = {GuestEngine.UML: 128, GuestEngine.QEMU: 256}
_SPARE_MIB = 96
_LEAST_MIB = {GuestEngine.UML: 256, GuestEngine.QEMU: 512}
_STEP_MIB = 32
#: For each service without a limit of its own.
_UNLIMITED_MIB = 128
#: The most CPUs of a guest; more than the host has only slow each other down.
_CPUS_MAX = 16
_CPUS_EMULATED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What the limits of a plan need to be tried; `reasons` say why user-mode-linux is not enough.

    `cpuset`: without that controller nothing can be tried at all. `memory_bytes` is the largest limit,
    `unlimited` how many services have none.
    """

    cpus: int
    cpuset: bool
    network: bool
    memory_bytes: int
    unlimited: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCapacity:
    """What this host can give: `uml` and `qemu` are installed; memory is what is free to use (MiB)."""

    uml: bool
    qemu: bool
    cpus: int
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestMachine:
    """The guest to boot, and what its choice means for the verdict."""

    engine: GuestEngine
    cpus: int
    memory_mib: int
    consequences: tuple[str, ...] = ()


def requirements_of(config: Config) -> Requirements:
    """What the limits of `config` need."""
    groups = [*(item.settings for item in config.slices), *(item.settings for item in config.services)]
    settings = [item for group in groups for item in group]
    quota = max(_quotas(settings), default=0)
    allowed = max(_allowed(settings), default=-1) + 1
    cpuset = allowed > 0 or "cpuset" in config.require.controllers
    pressure = any(item.property.startswith("ManagedOOM") for item in settings)
    reasons = []
    if quota >= 10000:
        reasons.append(f"CPUQuota={quota / 100:g}% needs more than one CPU")
    if cpuset:
        reasons.append("AllowedCPUs needs cpuset")
    if pressure:
        reasons.append("ManagedOOM needs pressure information")
    if config.target.network:
        reasons.append("network = true needs a network device")
    return Requirements(
        cpus=max(quota // 10000 + 1, allowed, 1), cpuset=cpuset, network=config.target.network,
        memory_bytes=max(_sizes(settings), default=0), reasons=tuple(reasons),
        unlimited=sum(not any(one.property == "MemoryMax" for one in item.settings) for item in config.services),
    )  # fmt: skip


def choose_machine(need: Requirements, wanted: str, host: HostCapacity, *, input_bytes: int) -> GuestMachine:
    """The machine for `need`; `wanted` is auto, uml or qemu. What is missing on the host shows when it is started."""
    engine = GuestEngine.QEMU if wanted == "qemu" or (wanted == "auto" and _takes_qemu(need, host)) else GuestEngine.UML
    largest = ((need.memory_bytes + input_bytes) >> 20) + _UNLIMITED_MIB * need.unlimited
    mebibytes = max(_OWN_MIB[engine] + _SPARE_MIB + largest, _LEAST_MIB[engine])
    memory = min(-(-mebibytes // _STEP_MIB) * _STEP_MIB, max(host.memory_mib // 2, _LEAST_MIB[engine]))
    if engine is GuestEngine.UML:
        return GuestMachine(engine=engine, cpus=1, memory_mib=memory, consequences=_lacks(need))
    cpus = min(max(need.cpus, 2), max(host.cpus, _CPUS_EMULATED), _CPUS_MAX)
    short = (f"it has {cpus} CPUs, so what needs more is unverified",) if need.cpus > cpus else ()
    return GuestMachine(engine=engine, cpus=cpus, memory_mib=memory, consequences=short)


def _takes_qemu(need: Requirements, host: HostCapacity) -> bool:
    # Without cpuset or network nothing could be tried: then the missing program is named instead.
    return bool(need.reasons) and (host.qemu or need.cpuset or need.network)


def _lacks(need: Requirements) -> tuple[str, ...]:
    basic = "it has 1 CPU and no pressure information"
    return (f"{basic}; {', '.join(need.reasons)}: unverified without QEMU" if need.reasons else basic,)


def _quotas(settings: Iterable[Setting]) -> list[int]:
    return [item.value.value for item in settings if item.property == "CPUQuota" and isinstance(item.value, Permyriad)]


def _allowed(settings: Iterable[Setting]) -> list[int]:
    return [max(item.value, default=-1) for item in settings if isinstance(item.value, frozenset)]


def _sizes(settings: Iterable[Setting]) -> list[int]:
    return [item.value.bytes for item in settings
            if item.property in ("MemoryMax", "MemoryHigh", "MemoryMin", "MemoryLow") and isinstance(item.value, Size)]  # fmt: skip
