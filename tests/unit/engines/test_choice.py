"""Who can start units here, and why the better ones cannot: the whole table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.reading import Why
from cgroup_preflight.engines.choice import MANAGERS, choose_engine, controllers_of
from tests.unit.checks.contexts import REQUIRED, manager
from tests.unit.host.fabricate import HYBRID, facts, gathered, unreadable

GONE = unreadable(why=Why.ABSENT)


@pytest.mark.parametrize(
    ("uid", "sudo", "wanted", "name", "with_sudo"),
    [
        (0, False, "auto", "systemd", False),
        (0, False, "systemd", "systemd", False),
        (1000, True, "auto", "systemd", True),
        (1000, True, "systemd", "systemd", True),
        (1000, False, "auto", "user", False),
        (1000, False, "systemd", None, False),
        (1000, True, "user", "user", False),
        (1000, False, "user", "user", False),
    ],
)
def test_the_choice_on_a_good_host(uid, sudo, wanted, name, with_sudo):
    choice = choose_engine(facts(uid, sudo=sudo), wanted, REQUIRED)
    assert (choice.name, choice.sudo) == (name, with_sudo)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"cgroup_mount": GONE}, "no cgroup v2"),
        ({"systemd_running": False, "pid1": "tini"}, "PID 1 is tini"),
        ({"systemd_running": unreadable()}, "whether systemd is PID 1 is unknown"),
        ({"systemd_running": False, "pid1": GONE}, "unknown"),
    ],
)
@pytest.mark.parametrize("wanted", ["auto", "systemd", "user"])
def test_hosts_where_nobody_can(overrides, reason, wanted):
    choice = choose_engine(facts(1000, **overrides), wanted, REQUIRED)
    assert choice.name is None
    assert choice.sudo is False
    assert [engine for engine, _ in choice.reasons] == (list(MANAGERS) if wanted == "auto" else [wanted])
    assert all(reason in text for _, text in choice.reasons)


@pytest.mark.parametrize(
    ("user_manager", "reason"),
    [
        (manager(socket=GONE), "no user manager"),
        (manager(controllers=unreadable("cgroup.controllers")), "cannot be read"),
        (manager(controllers=frozenset({"memory", "pids"})), "cpu not delegated"),
        (manager(controllers=frozenset({"memory", "cpuset"})), "cpu not delegated"),
        (manager(controllers=frozenset()), "memory, cpu not delegated"),
    ],
)
def test_user_managers_that_cannot(user_manager, reason):
    choice = choose_engine(facts(1000, sudo=False, user_manager=user_manager), "auto", REQUIRED)
    assert choice.name is None
    assert reason in dict(choice.reasons)["user"]
    assert "sudo" in dict(choice.reasons)["systemd"]


def test_the_user_manager_needs_only_what_is_required():
    found = facts(1000, sudo=False, user_manager=manager(controllers=frozenset({"memory"})))
    assert choose_engine(found, "auto", ("memory",)).name == "user"
    assert choose_engine(found, "auto", ()).name == "user"
    assert choose_engine(found, "auto", ("memory", "io")).name is None


def test_an_unknown_user_or_sudo_is_no_root():
    for overrides in ({"uid": unreadable("/proc/self/status")}, {"sudo": unreadable("sudo")}, {"sudo": False}):
        assert choose_engine(facts(1000, **overrides), "systemd", REQUIRED).name is None


def test_each_engine_has_a_list_of_its_own():
    found = facts(1000, root_controllers=frozenset({"io"}), user_manager=manager(controllers=frozenset({"memory"})))
    assert controllers_of(found, choose_engine(found, "systemd", ())).value == {"io"}
    assert controllers_of(found, choose_engine(found, "user", ())).value == {"memory"}
    assert controllers_of(found, choose_engine(found, "user", ("rdma",))).value == {"io"}


def test_the_better_engine_that_was_not_taken_is_explained():
    choice = choose_engine(facts(1000, sudo=False), "auto", REQUIRED)
    assert choice.name == "user"
    assert choice.why_not.startswith("systemd: not root")


def test_a_hybrid_host_names_what_is_mounted():
    choice = choose_engine(gathered(mountinfo=HYBRID), "auto", REQUIRED)
    assert choice.name is None
    assert "/sys/fs/cgroup is tmpfs" in choice.why_not


FIELDS = ("cgroup_mount", "systemd_running", "uid", "sudo", "pid1", "root_controllers")


@given(
    st.sets(st.sampled_from(FIELDS)),
    st.sampled_from([0, 1000]),
    st.sampled_from(["auto", "systemd", "user"]),
    st.sampled_from(list(Why)),
)
def test_an_engine_is_never_chosen_on_a_guess(missing, uid, wanted, why):
    choice = choose_engine(facts(uid, **{name: unreadable(why=why) for name in missing}), wanted, REQUIRED)
    if missing & {"cgroup_mount", "systemd_running"}:
        assert choice.name is None
    if choice.name == "systemd":
        assert "uid" not in missing
        assert uid == 0 or "sudo" not in missing
    if choice.name is None:
        assert choice.reasons
