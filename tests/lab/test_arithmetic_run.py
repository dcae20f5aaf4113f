"""The accepted values of the differential as a run gives them to its services, with both engines, on each systemd.

A run's settings are a drop-in of a transient unit (see `engines.systemd.Manager.create_slices`). A service here has one
value of each property, so that a hundred services carry all values; the kernel's files and the manager's properties are
compared with what the plan expects.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from cgroup_preflight.checks.plan import plan_findings
from cgroup_preflight.config.load import parse
from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core import quantities as q
from cgroup_preflight.core.report import Status
from cgroup_preflight.guest.spec import GuestEngine
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.expect import HostNumbers, agrees, expectations, memory_bytes, tasks
from cgroup_preflight.plan.model import SlicePlan
from tests.lab.arithmetic_judge import (
    AGREES,
    NO_FILE,
    SYSTEMS,
    UNEXPLAINED,
    cases_for,
    config_text,
    judged,
    marks_of,
    outcome,
    seen_in,
)
from tests.lab.arithmetic_values import Case
from tests.lab.conftest import Boot

#: Below this not even the gate of a service lives; bytes.
_LIVES = 2 << 20
#: What the manager calls a property that its unit files call something else.
_SHOWN_AS = {"CPUQuota": "CPUQuotaPerSecUSec", "CPUQuotaPeriodSec": "CPUQuotaPeriodUSec"}
_PROPERTIES = (
    "MemoryMin", "MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "MemoryZSwapMax", "CPUWeight", "IOWeight",
    "TasksMax", "AllowedCPUs", *_SHOWN_AS.values(),
)  # fmt: skip
#: What one more service gets, and what the comparison is told: each is as close as two values can be.
_GIVEN = {"MemoryMin": "0", "MemoryLow": "1M", "MemoryHigh": "60M", "MemoryMax": "67112960", "MemorySwapMax": "4096",
          "TasksMax": "101", "CPUQuota": "50.01%", "CPUWeight": "101"}  # fmt: skip
_TOLD = {"MemoryMin": "4K", "MemoryLow": "1028K", "MemoryHigh": "infinity", "MemoryMax": "64M", "MemorySwapMax": "0",
         "TasksMax": "100", "CPUQuota": "50%", "CPUWeight": "100"}  # fmt: skip
_DIFFERS = "the manager differs"
_SERVICE = '[services.base]\nbinary = "/bin/sleep"\nMemoryMax = "64M"\n'


#: The manager of a user has neither the controller cpuset nor io, which are all that QEMU is for here.
_WHERE = [
    pytest.param(name, user, id=f"{name}-{user or 'root'}", marks=marks_of(name))
    for name, spec in SYSTEMS.items()
    for user in (None, "tester")
    if not (user and spec.engine is GuestEngine.QEMU)
]


def _units(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Which cases each service has: no property twice."""
    lanes: dict[str, list[str]] = {}
    for case in cases:
        lane = "CPUQuota" if case.about == "CPUQuotaPeriodSec" else case.about
        lanes.setdefault(lane, []).append(case.name)
    rows = itertools.zip_longest(*lanes.values())
    return {f"u{number:03}": [name for name in row if name] for number, row in enumerate(rows)}


def _is_deadly(unit: SlicePlan) -> bool:
    """Whether no process lives with that MemoryMax: a run shows no file then, and user-mode Linux may panic."""
    amounts = [item.value for item in unit.settings if item.property == "MemoryMax"]
    return any(
        value.bytes < _LIVES if isinstance(value, q.Size) else value.value < 100
        for value in amounts if isinstance(value, q.Size | q.Permyriad)
    )  # fmt: skip


def _shown_agrees(setting: Setting, host: HostNumbers, shown: Mapping[str, str]) -> bool:
    """Whether the manager's property says what the setting does."""
    text, value = shown[_SHOWN_AS.get(setting.property, setting.property)], setting.value
    if setting.property == "CPUQuota" and isinstance(value, q.Permyriad):
        return q.parse_span(text) == value.value * 100
    if setting.property == "CPUQuotaPeriodSec":
        return q.parse_span(text) == value
    if isinstance(value, frozenset):
        return q.parse_cpus(text) == value
    if value == "idle":
        return text in ("idle", "0")
    if setting.property == "TasksMax":
        return text == str(tasks(value, host) if value != q.INFINITY else "infinity")
    if isinstance(value, int):
        return text == str(value)
    if isinstance(value, q.Size):
        return text == str(value.bytes)
    return text == ("infinity" if value == q.INFINITY else str(memory_bytes(value, host)))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "user"), _WHERE)
def test_a_run_has_what_the_plan_expects(
    boot: Boot, name: str, user: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    system = boot(base=SYSTEMS[name])
    in_qemu = system.spec.engine is GuestEngine.QEMU
    if user:
        system.start_user_manager(user)
    all_cases = cases_for(system)
    plan, refused = judged(all_cases)
    cases = [case for case in all_cases if case.name not in refused]
    deadly = {item.label for item in plan.slices if _is_deadly(item)}
    units = _units([case for case in cases if case.name not in deadly])
    work = {"config": config_text(cases) + _SERVICE, "units": units, "properties": _PROPERTIES,
            "second": _GIVEN}  # fmt: skip
    seen = seen_in(system, "run", work, user=user)
    host = HostNumbers(**seen["numbers"])
    impossible = {item.subject for item in plan_findings(plan, host, tiny=True) if item.status is Status.FAIL}
    unit_of = {case: unit for unit, row in units.items() for case in row}
    found = [
        one for item in plan.slices if item.label in unit_of
        for one in _judged(item, unit_of[item.label], seen, host, item.label in impossible)
    ]  # fmt: skip
    with capsys.disabled():
        print(f"\nsystemd {seen['systemd']}, kernel {seen['kernel']}, {seen['cpus']} CPUs, engine {seen['engine']}:"
              f" {len(unit_of)} values in {len(units)} services: {dict(Counter(reason for reason, _ in found))};"
              f" seconds {seen['seconds']}")  # fmt: skip
    wrong = _wrong(found)
    assert not wrong, "\n".join(wrong)
    assert seen["late"] == seen["refused"] == {}
    assert (seen["left"], seen["engine"]) == ([], "user" if user else "systemd")
    assert sum(reason == AGREES for reason, _ in found) > (70 if in_qemu else 750)
    if not in_qemu:
        _finds_each_wrong_value(seen, host)


def _finds_each_wrong_value(seen: Mapping[str, Any], host: HostNumbers) -> None:
    """The other way: the comparison finds what differs by one page, one task, one hundredth of a percent."""
    text = config_text([Case(name="second", about="", settings=_TOLD)])
    told = build_plan(parse(text.encode(), shown="second.toml", folder="/")).slices[0]
    found = _judged(told, "second", seen, host, impossible=False)
    assert Counter(reason for reason, _ in found) == {UNEXPLAINED: len(_TOLD), _DIFFERS: len(_TOLD)}, found


def _wrong(found: Sequence[tuple[str, str]]) -> list[str]:
    return [words for reason, words in found if reason in (UNEXPLAINED, NO_FILE, _DIFFERS)]


def _judged(
    item: SlicePlan, unit: str, seen: Mapping[str, Any], host: HostNumbers, impossible: bool
) -> list[tuple[str, str]]:  # fmt: skip
    """For each file and each property of the settings: why it is as it is, and what it is."""
    kernel, shown, found = seen["seen"][unit], seen["shown"][unit], []
    for expected in expectations(item.settings, host):
        actual = kernel[expected.attribute]
        known = expected.property.since <= seen["systemd"]
        reason = outcome(known, agrees(expected, actual), actual, impossible)
        if reason == UNEXPLAINED and expected.property.name == "AllowedCPUs" and _lacks(item, seen["cpus"]):
            reason = "a CPU that the machine lacks"
        found.append((reason, f"{item.settings}: {expected.attribute} expected {expected.text!r}, is {actual!r}"))
    for setting in item.settings:
        if BY_NAME[setting.property].since <= seen["systemd"]:
            reason = "the manager agrees" if _shown_agrees(setting, host, shown) else _DIFFERS
            found.append((reason, f"{setting.property}={setting.text}: the manager says {shown}"))
    return found


def _lacks(item: SlicePlan, cpus: int) -> bool:
    return any(isinstance(one.value, frozenset) and max(one.value) >= cpus for one in item.settings)
