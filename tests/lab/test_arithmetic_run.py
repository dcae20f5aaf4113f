"""The accepted values of the differential as a run gives them to its services, with both engines, on each systemd.

A run's settings are a drop-in of a transient unit (see `engines.systemd.Manager.create_slices`). A service here has one
value of each property, and so do slices of the run, which carry what some hundred services have no room for; the
kernel's files and the manager's properties are compared with what the plan expects.
"""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
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
    SEEDED_MIN,
    SYSTEMS,
    UNEXPLAINED,
    cases_for,
    config_text,
    judged,
    marks_of,
    outcome,
    seen_in,
)
from tests.lab.arithmetic_values import Case, rows
from tests.lab.conftest import Boot

#: Below this not even the gate of a service lives; bytes.
_LIVES = 2 << 20
#: Services cost the most time: they have all values of the tables, and those random ones for which there is room.
_SERVICES = 113
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
_MANAGER_AGREES = "the manager agrees"
_SERVICE = '[services.base]\nbinary = "/bin/sleep"\nMemoryMax = "64M"\n'


#: The manager of a user has neither the controller cpuset nor io, which are all that QEMU is for here.
_WHERE = [
    pytest.param(
        name,
        user,
        id=f"{name}-{user or 'root'}",
        marks=(pytest.mark.newest,) if spec.engine is GuestEngine.QEMU else marks_of(name),
    )
    for name, spec in SYSTEMS.items()
    for user in (None, "tester")
    if not (user and spec.engine is GuestEngine.QEMU)
]


def _placed(cases: Sequence[Case], deadly: Container[str]) -> tuple[dict[str, list[Case]], dict[str, list[Case]]]:
    """Which cases each service and each slice has. No process is in such a slice, so a limit may be deadly."""
    services = rows((case for case in cases if case.name not in deadly), "u")
    services = dict(list(services.items())[:_SERVICES])
    placed = {case.name for row in services.values() for case in row}
    return services, rows((case for case in cases if case.name not in placed), "s")


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
    services, slices = _placed(cases, deadly)
    units = {**services, **slices}
    names = {kind: {unit: [case.name for case in row] for unit, row in placed.items()}
             for kind, placed in (("units", services), ("slices", slices))}  # fmt: skip
    work = {"config": config_text(cases) + _SERVICE, **names, "properties": _PROPERTIES, "second": _GIVEN}
    seen = seen_in(system, "run", work, user=user)
    host = HostNumbers(**seen["numbers"])
    impossible = {item.subject for item in plan_findings(plan, host, tiny=True) if item.status is Status.FAIL}
    unit_of = {case.name: unit for unit, row in units.items() for case in row}
    found = {
        item.label: _judged(item, unit_of[item.label], seen, host, item.label in impossible) for item in plan.slices
    }
    counts = Counter(reason for judged in found.values() for reason, _ in judged)
    seeded = sum(len(case.settings) for case in cases if case.seeded and _agrees_wholly(found[case.name]))
    with capsys.disabled():
        print(f"\nsystemd {seen['systemd']}, kernel {seen['kernel']}, {seen['cpus']} CPUs, engine {seen['engine']}:"
              f" {len(unit_of)} cases in {len(services)} services and {len(slices)} slices: {dict(counts)};"
              f" {seeded} random values agree; seconds {seen['seconds']}")  # fmt: skip
    wrong = _wrong([one for judged in found.values() for one in judged])
    assert not wrong, "\n".join(wrong)
    assert seen["late"] == seen["refused"] == {}
    assert (seen["left"], seen["engine"]) == ([], "user" if user else "systemd")
    assert counts[AGREES] > (70 if in_qemu else 1250)
    assert seeded >= (30 if in_qemu else SEEDED_MIN)
    if not in_qemu:
        _finds_each_wrong_value(seen, host)


def _agrees_wholly(judged: Sequence[tuple[str, str]]) -> bool:
    """Whether the kernel's files and the manager say what the plan says, and this systemd knows the property."""
    return {reason for reason, _ in judged} == {AGREES, _MANAGER_AGREES}


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
            reason = _MANAGER_AGREES if _shown_agrees(setting, host, shown) else _DIFFERS
            found.append((reason, f"{setting.property}={setting.text}: the manager says {shown}"))
    return found


def _lacks(item: SlicePlan, cpus: int) -> bool:
    return any(isinstance(one.value, frozenset) and max(one.value) >= cpus for one in item.settings)
