"""Transient units that services, or others, have the manager make while the services run."""

import signal

import pytest

from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Status
from cgroup_preflight.core.unit_paths import TRANSIENT
from cgroup_preflight.engines.service_run import ServiceRun
from cgroup_preflight.plan.run_unit import RunUnit
from cgroup_preflight.smoke.new_units import NewUnit, can_be_root
from cgroup_preflight.smoke.outside import outside_findings
from tests.unit.engines.machine import Program, Unit, Units
from tests.unit.smoke.test_outside import UNIT, Played
from tests.unit.smoke.test_services import TEXT, URL, WEB, Trial

USERS, OF_USER = "/run/user", "/run/user/1000/systemd/transient"
APP = "/user.slice/user-1000.slice/user@1000.service/app.slice"
SAID = "Running as unit: {}; invocation ID: 0123456789abcdef0123456789abcdef"


class Host(Played):
    """A user's manager beside the system's; `writable` are the folders that services can get units in."""

    def __init__(self, tmp_path, *, root: bool = False, writable: tuple[str, ...] = (OF_USER,), inside: bool = False):
        super().__init__(tmp_path, inside=inside)
        folders = self.machine.folders_of
        folders |= {USERS: ("1000",), OF_USER: ("old.service",), TRANSIENT: ("session-1.scope",)}
        self.machine.writable = lambda path: path in writable
        self.units.unit_folder = "/run/user/1000/systemd/user"
        self.user = self.machine.spawn("systemd", f"{APP.rpartition('/')[0]}/init.scope")
        self.outside.begin({UNIT: "/srv/web"}, root=root)

    def make(self, *names: str, folder: str = OF_USER) -> None:
        self.machine.folders_of[folder] += names

    def ends(self, said: str = "") -> tuple[list[int], list[str], dict[str, str]]:
        self.outside.look_now()
        self.outside.finish(lambda: {UNIT: said, "other.service": "up\n"})
        for handle in self.outside.handles:
            self.machine.close(handle)
        strays = [stray.pid for stray in self.outside.strays if stray.unit == UNIT]
        return strays, sorted(self.outside.units), self.outside.unclaimed


def test_a_unit_that_a_service_had_made_is_its_own_and_is_ended(tmp_path):
    host = Host(tmp_path)
    host.make("x.service")
    helper = host.machine.spawn("sleep", f"{APP}/x.service", parent=host.user.pid)
    child = host.machine.spawn("sleep", f"{APP}/x.service/sub", parent=helper.pid)
    same_name = host.machine.spawn("sleep", "/system.slice/x.service", parent=host.manager.pid)
    assert host.ends(f"up\n{SAID.format('x.service')}\nmore") == ([helper.pid, child.pid], ["x.service"], {})
    assert ("stop", ("x.service",)) in host.units.calls
    assert same_name.pid not in [stray.pid for stray in host.outside.strays]


@pytest.mark.parametrize(
    "said",
    [
        "", "x.service", "as unit: x.service", SAID.format("xx.service"), SAID.format("x.service2"), SAID.format("x-service"),
        "tail: Running as unit: x.service",
    ],
)  # fmt: skip
def test_the_unit_of_another_program_is_named_and_left_alone(tmp_path, said):
    host = Host(tmp_path)
    host.make("x.service")
    host.machine.spawn("sleep", f"{APP}/x.service", parent=host.user.pid)
    assert host.ends(said) == ([], [], {"x.service": "sleep --work"})
    assert not host.units.calls


@pytest.mark.parametrize(
    "said", ["Running as unit: x.service", "Running timer as unit: x.timer\nWill run service as unit: x.service\n"]
)
def test_the_words_of_other_versions_and_of_timers(tmp_path, said):
    host = Host(tmp_path)
    host.make("x.service", "x.timer")
    assert host.ends(said) == ([], ["x.service"], {})


def test_what_was_there_before_is_no_news_and_neither_is_a_scope(tmp_path):
    """A scope has children of who made it."""
    host = Host(tmp_path)
    host.make("run-u1.scope", "app.slice")
    assert host.ends(SAID.format("old.service")) == ([], [], {})


def test_one_that_is_gone_before_the_end_counts(tmp_path):
    host = Host(tmp_path)
    host.make("x.service")
    host.outside.look_now()
    host.machine.folders_of[OF_USER] = ("old.service",)
    assert host.ends() == ([], [], {"x.service": ""})


def test_another_run_of_this_tool_is_no_news_and_what_takes_the_name_of_one_is(tmp_path):
    host = Host(tmp_path)
    host.machine.folders_of["/run/user/1000/systemd/user"] = (
        "cgpfaaaaaaaaaaaa.slice",
        "cgpfaaaaaaaaaaaa-web.service.d",
    )
    host.make("cgpfaaaaaaaaaaaa-web.service", "cgpfbbbbbbbbbbbb-web.service", UNIT)
    assert host.ends() == ([], [], {"cgpfbbbbbbbbbbbb-web.service": ""})


@pytest.mark.parametrize("root", [False, True])
def test_units_of_the_system_are_only_of_services_that_are_root(tmp_path, root):
    host = Host(tmp_path, root=root, writable=())
    host.make("x.service", folder=TRANSIENT)
    host.make("y.service")
    host.units.unit_folder = "/run/systemd/system"
    inside = host.machine.spawn("sleep", "/system.slice/x.service", parent=host.manager.pid)
    host.machine.spawn("sleep", f"{APP}/x.service", parent=host.user.pid)
    found = host.ends(SAID.format("x.service"))
    assert found == (([inside.pid], ["x.service"], {}) if root else ([], [], {}))
    assert (("stop", ("x.service",)) in host.units.calls) is root


def test_of_another_manager_than_the_engines_only_processes_are_ended(tmp_path):
    """The engine's own may have a unit of the same name."""
    host = Host(tmp_path, root=True)
    host.units.unit_folder = "/run/systemd/system"
    host.make("x.service")
    helper = host.machine.spawn("sleep", f"{APP}/x.service", parent=host.user.pid)
    assert host.ends(SAID.format("x.service")) == ([helper.pid], ["x.service"], {})
    assert not host.units.calls


def test_in_a_guest_every_one_is_of_the_run(tmp_path):
    host = Host(tmp_path, inside=True, writable=())
    host.make("x.service")
    host.make("y.scope", folder=TRANSIENT)
    assert host.ends()[1:] == (["x.service", "y.scope"], {})
    assert ("stop", ("x.service", "y.scope")) in host.units.calls


def test_a_warning_names_a_few_and_fails_nothing():
    (found,) = outside_findings([], [], {f"u{number}.service": "sleep 9" if number else "" for number in range(7)})
    assert (found.code, found.status) == ("CGP502", Status.WARN)
    assert "u0.service, u1.service (sleep 9)" in found.message
    assert "u4.service (sleep 9) and 2 more" in found.message
    assert "guest" in found.remedies[0].title


@pytest.mark.parametrize(
    ("folder", "cgroup", "holds"),
    [
        (OF_USER, f"{APP}/x.service", True),
        (OF_USER, f"{APP}/x.service/below", True),
        (OF_USER, "/user.slice/user-1001.slice/user@1001.service/app.slice/x.service", False),
        (OF_USER, "/system.slice/x.service", False),
        (TRANSIENT, "/system.slice/x.service", True),
        (TRANSIENT, f"{APP}/x.service", False),
        (TRANSIENT, "/system.slice/xx.service", False),
    ],
)
def test_a_unit_holds_what_is_below_its_own_manager(folder, cgroup, holds):
    assert NewUnit(name="x.service", folder=folder).holds(cgroup) is holds


@pytest.mark.parametrize("quiet", [False, True])
def test_a_whole_run_ends_a_helper_that_a_service_had_made(tmp_path, quiet):
    """And not one that another program had made, or that may be of another program."""
    helpers = []
    (tmp_path / "out-web").write_text("" if quiet else f"{SAID.format('x.service')}\n")

    def asks(units: Units, unit: Unit) -> None:
        helpers.append(units.machine.spawn("helper", "/system.slice/x.service"))
        helpers.append(units.machine.spawn("cron", "/system.slice/y.service"))
        units.machine.folders_of[TRANSIENT] = ("x.service", "y.service")

    trial = Trial(tmp_path, Program(address=URL, does=asks), journal=False)
    trial.machine.folders_of[TRANSIENT] = ()
    services = []
    trial.between = services.append
    (seen,) = trial.run()
    ended = [pid for pid, number in trial.machine.signals if number == signal.SIGKILL]
    assert ended == ([] if quiet else [helpers[0].pid])
    assert seen.service.unit == WEB
    assert services[-1].units == (() if quiet else ("x.service",))
    assert sorted(services[-1].unclaimed) == (["x.service", "y.service"] if quiet else ["y.service"])


@pytest.mark.parametrize(
    ("user", "uid", "root"),
    [("", None, True), ("", 1000, True), ("shop", None, False), ("root", 1000, True), ("0", None, True)],
)
def test_who_can_be_root(tmp_path, user, uid, root):
    """Where sudo is needed, a service runs as its caller, who needs no password for it."""
    text = TEXT.replace("[services.web]\n", f'[services.web]\nUser = "{user}"\n') if user else TEXT
    trial = Trial(tmp_path, text=text)
    (service,) = trial.plan.services
    run = ServiceRun(service, replace(trial._launch(service), uid=uid))
    assert can_be_root(run) is root


def test_a_unit_with_a_user_of_its_own_is_not_root(tmp_path):
    trial = Trial(tmp_path)
    (service,) = trial.plan.services
    for has_user in (False, True):
        own = RunUnit(text="", type="exec", has_user=has_user)
        assert can_be_root(ServiceRun(service, replace(trial._launch(service), own=own))) is not has_user


@pytest.mark.parametrize("inside", [False, True])
def test_of_another_machine_a_look_asks_for_units_at_the_end_only(tmp_path, inside):
    """Each would be a round trip more. In a guest the look is worth it, because there it proves something."""
    host = Host(tmp_path, inside=inside)
    host.outside._door = replace(host.machine.door(), host="box")
    host.make("x.service")
    host.outside.look_now()
    host.machine.folders_of[OF_USER] = ("old.service", "y.service")
    _, units, unclaimed = host.ends()
    assert (units, list(unclaimed)) == ((["x.service", "y.service"], []) if inside else ([], ["y.service"]))
