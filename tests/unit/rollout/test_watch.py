"""The samples of a rollout, from a tree of files that stands for the kernel's."""

import threading

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.rollout.judge import Answer
from cgroup_preflight.rollout.watch import Watch, ask_seconds, manager_root, tree_of


class Host:
    """Two slices with a service each; `states` is what the manager says."""

    def __init__(self, folder, root="") -> None:
        self.folder, self.root = folder, root
        self.states = {}
        (folder / root).mkdir(parents=True, exist_ok=True)
        for path in ("", "api.slice", "api.slice/a.service", "db.slice", "db.slice/d.service"):
            (folder / root / path).mkdir(exist_ok=True)
            self.write(path)

    def write(self, path, kills=0, throttled=0, periods=0, waiting=0):
        folder = self.folder / self.root / path
        (folder / "cgroup.procs").write_text("")
        (folder / "cgroup.stat").write_text("nr_descendants 1\nnr_dying_descendants 0\n")
        (folder / "memory.events").write_text(f"low 0\nhigh 0\nmax 0\noom 0\noom_kill {kills}\n")
        (folder / "cpu.stat").write_text(f"usage_usec 1\nnr_periods {periods}\nnr_throttled {throttled}\n")
        (folder / "cpu.pressure").write_text(f"some avg10=0.00 avg60=0.00 avg300=0.00 total={waiting}\n")

    def services(self, units):
        return {unit: self.states.get(unit, {"ActiveState": "active", "NRestarts": "0"}) for unit in units}

    @property
    def _base(self):
        return f"/{self.root}" if self.root else ""

    def watch(self, **more):
        mount = str(self.folder)
        return Watch(
            tree_of(mount, f"{self._base}/api.slice"),
            Observer(LiveFs(), mount),
            [f"{self._base}/api.slice"],
            [],
            stalled_max=0.1,
            services=self.services,
            **more,
        )


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_a_window_has_the_numbers_since_the_last_one(host):
    watch = host.watch()
    watch.begin()
    host.write("api.slice", throttled=30, periods=60)
    window = watch.window()
    assert (window.throttled, window.periods, window.void) == (0.5, 60, "")
    assert set(window.neighbours) == {"db.slice"}
    assert watch.window().throttled is None
    assert watch.alarms() == ()


def test_the_slices_of_a_users_manager_have_numbers(tmp_path):
    """For the system's manager they are inside of a service, where the exporter does not look."""
    host = Host(tmp_path, "user.slice/user-1000.slice/user@1000.service")
    for path in ("user.slice/user-1000.slice", "user.slice"):
        (tmp_path / path / "cpu.stat").write_text("usage_usec 1\n")
    watch = host.watch()
    watch.begin()
    host.write("api.slice", throttled=30, periods=60)
    host.states["a.service"] = {"ActiveState": "failed", "NRestarts": "0"}
    window = watch.window()
    assert (window.void, window.throttled, set(window.neighbours)) == ("", 0.5, {"db.slice"})
    assert window.at_once == ("a.service failed",)


def test_the_root_of_a_manager_is_where_its_slices_are():
    assert manager_root("/api.slice/api-x.slice") == ""
    user = "/user.slice/user-1000.slice/user@1000.service"
    assert manager_root(f"{user}/api.slice/api-x.slice") == user


def test_an_oom_kill_is_an_alarm_also_one_while_no_tool_ran(host):
    watch = host.watch()
    watch.begin()
    host.write("api.slice", kills=1)
    assert watch.alarms() == watch.kills() == ("1 OOM kill in api.slice",)
    assert watch.killed() == {"/api.slice": 1}
    assert host.watch(killed={"/api.slice": 0}).alarms() == ("1 OOM kill in api.slice",)
    assert host.watch(killed={"/api.slice": 1}).alarms() == ()
    assert host.watch(killed={"/api.slice": 5}).alarms() == ("1 OOM kill in api.slice",), "another cgroup since then"


def test_a_new_cgroup_begins_with_no_kill_and_each_one_counts(host):
    watch = host.watch(killed={"/api.slice": 2})
    watch.begin()
    assert watch.kills() == ()
    host.write("api.slice", kills=2)
    assert watch.kills() == ("2 OOM kills in api.slice",)


def test_kills_that_cannot_be_read_are_not_known(host):
    """Neither none, nor all that the cgroup has ever had."""
    host.write("api.slice", kills=3)
    watch = host.watch(killed={"/api.slice": 3})
    watch.begin()
    events = host.folder / "api.slice" / "memory.events"
    text = events.read_text()
    events.write_text("no such text\n")
    assert watch.kills() == ()
    assert "memory.events" in watch.window().void
    with pytest.raises(HostError, match="OOM kills cannot be counted"):
        watch.killed()
    events.write_text(text)
    assert "memory.events" in watch.window().void, "the sample before"
    assert watch.kills() == ()
    assert (watch.window().void, watch.window().at_once) == ("", ())
    host.write("api.slice", kills=4)
    assert watch.kills() == ("1 OOM kill in api.slice",)


def test_a_cgroup_without_the_controller_has_had_no_kills(host):
    (host.folder / "api.slice" / "memory.events").unlink()
    watch = host.watch()
    watch.begin()
    assert watch.killed() == {"/api.slice": 0}
    assert watch.window().void == ""
    # The first memory limit enables it.
    host.write("api.slice", kills=1)
    assert watch.kills() == ("1 OOM kill in api.slice",)


def test_an_oom_kill_ends_the_wait_for_a_silent_server_and_is_in_its_window(host):
    answered = threading.Event()

    def silent():
        host.write("api.slice", kills=1)
        assert answered.wait(60)
        return (Answer(query="up"),)

    watch = host.watch(ask=silent)
    watch.begin()
    window = watch.window()
    answered.set()
    assert window.at_once == ("1 OOM kill in api.slice",)
    assert window.answers == ()


def test_a_server_that_answers_is_in_the_window(host):
    watch = host.watch(ask=lambda: (Answer(query="up", value=1.0, holds=True),))
    watch.begin()
    assert [answer.value for answer in watch.window().answers] == [1.0]
    assert watch.window().at_once == ()


def test_a_kill_in_a_neighbour_is_no_alarm(host):
    watch = host.watch()
    watch.begin()
    host.write("db.slice", kills=1)
    assert watch.alarms() == ()


def test_a_service_that_died_of_an_oom_kill_while_the_manager_answered_has_its_reason(host):
    watch = host.watch()
    watch.begin()
    real = host.services

    def services(units):
        host.write("api.slice", kills=1)
        host.states["a.service"] = {"ActiveState": "failed", "NRestarts": "0"}
        return real(units)

    watch._services = services
    assert watch.alarms() == ("1 OOM kill in api.slice", "a.service failed")


def test_a_service_that_failed_stays_an_alarm_in_the_next_step(host):
    watch = host.watch()
    watch.begin()
    host.states["a.service"] = {"ActiveState": "failed", "NRestarts": "0"}
    watch.begin()
    assert watch.alarms() == ("a.service failed",)
    host.states["d.service"] = {"ActiveState": "failed", "NRestarts": "0"}
    assert watch.alarms() == ("a.service failed",)


def test_a_service_that_failed_while_no_tool_ran_is_an_alarm(host):
    watch = host.watch()
    watch.begin()
    known = watch.states()
    host.states["a.service"] = {"ActiveState": "failed", "NRestarts": "0"}
    later = host.watch(states=known)
    later.begin()
    assert later.alarms() == ("a.service failed",)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_question_that_ends_without_an_answer_is_an_error_and_no_success(host):
    def broken():
        raise RuntimeError("a defect")

    watch = host.watch(ask=broken)
    watch.begin()
    (answer,) = watch.window().answers
    assert answer.error
    assert answer.holds is None


def test_a_server_that_never_ends_its_answer_does_not_block_and_is_asked_by_one_thread_only(host):
    """The timer of the manager would take the tool for dead."""
    assert (ask_seconds(60.0), ask_seconds(10.0)) == (15.0, 2.5)
    ended = threading.Event()
    asked = []

    def endless():
        asked.append(1)
        assert ended.wait(60)
        return (Answer(query="up", value=1.0, holds=True),)

    watch = host.watch(ask=endless, ask_seconds=0.2)
    watch.begin()
    errors = [answer.error for _ in range(3) for answer in watch.window().answers]
    assert errors == ["no whole answer within 0.2s"] + ["the server has not answered the question before"] * 2
    assert asked == [1]
    ended.set()
