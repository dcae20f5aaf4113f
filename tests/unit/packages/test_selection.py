"""Which service comes from which package, under which unit; and every mistake in one line."""

import json

import pytest

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Status
from cgroup_preflight.guest.spec import GuestError
from cgroup_preflight.packages.added_limits import added_files, added_units
from cgroup_preflight.packages.before_boot import require_system
from cgroup_preflight.packages.selection import applied, dumped, loaded, select
from cgroup_preflight.plan.build import build_plan
from tests.unit.core.making import mistakes_of
from tests.unit.packages.making import CONFIG, SERVICE, UNITS, config, control, deb, release

UNIT = f"{UNITS}/user-api.service"
TWO = CONFIG + '[services.worker]\nbinary = "dist/worker"\n'


def put(folder, file="user-api.deb", files=None, **fields):
    path = folder / file
    path.write_bytes(deb(files or {UNIT: SERVICE}, control(**fields)))
    return str(path)


def refused(folder, text=CONFIG, named=(), previous=()):
    with pytest.raises(UsageError) as error:
        select(config(folder, text), named, previous)
    assert "\n" not in str(error.value)
    return f"{error.value} | {error.value.remedy.title}"


def test_a_config_without_packages_selects_none(tmp_path):
    assert select(config(tmp_path, '[services.a]\nbinary = "a"\n'), (), ()) is None


def test_a_package_of_the_config_gives_its_service_the_installed_unit(tmp_path):
    put(tmp_path)
    made = config(tmp_path, CONFIG.replace('slice = "api"', 'slice = "api"\nbinary = "dist/x"'))
    selection = select(made, (), ())
    assert (dict(selection.units), dict(selection.owners)) == (
        {"user-api": "user-api.service"},
        {"user-api": "user-api"},
    )
    (service,) = applied(made, selection).services
    assert (service.binary, service.unit, service.source.program) == ("", "user-api.service", "/usr/bin/user-api")
    (planned,) = build_plan(applied(made, selection)).services
    assert (planned.unit, planned.binary) == ("user-api.service", "/usr/bin/user-api")


def test_the_command_line_tests_the_services_of_its_packages_alone(tmp_path):
    made = config(tmp_path, TWO.replace('package = "user-api.deb"', 'binary = "dist/user-api"'))
    selection = select(made, [put(tmp_path)], ())
    assert [item.name for item in applied(made, selection).services] == ["user-api"]
    # A config that names packages runs its other services, too.
    assert [item.name for item in applied(config(tmp_path, TWO), select(config(tmp_path, TWO), (), ())).services] == ["user-api", "worker"]  # fmt: skip


def test_one_unit_of_another_name_is_that_of_the_only_service(tmp_path):
    put(tmp_path, files={f"{UNITS}/shopd.service": SERVICE})
    assert dict(select(config(tmp_path), (), ()).units) == {"user-api": "shopd.service"}


def test_a_template_gets_its_instance_and_both_kinds_of_drop_ins(tmp_path):
    files = {
        f"{UNITS}/user-api@.service": SERVICE, f"{UNITS}/user-api@.service.d/5.conf": "[Service]\nTasksMax=5\n",
        f"{UNITS}/user-api@blue.service.d/6.conf": "[Service]\nTasksMax=6\n", f"{UNITS}/user-api@.socket": "[Socket]\n",
    }  # fmt: skip
    put(tmp_path, files=files)
    made = config(
        tmp_path, CONFIG.replace('slice = "api"', 'slice = "api"\nunit = "user-api@.service"\ninstance = "blue"')
    )
    (service,) = applied(made, select(made, (), ())).services
    assert service.source.name == "user-api@blue.service"
    assert [item.value for item in service.source.lines if item.key == "TasksMax"] == ["5", "6"]
    assert [item.path for item in service.source.socket] == [f"/{UNITS}/user-api@.socket"]


def test_etc_wins_over_usr_and_the_socket_comes_along(tmp_path):
    files = {
        UNIT: SERVICE, "etc/systemd/system/user-api.service": SERVICE.replace("64M", "65M"),
        f"{UNITS}/user-api.socket": "[Socket]\nListenStream=1\n",
    }  # fmt: skip
    put(tmp_path, files=files)
    (service,) = applied(config(tmp_path), select(config(tmp_path), (), ())).services
    assert service.source.last("MemoryMax") == "65M"
    assert len(service.source.socket) == 1


def test_the_older_package_is_found_by_its_name(tmp_path):
    new, old = put(tmp_path, version="2"), put(tmp_path, "old.deb", version="1")
    (pair,) = select(config(tmp_path), [new], [old]).packages
    assert (pair.package.version, pair.previous.version) == ("2", "1")


def test_the_older_archive_has_another_name(tmp_path):
    for version in "12":
        (tmp_path / f"shop-{version}.tar.gz").write_bytes(release({f"shop-{version}/{UNIT}": SERVICE}))
    (pair,) = select(config(tmp_path), [str(tmp_path / "shop-2.tar.gz")], [str(tmp_path / "shop-1.tar.gz")]).packages
    assert (pair.package.prefix, pair.previous.prefix) == ("shop-2", "shop-1")


@pytest.mark.parametrize(
    ("files", "fields", "words"),
    [
        ({"usr/bin/x": "x"}, {}, "the package has no service unit"),
        ({UNIT: SERVICE}, {"machine": "arm64"}, "the package is for arm64, and a guest runs amd64"),
        ({f"{UNITS}/a.service": SERVICE, f"{UNITS}/b.service": SERVICE}, {},
         'has no unit user-api.service for the service user-api; its service units are a.service, b.service'),
    ],
)  # fmt: skip
def test_a_package_that_cannot_be_tested_says_why(tmp_path, files, fields, words):
    put(tmp_path, files=files, **fields)
    assert words in refused(tmp_path)


def test_wrong_calls_say_why(tmp_path):
    one, other = put(tmp_path), put(tmp_path, "b.deb", {f"{UNITS}/b.service": SERVICE}, name="b")
    assert "user-api is named twice" in refused(tmp_path, named=[one, put(tmp_path, "copy.deb")])
    assert "it is a package b, and none of that name is to be installed" in refused(
        tmp_path, named=[one], previous=[other]
    )
    assert "none of its units is a service of the config" in refused(tmp_path, named=[other])
    assert "cannot read the package: No such file" in refused(tmp_path, named=[str(tmp_path / "absent.deb")])


def test_a_link_out_of_the_folder_of_the_config_is_refused(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "user-api.deb").symlink_to(put(tmp_path))
    assert "outside of the folder of the config" in refused(home)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('previous = "a.deb"\nbinary = "x"', "there is no package to upgrade to"),
        ('package = "a.deb"\nunit = "deploy/a.service"', "is a file, and the service is installed from a package"),
        ('package = "a.deb"\nsmoke.args = ["x"]', "the unit has the arguments of its program"),
        ('slice = "api"', "has neither binary nor unit nor package"),
    ],
)
def test_mistakes_of_the_config_are_named(more, words):
    found = mistakes_of(f"[slices.api]\n[services.a]\n{more}\n")
    assert any(words in item.message and item.status is Status.FAIL for item in found), found


def test_what_the_guest_gets_says_the_same(tmp_path):
    new, old = put(tmp_path, version="2"), put(tmp_path, "old.deb", version="1")
    selection = select(config(tmp_path), [new], [old])
    text = dumped(selection, {item.real: f"/in/{number}" for number, item in enumerate(selection.files)})
    again = loaded(text)
    assert [item.real for item in again.files] == ["/in/0", "/in/1"]
    assert (again.units, again.owners, again.alone) == (selection.units, selection.owners, True)
    assert applied(config(tmp_path), again) == applied(config(tmp_path), selection)
    assert str(tmp_path) not in json.dumps([json.loads(text)["packages"][0]["package"]["real"]])


OWN = {f"{UNITS}/user-api.service.d/10-cgroup-preflight-user-api.conf": "[Service]\n"}
SHARED = {f"{UNITS}/api.slice.d/10-cgroup-preflight-user-api.conf": "[Slice]\n"}


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ({}, ("user-api.service", "api.slice")),
        (OWN, ("api.slice",)),
        ({**OWN, **SHARED}, ()),
        # The unit sets it all itself, or not quite.
        ({UNIT: f"{SERVICE}MemoryMax=96M\nSlice=api.slice\n", **SHARED}, ()),
        ({UNIT: f"{SERVICE}MemoryMax=100663296\nSlice=api.slice\n", **SHARED}, ()),
        ({UNIT: f"{SERVICE}Slice=api.slice\n", **SHARED}, ("user-api.service",)),
        ({UNIT: f"{SERVICE}MemoryMax=96M\nSlice=other.slice\n", **SHARED}, ("user-api.service",)),
        ({**OWN, f"{UNITS}/api.slice": "[Slice]\nTasksMax=100\n"}, ()),
        ({**OWN, f"{UNITS}/api.slice.d/mine.conf": "[Slice]\nTasksMax=100\n"}, ()),
        ({**OWN, f"{UNITS}/api.slice": "[Slice]\nTasksMax=lots\n"}, ("api.slice",)),
        ({**OWN, f"{UNITS}/api.slice": "[Slice]\nTasksMax=101\n"}, ("api.slice",)),
    ],
)
def test_the_run_adds_the_limits_that_the_package_lacks(tmp_path, files, missing):
    put(tmp_path, files={UNIT: SERVICE, **files})
    selection = select(config(tmp_path), (), ())
    plan = build_plan(applied(config(tmp_path), selection))
    assert [item.path.partition(".d/")[0] for item in added_files(plan, selection)] == list(missing)
    assert added_units(plan, selection) == missing


def required(folder, status="", target="", named=(), previous=()):
    made = config(folder, f"{CONFIG}{target}")
    require_system(select(made, named, previous), made, status, "debian-12")


def test_missing_dependencies_are_named_at_once_with_the_line_that_helps(tmp_path):
    new = put(tmp_path, version="2", Depends="libc6, libevent-2.1-7 (>= 2), redis-server | valkey")
    old = put(tmp_path, "old.deb", version="1", Depends="libold")
    with pytest.raises(GuestError) as lacking:
        required(tmp_path, "Package: libc6\nStatus: install ok installed\nVersion: 2\n", named=[new], previous=[old])
    assert lacking.value.what == (
        "the debian-12 guest lacks packages that the tested ones depend on: libevent-2.1-7 (>= 2) (of user-api), "
        "redis-server | valkey (of user-api), libold (of user-api); nothing was installed"
    )
    assert (
        lacking.value.remedy.title
        == 'write below [target] in the config: packages = ["libevent-2.1-7", "redis-server", "libold"]'
    )


def test_packages_that_need_nothing_more_pass(tmp_path):
    put(tmp_path, Depends="libc6 (>= 2)")
    required(tmp_path, "Package: libc6\nStatus: install ok installed\nVersion: 2\n")


def test_two_packages_that_conflict_are_refused(tmp_path):
    one, other = put(tmp_path), put(tmp_path, "b.deb", name="b", Conflicts="user-api")
    with pytest.raises(UsageError, match="b cannot be installed together with user-api"):
        required(tmp_path, named=[one, other], target='[services.b]\nbinary = "b"\n')
