"""The guest's report and the host's own findings side by side: who decides."""

from dataclasses import replace

import pytest

from cgroup_preflight.core.report import Finding, HostSummary, Location, Report, ServiceResult, Status, Verdict
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.guest import findings as guest_findings
from cgroup_preflight.guest.contents import parse
from cgroup_preflight.guest.requirements import GuestMachine
from cgroup_preflight.guest.spec import GuestEngine

HOST = HostSummary(
    kernel="6.1.1", systemd="252", hierarchy="unified", mount_point="/sys/fs/cgroup", controllers=("cpu",), machine="x86_64"
)  # fmt: skip
SERVICE = ServiceResult(name="web", engine="systemd", unit="x.service", cgroup="/x")


def finding(code: str, status: Status, **changes: object) -> Finding:
    made = Finding(code=code, name="n", status=status, subject="web", message="m")
    return replace(made, **changes)  # type: ignore[arg-type]


def made_in_guest(
    *findings: Finding, engine=GuestEngine.UML, chosen=False, label="", cpus=1, gaps=(), lost_boot="", host=HOST
) -> guest_findings.GuestReport:
    report = Report(
        tool_version="1", verdict=Verdict.PASS, host=host, findings=findings, services=(SERVICE,),
        started_at="2026-01-01T00:00:00Z", duration_seconds=1.0,
    )  # fmt: skip
    machine = GuestMachine(engine=engine, cpus=cpus, memory_mib=416, gaps=gaps)
    run = guest_findings.GuestRun(report=report, machine=machine, distro="debian-12", fence="landlock 7", lost_boot=lost_boot,
                                  seconds={"boot": 1.5, "run": 2.5})  # fmt: skip
    return guest_findings.GuestReport(run=run, label=label, chosen=chosen, config_path="deploy/shop.toml")


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
    note = " (this host was not judged: the services ran in a guest)"
    assert found.message == ("m" if was is becomes else "m" + note)
    (other,) = guest_findings.host_findings([finding("CGP101", was)], "no time")
    assert ("(this host was not judged: no time)" in other.message) is (was is not becomes)


def test_without_a_guests_finding_nothing_is_passed_by_the_host():
    """A pass of the host's checks alone, with a lost guest, must not become the verdict."""
    host = guest_findings.host_findings([finding("CGP106", Status.PASS), finding("CGP101", Status.FAIL)])
    lost = guest_findings.lost_guest("", "it died", ["panic", "trace"], guest_findings._OTHER_GUEST)
    assert verdict_of([*host, lost]) is Verdict.UNVERIFIED
    assert lost.evidence == {"console": "panic\ntrace"}
    assert (lost.code, lost.subject, lost.message, lost.remedies) == (
        "CGP512", "guest", "it died", (guest_findings._OTHER_GUEST,),
    )  # fmt: skip
    silent = guest_findings.lost_guest("debian-13", "it died", (), guest_findings._OTHER_GUEST)
    assert (silent.subject, silent.evidence) == ("debian-13", {})


def test_it_is_said_first_and_plainly_where_it_was_tested():
    first, second = guest_findings.guest_findings(made_in_guest(finding("CGP501", Status.PASS)))
    assert (first.code, first.name, first.status, first.subject) == ("CGP512", "guest", Status.WARN, "guest")
    assert second.code == "CGP501"
    assert first.message == (
        "Tested in a VM (Debian 12, 1 CPU, 416 MiB, no PSI), not on this machine: "
        "systemd 252, kernel 6.1.1 (user-mode-linux)"
    )
    assert first.evidence == {
        "machine": "uml", "distro": "Debian 12", "kernel": "6.1.1", "systemd": "252", "cpus": 1, "memory_mib": 416, "fence": "landlock 7",
        "boot_seconds": 1.5, "run_seconds": 2.5,
    }  # fmt: skip
    assert first.remedies[0].commands == (("cgroup-preflight", "check"),)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"engine": GuestEngine.QEMU, "cpus": 2},
         "(Debian 12, 2 CPUs, 416 MiB), not on this machine: systemd 252, kernel 6.1.1 (QEMU)"),
        ({"chosen": True},
         "systemd 252, kernel 6.1.1 (user-mode-linux); the kernel is not that of Debian 12"),
        ({"engine": GuestEngine.QEMU, "chosen": True}, "systemd 252, kernel 6.1.1 (QEMU)"),
        ({"gaps": ("one gap", "another")}, "(user-mode-linux); one gap; another"),
        ({"host": None}, "systemd unknown, kernel unknown (user-mode-linux)"),
        ({"host": replace(HOST, kernel=None)}, "systemd 252, kernel unknown (user-mode-linux)"),
    ],
)  # fmt: skip
def test_what_else_is_said_of_the_machine(how, message):
    (found,) = guest_findings.guest_findings(made_in_guest(**how))
    assert found.message.endswith(message)


def test_a_boot_that_was_lost_is_in_the_evidence():
    (found,) = guest_findings.guest_findings(made_in_guest(lost_boot="it ended", label="debian-12"))
    assert (found.evidence["first boot"], found.subject) == ("it ended", "debian-12")


def test_where_the_guest_is_at_fault_it_is_said_and_what_to_do():
    _, found = guest_findings.guest_findings(made_in_guest(finding("CGP102", Status.FAIL)))
    assert found.message == "the guest lacks what the config needs: m"
    assert found.remedies == (guest_findings._OTHER_GUEST,)
    for status in set(Status) - {Status.FAIL}:
        same = finding("CGP102", status)
        assert guest_findings.guest_findings(made_in_guest(same))[1] == same


@pytest.mark.parametrize(
    ("code", "chosen", "engine", "status"),
    [
        ("CGP102", False, GuestEngine.UML, Status.UNVERIFIED), ("CGP102", True, GuestEngine.QEMU, Status.UNVERIFIED),
        ("CGP104", False, GuestEngine.UML, Status.UNVERIFIED), ("CGP104", True, GuestEngine.UML, Status.FAIL),
        ("CGP106", True, GuestEngine.UML, Status.UNVERIFIED), ("CGP106", True, GuestEngine.QEMU, Status.FAIL),
        ("CGP104", True, GuestEngine.QEMU, Status.FAIL), ("CGP106", False, GuestEngine.QEMU, Status.UNVERIFIED),
        ("CGP104", False, GuestEngine.QEMU, Status.UNVERIFIED), ("CGP201", False, GuestEngine.UML, Status.FAIL),
        ("CGP501", False, GuestEngine.UML, Status.FAIL), ("CGP511", False, GuestEngine.UML, Status.FAIL),
    ],
)  # fmt: skip
def test_what_the_guest_lacks_is_no_fault_of_the_project(code, chosen, engine, status):
    _, found = guest_findings.guest_findings(made_in_guest(finding(code, Status.FAIL), engine=engine, chosen=chosen))
    assert found.status is status


def test_places_and_names_are_those_of_outside():
    location = Location(file="shop.toml", line=7)
    part = made_in_guest(finding("CGP501", Status.PASS, location=location), label="debian-12")
    _, found = guest_findings.guest_findings(part)
    assert (found.subject, found.location) == ("debian-12: web", Location(file="deploy/shop.toml", line=7))
    (service,) = guest_findings.guest_services(part)
    assert (service.name, service.engine) == ("debian-12: web", "guest")


def test_without_a_label_names_are_as_in_the_guest():
    part = made_in_guest(finding("CGP501", Status.PASS))
    assert guest_findings.guest_findings(part)[1].subject == "web"
    assert [item.name for item in guest_findings.guest_services(part)] == ["web"]


def with_host(**changes: object) -> guest_findings.GuestReport:
    return made_in_guest(host=replace(HOST, **changes))


def test_the_summary_is_of_the_guests():
    found = guest_findings.guest_summary([with_host(), with_host(systemd="257"), with_host(kernel=None)])
    assert found is not None
    assert (found.engine, found.systemd, found.kernel) == ("guest", "252 / 257", "6.1.1")
    assert found.mount_point == HOST.mount_point
    assert guest_findings.guest_summary([]) is None
    assert guest_findings.guest_summary([made_in_guest(host=None)]) is None
    (late,) = [guest_findings.guest_summary([made_in_guest(host=None), with_host(kernel=None, systemd="257")])]
    assert (late.kernel, late.systemd) == (None, "257")


def with_log(made, *lines):
    service = replace(SERVICE, log_tail=lines)
    return replace(made, run=replace(made.run, report=replace(made.run.report, services=(service,))))


@pytest.mark.parametrize(
    ("line", "lacks"),
    [
        (
            "x: error while loading shared libraries: libpq.so.5: cannot open shared object file: No such file",
            "a shared library",
        ),
        ("ImportError: libGL.so: cannot open shared object file", "a shared library"),
        ("             cpu_ns: poll=30000000 now=2040000000 diff=2010000000", "exact CPU times"),
        ("listen tcp [::1]:80: socket: address family not supported by protocol", "IPv6"),
        ("dial tcp 10.0.0.1:5432: connect: network is unreachable", "a network"),
        ("create memberlist: Failed to get final advertise address: No private IP address found, and", "a network"),
        ("could not resolve host: Temporary failure in name resolution", "a network"),
    ],
)
@pytest.mark.parametrize("code", ["CGP503", "CGP505"])
def test_a_fail_that_the_guest_explains_is_unverified(line, lacks, code):
    made = with_log(made_in_guest(finding(code, Status.FAIL)), "begin", line)
    _, found = guest_findings.guest_findings(made)
    assert (found.status, found.message) == (Status.UNVERIFIED, f"the guest lacks {lacks}: m")
    assert "[target" in found.remedies[0].title


@pytest.mark.parametrize(
    ("code", "status", "line", "engine"),
    [
        ("CGP503", Status.FAIL, "panic: libpq.so.5 is bad", GuestEngine.UML),
        ("CGP504", Status.FAIL, "libpq.so.5: cannot open shared object file", GuestEngine.UML),
        ("CGP503", Status.PASS, "libpq.so.5: cannot open shared object file", GuestEngine.UML),
        ("CGP505", Status.FAIL, "socket: address family not supported by protocol", GuestEngine.QEMU),
        ("CGP503", Status.FAIL, "cpu_ns: poll=30000000 now=2040000000 diff=2010000000", GuestEngine.QEMU),
    ],
)
def test_what_the_guest_does_not_explain_stays(code, status, line, engine):
    made = with_log(made_in_guest(finding(code, status), engine=engine), line)
    _, found = guest_findings.guest_findings(made)
    assert (found.status, found.message) == (status, "m")


def test_the_lines_of_another_service_explain_nothing():
    made = with_log(made_in_guest(finding("CGP503", Status.FAIL, subject="api")), "network is unreachable")
    assert guest_findings.guest_findings(made)[1].status is Status.FAIL


@pytest.mark.parametrize(
    ("told", "here"),
    [
        ("shop.toml", "deploy/shop.toml"), ("units/a.service", "deploy/units/a.service"), ("/usr/lib/systemd/system/a.service", None),
        ("../../etc/passwd", None), ("x/../../../y", None),
    ],
)  # fmt: skip
def test_the_place_of_a_finding_is_in_the_project_or_nowhere(told, here):
    """The report comes from the guest: it names no other file of this host."""
    item = finding("CGP501", Status.FAIL, location=Location(file=told, line=7))
    _, found = guest_findings.guest_findings(made_in_guest(item))
    assert found.location == (Location(file=here, line=7) if here else None)


@pytest.mark.parametrize(
    ("distro", "named"), [("debian-14", "Debian 14 as of 2026-10-30, "), ("debian-13", "Debian 13, ")]
)
def test_the_report_says_what_is_in_the_image(distro, named):
    text = "archive x_InRelease Fri, 30 Oct 2026 08:08:01 UTC\nlinux-image-7.2.12 7.2.12-1\nnginx 1.28\nsystemd 262-1\nzlib1g 1\n"
    made = made_in_guest()
    run = replace(made.run, distro=distro, image="debian-14-x", contents=parse(text), packages=("nginx:amd64", "lost"))
    (where,) = guest_findings.guest_findings(replace(made, run=run))
    assert where.message.startswith(f"Tested in a VM ({named}")
    assert where.evidence["image"] == "debian-14-x"
    assert where.evidence["archive"] == "2026-10-30"
    assert where.evidence["packages"] == "4, among them systemd 262-1, nginx 1.28, linux-image 7.2.12-1"
    (before,) = guest_findings.guest_findings(made)
    assert not {"image", "archive", "packages"} & before.evidence.keys()
