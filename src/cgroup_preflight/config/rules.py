"""Rules about more than one key: declared slices, limits that are too small to be safe, readiness addresses."""

import itertools
from collections.abc import Iterable

from cgroup_preflight.config.model import WITH_PORT, Config, ReadyKind, Service, Setting
from cgroup_preflight.config.places import spells_outside
from cgroup_preflight.config.tables import Mistakes, nearest
from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import PIDS_MAX, Permyriad, Size, format_bytes
from cgroup_preflight.core.unit_values import TELLING

#: Below this an out-of-memory loop can block a user manager for good (systemd/systemd#40208); bytes.
TINY = 16 << 20
#: The smallest page of any architecture; the kernel rounds a limit down to whole pages.
PAGE = 4096
#: A machine whose share must not be tiny: a large one in bytes, and the tasks that the kernel allows with 512M of memory.
_LARGE_MEMORY = 16 << 30
_SMALL_TASKS = 4096
#: The shortest time that shows whether a program runs at all, in seconds.
_SHORTEST = 0.1
_PORTS = {"http": 80, "https": 443}
#: One address: a program that listens on all interfaces answers at each of these.
_SAME = dict.fromkeys(("127.0.0.1", "::1"), "localhost")
#: Limits of memory, those of the boot, too: a small one can block the service manager.
TINY_LIMITS = ("MemoryMax", "MemoryHigh", "StartupMemoryMax", "StartupMemoryHigh")
#: Bytes from which on a memory limit is none: the kernel counts pages in a long (mm/page_counter.c, PAGE_COUNTER_MAX).
UNCOUNTED = ((1 << 63) - 1) // PAGE * PAGE
_PERIOD_RANGE = range(1_000, 1_000_001)
#: None of these amounts may be above a later one.
ORDER = ("MemoryMin", "MemoryLow", "MemoryHigh", "MemoryMax")


def check_rules(config: Config, mistakes: Mistakes, *, tiny: bool, remote: bool) -> None:
    """Adds what is wrong to `mistakes`; `tiny` and `remote` are allow_tiny_limits and allow_remote_ready."""
    known = {item.name for item in config.slices}
    for item in config.slices:
        _check_settings(("slices", item.name), item.settings, mistakes, tiny=tiny)
    for item in config.rollout.slices if config.rollout is not None else ():
        _check_settings(("rollout", "slices", item.name), item.settings, mistakes, tiny=tiny)
    for service in config.services:
        path = ("services", service.name)
        _check_settings(path, service.settings, mistakes, tiny=tiny)
        if service.slice is not None and service.slice not in known:
            mistakes.add(codes.UNDECLARED_SLICE, (*path, "slice"),
                         f"the slice {service.slice!r} is not declared in [slices]",
                         f"{nearest(service.slice, known)}add [slices.{service.slice}]"
                         + (f", or use one of: {', '.join(sorted(known))}" if known else ""))  # fmt: skip
        _check_unit(service, mistakes)
        _check_address(service, mistakes, remote=remote)
        _check_duration(service, mistakes)
    _check_shared_addresses(config.services, mistakes)
    for glob in config.inject:
        if spells_outside(config, glob):
            mistakes.add(codes.BAD_VALUE, ("artifacts", "inject"),
                         f"inject: {glob!r} is outside the folder of the config",
                         "use a glob below that folder, such as dist/*.deb, or allow the folder for this call: "
                         "--allow-outside DIR")  # fmt: skip


def _check_settings(path: tuple[str, ...], settings: tuple[Setting, ...], mistakes: Mistakes, *, tiny: bool) -> None:
    by_name = {item.property: item for item in settings}
    for name in TINY_LIMITS:
        value = by_name[name].value if name in by_name else None
        if isinstance(value, Permyriad) and _LARGE_MEMORY * value.value // 10000 < TINY and not tiny:
            mistakes.add(codes.LIMIT_TOO_SMALL, (*path, name),
                         f"{name}: {by_name[name].text} is below 16M even on a machine with {format_bytes(_LARGE_MEMORY)}, "
                         "which can block the service manager",
                         "use at least 16M or a larger share, or set allow_tiny_limits = true in [smoke]")  # fmt: skip
        if not isinstance(value, Size):
            continue
        if value.bytes < PAGE:
            mistakes.add(codes.LIMIT_TOO_SMALL, (*path, name), f"{name}: {value.bytes} bytes is less than one page, "
                         "so the kernel rounds it down to 0", f"use at least {format_bytes(TINY)}")  # fmt: skip
        elif value.bytes < TINY and not tiny:
            mistakes.add(codes.LIMIT_TOO_SMALL, (*path, name),
                         f"{name}: {format_bytes(value.bytes)} is below 16M, which can block the service manager",
                         "use at least 16M, or set allow_tiny_limits = true in [smoke]")  # fmt: skip
    tasks = by_name.get("TasksMax")
    if tasks is not None and isinstance(tasks.value, Permyriad) and _SMALL_TASKS * tasks.value.value < 10000:
        mistakes.add(codes.LIMIT_TOO_SMALL, (*path, "TasksMax"),
                     f"TasksMax: {tasks.text} is no task at all on a machine that allows {_SMALL_TASKS}",
                     "use a whole number, or at least 0.03%")  # fmt: skip
    period = by_name.get("CPUQuotaPeriodSec")
    if period is not None and period.value not in _PERIOD_RANGE:
        mistakes.add(codes.BAD_VALUE, (*path, "CPUQuotaPeriodSec"),
                     f"CPUQuotaPeriodSec: {period.text!r} is out of range", "use a period from 1ms to 1s")  # fmt: skip
    _check_range(path, by_name, mistakes)
    _check_order(path, by_name, mistakes)


def _check_range(path: tuple[str, ...], by_name: dict[str, Setting], mistakes: Mistakes) -> None:
    """Values that systemd takes and writes, and that the kernel then refuses or takes as no limit."""
    tasks = by_name.get("TasksMax")
    if tasks is not None and isinstance(tasks.value, int) and tasks.value > PIDS_MAX:
        mistakes.add(codes.BAD_VALUE, (*path, "TasksMax"),
                     f"TasksMax: {tasks.text} is above {PIDS_MAX}: the kernel refuses it, and no limit is in force",
                     f"use at most {PIDS_MAX}, or infinity for no limit")  # fmt: skip
    for name in TINY_LIMITS:
        value = by_name[name].value if name in by_name else None
        if isinstance(value, Size) and value.bytes >= UNCOUNTED:
            mistakes.add(codes.BAD_VALUE, (*path, name),
                         f"{name}: {by_name[name].text} is more than the kernel counts: it is no limit at all",
                         "use what the unit may have, or infinity for no limit")  # fmt: skip


def _check_unit(service: Service, mistakes: Mistakes) -> None:
    """A service has a program, or a unit or package with one; an instance belongs to a template (systemd.unit(5))."""
    path = ("services", service.name)
    is_template = service.unit.endswith("@.service")
    keys = ("binary", "unit", "package")
    if not (service.binary or service.unit or service.package) and not any(mistakes.has((*path, key)) for key in keys):
        mistakes.add(codes.MISSING_KEY, path, f"[services.{service.name}] has neither binary nor unit nor package",
                     'add binary = "PROGRAM", unit = "./FILE.service" or package = "FILE.deb"')  # fmt: skip
    if service.previous and not service.package:
        mistakes.add(codes.MISSING_KEY, (*path, "previous"), "previous: there is no package to upgrade to",
                     'add package = "FILE.deb"')  # fmt: skip
    if service.package and "/" in service.unit:
        mistakes.add(codes.BAD_VALUE, (*path, "unit"), f"unit: {service.unit!r} is a file, and the service is installed from a package",
                     f'name the unit in the package: unit = "{service.unit.rpartition("/")[2]}"')  # fmt: skip
    if is_template and not service.instance:
        mistakes.add(codes.MISSING_KEY, (*path, "unit"), f"{service.unit} is a template and needs an instance",
                     'add instance = "NAME"')  # fmt: skip
    if (service.unit or service.package) and service.smoke.args:
        mistakes.add(codes.BAD_VALUE, (*path, "smoke", "args"), "args: the unit has the arguments of its program",
                     "remove args, or write them into ExecStart= of the unit")  # fmt: skip
    of_type = next((item for item in service.settings if item.property == "Type"), None)
    if of_type is not None and service.unit:
        mistakes.add(codes.BAD_VALUE, (*path, "Type"), "Type: the unit has its type",
                     "remove Type, or change Type= in the unit")  # fmt: skip
    elif of_type is not None and service.smoke.ready.kind is ReadyKind.NOTIFY and of_type.text not in TELLING:
        mistakes.add(codes.BAD_VALUE, (*path, "Type"), f"Type: systemd learns nothing from a service of the type {of_type.text}, "
                     "and ready is notify", 'use Type = "notify", or another readiness test')  # fmt: skip
    if service.instance and not is_template:
        mistakes.add(codes.BAD_VALUE, (*path, "instance"),
                     "instance: only a template (unit = \"NAME@.service\") has instances", "remove instance")  # fmt: skip


def _check_duration(service: Service, mistakes: Mistakes) -> None:
    """Without a readiness test and without time the run does not look at the service: any program would pass."""
    if service.smoke.ready.kind is ReadyKind.STARTED and service.smoke.duration < _SHORTEST:
        mistakes.add(codes.BAD_VALUE, ("services", service.name, "smoke", "duration"),
                     f"duration: {service.smoke.duration:g}s is too short to see whether a service without `ready` runs",
                     "use at least 100ms, or add ready")  # fmt: skip


def _check_shared_addresses(services: Iterable[Service], mistakes: Mistakes) -> None:
    """All services run at the same time: with one address for two, the answer of one would make the other ready."""
    first: dict[str, str] = {}
    for service in services:
        ready, found = service.smoke.ready, _address(service)
        if ready.kind is ReadyKind.UNIX:
            name = ready.target
        elif found is not None and found[1] != 0:
            name = f"{_SAME.get(found[0], found[0])}:{found[1]}"
        else:
            continue
        other = first.setdefault(name, service.name)
        if other != service.name:
            shown = f"{found[0]}:{found[1]}" if found else name
            mistakes.add(codes.BAD_ADDRESS, ("services", service.name, "smoke", "ready"),
                         f"ready: {shown} is the address of {other}, too, and both services run at the same time",
                         f"give each service a {'port' if found else 'socket'} of its own, in args and in ready")  # fmt: skip


def _address(service: Service) -> tuple[str, int] | None:
    """Host and port of the readiness test; None where it has none."""
    ready = service.smoke.ready
    if ready.kind not in WITH_PORT:
        return None
    from urllib.parse import urlsplit  # only for a test with an address

    try:
        parts = urlsplit(ready.url)
        return parts.hostname or "", parts.port if parts.port is not None else _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None


def _check_order(path: tuple[str, ...], by_name: dict[str, Setting], mistakes: Mistakes) -> None:
    """MemoryMin <= MemoryLow <= MemoryHigh <= MemoryMax, or the smaller one makes the larger one useless."""
    amounts = [(name, by_name[name]) for name in ORDER if name in by_name]
    sizes = [(name, item, item.value.bytes) for name, item in amounts if isinstance(item.value, Size)]
    shares = [(name, item, item.value.value) for name, item in amounts if isinstance(item.value, Permyriad)]
    # A size and a percentage can be compared on a machine only: see checks.plan.
    pairs = (*itertools.pairwise(sizes), *itertools.pairwise(shares))
    for (low_name, low, low_amount), (high_name, high, high_amount) in pairs:
        if low_amount > high_amount:
            mistakes.add(codes.LIMITS_OUT_OF_ORDER, (*path, low_name),
                         f"{low_name} = {low.text} is above {high_name} = {high.text}",
                         f"lower {low_name} to {high.text}, or raise {high_name} to {low.text}")  # fmt: skip


def _check_address(service: Service, mistakes: Mistakes, *, remote: bool) -> None:
    """Refuses a readiness address outside this machine: a config must not make a runner call other hosts."""
    ready, path = service.smoke.ready, ("services", service.name, "smoke", "ready")
    if service.smoke.ready_ca and not ready.is_https:
        mistakes.add(codes.BAD_VALUE, (*path[:-1], "ready_ca"), "ready_ca: only an https:// address has a certificate",
                     "remove ready_ca, or use ready = \"https://127.0.0.1:PORT/PATH\"")  # fmt: skip
    if ready.kind not in WITH_PORT:
        return
    found = _address(service)
    if found is None:
        mistakes.add(codes.BAD_ADDRESS, path, f"ready: {ready.target!r} is not an address",
                     "use http://127.0.0.1:PORT/")  # fmt: skip
        return
    host, port = found
    if port == 0:
        mistakes.add(codes.BAD_ADDRESS, path, "ready: 0 is not a port", "use the port the service listens on")
    if not remote and not _is_loopback(host):
        mistakes.add(codes.BAD_ADDRESS, path, f"ready: {host!r} is not an address of this machine",
                     "use 127.0.0.1, [::1] or localhost, or set allow_remote_ready = true in [smoke]")  # fmt: skip


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        import ipaddress  # only where the host is no name

        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
