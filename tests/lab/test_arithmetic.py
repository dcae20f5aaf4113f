"""More than 1,100 seeded values as unit files: the kernel's files say what the plan expects, on each systemd of a guest.

A value that the config refuses is one that systemd ignores, too, or its reason is one of `_STRICTER`. Where the kernel does
not take a value that the config accepts, the plan says so beforehand (CGP214).
"""

import re
from collections import Counter
from collections.abc import Mapping

import pytest

from cgroup_preflight.checks.plan import plan_findings
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core.report import Status
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import GuestEngine
from cgroup_preflight.plan.expect import HostNumbers, agrees, expectations
from cgroup_preflight.plan.model import SlicePlan
from cgroup_preflight.plan.unitfile import slice_files
from tests.lab.arithmetic_judge import (
    AGREES,
    NO_FILE,
    SEED,
    SYSTEMS,
    UNEXPLAINED,
    cases_for,
    judged,
    outcome,
    parameters,
    seen_in,
)
from tests.lab.arithmetic_values import Case, cases
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


def _raw(case: Case) -> str:
    return "[Slice]\n" + "".join(f"{name}={text}\n" for name, text in case.settings.items())


@pytest.fixture(params=parameters(SYSTEMS))
def system(request: pytest.FixtureRequest, boot: Boot) -> Guest:
    """A guest of each distribution."""
    return boot(base=SYSTEMS[request.param])


@pytest.mark.timeout(1200)
def test_the_kernel_has_what_the_plan_expects(system: Guest, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(cases(SEED)) >= 1100
    found = cases_for(system)
    plan, refused = judged(found)
    files = {item.path: item.content for item in slice_files(plan)}
    files |= {f"{case.name}.slice": _raw(case) for case in found if case.name in refused}
    names = [f"{case.name}.slice" for case in found]
    work = {"files": {**files, "base.slice": "[Slice]\n"}, "units": ["base.slice", *names]}
    seen = seen_in(system, "file", work)
    host = HostNumbers(**seen["numbers"])
    impossible = {item.subject for item in plan_findings(plan, host, tiny=True) if item.status is Status.FAIL}
    kernel: dict[str, dict[str, str]] = seen["seen"]
    counts: Counter[str] = Counter()
    unexplained = []
    for unit in plan.slices:
        for item in expectations(unit.settings, host):
            actual = kernel[unit.unit][item.attribute]
            known, right = item.property.since <= seen["systemd"], agrees(item, actual)
            reason = outcome(known, right, actual, unit.label in impossible)
            absent = max(_cpus_of(unit), default=0) >= seen["cpus"]
            if reason == UNEXPLAINED and absent and kernel[unit.unit]["cpuset.cpus"] == "":
                reason = "a CPU that the machine lacks: the kernel refuses the whole list, and `check` says so (CGP120)"
            counts[reason] += 1
            if reason == UNEXPLAINED:
                unexplained.append(f"{unit.settings}: {item.attribute} expected {item.text!r}, is {actual!r}")
    for case in found:
        if case.name in refused:
            reason = _refusal(case, kernel[f"{case.name}.slice"], kernel["base.slice"])
            counts[f"refused: {reason}"] += 1
            if reason == UNEXPLAINED:
                unexplained.append(f"{case.settings}: {refused[case.name]}, is {kernel[f'{case.name}.slice']}")
    with capsys.disabled():
        print(f"\nsystemd {seen['systemd']}, kernel {seen['kernel']}, {seen['cpus']} CPUs, as files: {len(found)} values,"
              f" {len(plan.slices)} accepted: {dict(counts)}")  # fmt: skip
    assert not unexplained, "\n".join(unexplained)
    assert not counts[NO_FILE]
    assert counts[AGREES] > (100 if system.spec.engine is GuestEngine.QEMU else 600)


def _cpus_of(unit: SlicePlan) -> frozenset[int]:
    return frozenset(cpu for item in unit.settings if isinstance(item.value, frozenset) for cpu in item.value)


def _refusal(case: Case, actual: Mapping[str, str], base: Mapping[str, str]) -> str:
    """Why a refused value is one: systemd ignores it, or it is one of those that are refused on purpose."""
    attributes = {BY_NAME[name].attribute for name in case.settings} - {""} | {"cpu.idle"}
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
