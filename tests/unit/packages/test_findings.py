"""How steps, starts, upgrades and removals are judged, both ways; and which reports of a guest are no pass."""

from dataclasses import replace

import pytest

from cgroup_preflight.core import codes
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.core.report import Status
from cgroup_preflight.packages import findings as judged
from cgroup_preflight.packages.leftovers import Leftovers
from cgroup_preflight.packages.readings import InstalledReading
from cgroup_preflight.packages.selection import Selected, applied, select
from cgroup_preflight.packages.steps import Done
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.expect import HostNumbers, expectations
from cgroup_preflight.smoke.limits import LimitReading
from tests.unit.packages.making import CONFIG, SERVICE, UNITS, config, package

NUMBERS = HostNumbers(page_size=4096, memory_bytes=1 << 30, tasks_max=1000)
UNIT = "user-api.service"


def made(folder, kind="", previous=False):
    """Selection and plan of the package of one service."""
    file = package(folder)
    if kind:
        from tests.unit.packages.making import deb

        file = package(folder, deb({f"{UNITS}/{UNIT}": SERVICE.replace("[Service]\n", f"[Service]\nType={kind}\n")}))
    selection = select(config(folder), (), ())
    if previous:
        selection = replace_selection(selection, file)
    return selection, build_plan(applied(config(folder), selection))


def replace_selection(selection, file):
    from cgroup_preflight.core.records import replace as changed

    return changed(selection, packages=(Selected(package=file, previous=file),))


def reading(service, value=96 << 20, state="active (running, loaded)", **changes):
    expected = expectations(service.settings, NUMBERS)
    limits = tuple(
        LimitReading(unit=UNIT, file=f"api.slice/{UNIT}/{item.attribute}", expected=item, enabled=True,
                     actual=Known(value=f"{value}\n", source="x") if value else Missing(source="x", why=Why.ABSENT))
        for item in expected
    )  # fmt: skip
    how = {
        "invocation": "1",
        "place": f"/api.slice/{UNIT}",
        "expected_place": f"/api.slice/{UNIT}",
        "needs_reload": False,
        **changes,
    }
    return InstalledReading(label="user-api", unit=UNIT, state=state, limits=limits, **how)


def done(status=0, *output, what="installation", seconds=1.0):
    return Done(what=what, status=status, output=output, seconds=seconds)


@pytest.fixture
def service(tmp_path):
    return made(tmp_path)[1].services[0]


def test_an_installation_passes_and_says_what_was_received(tmp_path):
    found = judged.install_finding([package(tmp_path)], done(), ["aa"])
    assert (found.status, found.subject, found.evidence["received"]) == (Status.PASS, "user-api", "aa")


FAILED = (
    "Setting up shop (1.0) ...", "cannot reach the database",
    "dpkg: error processing package shop (--install):", " installed shop package post-installation script subprocess returned error exit status 3",
    "Errors were encountered while processing:", " shop",
)  # fmt: skip


def test_a_failed_script_is_told_with_its_words(tmp_path):
    found = judged.install_finding([package(tmp_path)], done(1, *FAILED))
    assert found.status is Status.FAIL
    assert found.message.startswith(
        "the installation failed with status 1 at shop: cannot reach the database / dpkg: error"
    )
    assert "exit status 3" in found.message
    assert found.evidence["output"] == "\n".join(FAILED)


def test_a_script_that_hangs_is_told_with_its_last_words(tmp_path):
    found = judged.install_finding(
        [package(tmp_path)], done(None, "Setting up shop (1.0) ...", "waiting", seconds=15.2)
    )
    assert found.message == "the installation did not end within 15 s at shop; its output so far ends with: waiting"
    silent = judged.install_finding([package(tmp_path)], done(None, seconds=15.2))
    assert silent.message.endswith("ends with: nothing")


def start(service, early, late=None, refused="", log=(), by_script=True):
    return judged.start_finding(service, (early, late or early), refused, log, by_script=by_script)


def test_a_service_with_its_limits_twice_passes(service):
    found = start(service, reading(service))
    assert (found.status, found.subject) == (Status.PASS, "user-api")
    assert found.message == f"its package started it in /api.slice/{UNIT}: 1 limits are in force, read twice"
    assert "started as installed" in start(service, reading(service), by_script=False).message


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ({"value": 64 << 20}, {}),
        ({}, {"value": 64 << 20}),
        ({"value": 0}, {}),
        ({}, {"place": f"/system.slice/{UNIT}"}),
    ],
)
def test_a_wrong_limit_or_place_at_either_moment_fails(service, early, late):
    assert start(service, reading(service, **early), reading(service, **late)).status is Status.FAIL


def test_a_service_that_systemd_refuses_fails_with_its_words_and_its_log(service):
    found = start(
        service, reading(service, state="failed (failed, loaded)", value=0), refused="Unit x is masked.", log=["line"]
    )
    assert (found.status, found.evidence["log"]) == (Status.FAIL, "line")
    assert found.message == f"systemd does not start {UNIT} as it is installed: Unit x is masked."
    ended = start(service, reading(service, state="inactive (dead, loaded)", value=0))
    assert (ended.status, "inactive (dead, loaded)" in ended.message) == (Status.FAIL, True)


_ENDED, _FAILED = "inactive (dead, loaded)", "failed (failed, loaded)"


@pytest.fixture(params=["oneshot", "exit"])
def job(request, tmp_path):
    """A service that ends by itself: by its unit, or by the config alone."""
    if request.param == "oneshot":
        return made(tmp_path, "oneshot")[1].services[0]
    file = package(tmp_path)
    changed = config(tmp_path, CONFIG + 'smoke.ready = "exit"\n')
    assert file.services
    return build_plan(applied(changed, select(changed, (), ()))).services[0]


def test_only_a_job_may_have_ended(job, service):
    gone = reading(job, state=_ENDED, value=0)
    assert start(job, gone).status is Status.SKIP
    assert start(job, reading(job), gone).status is Status.SKIP
    assert start(job, gone, refused="no").status is Status.FAIL
    assert start(job, reading(job, state=_FAILED, value=0)).status is Status.FAIL
    assert start(job, reading(job, value=64 << 20), gone).status is Status.FAIL, "while it ran it had another limit"
    found = start(service, reading(service), reading(service, state=_ENDED))
    assert (found.status, "a moment after it was started" in found.message) == (Status.FAIL, True)


def upgrade(service, old=None, new=None, refused="", systemd=252):
    pair = (old or reading(service), new or reading(service))
    return judged.upgrade_finding(service, pair, refused, systemd, done(what="upgrade"))


def test_an_upgrade_that_applies_the_limits_passes(service):
    found = upgrade(service, reading(service, 48 << 20), reading(service, invocation="2"))
    assert (found.status, "was started again" in found.message) == (Status.PASS, True)
    assert "ran on" in upgrade(service).message


@pytest.mark.parametrize(
    ("new", "systemd", "cause"),
    [
        ({"needs_reload": True}, 257, "systemd has not loaded the new unit files"),
        ({}, 257, "systemd 257 keeps the old limits of running units in the kernel after a daemon-reload"),
        ({}, 252, "the kernel has other limits than the config after a daemon-reload"),
        ({"invocation": "2"}, 257, "the new package has other limits than the config"),
    ],
)
def test_old_limits_after_an_upgrade_fail_with_their_cause_and_a_remedy(service, new, systemd, cause):
    found = upgrade(service, reading(service, 48 << 20), reading(service, 48 << 20, **new), systemd=systemd)
    assert found.status is Status.FAIL
    assert f"memory.max is '{48 << 20}', expected '{96 << 20}'" in found.message
    assert cause in found.message
    assert "set-property" in found.remedies[0].title


def test_a_service_that_the_upgrade_stops_fails_and_one_that_never_ran_proves_nothing(service):
    dead = reading(service, state="failed (failed, loaded)", value=0)
    assert upgrade(service, new=dead).status is Status.FAIL
    assert upgrade(service, old=dead).status is Status.UNVERIFIED
    assert upgrade(service, refused="no such unit").status is Status.UNVERIFIED


def removal(folder, left=None, steps=None, when=""):
    return judged.removal_finding(
        [package(folder)],
        steps or (done(what="removal"), done(what="purge")),
        left or Leftovers(),
        when,
        {"install": 1.25},
    )


@pytest.mark.parametrize(
    ("left", "status", "words"),
    [
        ({}, Status.PASS, "nothing of it is left"),
        ({"accounts": ("user shop",), "slices": ("api.slice (active)",)}, Status.PASS, "user shop may stay"),
        ({"data": ("/var/lib/shop/data",)}, Status.WARN, "/var/lib/shop/data"),
        ({"files": ("/etc/shop.conf",)}, Status.FAIL, "files: /etc/shop.conf"),
        ({"units": ("shop.service (failed)",)}, Status.FAIL, "units: shop.service (failed)"),
        ({"processes": ("7 (shop)",)}, Status.FAIL, "processes: 7 (shop)"),
        ({"files": tuple(f"/usr/{number}" for number in range(10))}, Status.FAIL, "and 2 more"),
    ],
)
def test_what_is_left_decides(tmp_path, left, status, words):
    found = removal(tmp_path, Leftovers(**left))
    assert (found.status, words in found.message) == (status, True)


def test_a_removal_or_purge_that_fails_is_a_fail(tmp_path):
    assert removal(tmp_path, steps=(done(1, "prerm: no", what="removal"), done(what="purge"))).message.startswith(
        "the removal failed"
    )
    assert removal(tmp_path, steps=(done(what="removal"), done(None, what="purge"))).status is Status.FAIL


def test_the_file_and_whose_limits_are_named(tmp_path):
    selection, plan = made(tmp_path, previous=True)
    (warned,) = judged.package_findings(selection, plan, ("api.slice",))
    assert (warned.status, warned.code) == (Status.WARN, "CGP520")
    file = selection.packages[0].package
    assert warned.evidence["sha256"] == file.sha256 == warned.evidence["previous sha256"]
    assert "it has no limits for api.slice" in warned.message
    (passed,) = judged.package_findings(selection, plan, ())
    assert (passed.status, file.sha256 in passed.message) == (Status.PASS, True)


def complete(selection, plan):
    """The findings of a pass."""
    files = [item.package for item in selection.packages]
    service = plan.services[0]
    return [
        judged.install_finding(files, done(), [item.sha256 for item in files]),
        start(service, reading(service)),
        upgrade(service),
        judged.removal_finding(files, (done(), done()), Leftovers(), "", {}),
    ]


def test_a_complete_pass_is_believed(tmp_path):
    selection, plan = made(tmp_path, previous=True)
    assert judged.contradiction(selection, plan, complete(selection, plan)) == ""


@pytest.mark.parametrize(
    ("missing", "words"), [(0, "installation"), (1, "start of user-api"), (2, "upgrade of user-api"), (3, "removal")]
)
def test_a_pass_without_a_step_is_none(tmp_path, missing, words):
    selection, plan = made(tmp_path, previous=True)
    seen = complete(selection, plan)
    assert words in judged.contradiction(selection, plan, [*seen[:missing], *seen[missing + 1 :]])
    skipped = replace(seen[missing], status=Status.SKIP)
    assert words in judged.contradiction(selection, plan, [*seen[:missing], skipped, *seen[missing + 1 :]])


def test_a_pass_of_another_file_is_none(tmp_path):
    selection, plan = made(tmp_path)
    seen = complete(selection, plan)
    other = replace(seen[0], evidence={"received": "0" * 64})
    assert "installation" in judged.contradiction(selection, plan, [other, *seen[1:]])
    assert codes.PACKAGE_INSTALL.code == "CGP521"


def test_a_oneshot_may_be_skipped_as_installed(tmp_path):
    selection, plan = made(tmp_path, "oneshot")
    seen = complete(selection, plan)
    skipped = replace(seen[1], status=Status.SKIP)
    assert judged.contradiction(selection, plan, [seen[0], skipped, seen[3]]) == ""
