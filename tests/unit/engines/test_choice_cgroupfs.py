"""When the engine cgroupfs is chosen, and the line that refuses a cgroup."""

import pytest

from cgroup_preflight.core.reading import Known
from cgroup_preflight.engines.choice import choose_engine, controllers_of
from cgroup_preflight.host.cgroupfs import CgroupReading
from cgroup_preflight.host.delegation import Place
from tests.unit.host.fabricate import facts, unreadable


def level(path="/job", kind="domain", controllers=frozenset({"cpu", "memory"})):
    none = unreadable()
    return CgroupReading(
        path=path, controllers=Known(value=controllers, source=f"/sys/fs/cgroup{path}/cgroup.controllers"), subtree_control=none,
        type=Known(value=kind, source="cgroup.type"), memory_max=none, cpu_max=none, pids_max=none,
    )  # fmt: skip


def place(**changes):
    own = {"path": "/job", "level": level(), "marked": Known(value=True, source="no systemd")}
    return Place(**{**own, **changes})


BARE = {"systemd_running": False, "pid1": "init"}


def chosen(where, wanted="auto", required=("memory", "cpu"), **changes):
    return choose_engine(facts(1000, **{**BARE, **changes}), wanted, required, where)


def test_it_is_taken_last_and_says_why_the_others_were_not():
    choice = chosen(place())
    assert (choice.name, choice.place.path) == ("cgroupfs", "/job")
    assert [name for name, _ in choice.reasons] == ["systemd", "user"]
    assert controllers_of(facts(), choice).value == {"cpu", "memory"}


def test_a_service_manager_is_better():
    choice = choose_engine(facts(0), "auto", ("memory",), place())
    assert (choice.name, choice.place) == ("systemd", None)


def test_it_can_be_wanted_although_a_manager_works():
    assert choose_engine(facts(0), "cgroupfs", ("memory",), place()).name == "cgroupfs"


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (None, "not below the mount"),
        (place(marked=Known(value=False, source="x")), "systemd-run --user --scope -p Delegate=yes"),
        (place(marked=unreadable("attribute")), "is unknown"),
        (place(denied=("cgroup.procs", "cgroup.threads")), "may not write to cgroup.procs, cgroup.threads of /job"),
        (place(denied=("cgroup.procs",)), "chown to that folder and its files cgroup.procs, cgroup.subtree_control and cgroup.threads"),
        (place(level=level(kind="threaded")), "threaded cgroup"),
        (place(level=level(kind="domain threaded")), "'domain threaded'"),
        (place(level=level(kind="domain invalid")), "'domain invalid'"),
        (place(level=level(controllers=frozenset({"cpu"}))), "memory missing at the level /job"),
        (place(unreachable="/"), "may not move a process from its own cgroup to /job"),
        (place(path="/user.slice/user-1000.slice/user@1000.service", unit="user@1000.service"), "managed by systemd"),
    ],
)  # fmt: skip
def test_what_is_refused(where, reason):
    choice = chosen(where, "cgroupfs")
    assert choice.name is None
    assert reason in dict(choice.reasons)["cgroupfs"]


@pytest.mark.parametrize("wanted", ["auto", "cgroupfs"])
def test_a_cgroup_that_only_lacks_controllers_is_named(wanted):
    bare = level(controllers=frozenset({"cpu"}))
    assert chosen(place(level=bare), wanted).lacking_at == "/job"
    assert chosen(place(level=bare, denied=("cgroup.procs",)), wanted).lacking_at == ""
    assert chosen(place(level=bare), "user").lacking_at == ""
    assert chosen(place(), wanted).lacking_at == ""


def test_the_real_root_has_no_type():
    root = place(path="", level=level("", controllers=frozenset({"cpu", "memory"})))
    assert chosen(root).name == "cgroupfs"


def test_without_a_reading_of_the_place_auto_tries_the_managers_alone():
    assert [name for name, _ in chosen(None).reasons] == ["systemd", "user"]
