"""Settings that the kernel has no file for: only systemd shows the value, and only systemd-oomd acts on it. Pure."""

from collections.abc import Iterable, Mapping

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME, Role
from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import INFINITY, Permyriad, QuantityError, Size, parse_cpus
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.expect import HostNumbers, memory_bytes
from cgroup_preflight.plan.model import Plan

#: Who acts on ManagedOOM settings (systemd-oomd.service(8)); without it they have no effect.
OOMD = "systemd-oomd.service"
_START = Remedy(
    title=f"install and start {OOMD.removesuffix('.service')} where the service runs, or remove the setting",
    why="systemd accepts the setting without it",
    commands=(("systemctl", "enable", "--now", OOMD),), needs_root=True, persistent=True,
    docs="https://www.freedesktop.org/software/systemd/man/latest/systemd-oomd.service.html",
)  # fmt: skip
_NO_MANAGER = Remedy(title="test it with the engine systemd or user, or in the guest")
_ASK = Remedy(title="read in the journal what systemd made of the setting", commands=(("journalctl", "-xe"),))


def policies(plan: Plan) -> tuple[tuple[str, str, Setting], ...]:
    """Subject, unit and setting of each policy of the plan."""
    labelled = [(item.label, item.unit, item.settings) for item in plan.services]
    labelled += [(f"{item.label}.slice", item.unit, item.settings) for item in plan.slices]
    return tuple(
        (label, unit, setting)
        for label, unit, settings in labelled
        for setting in settings
        if BY_NAME[setting.property].role is Role.POLICY
    )


def judge(
    wanted: Iterable[tuple[str, str, Setting]], shown: Mapping[str, Mapping[str, str]], host: HostNumbers, *, oomd: bool
) -> tuple[Finding, ...]:  # fmt: skip
    """One finding for each policy; `shown` is what systemd says of each unit, `oomd` whether systemd-oomd runs."""
    return tuple(
        _policy_finding(label, setting, shown.get(unit, {}), host, oomd=oomd) for label, unit, setting in wanted
    )


def unheard(wanted: Iterable[tuple[str, str, Setting]]) -> tuple[Finding, ...]:
    """One finding for each policy where no service manager runs the services, so that nobody reads it."""
    return tuple(
        codes.POLICY.finding(
            Status.UNVERIFIED, label, f"{setting.property}: only systemd reads it, and this run has no service manager",
            _NO_MANAGER, location=setting.location,
        )
        for label, _, setting in wanted
    )  # fmt: skip


def _policy_finding(
    label: str, setting: Setting, shown: Mapping[str, str], host: HostNumbers, *, oomd: bool
) -> Finding:  # fmt: skip
    actual = shown.get(setting.property)
    remedies: tuple[Remedy, ...] = (_ASK,)
    if actual is None:
        status, message = Status.UNVERIFIED, "systemd does not report it"
    elif not _is_shown(setting, actual, host):
        status, message = Status.FAIL, f"should be {setting.text!r}, systemd has {actual!r}"
    elif setting.property.startswith("ManagedOOM") and setting.text != "auto" and not oomd:
        status, message, remedies = Status.WARN, f"{OOMD} does not run here, so the setting has no effect", (_START,)
    else:
        status, message, remedies = Status.PASS, f"systemd has {actual!r}; not tested whether it acts", ()
    return codes.POLICY.finding(
        status,
        label,
        f"{setting.property}: {message}",
        *remedies,
        location=setting.location,
        evidence={f"systemctl show {setting.property}": actual, OOMD: oomd},
    )


#: What `systemctl show` has for no limit, in one of its forms.
_NO_LIMIT = ("infinity", str((1 << 32) - 1), str((1 << 64) - 1))


def _is_shown(setting: Setting, actual: str, host: HostNumbers) -> bool:
    """Whether `systemctl show` says the value, which it writes in its own way (systemctl(1), bus-print-properties.c)."""
    value = setting.value
    if isinstance(value, frozenset):
        try:
            return parse_cpus(actual) == value
        except QuantityError:
            return False
    if value is INFINITY or value == "infinity":
        return actual in _NO_LIMIT
    if setting.property == "ManagedOOMMemoryPressureLimit" and isinstance(value, Permyriad):
        # A share of 2^32 - 1, rounded (UINT32_SCALE_FROM_PERMYRIAD).
        return actual == str((value.value * ((1 << 32) - 1) + 5000) // 10000)
    if isinstance(value, Size):
        return actual == str(value.bytes)
    if isinstance(value, Permyriad):
        return actual == str(memory_bytes(value, host))
    return actual == str(value)
