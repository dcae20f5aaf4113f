"""`run --package` as it is called: what is refused before anything boots, and what goes into the guest."""

import argparse
import json

import pytest

from cgroup_preflight.cli import package_run
from cgroup_preflight.core.report import Status
from cgroup_preflight.packages.selection import applied, loaded, select
from cgroup_preflight.plan.build import build_plan
from tests.unit.cli.calling import call
from tests.unit.core.making import config_of
from tests.unit.packages.making import CONFIG, SERVICE, UNITS, config, control, deb

TEXT = f'{CONFIG}[project]\nname = "shop"\n'
calls = pytest.mark.starts_processes


def put(folder, name="user-api.deb", **fields):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(deb({f"{UNITS}/user-api.service": SERVICE}, control(**fields)))
    return str(folder / name)


@calls
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["--engine", "systemd"],
            "a package is installed in a guest only, and the engine systemd would install it on this host",
        ),
        (["--engine", "user"], "would install it on this host"),
        (["--previous", "old.deb"], "there is no package to upgrade to"),
        (["--inject", "always"], "a package that was tested must stay as it is"),
        (["--package", "absent.deb"], "absent.deb: cannot read the package"),
    ],
)
def test_a_wrong_call_is_one_line_and_nothing_runs(tmp_path, words, text):
    put(tmp_path)
    called = call(tmp_path, "run", *words, config=TEXT)
    assert called.status == 2
    assert text in called.err
    assert called.out == ""


@calls
def test_smoke_does_not_install_packages(tmp_path):
    put(tmp_path)
    called = call(tmp_path, "smoke", config=TEXT)
    assert (called.status, "only `run` installs packages" in called.err) == (2, True)


@calls
def test_a_package_takes_a_guest_whatever_the_host_is_like(tmp_path):
    put(tmp_path)
    called = call(tmp_path, "run", "--format", "json", config=TEXT)
    assert called.status == 3
    (guest,) = [item for item in json.loads(called.out)["findings"] if item["code"] == "CGP512"]
    assert guest["status"] == "unverified"
    # Nothing was tested, so no file is called tested.
    assert "CGP520" not in called.out


def packed(folder, text=CONFIG, named=(), previous=()):
    made = config(folder, text)
    selection = select(made, named, previous)
    return package_run.PackageRun(selection=selection, config=applied(made, selection))


def test_the_guest_gets_the_files_under_plain_names_and_time_for_each_step(tmp_path):
    new, old = put(tmp_path, version="2"), put(tmp_path, "old name;.deb", version="1")
    run = packed(tmp_path, named=[new], previous=[old])
    made = package_run.guest_packages(run, build_plan(run.config))
    assert made.inputs == {"packages/0.deb": new, "packages/1.deb": old}
    (word,) = made.words
    again = loaded(word.removeprefix("--selection="))
    assert [item.real for item in again.files] == [
        "/run/preflight/in/packages/0.deb",
        "/run/preflight/in/packages/1.deb",
    ]
    alone = package_run.guest_packages(packed(tmp_path), build_plan(run.config))
    assert (made.seconds, alone.seconds) == (60 + 7 * 120, 60 + 3 * 120)


def test_services_outside_of_the_packages_are_named(tmp_path):
    text = CONFIG.replace('package = "user-api.deb"', 'binary = "x"') + '[services.worker]\nbinary = "worker"\n'
    whole = config_of(text, folder=str(tmp_path))
    run = packed(tmp_path, text, named=[put(tmp_path)])
    plan = build_plan(run.config)
    found = package_run.notes(run, whole, plan, tested=True)
    assert [(item.code, item.subject, item.status) for item in found] == [
        ("CGP520", "user-api", Status.WARN), ("CGP520", "worker", Status.SKIP)
    ]  # fmt: skip
    assert [item.subject for item in package_run.notes(run, whole, plan, tested=False)] == ["worker"]


@pytest.mark.parametrize(
    ("network", "packages"), [("true", ("kept", "libevent", "redis", "libold")), ("false", ("kept",))]
)
def test_the_image_gets_the_dependencies_only_where_a_network_is_allowed(tmp_path, network, packages):
    new = put(tmp_path, version="2", Depends="libevent (>= 2), redis | valkey", Pre_Depends="user-api")
    old = put(tmp_path, "old.deb", version="1", Depends="libold")
    made = config(tmp_path, f'{CONFIG}[target]\nnetwork = {network}\npackages = ["kept"]\n')
    args = argparse.Namespace(inside=False, package=[new], previous=[old], inject=None, service=[])
    assert package_run.prepare(args, made, "auto").config.target.packages == packages
