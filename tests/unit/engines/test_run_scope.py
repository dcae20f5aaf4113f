"""The slice of a run: created, taken down whatever happens, and what is left behind is told, and is never a pass."""

import os
import signal
import tempfile
import time

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Missing, Why
from cgroup_preflight.core.report import Status
from cgroup_preflight.engines.run_scope import (
    PREFIX,
    Rest,
    clean_leftovers,
    cleanup_finding,
    end_runs,
    new_name,
    run_scope,
    tear_down,
)
from cgroup_preflight.plan.build import build_plan, scoped
from tests.unit.core.making import config_of
from tests.unit.engines.machine import MOUNT, Machine, Units

SCOPE = f"{PREFIX}0123456789ab"
TEXT = '[slices.api]\nMemoryMax = "256M"\n[services.web]\nbinary = "x"\nslice = "api"\n'


@pytest.fixture
def units(tmp_path):
    return Units(Machine(), str(tmp_path))


def scope(units, **more):
    machine = units.machine
    return run_scope(units, machine.door(), scoped(build_plan(config_of(TEXT)), SCOPE), SCOPE, MOUNT, **more)


def owner(files, name=f"{SCOPE}.slice"):
    with open(os.path.join(files, name)) as file:
        return file.readline()


def test_names_differ_and_are_one_word():
    names = {new_name() for _ in range(50)}
    assert len(names) == 50
    assert all(len(name) == 16 and name.startswith(PREFIX) and "-" not in name for name in names)


def test_a_run_has_its_slices_and_leaves_nothing(units):
    with scope(units) as run:
        assert run.cgroups == {
            f"{SCOPE}.slice": f"/{SCOPE}.slice", f"{SCOPE}-api.slice": f"/{SCOPE}.slice/{SCOPE}-api.slice"
        }  # fmt: skip
        assert sorted(os.listdir(units.unit_folder)) == [
            f"{SCOPE}-api.slice", f"{SCOPE}-web.service.d", f"{SCOPE}.slice"
        ]  # fmt: skip
    assert run.rest.left == ()
    assert os.listdir(units.unit_folder) == []
    assert units.machine.now < 1001


def test_a_run_names_its_process_so_that_no_other_run_takes_it_down(units):
    units.machine.files[f"/proc/{os.getpid()}/stat"] = f"{os.getpid()} (x) S {'0 ' * 18}55 0"
    with scope(units):
        assert owner(units.unit_folder) == f"# owner: pid {os.getpid()} started 55 namespace 42\n"
        assert not owner(units.unit_folder, f"{SCOPE}-api.slice").startswith("# owner")
        assert clean_leftovers(units, units.machine.door()) == ()


def test_inside_a_guest_nothing_is_removed(units):
    with scope(units, stays=True) as run:
        pass
    assert (run.rest.left, len(os.listdir(units.unit_folder))) == ((), 3)
    with pytest.raises(KeyError), scope(units, stays=True):
        raise KeyError


def test_what_a_run_in_a_guest_left_is_removed_when_the_machine_goes_on(units):
    with scope(units, stays=True):
        pass
    other = os.path.join(units.unit_folder, "user-api.service.d")
    os.mkdir(other)
    end_runs(units, units.machine.door())
    assert os.listdir(units.unit_folder) == ["user-api.service.d"]
    assert units.active(SCOPE) == []


@pytest.mark.parametrize(
    ("keeps", "left"),
    [
        ("units", [f"{SCOPE}.slice", f"{SCOPE}-api.slice"]),
        ("files", [f"/{SCOPE}.slice", f"/{SCOPE}-api.slice", f"/{SCOPE}-web.service.d"]),
    ],
)
def test_what_stays_is_named(units, keeps, left):
    units.keeps.add(keeps)
    with scope(units) as run:
        pass
    assert sorted(item.removeprefix(units.unit_folder) for item in run.rest.left) == sorted(left)
    assert cleanup_finding(run.rest).status is Status.FAIL


def test_a_cgroup_that_stays_is_named(units, tmp_path):
    """The mount is a folder of the test here: the look at the end goes to the file system."""
    machine = units.machine
    (tmp_path / "mount" / f"{SCOPE}.slice").mkdir(parents=True)
    plan = scoped(build_plan(config_of(TEXT)), SCOPE)
    with run_scope(units, machine.door(), plan, SCOPE, f"{tmp_path}/mount/") as run:
        pass
    assert run.rest.left == (f"{tmp_path}/mount/{SCOPE}.slice",)
    assert machine.now > 1002, "it is looked for a while: the manager may be late"


@pytest.mark.parametrize("what", ["names", "exists"])
@pytest.mark.parametrize(
    ("why", "status"),
    [(Why.ABSENT, Status.PASS), (Why.DENIED, Status.UNVERIFIED), (Why.FAILED, Status.UNVERIFIED), (Why.MALFORMED, Status.UNVERIFIED)],
)  # fmt: skip
def test_what_cannot_be_read_is_not_gone(units, what, why, status):
    machine = units.machine
    with scope(units) as run:
        setattr(machine, what, lambda path, *_: Missing(source=path, why=why, detail="played"))
    found = cleanup_finding(run.rest)
    assert found.status is status
    assert ("played" in found.message) is (status is Status.UNVERIFIED)


def test_what_can_be_read_again_a_moment_later_is_gone(units):
    machine, until = units.machine, units.machine.now + 3
    real = machine.names
    with scope(units) as run:
        machine.names = lambda path, *_: (
            real(path) if machine.now > until else Missing(source=path, why=Why.FAILED, detail="played")
        )
    assert run.rest == Rest()


def test_a_run_that_is_broken_off_says_what_cannot_be_read(units):
    def broken_off():
        with scope(units):
            units.machine.names = lambda path, *_: Missing(source=path, why=Why.DENIED)
            raise KeyboardInterrupt

    with pytest.raises(HostError, match="what still exists after the run cannot be read"):
        broken_off()


def test_something_left_is_a_fail_although_something_else_cannot_be_read(units):
    units.keeps.add("units")
    with scope(units) as run:
        units.machine.exists = lambda path: Missing(source=path, why=Why.DENIED)
    assert run.rest.unread
    assert cleanup_finding(run.rest).status is Status.FAIL


def test_a_manager_that_does_not_say_what_runs_has_its_slice_stopped_and_is_an_error(units):
    ended = []
    real = units.end_slice
    units.end_slice = lambda *words: (ended.append(words), real(*words))

    def refuses(*_):
        raise HostError("Failed to list units", remedy=None)

    def run():
        with scope(units):
            units.active = refuses

    with pytest.raises(HostError, match="Failed to list units"):
        run()
    assert ended
    assert os.listdir(units.unit_folder) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, HostError("no", remedy=None), ValueError])
def test_a_run_that_is_broken_off_is_taken_down(units, error):
    with pytest.raises(error if isinstance(error, type) else type(error)), scope(units):
        raise error
    assert os.listdir(units.unit_folder) == []


@pytest.mark.parametrize(("user", "root"), [(True, False), (False, True)])
def test_a_run_that_is_broken_off_and_leaves_something_says_that(units, user, root):
    units.keeps.add("files")
    units.user = user
    with pytest.raises(HostError) as raised, scope(units):
        raise KeyboardInterrupt
    assert "still exists after the run" in raised.value.message
    assert raised.value.where == f"{SCOPE}.slice"
    assert raised.value.remedy.needs_root is root


def test_a_refusal_of_the_engine_takes_the_run_down(units):
    def refuses(files, units_):
        raise HostError("masked", remedy=None)

    units.create_slices = refuses
    with pytest.raises(HostError, match="masked"), scope(units):
        pytest.fail("not reached")


class Stubborn:
    """An engine whose services are active for the first `looks`."""

    unit_folder = "/nowhere"

    def __init__(self, looks):
        self.looks, self.calls = looks, []

    def active(self, scope, suffix=""):
        self.looks -= 1
        return [f"{scope}-a{suffix}"] if self.looks >= 0 else []

    def stop(self, units):
        self.calls.append(("stop", *units))

    def kill(self, units):
        self.calls.append(("kill", *units))

    def end_slice(self, scope, seconds):
        self.calls.append(("end", scope, seconds))

    def remove_files(self, names):
        self.calls.append(("remove", *names))


def test_services_are_stopped_and_killed_until_none_is_active():
    engine, machine = Stubborn(2), Machine()
    assert tear_down(engine, machine, SCOPE, ["f"]) == ()
    both = [("stop", f"{SCOPE}-a.service"), ("kill", f"{SCOPE}-a.service")]
    assert engine.calls == [*both, *both, ("end", SCOPE, 30.0), ("remove", "f", f"{SCOPE}.slice")]


def test_a_service_that_does_not_end_is_given_up_on_and_named():
    engine, machine = Stubborn(10_000), Machine()
    assert tear_down(engine, machine, SCOPE, []) == (f"{SCOPE}-a",)
    assert 1030 <= machine.now < 1031


def test_signals_wait_until_the_run_is_taken_down(units):
    seen = []
    units.end_slice = lambda _scope, _seconds: seen.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    with scope(units):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= seen[0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


# --- leftovers of a crashed run -------------------------------------------------------------------------------


def crashed(units, first_line, *, hours=0.0, name=SCOPE):
    """The files of a run, written some hours ago."""
    os.makedirs(os.path.join(units.unit_folder, f"{name}-web.service.d"), exist_ok=True)
    for path, text in ((f"{name}.slice", f"{first_line}\n[Slice]\n"), (f"{name}-api.slice", "[Slice]\n")):
        file = os.path.join(units.unit_folder, path)
        with open(file, "w") as opened:
            opened.write(text)
        os.utime(file, (time.time() - hours * 3600,) * 2)


def test_a_crashed_run_is_taken_down(units):
    crashed(units, "# owner: pid 7 started 77 namespace 42")
    assert clean_leftovers(units, units.machine.door()) == (SCOPE,)
    assert os.listdir(units.unit_folder) == []


def test_a_live_neighbour_is_left_alone(units):
    neighbour = units.machine.spawn("a) S 1 (b", "")
    crashed(units, f"# owner: pid {neighbour.pid} started 77 namespace 42")
    assert clean_leftovers(units, units.machine.door()) == ()
    assert len(os.listdir(units.unit_folder)) == 3


def test_a_process_that_got_the_number_of_the_owner_later_is_not_the_owner(units):
    other = units.machine.spawn("other", "")
    crashed(units, f"# owner: pid {other.pid} started 76 namespace 42")
    assert clean_leftovers(units, units.machine.door()) == (SCOPE,)


@pytest.mark.parametrize("line", ["# owner: pid 7 started 77 namespace 41", "[Slice]", "# owner: pid 7 started 77"])
def test_what_cannot_be_told_is_a_crash_only_when_it_is_old(units, line):
    crashed(units, line, hours=1.9)
    assert clean_leftovers(units, units.machine.door()) == ()
    crashed(units, line, hours=2.1)
    assert clean_leftovers(units, units.machine.door()) == (SCOPE,)


@pytest.mark.parametrize("name", ["cgpf", "cgpfx123456789ab", "cgpf0123456789abc", "app"])
def test_slices_of_others_are_none_of_ours(units, name):
    crashed(units, "# owner: pid 7 started 77 namespace 42", hours=9, name=name)
    assert clean_leftovers(units, units.machine.door()) == ()
    assert len(os.listdir(units.unit_folder)) == 3


def test_a_file_that_goes_meanwhile_is_no_leftover(units):
    os.symlink("/nowhere", os.path.join(units.unit_folder, f"{SCOPE}.slice"))
    assert clean_leftovers(units, units.machine.door()) == ()


def test_without_a_folder_there_are_no_leftovers(units):
    units.unit_folder = "/nowhere/at/all"
    assert clean_leftovers(units, units.machine.door()) == ()


def test_a_leftover_that_stays_is_an_error(units):
    crashed(units, "# owner: pid 7 started 77 namespace 42")
    units.active = lambda scope, suffix="": [f"{scope}.slice"] if not suffix else []
    with pytest.raises(HostError, match="still exists"):
        clean_leftovers(units, units.machine.door())


def test_folders_of_the_crashed_run_go_and_those_of_others_stay(units, tmp_path, monkeypatch):
    """The folder for temporary files is the system's: only by its variable can it be another one."""
    top = tmp_path / "tmp"
    monkeypatch.setattr(tempfile, "tempdir", str(top))
    for name in (f"{SCOPE}-abc", "cgpf111111111111-x", "other"):
        (top / name / "deep").mkdir(parents=True)
    if os.geteuid() == 0:
        (top / f"{SCOPE}-theirs").mkdir()
        os.chown(top / f"{SCOPE}-theirs", 4242, 4242)
    crashed(units, "# owner: pid 7 started 77 namespace 42")
    clean_leftovers(units, units.machine.door())
    theirs = [f"{SCOPE}-theirs"] if os.geteuid() == 0 else []
    assert sorted(os.listdir(top)) == sorted([*theirs, "cgpf111111111111-x", "other"])


# --- the finding ----------------------------------------------------------------------------------------------


def test_nothing_left_is_a_pass_that_says_so():
    found = cleanup_finding(Rest())
    assert (found.code, found.status, found.remedies) == ("CGP510", Status.PASS, ())


def test_what_is_left_is_named():
    left = tuple(f"/run/systemd/system/cgpf{number}.slice" for number in range(9))
    found = cleanup_finding(Rest(left=left))
    assert found.status is Status.FAIL
    assert "left 9 unit(s)" in found.message
    assert left[0] in found.message
    assert found.remedies
