"""`diagnose` on real kernels: each cause is made to happen, and only that one is named with high confidence.

A wrong accusation is worse than none, so an unloaded host must end in "no contention", twice.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.guest.session import Guest, input_path
from tests.lab.conftest import KINDS, Boot, Preflight

_LOAD = Path(__file__).parents[1] / "fixtures" / "load"
_PLACE = "/root/load"
_SERVER = str(input_path("fixtures") / "server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One unit of a case; its slice is that of the case."""

    argv: Sequence[str]
    properties: Sequence[str] = ()
    variables: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is started, what is asked, and the answers: rule, victim and cause, the last parts of their paths."""

    services: dict[str, Service]
    expected: frozenset[tuple[str, str, str]]
    slice_properties: Sequence[str] = ()
    words: Sequence[str] = ()
    settle: float = 2.0
    seconds: int = 6
    #: At least: C4 blames nobody and is never sure, and an emulated CPU adds delays of its own to those of a Go program.
    confidence: str = "high"
    #: Rules that are also true of this case.
    allowed: frozenset[str] = field(default_factory=frozenset)


def _spin(count: int, *properties: str) -> Service:
    return Service(argv=(f"{_PLACE}/spin.sh", str(count)), properties=properties)


def _python(name: str, *words: str, properties: Sequence[str] = ()) -> Service:
    return Service(argv=("/usr/bin/python3", f"{_PLACE}/{name}", *words), properties=properties)


_CONFIDENCES = ("low", "medium", "high")
_KILLED = Case(
    services={"killed": _python("grow.py", "200", properties=(
        "MemoryMax=40M", "MemorySwapMax=0", "Restart=always", "RestartSec=100ms", "StartLimitIntervalSec=0"))},
    expected=frozenset({("M1", "killed.service", "killed.service")}),
)  # fmt: skip
_OWN = Case(
    services={"own": _spin(2, "CPUQuota=50%")}, expected=frozenset({("C1", "own.service", "own.service")}),
)  # fmt: skip
_ABOVE = Case(
    services={"victim": _spin(1), "batch": _spin(3)},
    slice_properties=("CPUQuota=60%",),
    expected=frozenset({("C2", "victim.service", "SLICE"), ("C2", "batch.service", "SLICE")}),
)
CASES = {
    "own-quota": _OWN,
    "quota-above": _ABOVE,
    "larger-weight": Case(
        services={"victim": _spin(4, "CPUWeight=100"), "loud": _spin(4, "CPUWeight=900")},
        expected=frozenset({("C3", "victim.service", "loud.service")}),
    ),
    "own-memory-max": _KILLED,
    "own-memory-high": Case(
        services={"high": _python("grow.py", "300", properties=("MemoryHigh=32M", "MemorySwapMax=0"))},
        expected=frozenset({("M1", "high.service", "high.service")}),
    ),
    "host-memory": Case(
        # A job that leaves hardly any memory: the kernel takes the pages of a file that the victim reads all the time.
        services={
            "victim": _python("mapped.py", "/root/data", properties=("IOAccounting=yes",)),
            "hog": _python("leave.py", "70", properties=("OOMScoreAdjust=500",)),
        },
        expected=frozenset({("M2", "victim.service", "hog.service")}),
        settle=15.0,
        seconds=12,
    ),
    "protections": Case(
        # Both protections together are more than the host has.
        services={
            "kept": _python("mapped.py", "/root/data", properties=("MemoryLow=300M", "IOAccounting=yes")),
            "hog": _python("leave.py", "70", properties=("MemoryLow=900M", "OOMScoreAdjust=500")),
        },
        slice_properties=("MemoryLow=1200M",),
        expected=frozenset({("M3", "kept.service", "")}),
        allowed=frozenset({"M2"}),
        settle=15.0,
        seconds=12,
    ),
    "affinity": Case(
        # Four processes on one CPU, where the weight entitles them to two: no neighbour is blamed for that.
        services={
            "victim": _spin(4, "CPUAffinity=0", "CPUWeight=100"), "other": _spin(4, "CPUWeight=100"),
        },
        expected=frozenset({("C4", "victim.service", "")}),
        confidence="low",
    ),
    "go-others": Case(
        # Two processes of the unit share one CPU; the Go program next to them has the other three.
        services={"mixed": Service(argv=("/bin/sh", "-c",
            f"taskset 1 {_PLACE}/spin.sh 2 & exec taskset e {_SERVER} -port 7003 -workers 1"))},
        words=("--trace", "http://127.0.0.1:7003"),
        expected=frozenset({("G3", "mixed.service", "mixed.service")}),
        confidence="medium",
    ),
    "device": Case(
        services={
            "victim": _python("direct.py", "/root/data", "1", "4096", properties=("IOAccounting=yes",)),
            "loud": _python("direct.py", "/root/data", "6", "1048576", properties=("IOAccounting=yes",)),
        },
        expected=frozenset({("I1", "victim.service", "loud.service")}),
    ),
    "go-throttled": Case(
        services={"tight": Service(argv=(_SERVER, "-port", "7001", "-workers", "6"), properties=("CPUQuota=60%",),
                                   variables=("GOMAXPROCS=4",))},
        words=("--trace", "http://127.0.0.1:7001"),
        expected=frozenset({("C1", "tight.service", "tight.service"), ("G1", "tight.service", "tight.service")}),
    ),
    "go-gomaxprocs": Case(
        services={"small": Service(argv=(_SERVER, "-port", "7002", "-workers", "3"), variables=("GOMAXPROCS=1",))},
        words=("--trace", "http://127.0.0.1:7002"),
        expected=frozenset({("G2", "small.service", "small.service")}),
    ),
}  # fmt: skip


@contextlib.contextmanager
def _running(guest: Guest, name: str, case: Case) -> Iterator[None]:
    """The services of a case, in a slice of its own."""
    unit_slice = f"lab{name.replace('-', '')}.slice"
    # A page of a file is charged to the cgroup that read it first.
    _call(guest, "sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches")
    if case.slice_properties:
        _call(guest, "systemctl", "set-property", "--runtime", unit_slice, *case.slice_properties)
    try:
        for unit, service in case.services.items():
            options = [f"--property={item}" for item in service.properties] + [
                f"--setenv={item}" for item in service.variables
            ]
            _call(
                guest,
                "systemd-run",
                "--quiet",
                f"--unit={unit}",
                f"--slice={unit_slice}",
                *options,
                "--",
                *service.argv,
            )
        guest.run(["sleep", str(case.settle)])
        yield
    finally:
        guest.run(
            ["systemctl", "kill", "--signal=SIGKILL", *(f"{unit}.service" for unit in case.services)], timeout=120
        )
        guest.run(["systemctl", "stop", *(f"{unit}.service" for unit in case.services)], timeout=120)
        guest.run(["systemctl", "reset-failed"], timeout=60)


def _call(guest: Guest, *argv: str) -> None:
    done = guest.run(argv, timeout=120)
    assert done.returncode == 0, (argv, done.stderr)


def _prepared(guest: Guest) -> Guest:
    for path in sorted(_LOAD.iterdir()):
        guest.write_file(f"{_PLACE}/{path.name}", path.read_bytes(), mode=0o755)
    return guest


def _answers(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rule, victim, cause and confidence of each answer."""
    return [
        (item["evidence"]["rule"], item["subject"].rpartition("/")[2], (item["evidence"]["cause"] or "").rpartition("/")[2],
         item["evidence"]["confidence"])
        for item in report["findings"] if item["evidence"].get("rule")
    ]  # fmt: skip


def _measure(preflight: Preflight, guest: Guest, *words: str, seconds: int = 6) -> dict[str, Any]:
    run = preflight("diagnose", "--seconds", str(seconds), "--format", "json", *words, on=guest)
    print(run.completed.stdout.decode(errors="replace"))  # shown where a test fails
    assert run.exit_status in (0, 1, 3), run.completed.stderr
    return run.report


def _check(report: dict[str, Any], name: str, case: Case) -> None:
    """Each expected answer is given with its confidence at least, and no other rule with high confidence."""
    unit_slice = f"lab{name.replace('-', '')}.slice"
    wanted = {(rule, victim, cause.replace("SLICE", unit_slice)) for rule, victim, cause in case.expected}
    enough = _CONFIDENCES[_CONFIDENCES.index(case.confidence) :]
    assert wanted <= {answer[:3] for answer in _answers(report) if answer[3] in enough}, _answers(report)
    sure = {rule for rule, _, _, confidence in _answers(report) if confidence == "high"}
    assert sure <= {rule for rule, _, _ in wanted} | case.allowed
    # An answer of low confidence is a warning.
    assert (report["verdict"] == "fail") == any(answer[3] != "low" for answer in _answers(report))


@pytest.fixture(scope="module")
def big(boot: Boot) -> Guest:
    """Four CPUs, PSI, and a file on a disk."""
    guest = _prepared(boot(base=KINDS[1].spec))
    _call(guest, "sh", "-c", "dd if=/dev/zero of=/root/data bs=1M count=200 && sync")
    return guest


@pytest.mark.measured
@pytest.mark.parametrize("turn", [1, 2])
def test_an_unloaded_host_has_no_contention(big: Guest, preflight: Preflight, turn: int) -> None:
    report = _measure(preflight, big)
    assert report["verdict"] == "pass", turn
    assert _answers(report) == []
    assert [item["code"] for item in report["findings"]] == ["CGP700"]
    assert report["findings"][0]["message"].startswith("no contention: ")


@pytest.mark.measured
@pytest.mark.parametrize("name", CASES)
def test_each_cause_is_named_and_no_other(big: Guest, preflight: Preflight, name: str) -> None:
    case = CASES[name]
    with _running(big, name, case):
        _check(_measure(preflight, big, *case.words, seconds=case.seconds), name, case)


@pytest.mark.measured
def test_the_proposed_quota_would_have_been_enough(big: Guest, preflight: Preflight) -> None:
    with _running(big, "own-quota", _OWN):
        report = _measure(preflight, big)
        (command,) = next(item for item in report["findings"] if item["code"] == "CGP701")["remedies"][0]["commands"]
        _call(big, *command)
        assert _answers(_measure(preflight, big)) == []
        big.run(["systemctl", "revert", "own.service"])


@pytest.mark.measured
def test_a_recording_says_the_same_elsewhere_and_the_page_has_it(
    big: Guest, preflight: Preflight, tmp_path: Path
) -> None:
    from cgroup_preflight.cli import main

    with _running(big, "quota-above", _ABOVE):
        preflight("diagnose", "--seconds", "6", "--record", "/root/readings.jsonl", on=big)
    (tmp_path / "readings.jsonl").write_bytes(big.read_file("/root/readings.jsonl"))
    status = main(["diagnose", str(tmp_path / "readings.jsonl"), "--format", f"json={tmp_path / 'report.json'}",
                   "--html", str(tmp_path / "page.html")])  # fmt: skip
    assert status == 1
    _check(json.loads((tmp_path / "report.json").read_text()), "quota-above", _ABOVE)
    assert "labquotaabove.slice" in (tmp_path / "page.html").read_text()


@pytest.mark.requires("no-psi", "cpus==1")
def test_without_pressure_files_quotas_and_kills_are_named_and_an_unloaded_host_is_not(
    guest: Guest, preflight: Preflight
) -> None:
    """One CPU: a quota of its own, one above and a kill, each for some seconds; the blind rules are listed."""
    _prepared(guest)
    unloaded = _measure(preflight, guest, seconds=4)
    assert unloaded["verdict"] == "pass"
    assert {item["code"] for item in unloaded["findings"]} <= {"CGP700", "CGP790"}
    own = Case(services={"own": _spin(1, "CPUQuota=20%")}, expected=frozenset())
    above = Case(services={"victim": _spin(2)}, slice_properties=("CPUQuota=20%",), expected=frozenset())
    killed = _KILLED
    for name, case, answer in (
        ("own-quota", own, ("C1", "own.service", "own.service", "medium")),
        ("quota-above", above, ("C2", "victim.service", "labquotaabove.slice", "medium")),
        ("own-memory-max", killed, ("M1", "killed.service", "killed.service", "high")),
    ):
        with _running(guest, name, case):
            assert _answers(_measure(preflight, guest, seconds=4)) == [answer]
