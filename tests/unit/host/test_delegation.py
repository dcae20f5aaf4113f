"""Whose a cgroup is: the files that can be written, and the mark of systemd."""

import dataclasses
import errno

import pytest

from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.host.delegation import DELEGATED, LEAF, ask_systemd, read_place
from cgroup_preflight.host.gather import gather
from tests.unit.host.fabricate import RUNNING, FakeFs, FakeRunner, host

SCOPE = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope"
CONTAINER = "/"


def machine(own: str = SCOPE, *, systemd: bool = True, kind: str = "domain"):
    files = host(1000, cgroup=f"0::{own}\n", **({} if systemd else {"booted": None, "comm": "init\n"}))
    folder = f"/sys/fs/cgroup{own.rstrip('/')}"
    files |= {f"{folder}/cgroup.controllers": "cpu memory pids\n", f"{folder}/cgroup.subtree_control": "\n",
              f"{folder}/cgroup.type": f"{kind}\n"}  # fmt: skip
    fs = FakeFs(files)
    return fs, gather(fs, FakeRunner(RUNNING))


class Marks:
    """Extended attributes by folder; of those in `denied` nothing can be read."""

    def __init__(self, *marked: str, denied: bool = False) -> None:
        self.marked, self.denied, self.asked = marked, denied, []

    def __call__(self, path, name):
        self.asked.append(path)
        if self.denied:
            return Missing(source=path, why=Why.UNSUPPORTED, errno=errno.EOPNOTSUPP)
        if name == "user.delegate" and path in self.marked:
            return Known(value=b"1", source=f"{path} {name}")
        return Missing(source=path, why=Why.ABSENT)


def place(own=SCOPE, named="", *, marks=None, writable=lambda _path: True, ask=None, **changes):
    fs, facts = machine(own, **changes)
    return read_place(fs, facts, named, writable=writable, attribute=marks or Marks(), ask=ask)


def test_a_scope_with_the_mark_is_the_jobs_own():
    found = place(marks=Marks(f"/sys/fs/cgroup{SCOPE}"))
    assert (found.path, found.unit, found.marked.value, found.denied, found.named) == (SCOPE, "run-1.scope", True, (), False)  # fmt: skip
    assert found.level.controllers.value == {"cpu", "memory", "pids"}


def test_a_scope_below_a_delegated_manager_is_that_managers():
    """The mark of user@1000.service does not count for the units that this manager makes."""
    marks = Marks("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service")
    assert place(marks=marks).marked.value is False


def test_a_cgroup_that_the_job_made_in_its_scope_is_judged_by_the_scope():
    found = place(f"{SCOPE}/inner", marks=Marks(f"/sys/fs/cgroup{SCOPE}"))
    assert (found.path, found.unit, found.marked.value) == (f"{SCOPE}/inner", "run-1.scope", True)


def test_without_systemd_no_mark_is_needed():
    marks = Marks()
    found = place("/", systemd=False, marks=marks)
    assert (found.path, found.unit, found.marked.value, marks.asked) == ("", "", True, [])


def test_the_root_of_a_host_with_systemd_is_systemds():
    assert place("/").marked.value is False


def test_attributes_that_cannot_be_read_are_no_answer():
    assert isinstance(place(marks=Marks(denied=True)).marked, Missing)


@pytest.mark.parametrize("version", [249, 252])
@pytest.mark.parametrize(("said", "value"), [("Delegate=yes", True), ("Delegate=no", False), ("", None)])
def test_the_manager_of_a_user_is_asked_because_it_marks_nothing(said, value, version):
    fs, facts = machine()
    facts = dataclasses.replace(facts, systemd_version=Known(value=version, source="systemd"))
    runner = FakeRunner({"systemctl --user show --property=Delegate -- run-1.scope": (0, f"{said}\n")})
    found = read_place(fs, facts, writable=lambda _path: True, attribute=Marks(), ask=ask_systemd(runner))
    assert value_or(found.marked, None) is value
    assert len(runner.asked) == 1


@pytest.mark.parametrize(("version", "value"), [(249, True), (252, False)])
def test_the_systems_manager_is_asked_if_it_is_too_old_to_mark_a_unit(version, value):
    fs, facts = machine("/system.slice/ci.service")
    facts = dataclasses.replace(facts, systemd_version=Known(value=version, source="systemd"))
    runner = FakeRunner({"systemctl show --property=Delegate -- ci.service": (0, "Delegate=yes\n")})
    found = read_place(fs, facts, writable=lambda _path: True, attribute=Marks(), ask=ask_systemd(runner))
    assert found.marked.value is value


@pytest.mark.parametrize(("said", "value"), [("Delegate=yes", True), ("Delegate=no", False), ("", None)])
def test_systemd_is_asked_where_no_mark_can_be_read(said, value):
    """As on another machine without getfattr(1)."""
    fs, facts = machine("/system.slice/ci.service")
    facts = dataclasses.replace(facts, systemd_version=Known(value=257, source="systemd"))
    runner = FakeRunner({"systemctl show --property=Delegate -- ci.service": (0, f"{said}\n")})
    marks = Marks(denied=True)
    found = read_place(fs, facts, writable=lambda _path: True, attribute=marks, ask=ask_systemd(runner))
    assert value_or(found.marked, None) is value


@pytest.mark.parametrize("name", DELEGATED)
def test_each_of_the_three_files_counts(name):
    found = place(writable=lambda path: not path.endswith(name))
    assert found.denied == (name,)


def test_the_folder_counts_too():
    folder = f"/sys/fs/cgroup{SCOPE}"
    assert place(writable=lambda path: path != folder).denied == (folder,)


def test_the_leaf_of_a_run_that_crashed_is_not_the_base():
    assert place(f"{SCOPE}/{LEAF}", marks=Marks(f"/sys/fs/cgroup{SCOPE}")).path == SCOPE


@pytest.mark.parametrize(
    ("named", "path"),
    [("/sys/fs/cgroup/a/b", "/a/b"), ("/a/b", "/a/b"), ("a/b/", "/a/b"), ("/sys/fs/cgroup", ""), ("/", ""),
     ("/a/../b", "/b"), ("/sys/fs/cgroup/../x", "/sys/fs/x")],
)  # fmt: skip
def test_a_cgroup_can_be_named_by_its_folder_or_its_path(named, path):
    found = place("/job", named, systemd=False)
    assert (found.path, found.named) == (path, True)


@pytest.mark.parametrize(
    ("own", "named", "closed", "unreachable"),
    [
        ("/session", "/given", "", "/"),
        ("/top/session", "/top/given", "/top", "/top"),
        ("/given", "/given/inner", "/given", "/given"),
        ("/given/inner", "/given", "", ""),
    ],
)
def test_a_cgroup_that_no_process_of_this_job_can_be_moved_to(own, named, closed, unreachable):
    fs, facts = machine(own, systemd=False)
    path = f"/sys/fs/cgroup{closed}/cgroup.procs"
    found = read_place(fs, facts, named, writable=lambda name: name != path, attribute=Marks())
    assert found.unreachable == unreachable


def test_a_job_outside_of_the_mount_has_no_place():
    fs, facts = machine()
    assert read_place(fs, dataclasses.replace(facts, own=()), attribute=Marks()) is None
