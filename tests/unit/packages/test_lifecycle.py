"""The order of the steps and what they see, on a machine that is played: dpkg, systemctl and the kernel's files are records.

The lab has the real ones.
"""

import pytest

from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Status
from cgroup_preflight.host.command import Completed
from cgroup_preflight.packages.leftovers import Scene
from cgroup_preflight.packages.lifecycle import Lifecycle, Machine
from cgroup_preflight.packages.selection import Selected, applied, select
from cgroup_preflight.packages.steps import Steps
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.expect import HostNumbers
from tests.unit.engines.machine import MOUNT
from tests.unit.packages.making import SERVICE, UNITS, config, control, deb, package

UNIT = "user-api.service"
FOLDER = "/api.slice/user-api.service"


class Guest:
    """A machine with dpkg and systemctl; `limits` is what the kernel has after each start or upgrade, in order."""

    def __init__(self, *, limits=(96 << 20,), fails="", refuses=False, restarts=True, forgets=False, verify=""):
        self.calls: list[str] = []
        self.ran_at_removal: list[bool] = []
        self.forgets = forgets
        self.limits, self.fails, self.refuses, self.restarts = list(limits), fails, refuses, restarts
        self.active, self.invocation, self.memory = False, 0, 0
        self.now = 0.0
        self.systemctl, self.replaces, self.replaces_at, self.installs = 1, 0, 0, 0
        self.verify = verify

    # --- the clock

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    # --- programs

    def run(self, argv, *, timeout=20.0, stdin=b""):
        words = " ".join(argv[4:] if argv[:2] == ("sh", "-c") else argv)
        self.calls.append(words)
        if self.fails and self.fails in words:
            return Known(value=Completed(argv=argv, returncode=1, stdout="", stderr=""), source="")
        if "--install" in words:
            self.installs += 1
            self.systemctl += self.replaces or self.installs == self.replaces_at
            self._begin(again=self.restarts)
        if "--remove" in words:
            self.ran_at_removal.append(self.active)
            self.active = self.active and self.forgets
        if words.startswith("systemctl stop"):
            self.active = False
        if words.startswith("systemctl start"):
            if self.refuses:
                return Known(value=Completed(argv=argv, returncode=1, stdout="", stderr="Unit is masked."), source="")
            if not self.active:
                self._begin(again=True)
        if words.startswith("systemd-analyze"):
            return Known(value=Completed(argv=argv, returncode=1, stdout="", stderr=self.verify), source="")
        text = self._shown(words) if words.startswith("systemctl show") else ""
        text = "/usr/bin/user-api\n" if words.startswith("dpkg-query") else text
        return Known(value=Completed(argv=argv, returncode=0, stdout=text, stderr=""), source="")

    def _begin(self, *, again):
        if self.refuses:
            return
        self.memory = self.limits.pop(0) if len(self.limits) > 1 else self.limits[0]
        self.invocation += again or not self.active
        self.active = True

    def _shown(self, words):
        state = "active" if self.active else "inactive"
        own = f"Id={UNIT}\nActiveState={state}\nSubState=x\nLoadState=loaded\nInvocationID={self.invocation}\n"
        own += f"ControlGroup={FOLDER if self.active else ''}\nNeedDaemonReload=no\nMemoryMax={96 << 20}\n"
        above = "Id=api.slice\nActiveState=active\nControlGroup=/api.slice\n"
        return "\n".join(text for name, text in ((UNIT, own), ("api.slice", above)) if f" {name}" in words)

    # --- files

    def read(self, path):
        text = {"cgroup.controllers": "memory pids\n", "memory.max": f"{self.memory}\n", "pids.max": "100\n"}.get(
            path.rpartition("/")[2]
        )
        return (
            Known(value=text, source=path) if text and path.startswith(MOUNT) else Missing(source=path, why=Why.ABSENT)
        )


def begun(tmp_path, guest, *, previous=False, after=frozenset()):
    """The steps on that machine, with scenes of the test's own: no test looks through the disk of this one."""
    scenes = iter([Scene(paths=frozenset(), users=frozenset(), groups=frozenset())])
    last = Scene(paths=after, users=frozenset({"shop"}), groups=frozenset())
    (tmp_path / "units").mkdir()
    new = package(tmp_path, deb({f"{UNITS}/{UNIT}": SERVICE}, control(version="2")))
    made = config(tmp_path)
    selection = select(made, (), ())
    if previous:
        old = package(tmp_path, deb({f"{UNITS}/{UNIT}": SERVICE}, control(version="1")), "old.deb")
        selection = replace(selection, packages=(Selected(package=new, previous=old),))
    plan = build_plan(applied(made, selection))
    door = type("Door", (), {"programs": guest, "clock": guest, "files": guest})()
    numbers = HostNumbers(page_size=4096, memory_bytes=1 << 30, tasks_max=1000)
    steps = Steps(guest, guest, str(tmp_path), 30.0)
    machine = Machine(
        door=door, mount=MOUNT, numbers=numbers, systemd=257, look=lambda: next(scenes, last), running=lambda shipped: (),
        unit_folder=str(tmp_path / "units"), end_test=lambda: guest.calls.append("end of test"), relied_on=lambda: {"systemctl": (guest.systemctl,)},
    )  # fmt: skip
    return Lifecycle(selection, plan, machine, steps, lambda _: None)


def said(findings):
    return [(item.code, item.status) for item in findings]


def test_a_package_is_installed_read_stopped_removed_and_purged(tmp_path):
    guest = Guest()
    packages = begun(tmp_path, guest)
    first, installed = packages.begin()
    assert (installed, said(first)) == (True, [("CGP521", Status.PASS), ("CGP522", Status.PASS)])
    assert "its package started it" in first[1].message
    assert not guest.active, "the services are tested next, at the same addresses"
    # What the package lacks was there before its scripts ran.
    assert sorted(path.name for path in (tmp_path / "units").iterdir()) == ["api.slice.d", "user-api.service.d"]
    assert guest.calls.index("systemctl daemon-reload") < next(
        number for number, call in enumerate(guest.calls) if "--install" in call
    )
    assert said(packages.end()) == [("CGP524", Status.PASS)]
    assert guest.ran_at_removal == [True], "a package has to stop its services itself"
    assert [call.split("unsafe-io ")[1] for call in guest.calls if "--remove" in call or "--purge" in call] == [
        "--remove user-api", "--purge user-api"
    ]  # fmt: skip


def test_what_the_test_of_the_services_left_is_gone_before_the_removal(tmp_path):
    guest = Guest()
    packages = begun(tmp_path, guest)
    packages.begin()
    guest.calls.clear()
    packages.end()
    assert guest.calls[0] == "end of test"


def test_a_package_that_does_not_stop_its_service_when_it_is_removed_fails(tmp_path):
    packages = begun(tmp_path, Guest(forgets=True))
    packages.begin()
    (found,) = packages.end()
    assert (found.code, found.status) == ("CGP524", Status.FAIL)
    assert f"units: {UNIT} (active)" in found.message


def test_a_service_that_its_package_started_is_not_started_again(tmp_path):
    """systemd refuses to start a socket whose service runs."""
    guest = Guest()
    begun(tmp_path, guest).begin()
    assert not [call for call in guest.calls if call.startswith("systemctl start")]


def test_nothing_more_is_done_with_packages_that_cannot_be_installed(tmp_path):
    guest = Guest(fails="--install")
    found, installed = begun(tmp_path, guest).begin()
    assert (installed, said(found)) == (False, [("CGP521", Status.FAIL)])
    assert not [call for call in guest.calls if call.startswith("systemctl start")]


def test_a_service_that_systemd_refuses_fails_with_its_words(tmp_path):
    found, installed = begun(tmp_path, Guest(refuses=True)).begin()
    assert (installed, said(found)[1]) == (True, ("CGP522", Status.FAIL))
    assert "Unit is masked." in found[1].message


def test_what_is_wrong_with_a_unit_file_is_told_with_its_line(tmp_path):
    line = f"/usr/lib/systemd/system/{UNIT}:3: Service Type= is set twice"
    found, _ = begun(tmp_path, Guest(refuses=True, verify=f"other.service: x\n{line}\n")).begin()
    assert found[1].message.endswith(line)


def test_a_service_without_its_limit_as_installed_fails(tmp_path):
    found, _ = begun(tmp_path, Guest(limits=(64 << 20,))).begin()
    assert said(found)[1] == ("CGP522", Status.FAIL)


@pytest.mark.parametrize(
    ("limits", "restarts", "status", "words"),
    [
        ((96 << 20, 48 << 20, 96 << 20), True, Status.PASS, "was started again"),
        ((96 << 20, 48 << 20, 48 << 20), False, Status.FAIL, "systemd 257 keeps the old limits"),
    ],
)
def test_an_upgrade_while_the_service_runs(tmp_path, limits, restarts, status, words):
    guest = Guest(limits=limits, restarts=restarts)
    packages = begun(tmp_path, guest, previous=True)
    assert packages.begin()[1]
    found = packages.end()
    assert said(found) == [("CGP524", Status.PASS), ("CGP523", status), ("CGP524", Status.PASS)]
    assert words in found[1].message
    assert found[1].evidence[f"api.slice/{UNIT}/memory.max, systemd's word"] == str(96 << 20)
    installs = [call.rpartition("--install ")[2] for call in guest.calls if "--install" in call]
    assert [name.rpartition("/")[2] for name in installs] == ["user-api.deb", "old.deb", "user-api.deb"]


def test_an_upgrade_that_fails_is_told_and_an_old_package_that_fails_too(tmp_path):
    guest = Guest()
    packages = begun(tmp_path, guest, previous=True)
    packages.begin()
    guest.fails = "old.deb"
    assert said(packages.end()) == [("CGP524", Status.PASS), ("CGP521", Status.FAIL)]


def test_what_is_left_is_told_once(tmp_path):
    packages = begun(tmp_path, Guest(), previous=True, after=frozenset({"/etc/shop.conf"}))
    packages.begin()
    found = packages.end()
    assert said(found) == [("CGP524", Status.FAIL), ("CGP523", Status.PASS), ("CGP524", Status.PASS)]
    assert "files: /etc/shop.conf" in found[0].message


def test_a_package_that_replaces_what_the_run_relies_on_is_a_fail_and_nothing_more_is_run(tmp_path):
    guest = Guest()
    guest.replaces = 1
    found, installed = begun(tmp_path, guest).begin()
    assert (installed, said(found)) == (False, [("CGP521", Status.FAIL)])
    assert "replace what this run relies on, files: systemctl" in found[0].message
    assert not [call for call in guest.calls if call.startswith("systemctl start")]


@pytest.mark.parametrize("at", [2, 3])
def test_the_package_before_and_the_upgrade_may_replace_nothing_either(tmp_path, at):
    guest = Guest(limits=(96 << 20, 48 << 20, 96 << 20))
    packages = begun(tmp_path, guest, previous=True)
    assert packages.begin()[1]
    guest.replaces_at = at
    found = packages.end()
    assert said(found) == [("CGP524", Status.PASS), ("CGP521", Status.FAIL)]
    assert "files: systemctl" in found[1].message
    assert len([call for call in guest.calls if "--install" in call]) == at, "nothing is done after that"
