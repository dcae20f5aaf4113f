"""The engine cgroupfs on a real kernel: the same limits, proofs and probes as through systemd, and nothing left.

Each place is a way to enter a cgroup that was, or was not, delegated to the job. One guest has Debian's systemd, a
second one boots with a plain init; those with containers are in test_cgroupfs_containers.py.
"""

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import BootMode
from tests.lab import cgroupfs_job as job
from tests.lab.cgroupfs_job import IN_SCOPE, IN_USERS_SCOPE, Place
from tests.lab.configs import Lab, config, service
from tests.lab.conftest import KINDS, Boot
from tests.lab.test_escapes import SCRIPT
from tests.lab.test_smoke_example import assert_passed

#: A container: its own namespaces of cgroups, PIDs and mounts, no systemd in it, and who made it is outside.
_BOX = (
    'mkdir "$own/runtime" "$own/box"; echo $$ >"$own/runtime/cgroup.procs"; echo "+cpu +memory +pids" >"$own/cgroup.subtree_control";'
    ' unshare --mount --pid --fork --mount-proc sh -euc "$ENTER" "$own/box" "$@"'
)
_ENTER = 'echo 0 >"$0/cgroup.procs"; exec unshare --cgroup sh -euc "$MOUNT" sh "$@"'
_MOUNT = (
    "mount --make-rprivate /; mount -t tmpfs none /run/systemd; umount /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup;"
    ' exec "$@"'
)
_AS_USER = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
_OWN = "own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); "


def _around(script: str, *, to: Place = IN_SCOPE) -> Place:
    """As `to`, with a shell script around the command, which is "$@"; `own` is the folder of the cgroup."""
    return replace(to, words=(*to.words, "sh", "-uc", _OWN + script, "sh"))


_CONTAINER = _around(_BOX, to=Place(words=("env", f"ENTER={_ENTER}", f"MOUNT={_MOUNT}", *IN_SCOPE.words)))
_PLACES = {"a scope of root": IN_SCOPE, "a scope of a user": IN_USERS_SCOPE, "a private namespace": _CONTAINER}


@pytest.fixture(scope="module")
def guest(boot: Boot) -> Guest:
    """Debian's systemd, with a manager of the user `tester`."""
    booted = boot()
    booted.start_user_manager("tester")
    job.put(booted)
    return booted


_MEASURED = pytest.mark.measured


@pytest.mark.parametrize(
    "name", ["a scope of root", "a scope of a user", pytest.param("a private namespace", marks=_MEASURED)]
)
def test_limits_are_in_force_act_and_leave_nothing(guest: Guest, name: str) -> None:
    seen = job.run(guest, _PLACES[name])
    job.assert_both_ways(seen)
    job.assert_tree_as_before(seen)
    assert Lab(guest).leftovers() == []


def test_a_program_that_is_moved_after_its_start_is_charged_elsewhere(guest: Guest) -> None:
    """What the proof of the start must tell apart: memory stays where it was first used."""
    script = (
        'mkdir "$own/leaf" "$own/late"; echo $$ >"$own/leaf/cgroup.procs"; echo +memory >"$own/cgroup.subtree_control";'
        f' {job.HOME}/charged "$own/late"; rmdir "$own/late"'
    )
    done = guest.run(_around(script).words)
    charged, mine = job.charges(done.text.splitlines())
    assert charged < 0.5 * mine, done


def test_a_write_outside_of_the_subtree_would_be_seen(guest: Guest) -> None:
    """The twin of every look at the tree: a job that does what none may do."""
    other = "/sys/fs/cgroup/user.slice"
    script = (
        f"echo max >{other}/cgroup.max.depth; echo 1000 >{other}/cgroup.max.descendants; mkdir {other}/made; rmdir {other}/made;"
        ' echo +pids >"$own/cgroup.subtree_control"; mkdir "$own/left"; sleep 0.5; setsid sleep 60 >/dev/null 2>&1 &'
    )
    around = ["python3", f"{job.HOME}/inside.py", f"{job.OUT}/twin", "--", "sh", "-uc", _OWN + script]
    done = guest.run([*IN_SCOPE.words, *job.environment(IN_SCOPE), *around])
    found = job.read_json(guest, f"{job.OUT}/twin")
    Lab(guest).shell(f"echo max >{other}/cgroup.max.descendants; pkill -x sleep")
    writes = {item.rpartition("/")[2] for item in found["outside"]}
    assert writes == {"cgroup.max.depth 0x2", "cgroup.max.descendants 0x2", "made 0x40000100", "made 0x40000200"}, done
    changed = {path.removeprefix(found["base"]) for path in found["changed"]}
    assert {f"{other}/cgroup.max.descendants", "/left/cgroup.procs", "/cgroup.subtree_control"} <= changed, found
    assert any(item.partition(": ")[0] == found["base"] for item in found["mixed"]), found
    assert found["processes"] == ["sleep 60 "]


_UNDELEGATED = {
    "a scope of root": (Place(words=("systemd-run", "--scope", "--quiet", "--collect")), "managed by systemd and not delegated"),
    "a scope of a user": (
        replace(IN_USERS_SCOPE, words=("systemd-run", "--user", "--scope", "--quiet", "--collect")),
        "systemd-run --user --scope -p Delegate=yes",
    ),
    "root's cgroup, for a user": (
        Place(words=(*IN_SCOPE.words, *_AS_USER), home="/home/tester"),
        "root gives it with chown to that folder and its files cgroup.procs, cgroup.subtree_control and cgroup.threads",
    ),
    "a threaded cgroup": (
        _around('mkdir "$own/t"; echo threaded >"$own/t/cgroup.type"; "$@" --cgroup="$own/t"; rmdir "$own/t"'),
        "is a threaded cgroup",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _UNDELEGATED)
def test_a_cgroup_that_is_not_the_jobs_or_lacks_something_is_refused(guest: Guest, name: str) -> None:
    place, reason = _UNDELEGATED[name]
    seen = job.run(guest, place)
    said = seen.outcome.finding("CGP500", "smoke")
    assert reason in said["message"], seen.done
    assert (seen.outcome.verdict, seen.outcome.exit_status) == ("unverified", 3)
    job.assert_tree_as_before(seen, runs=0)


def test_a_missing_controller_fails_with_its_level(guest: Guest) -> None:
    seen = job.run(guest, _around('mkdir "$own/bare"; "$@" --cgroup="$own/bare"; rmdir "$own/bare"'))
    level = seen.tree["base"].removeprefix("/sys/fs/cgroup") + "/bare"
    found = seen.outcome.finding("CGP105", "engine")
    assert f"missing at the level {level} " in found["message"], seen.done
    assert (found["status"], seen.outcome.verdict, seen.outcome.exit_status) == ("fail", "fail", 1)
    job.assert_tree_as_before(seen, runs=0)


def test_a_container_that_shares_its_cgroup_with_its_maker_is_refused(guest: Guest) -> None:
    """Nobody in it can move the process that made it."""
    made = ("unshare", "--cgroup", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-euc", _MOUNT, "sh")
    seen = job.run(guest, Place(words=(*IN_SCOPE.words, *made)))
    assert "a process of another PID namespace is in it" in seen.outcome.stderr, seen.done
    assert seen.outcome.exit_status == 3
    job.assert_tree_as_before(seen, runs=0)


def test_a_killed_tool_leaves_no_process_and_the_next_run_no_cgroup(guest: Guest) -> None:
    procs = 'find "$own" -path "*cgpf*.slice*" -name cgroup.procs -exec cat {} +'
    script = (
        f'"$@" >/dev/null 2>&1 & pid=$!; for n in $(seq 600); do [ -n "$({procs})" ] && break; sleep 0.1; done;'
        f' echo "ran: $({procs} | wc -l)"; kill -KILL $pid; wait $pid;'
        f' for n in $(seq 100); do [ -z "$({procs})" ] && break; sleep 0.1; done;'
        f' echo "left: $({procs} | wc -l)"; exec "$@"'
    )
    own = "own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); "
    number = 9001
    around = ["python3", f"{job.HOME}/inside.py", f"{job.OUT}/killed", "--", "sh", "-uc", own + script, "sh"]
    words = [
        *IN_SCOPE.words,
        *job.environment(IN_SCOPE),
        *around,
        *job.command(number, "plain", "charged", verb="smoke"),
    ]
    done = guest.run(words, timeout=300)
    report, tree = job.read_json(guest, f"{job.OUT}/{number}.json"), job.read_json(guest, f"{job.OUT}/killed")
    assert "left: 0" in done.text, done
    assert "ran: 0" not in done.text, done
    assert report["verdict"] == "pass", done
    assert (tree["changed"], tree["processes"], len(tree["runs"])) == ({}, [], 2), (tree, done)
    assert Lab(guest).leftovers() == []


def test_two_runs_at_once_share_a_cgroup_and_leave_it_as_it_was(guest: Guest) -> None:
    """Of a service without a quota: two probes of quotas at once have too little of the one CPU."""
    one, two = 9002, 9003
    first, second = (job.command(number, "charged", verb="smoke") for number in (one, two))
    script = (
        f"{shlex.join(first)} >/dev/null 2>&1 & pid=$!; {shlex.join(second)}; two=$?; wait $pid; echo status $? $two"
    )
    around = ["python3", f"{job.HOME}/inside.py", f"{job.OUT}/two", "--", "sh", "-uc", script]
    done = guest.run([*IN_SCOPE.words, *job.environment(IN_SCOPE), *around], timeout=300)
    tree = job.read_json(guest, f"{job.OUT}/two")
    assert "status 0 0" in done.text, done
    assert [job.read_json(guest, f"{job.OUT}/{number}.json")["verdict"] for number in (one, two)] == ["pass", "pass"]
    assert {name: tree[name] for name in ("outside", "changed", "mixed", "processes")} == {
        "outside": [], "changed": {}, "mixed": [], "processes": []
    }, tree  # fmt: skip
    assert len(tree["runs"]) == 2


#: By what a service does: the code that fails; the others are honest.
_SLIPS = {"leaves": "CGP502", "comes-back": "CGP502", "tasks-between": "CGP501", "forks": "CGP503"}
_HONEST = ("memory-honest", "stays", "job")


@pytest.mark.parametrize("name", [pytest.param("a scope of root", marks=_MEASURED), "a scope of a user"])
def test_what_slips_its_limits_is_found(guest: Guest, name: str) -> None:
    """The whole list is in test_escapes.py."""
    services = {
        mode: service(
            "escape.py", mode, ready="exit" if mode in ("forks", "job") else "log:^up", slice="api",
            smoke={"duration": "1s", "start_timeout": "90s", "stop_timeout": "5s"},
            MemoryMax="40M", CPUQuota="40%", TasksMax=20,
        )
        for mode in (*_SLIPS, *_HONEST)
    }  # fmt: skip
    made = job.put(
        guest, name="slips", made=config(services, {"api": {"CPUWeight": 50}}), scripts={"escape.py": SCRIPT}
    )
    seen = job.run(guest, _PLACES[name], made=made)
    failed = job.failures(seen.outcome, services)
    assert failed == {mode: {_SLIPS[mode]} if mode in _SLIPS else set() for mode in services}, seen.outcome.text
    # What left its cgroup has ended with the run.
    assert seen.tree["processes"] == []
    assert seen.tree["mixed"] == []
    Lab(guest).shell("find /sys/fs/cgroup -name elsewhere -type d -exec rmdir {} +")
    assert Lab(guest).leftovers() == []


def test_the_example_passes(guest: Guest, shop: Path) -> None:
    seen = job.run(guest, IN_SCOPE, made=str(shop / "cgroup-preflight.toml"))
    assert_passed(seen.outcome, engine="cgroupfs", below=seen.tree["base"].removeprefix("/sys/fs/cgroup"))
    job.assert_tree_as_before(seen)


# --- a host without systemd

#: What an init system does before its services: OpenRC, for example, mounts the tree and enables controllers at its root.
_INIT = (
    "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run;"
    " mount -t cgroup2 none /sys/fs/cgroup; echo +cpu +memory +pids >/sys/fs/cgroup/cgroup.subtree_control;"
    " /usr/local/lib/preflight-start; sleep 5"
)
#: Root gives a user one folder and three files of it, and starts the job there.
_GIVEN = (
    "cd /sys/fs/cgroup; mkdir -p jobs; chown tester jobs jobs/cgroup.procs jobs/cgroup.subtree_control jobs/cgroup.threads;"
    ' echo $$ >jobs/cgroup.procs; exec setpriv --reuid=1000 --regid=1000 --clear-groups "$@"'
)


@pytest.fixture(scope="module")
def plain(lab_inputs: dict[str, Path]) -> Iterator[Guest]:
    """A guest that was booted with a shell as PID 1: nothing of systemd runs."""
    spec = replace(
        KINDS[0].spec, mode=BootMode.QUICK, inputs=lab_inputs, kernel_args=("init=/bin/sh", "--", "-c", f'"{_INIT}"')
    )
    with Guest(spec, image.ensure(recipe_for(spec.distro), image.cache_folder(os.environ))) as booted:
        assert booted.run(["sh", "-c", "cat /proc/1/comm; ls -d /run/systemd"]).text == "sh\n"
        job.put(booted)
        yield booted


@pytest.mark.parametrize("who", ["root", pytest.param("a user", marks=_MEASURED)])
def test_without_systemd_it_is_what_auto_takes(plain: Guest, who: str) -> None:
    place = Place() if who == "root" else Place(words=("sh", "-euc", _GIVEN, "sh"), home="/home/tester")
    seen = job.run(plain, place, engine="auto")
    job.assert_both_ways(seen)
    job.assert_tree_as_before(seen)
