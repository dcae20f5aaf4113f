"""Memory of a neighbour while a MemoryMax is tested: which unit keeps it, what is asked, and what is found."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.smoke.neighbour import Beside, Level, State, beside, neighbour_of, reached_first
from cgroup_preflight.smoke.neighbour_findings import beside_findings, beside_words
from cgroup_preflight.smoke.probe_findings import probe_findings
from cgroup_preflight.smoke.probe_plan import Capacity, plan_probes, probe_units
from tests.unit.engines.machine import MOUNT, Unit
from tests.unit.smoke.fabricate import NUMBERS, SCOPE, SLICE, plan
from tests.unit.smoke.test_probes import Trial, well

MIB = 1 << 20
PAIR = """
[slices.api]
MemoryMax = "192M"
[services.web]
binary = "x"
slice = "api"
MemoryMax = "64M"
[services.writer]
binary = "x"
slice = "api"
MemoryMax = "96M"
"""
WEB = f"{SCOPE}-_probe-0.service"
WRITER = f"{SCOPE}-_probe-1.service"


def units_of(text: str):
    probes, _ = plan_probes(plan(text), NUMBERS, Capacity(cpus=4, available_bytes=4 << 30, swap_bytes=1 << 30))
    return probes, probe_units(SCOPE, probes)


def chosen(text: str, peaks=None):
    probes, units = units_of(text)
    target = next(probe for probe in probes if probe.kind == "max")
    unit = next(item for item in units if probes.index(target) in item.probes)
    return neighbour_of(unit, target, units, probes, peaks or {})


@pytest.mark.parametrize(
    ("peak", "kept"), [(0, 8 * MIB), (20 * MIB, 20 * MIB), (4096, MIB), (900 * MIB, 32 * MIB)]
)  # fmt: skip
def test_a_neighbour_keeps_what_its_service_had_at_its_peak(peak, kept):
    probes, _ = units_of(PAIR)
    target = next(probe.target for probe in probes if probe.label == "writer")
    found = chosen(PAIR, {target: peak})
    assert (found.label, found.amount) == ("writer", kept)


@pytest.mark.parametrize(("limit", "kept"), [("20M", 10 * MIB), ("40M", 24 * MIB)])
def test_it_keeps_less_than_its_own_limit_allows(limit, kept):
    text = PAIR.replace("96M", limit)
    probes, _ = units_of(text)
    target = next(probe.target for probe in probes if probe.label == "writer")
    assert chosen(text, {target: 900 * MIB}).amount == kept


@pytest.mark.parametrize("text", [
    PAIR.replace("[services.writer]", '[slices.other]\nTasksMax = 9\n[services.writer]').replace('"api"\nMemoryMax = "96M"', '"other"\nMemoryMax = "96M"'),
    PAIR.replace('MemoryMax = "96M"', ""),
    PAIR.replace('MemoryMax = "96M"', 'MemorySwapMax = "8M"'),
    PAIR.split("[services.writer]", maxsplit=1)[0] + "CPUQuota = '5%'\n",
])  # fmt: skip
def test_no_unit_of_another_slice_or_service_or_of_swap_is_a_neighbour(text):
    assert chosen(text) is None


def test_only_the_memory_limit_of_a_service_is_tested_next_to_one():
    probes, units = units_of(PAIR + 'TasksMax = 64\nMemoryHigh = "90M"\n')
    for probe in probes:
        unit = next(item for item in units if probes.index(probe) in item.probes)
        found = neighbour_of(unit, probe, units, probes, {})
        assert (found is not None) == (probe.kind == "max" and not probe.is_slice), probe


def level(cgroup="/a", oom=0, pressed=0, limit=None):
    return Level(cgroup=cgroup, oom=oom, pressed=pressed, limit=limit)


def state(size=10 * MIB, kills=0, own=0):
    return State(bytes=size, kills=kills, own=own)


def test_the_nearest_level_without_memory_is_named():
    before = (level("/a/b"), level("/a"))
    assert reached_first(before, before) is None
    assert reached_first(before, (level("/a/b"), level("/a", oom=1))).cgroup == "/a"
    assert reached_first(before, (level("/a/b", oom=1), level("/a", oom=1))).cgroup == "/a/b"


@pytest.mark.parametrize(("room", "promised"), [({}, False), ({"/a": 88 * MIB}, True), ({"/a": 88 * MIB - 1}, False)])
def test_the_plan_has_room_for_both_or_not(room, promised):
    probes, _ = units_of(PAIR)
    mate = chosen(PAIR)
    after = level(oom=1, pressed=4, limit=70 * MIB)
    found = beside(mate, (state(), state(size=MIB, kills=1)), [level()], [after], probes[0], room)
    assert (found.lost, found.killed, found.first, found.limit) == (9 * MIB, True, "/a", 70 * MIB)
    assert (found.pressed, found.promised) == ("/a", promised)


def test_a_neighbour_that_reached_its_own_limit_shows_nothing():
    probes, _ = units_of(PAIR)
    assert beside(chosen(PAIR), (state(), state(kills=1, own=1)), [], [], probes[0], {}) is None


KEPT = Beside(label="writer", kept=20 * MIB)


@pytest.mark.parametrize(("seen", "status", "words"), [
    (replace(KEPT, first=SLICE, limit=64 * MIB), Status.WARN,
     "the memory of api.slice (64M) was used up before MemoryMax=64M was reached, and the kernel killed the probe"),
    (replace(KEPT, first=SLICE, killed=True), Status.WARN, "the kernel killed writer, which had 20M"),
    (replace(KEPT, first=SLICE, killed=True, promised=True), Status.FAIL, "the plan gives api.slice room for both"),
    (replace(KEPT, first=SLICE, promised=True), Status.FAIL, "the plan gives api.slice room for both"),
    (replace(KEPT, killed=True), Status.WARN, "no limit around both was reached"),
    (replace(KEPT, lost=4 * MIB, pressed=SLICE), Status.WARN, "lost 4M of its 20M to swap"),
])  # fmt: skip
def test_harm_is_a_warning_unless_the_plan_has_room(seen, status, words):
    probes, _ = units_of(PAIR)
    (found,) = beside_findings(probes[0], seen)
    assert (found.status, found.subject, found.code) == (status, "web", "CGP511")
    assert found.message.startswith("MemoryMax next to writer: ")
    assert words in found.message
    assert found.remedies
    assert beside_words(seen) == ""


@pytest.mark.parametrize(
    "seen", [KEPT, replace(KEPT, lost=MIB, pressed=SLICE), replace(KEPT, lost=9 * MIB), replace(KEPT, pressed=SLICE)]
)
def test_what_the_machine_takes_or_the_kernel_counts_late_is_no_harm(seen):
    """A machine short of memory swaps out, and no limit of the plan is why."""
    probes, _ = units_of(PAIR)
    assert list(beside_findings(probes[0], seen)) == []
    assert beside_words(seen) == "; writer next to it kept its 20M"


class Kernel:
    """Played: what the limits of the service and of its slice do, for each push of the service with the limit 64M."""

    def __init__(self, trial: Trial, pushes: list[str]) -> None:
        self.trial, self.pushes, self.asked = trial, pushes, list[tuple[str, str]]()

    def __call__(self, kind: str, _cgroup: str, unit: Unit) -> str:
        files = self.trial.machine.files
        if kind == "drop":
            if unit.name == WRITER:
                self.asked.append((kind, unit.name))
            return "over 0\n"
        self.asked.append((kind, unit.name))
        if unit.name == WRITER and kind in ("keep", "own"):
            files[f"{MOUNT}{unit.cgroup}/memory.stat"] = f"anon {MIB}\nshmem {7 * MIB}\n"
            return "full 8388608\n"
        if unit.name == WEB and self.pushes:
            which = self.pushes.pop(0)
            if which == "own":
                files[f"{MOUNT}{unit.cgroup}/memory.events.local"] = "oom 1\n"
                files[f"{MOUNT}{unit.cgroup}/memory.events"] = "oom_kill 1\n"
            elif which:
                count = len(self.asked)
                files[f"{MOUNT}{SLICE}/memory.events.local"] = f"oom {count}\n"
                files[f"{MOUNT}{SLICE}/memory.max"] = f"{70 * MIB}\n"
            if which == "neighbour":
                files[f"{MOUNT}{SLICE}/{WRITER}/memory.events"] = "oom_kill 1\n"
                return "full 8388608\n"
        return "ended 137\n"


@pytest.fixture
def tried(tmp_path) -> Callable[..., tuple[Kernel, list]]:
    def run(*pushes: str):
        trial = Trial(tmp_path, PAIR)
        trial.reply = kernel = Kernel(trial, list(pushes))
        (seen,) = [one for one in trial.run() if one.probe.label == "web"]
        return kernel, seen

    return run


def of_web(kernel: Kernel):
    """What was asked until the limit of the other service had its turn."""
    return kernel.asked[: kernel.asked.index(("drop", WRITER)) + 1]


def test_one_push_is_enough_where_the_own_limit_acts(tried):
    kernel, seen = tried("own")
    assert of_web(kernel) == [("keep", WRITER), ("push", WEB), ("drop", WRITER)]
    assert seen.beside == Beside(label="writer", kept=8 * MIB)
    (found,) = probe_findings([seen], [])
    assert found.status is Status.PASS
    assert found.message.endswith("; writer next to it kept its 8M")


@pytest.mark.parametrize(
    ("last", "words"), [("neighbour", "killed writer, which had 8M"), ("slice", "killed the probe")]
)
def test_where_the_slice_has_too_little_the_limit_is_tested_alone_and_then_both_compete(tried, last, words):
    kernel, seen = tried("slice", "own", last)
    assert kernel.asked[:7] == [
        ("keep", WRITER), ("push", WEB), ("drop", WRITER), ("push", WEB), ("own", WRITER), ("own", WEB), ("drop", WRITER),
    ]  # fmt: skip
    limit, harm = probe_findings([seen], [])
    assert limit.status is Status.PASS
    assert "next to it" not in limit.message
    # The slice of the plan has 192M, which is room for both: here it had 70M.
    assert harm.status is Status.FAIL
    assert "the memory of api.slice (70M) was used up" in harm.message
    assert words in harm.message


def test_a_push_that_reaches_nothing_says_nothing_about_a_neighbour(tried):
    _, seen = tried("", "")
    assert seen.beside is None
    (found,) = probe_findings([seen], [])
    assert found.status is Status.UNVERIFIED


def test_a_limit_that_is_reached_only_without_a_neighbour_passes(tried):
    """A MemoryHigh of the slice slows the probe down while the neighbour has memory."""
    kernel, seen = tried("", "own")
    assert kernel.asked[:4] == [("keep", WRITER), ("push", WEB), ("drop", WRITER), ("push", WEB)]
    (found,) = probe_findings([seen], [])
    assert (found.status, seen.beside) == (Status.PASS, None)


def test_a_limit_that_does_not_act_is_pushed_against_once(tmp_path):
    trial = Trial(tmp_path, PAIR)
    trial.reply = well
    seen = trial.run()
    assert [one.beside for one in seen] == [None] * 3
    assert [line.split()[0] for line, _ in trial.lines].count("push") == 3


def test_a_neighbour_that_cannot_keep_memory_is_left_out(tmp_path):
    trial = Trial(tmp_path, PAIR)
    trial.reply = lambda kind, cgroup, unit: "ended 137\n" if kind == "keep" else well(kind, cgroup, unit)
    seen = trial.run()
    assert [one.beside for one in seen] == [None] * 3
    tried, alone = ["keep", "drop", "push", "drop"], ["push", "drop"]
    assert [line.split()[0] for line, _ in trial.lines] == [*tried, *alone, *tried]
