"""Some 1,900 values as unit files, most of them random: the kernel's files say what the plan expects, on each systemd.

A slice here has one value of each property.

A value that the config refuses is one that systemd ignores, too, or its reason is one of `_STRICTER`. Where the kernel does
not take a value that the config accepts, the plan says so beforehand (CGP214).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from cgroup_preflight.checks.plan import plan_findings
from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Status
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import GuestEngine
from cgroup_preflight.plan.expect import HostNumbers, agrees, expectations
from cgroup_preflight.plan.model import Plan, SlicePlan
from cgroup_preflight.plan.unitfile import slice_files
from tests.lab.arithmetic_judge import (
    AGREES,
    NO_FILE,
    SEEDED_MIN,
    SYSTEMS,
    UNEXPLAINED,
    cases_for,
    judged,
    outcome,
    parameters,
    seen_in,
)
from tests.lab.arithmetic_values import Case, rows
from tests.lab.conftest import Boot

#: What the config refuses and systemd takes, each on purpose.
_STRICTER = {
    "a sign before a number": r"^ *[+]|\. *\+",
    "a leading zero, which is octal for numbers, and hexadecimal": r"(^|[-, ])0[\dx]",
    "a share in per mille or in hundredths of a percent": r"[‰‱]$",
    "a point without a digit before it": r"^\.\d",
    "a unit longer than a day": r"\d(w|M|y|weeks?|months?|years?)$",
    "8E and more, which no kernel counts": r"^(8|15)E$|^9223372036854775808$|^18446744073709551615$",
    "a list with empty places": r"^,|,,|,$",
    "a list of which systemd 262 takes what it can read": r"^\d+ - \d+$|,[a-z]+$",
    "quotes": r"^['\"].*['\"]$",
}


@pytest.fixture(params=parameters(SYSTEMS))
def system(request: pytest.FixtureRequest, boot: Boot) -> Guest:
    """A guest of each distribution."""
    return boot(base=SYSTEMS[request.param])


@pytest.mark.timeout(1200)
def test_the_kernel_has_what_the_plan_expects(system: Guest, capsys: pytest.CaptureFixture[str]) -> None:
    found = cases_for(system)
    plan, refused = judged(found)
    settings = {item.label: item.settings for item in plan.slices}
    units = rows(found, "u")
    work: dict[str, Any] = {
        "files": {"base.slice": "[Slice]\n"},
        "units": ["base.slice", *(f"{u}.slice" for u in units)],
    }
    for name, row in units.items():
        work["files"] |= _unit(name, row, settings, plan)
    seen = seen_in(system, "file", work)
    kernel = {case.name: seen["seen"][f"{name}.slice"] for name, row in units.items() for case in row}
    host = HostNumbers(**seen["numbers"])
    impossible = {item.subject for item in plan_findings(plan, host, tiny=True) if item.status is Status.FAIL}
    counts: Counter[str] = Counter()
    unexplained, differ = [], set[str]()
    for unit in plan.slices:
        for item in expectations(unit.settings, host):
            actual = kernel[unit.label][item.attribute]
            known, right = item.property.since <= seen["systemd"], agrees(item, actual)
            reason = outcome(known, right, actual, unit.label in impossible)
            absent = max(_cpus_of(unit), default=0) >= seen["cpus"]
            if reason == UNEXPLAINED and absent and kernel[unit.label]["cpuset.cpus"] == "":
                reason = "a CPU that the machine lacks: the kernel refuses the whole list, and `check` says so (CGP120)"
            counts[reason] += 1
            if reason != AGREES:
                differ.add(unit.label)
            if reason == UNEXPLAINED:
                unexplained.append(f"{unit.settings}: {item.attribute} expected {item.text!r}, is {actual!r}")
    for case in found:
        if case.name in refused:
            reason = _refusal(case, kernel[case.name], seen["seen"]["base.slice"])
            counts[f"refused: {reason}"] += 1
            if reason == UNEXPLAINED:
                unexplained.append(f"{case.settings}: {refused[case.name]}, is {kernel[case.name]}")
    seeded = sum(len(case.settings) for case in found if case.seeded and case.name not in differ | set(refused))
    with capsys.disabled():
        print(f"\nsystemd {seen['systemd']}, kernel {seen['kernel']}, {seen['cpus']} CPUs, as files: {len(found)} cases in"
              f" {len(units)} slices, {len(plan.slices)} accepted: {dict(counts)}; {seeded} random values agree")  # fmt: skip
    assert not unexplained, "\n".join(unexplained)
    assert not counts[NO_FILE]
    in_qemu = system.spec.engine is GuestEngine.QEMU
    assert counts[AGREES] > (100 if in_qemu else 1250)
    assert seeded >= (30 if in_qemu else SEEDED_MIN)


def _unit(name: str, row: Sequence[Case], settings: Mapping[str, tuple[Setting, ...]], plan: Plan) -> dict[str, str]:
    """The file of a slice with the settings of these cases; those that the config refuses are in it as they are."""
    accepted = tuple(one for case in row for one in settings.get(case.name, ()))
    item = SlicePlan(label=name, unit=f"{name}.slice", settings=accepted)
    files = {file.path: file.content for file in slice_files(replace(plan, slices=(item,), services=()))}
    raw = [f"{key}={text}\n" for case in row if case.name not in settings for key, text in case.settings.items()]
    return {**files, item.unit: f"{files[item.unit]}[Slice]\n{''.join(raw)}"}


def _cpus_of(unit: SlicePlan) -> frozenset[int]:
    return frozenset(cpu for item in unit.settings if isinstance(item.value, frozenset) for cpu in item.value)


def _refusal(case: Case, actual: Mapping[str, str], base: Mapping[str, str]) -> str:
    """Why a refused value is one: systemd ignores it, or it is one of those that are refused on purpose."""
    attributes = {BY_NAME[name].attribute for name in case.settings} - {""}
    attributes |= {"cpu.idle"} if case.about == "CPUWeight" else set()
    if case.about == "CPUQuotaPeriodSec":
        # The quota is in force all the same: what counts is the period of 100ms where the value is ignored.
        if actual["cpu.max"].split()[-1] == "100000":
            return "systemd ignores it, too"
        if actual["cpu.max"].split()[-1] in ("2666", "1000000"):
            return "systemd silently takes another period (1ms to 1s)"
    elif all(actual[name] == base[name] for name in attributes):
        return "systemd ignores it, too"
    text = case.settings[case.about]
    if case.about == "TasksMax" and not text:
        return "an empty value is DefaultTasksMax of systemd, also for a slice, which has no limit otherwise"
    for reason, pattern in _STRICTER.items():
        if re.search(pattern, text):
            return reason
    if case.about in ("MemoryMax", "MemoryHigh") and actual[BY_NAME[case.about].attribute] == "0":
        return "less than a page, which the kernel makes 0"
    if case.about in ("TasksMax", "MemoryMax", "MemoryHigh") and text.endswith("%"):
        return "a tiny share" if float(text[:-1]) < 0.1 else UNEXPLAINED
    return UNEXPLAINED


#: What stands in the unit, what a drop-in says, and what must be in force; `{}` is the default of the kernel.
_RESETS = [
    ("memory.max", "MemoryMax=64M", "MemoryMax=", ""),
    ("memory.max", "MemoryMax=64M", "MemoryMax=\nMemoryMax=32M", str(32 << 20)),
    ("memory.min", "MemoryMin=64M", "MemoryMin=", ""),
    ("memory.low", "MemoryLow=64M", "MemoryLow=", ""),
    ("cpu.max", "CPUQuota=50%", "CPUQuota=", ""),
    ("cpu.max", "CPUQuota=50%\nCPUQuotaPeriodSec=10ms", "CPUQuotaPeriodSec=", "50000 100000"),
    ("cpu.weight", "CPUWeight=50", "CPUWeight=", ""),
    ("io.weight", "IOWeight=50", "IOWeight=", ""),
    ("pids.max", "TasksMax=50", "TasksMax=", "15% of all tasks"),
    ("cpuset.cpus", "AllowedCPUs=0", "AllowedCPUs=", ""),
    # A list grows with each line, unless an empty one comes first: so the drop-ins of this tool begin with one.
    ("cpuset.cpus", "AllowedCPUs=0", "AllowedCPUs=1", "0-1"),
    ("cpuset.cpus", "AllowedCPUs=0", "AllowedCPUs=\nAllowedCPUs=1", "1"),
]


@pytest.mark.timeout(600)
def test_an_empty_value_in_a_drop_in_resets(system: Guest) -> None:
    files = {"base.slice": "[Slice]\n"}
    for number, (_, text, drop_in, _) in enumerate(_RESETS):
        files[f"r{number}.slice"] = f"[Slice]\n{text}\n"
        files[f"r{number}.slice.d/50-x.conf"] = f"[Slice]\n{drop_in}\n"
    units = [f"r{number}.slice" for number in range(len(_RESETS))]
    seen = seen_in(system, "file", {"files": files, "units": ["base.slice", *units]})
    kernel, tasks = seen["seen"], seen["numbers"]["tasks_max"] * 15 // 100
    for unit, (attribute, text, drop_in, right) in zip(units, _RESETS, strict=True):
        actual = kernel[unit][attribute]
        if actual.startswith("!"):
            continue  # user-mode-linux has no cpuset and no io.weight
        # Empty, TasksMax is DefaultTasksMax= of systemd, also for a slice, which has no limit otherwise.
        wanted = str(tasks) if "%" in right else right or kernel["base.slice"][attribute]
        assert actual == wanted, (text, drop_in)
