"""The guest's report and the host's own findings side by side: who decides."""

from dataclasses import replace

import pytest

from cgroup_preflight.core.report import Finding, HostSummary, Location, Report, ServiceResult, Status, Verdict
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.guest import findings as guest_findings
from cgroup_preflight.guest.requirements import Machine
from cgroup_preflight.guest.spec import GuestEngine

HOST = HostSummary(
    kernel="6.1.1", systemd="252", hierarchy="unified", mount_point="/sys/fs/cgroup", controllers=("cpu",), machine="x86_64"
)  # fmt: skip
SERVICE = ServiceResult(name="web", engine="systemd", unit="x.service", cgroup="/x")


def finding(code: str, status: Status, **changes: object) -> Finding:
    made = Finding(code=code, name="n", status=status, subject="web", message="m")
    return replace(made, **changes)  # type: ignore[arg-type]


def judged(*findings: Finding, engine=GuestEngine.UML, chosen=False, label="") -> guest_findings.Judged:
    report = Report(
        tool_version="1", verdict=Verdict.PASS, host=HOST, findings=findings, services=(SERVICE,),
        started_at="2026-01-01T00:00:00Z", duration_seconds=1.0,
    )  # fmt: skip
    machine = Machine(engine=engine, cpus=1, memory_mib=256, consequences=("it has 1 CPU",))
    return guest_findings.Judged(
        label=label, distro="debian-12", machine=machine, report=report, chosen=chosen, fence="landlock 7", lost_boot="", seconds={"boot": 1.5},
        shown_config="deploy/shop.toml",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (Status.FAIL, Status.WARN), (Status.UNVERIFIED, Status.SKIP), (Status.WARN, Status.WARN),
        (Status.SKIP, Status.SKIP), (Status.PASS, Status.PASS),
    ],
)  # fmt: skip
def test_the_hosts_own_findings_do_not_decide(was, becomes):
    (found,) = guest_findings.host_findings([finding("CGP101", was)])
    assert (found.status, found.subject) == (becomes, "this host: web")
    assert ("not a verdict on this host" in found.message) is (was is not becomes)


def test_without_a_guests_finding_nothing_is_passed_by_the_host():
    """A pass of the host's checks alone, beside a lost guest, must not become the verdict."""
    host = guest_findings.host_findings([finding("CGP106", Status.PASS), finding("CGP101", Status.FAIL)])
    lost = guest_findings.lost("", "it died", ["panic"], guest_findings._OTHER_GUEST)
    assert verdict_of([*host, lost]) is Verdict.UNVERIFIED
    assert lost.evidence == {"console": "panic"}


def test_it_is_said_first_and_plainly_where_it_was_judged():
    first, *_ = guest_findings.guest_findings(judged(finding("CGP501", Status.PASS)))
    assert (first.code, first.status) == ("CGP512", Status.WARN)
    for word in ("not on this machine", "debian-12", "systemd 252", "kernel 6.1.1", "user-mode-linux", "it has 1 CPU"):
        assert word in first.message
    assert first.evidence["boot_seconds"] == 1.5


@pytest.mark.parametrize(
    ("code", "chosen", "engine", "status"),
    [
        ("CGP102", False, GuestEngine.UML, Status.UNVERIFIED), ("CGP102", True, GuestEngine.QEMU, Status.UNVERIFIED),
        ("CGP104", False, GuestEngine.UML, Status.UNVERIFIED), ("CGP104", True, GuestEngine.UML, Status.FAIL),
        ("CGP106", True, GuestEngine.UML, Status.UNVERIFIED), ("CGP106", True, GuestEngine.QEMU, Status.FAIL),
        ("CGP501", False, GuestEngine.UML, Status.FAIL), ("CGP511", False, GuestEngine.UML, Status.FAIL),
    ],
)  # fmt: skip
def test_what_the_guest_lacks_is_no_fault_of_the_project(code, chosen, engine, status):
    _, found = guest_findings.guest_findings(judged(finding(code, Status.FAIL), engine=engine, chosen=chosen))
    assert found.status is status


def test_places_and_names_are_those_of_outside():
    location = Location(file="shop.toml", line=7)
    part = judged(finding("CGP501", Status.PASS, location=location), label="debian-12")
    _, found = guest_findings.guest_findings(part)
    assert (found.subject, found.location) == ("debian-12: web", Location(file="deploy/shop.toml", line=7))
    (service,) = guest_findings.guest_services(part)
    assert (service.name, service.engine) == ("debian-12: web", "guest")


def test_the_summary_is_of_the_guests():
    other = judged()
    other = replace(other, report=replace(other.report, host=replace(HOST, systemd="257")))
    found = guest_findings.summary(None, [judged(), other])
    assert found is not None
    assert (found.engine, found.systemd, found.kernel) == ("guest", "252 / 257", "6.1.1")
    assert guest_findings.summary(None, []) is None
