"""When guests are taken, and what they give to the report of `run` and `smoke`: with guests that are played."""

import io
import os
import sys
from dataclasses import replace

import pytest

from cgroup_preflight.cli import guest_outside, guest_run
from cgroup_preflight.cli.progress import Progress
from cgroup_preflight.config.keys import DISTROS
from cgroup_preflight.config.model import Target
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.report import Location, Remedy, Status, Verdict
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.guest import run as guest_engine
from cgroup_preflight.guest.findings import GuestReport, GuestRun, guest_findings
from cgroup_preflight.guest.image import cache_folder
from cgroup_preflight.guest.requirements import GuestMachine
from cgroup_preflight.guest.run import GuestTask
from cgroup_preflight.guest.spec import GuestEngine, GuestError
from tests.unit.checks.contexts import context
from tests.unit.guest.played import LIMITS, config, finding, report
from tests.unit.guest.test_foreign import put
from tests.unit.host.fabricate import facts

ABLE = context(facts())
#: Nobody can start units here.
UNABLE = context(facts(systemd_running=False, pid1="tini"))


def work_of(*findings):
    """The work of this host, which finds these."""
    return guest_run.HostWork(lambda: list(findings))


REMEDY = Remedy(title="do this")
HOST_FINDINGS = (finding("CGP101", Status.FAIL, "hierarchy"), finding("CGP102", Status.PASS, "mount"))


def chosen(targets=(), engine="auto", distro="", where=UNABLE):
    return guest_run.choose_guests(list(targets), engine, config(target=Target(distro=distro)), where)


def test_the_hosts_used_here_are_what_they_seem():
    assert ABLE.engine.name == "systemd"
    assert UNABLE.engine.name is None


@pytest.mark.parametrize(
    ("targets", "engine", "distro", "where", "distros", "named", "fallback"),
    [
        ((), "auto", "", UNABLE, ("debian-12",), False, True),
        ((), "guest", "", UNABLE, ("debian-12",), False, False),
        ((), "guest", "", ABLE, ("debian-12",), False, False),
        ((), "auto", "debian-13", ABLE, ("debian-13",), True, False),
        ((), "auto", "debian-13", UNABLE, ("debian-13",), True, False),
        (("debian-12",), "auto", "debian-13", ABLE, ("debian-12",), True, False),
        (("debian-13", "debian-12", "debian-13"), "guest", "", ABLE, ("debian-13", "debian-12"), True, False),
    ],
)
def test_the_guests_that_are_taken(targets, engine, distro, where, distros, named, fallback):
    found = chosen(targets, engine, distro, where)
    assert (found.distros, found.chosen, found.fallback) == (distros, named, fallback)


@pytest.mark.parametrize(
    ("engine", "distro", "where"),
    [("auto", "", ABLE), ("systemd", "", UNABLE), ("user", "", UNABLE), ("systemd", "debian-13", UNABLE), ("user", "debian-13", ABLE)],
)  # fmt: skip
def test_an_engine_of_this_host_takes_no_guest(engine, distro, where):
    assert chosen((), engine, distro, where) is None
    assert guest_run.run_in_guests(None, config(), ("run",), (), work_of(), Progress(quiet=True)) is None


def test_a_name_that_is_no_distribution_is_an_imported_root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    put(cache_folder(os.environ), "ubuntu-24.04-0123456789abcdef")
    assert chosen(["ubuntu-24.04"]).distros == ("ubuntu-24.04",)
    assert chosen((), "auto", "ubuntu-24.04", ABLE).chosen
    for how, where in ((["debian-21"], "--target"), ([], "[target] distro")):
        with pytest.raises(UsageError, match="no distribution and no imported root 'debian-21'") as caught:
            chosen(how, "auto", "debian-21")
        assert caught.value.where == where
        assert caught.value.remedy.title.startswith("did you mean debian-1")
        assert "guest import" in caught.value.remedy.title
    # Where no guest is used, no root is missing.
    assert chosen((), "systemd", "debian-21", ABLE) is None
    assert chosen(["debian-12"], "auto", "debian-21").distros == ("debian-12",)


def test_what_an_imported_root_cannot_do_is_told_before_another_guest_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    put(cache_folder(os.environ), "ubuntu-24.04-0123456789abcdef")
    made = config(target=Target(packages=("nginx",)))
    with pytest.raises(UsageError, match=r"ubuntu-24\.04 is an imported root"):
        guest_run.choose_guests(["debian-12", "ubuntu-24.04"], "auto", made, ABLE)


@pytest.mark.parametrize(("distro", "agent"), [("debian-12", True), ("ubuntu-24.04", False)])
def test_an_imported_root_is_run_from_outside(distro, agent, monkeypatch):
    """Patched, because both would boot: only which of the two is called is seen here."""
    called = []
    monkeypatch.setattr(guest_engine, "run_task", lambda task, *_: called.append((task.distro, True)) or ran(distro))
    monkeypatch.setattr(
        guest_outside, "run_imported", lambda task, *_: called.append((task.distro, False)) or ran(distro)
    )
    choice = guest_run.GuestChoice(distros=(distro,), chosen=True, fallback=False)
    work = guest_run.HostWork(lambda: called.append("host") or [])
    found = guest_run.run_in_guests(choice, config(), ("run",), (), work, Progress(quiet=True))
    # This host runs the services in an imported root itself, and has no time for other work then.
    assert called == ([(distro, True), "host"] if agent else ["host", (distro, False)])
    assert found.decides


def test_a_run_from_here_has_the_paths_of_this_host():
    place = Location(file="deploy/shop.toml", line=3)
    made = report(LIMITS, finding("CGP511", Status.PASS, "api", location=place))
    here = GuestReport(run=ran("ubuntu-24.04", made, from_here=True, image="ubuntu-24.04-1"), label="", chosen=True,
                       config_path="deploy/shop.toml")  # fmt: skip
    assert guest_findings(here)[-1].location == place
    assert guest_findings(here)[0].evidence["image"] == "ubuntu-24.04-1"
    inside = replace(here, run=ran("debian-12", made))
    assert guest_findings(inside)[-1].location.file == "deploy/deploy/shop.toml"


@pytest.mark.parametrize("engine", ["systemd", "user"])
def test_a_target_and_an_engine_of_this_host_exclude_each_other(engine):
    with pytest.raises(UsageError, match=f"--target runs in a guest, and --engine {engine} does not") as caught:
        chosen(["debian-12"], engine)
    assert caught.value.where == "--target"


def test_the_options():
    import argparse

    parser = argparse.ArgumentParser()
    guest_run.add_target(parser)
    guest_run.add_inside(parser)
    args = parser.parse_args(["--target", "debian-13", "--target", "debian-12"])
    assert (args.target, args.inside) == (["debian-13", "debian-12"], False)
    assert parser.parse_args([]).target == []
    assert parser.parse_args(["--inside"]).inside is True
    help_text = parser.format_help()
    assert all(name in help_text for name in DISTROS)
    assert "--inside" not in help_text


# Their part of the report.


def ran(distro="debian-12", made=None, **changes: object) -> GuestRun:
    machine = GuestMachine(engine=GuestEngine.UML, cpus=1, memory_mib=256)
    run = GuestRun(
        report=made or report(), machine=machine, distro=distro, fence="landlock 7", lost_boot="", seconds={}
    )
    return replace(run, **changes)


def part(outcomes, *, distros=("debian-12",), named=False, fallback=False, host=HOST_FINDINGS):
    """The part of guests that end with `outcomes`, each a run or an error."""
    left, tasks = list(outcomes), []

    def run(task):
        tasks.append(task)
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    choice = guest_run.GuestChoice(distros=distros, chosen=named, fallback=fallback)
    made = config(path="deploy/shop.toml")
    todo = [GuestTask(config=made, words=("run",), names=(), distro=distro) for distro in distros]
    found = guest_run.try_guests(todo, choice, work_of(*host), run)
    assert tasks == todo
    return found


@pytest.mark.parametrize("fallback", [True, False])
def test_a_guest_that_reports_decides_and_comes_first(fallback):
    found = part([ran()], fallback=fallback)
    assert found.decides
    where, *rest = found.findings
    assert (where.code, where.subject) == ("CGP512", "guest")
    assert where.message.startswith("Tested in a VM (Debian 12, 1 CPU, 256 MiB, no PSI), not on this machine: ")
    assert [item.subject for item in rest] == ["api", "api", "web", "web", "this host: hierarchy", "this host: mount"]
    assert [item.status for item in rest[-2:]] == [Status.WARN, Status.PASS]
    assert [(item.name, item.engine) for item in found.services] == [("api", "guest"), ("web", "guest")]
    assert found.host is not None
    assert (found.host.engine, found.host.systemd) == ("guest", "252")
    assert verdict_of(found.findings) is Verdict.PASS


def test_what_failed_in_the_guest_fails():
    bad = report(LIMITS, finding("CGP504", Status.FAIL, "api"))
    assert verdict_of(part([ran(made=bad)]).findings) is Verdict.FAIL


@pytest.mark.parametrize("fallback", [True, False])
def test_a_guest_that_was_lost_decides_that_nothing_is_proven(fallback):
    error = GuestError("debian-12 guest (uml) ended (booting)", console=("Kernel panic", "trace"), remedy=REMEDY)
    found = part([error], fallback=fallback)
    assert found.decides
    lost = found.findings[0]
    assert (lost.status, lost.subject, lost.message) == (
        Status.UNVERIFIED,
        "guest",
        "debian-12 guest (uml) ended (booting)",
    )
    assert (lost.evidence, lost.remedies) == ({"console": "Kernel panic\ntrace"}, (REMEDY,))
    assert (found.services, found.host) == ((), None)
    assert verdict_of(found.findings) is Verdict.UNVERIFIED
    assert [item.subject for item in found.findings[1:]] == ["this host: hierarchy", "this host: mount"]


ERRORS = [
    (HostError("the guest needs linux.uml", remedy=REMEDY), "no service was run: the guest needs linux.uml", "do this"),
    (FileNotFoundError(2, "No such file", "gone"), "no service was run: [Errno 2] No such file: 'gone'", "free space"),
]


@pytest.mark.parametrize(("error", "message", "remedy"), ERRORS, ids=["program", "file"])
def test_a_guest_that_cannot_be_made_is_unverified_where_it_was_named(error, message, remedy):
    found = part([error])
    assert found.decides
    assert (found.findings[0].status, found.findings[0].message) == (Status.UNVERIFIED, message)
    assert found.findings[0].remedies[0].title.startswith(remedy)
    assert [item.status for item in found.findings[1:]] == [Status.WARN, Status.PASS]
    assert verdict_of(found.findings) is Verdict.UNVERIFIED


@pytest.mark.parametrize(("error", "message", "remedy"), ERRORS, ids=["program", "file"])
def test_as_a_fallback_it_leaves_the_word_to_this_host(error, message, remedy):
    found = part([error], fallback=True)
    assert not found.decides
    (lost,) = found.findings
    assert (lost.status, lost.message) == (Status.UNVERIFIED, message)
    assert (found.services, found.host) == ((), None)


def test_several_guests_are_told_apart():
    error = GuestError("it ended", remedy=REMEDY)
    found = part([error, ran("debian-13")], distros=("debian-12", "debian-13"), named=True)
    assert found.decides
    assert [item.subject for item in found.findings] == [
        "debian-12", "debian-13", *(f"debian-13: {name}" for name in ("api", "api", "web", "web")),
        "this host: hierarchy", "this host: mount",
    ]  # fmt: skip
    assert [item.name for item in found.services] == ["debian-13: api", "debian-13: web"]
    assert verdict_of(found.findings) is Verdict.UNVERIFIED
    assert "the kernel is not that of Debian 13" in found.findings[1].message


def test_one_that_cannot_be_made_does_not_hide_the_other():
    found = part([ERRORS[0][0], ran("debian-13")], distros=("debian-12", "debian-13"), named=True)
    assert [item.subject for item in found.findings[:2]] == ["debian-12", "debian-13"]
    assert verdict_of(found.findings) is Verdict.UNVERIFIED


def test_places_are_in_the_config_as_the_user_named_it():
    placed = finding("CGP504", Status.FAIL, "api", location=Location(file="shop.toml", line=5))
    found = part([ran(made=report(LIMITS, placed))])
    (there,) = [item for item in found.findings if item.code == "CGP504"]
    assert (there.location.file, there.location.line) == ("deploy/shop.toml", 5)


def test_the_versions_of_a_chosen_distribution_count(monkeypatch):
    old = report(LIMITS, finding("CGP104", Status.FAIL, "systemd"))
    assert verdict_of(part([ran(made=old)], named=True).findings) is Verdict.FAIL
    assert verdict_of(part([ran(made=old)]).findings) is Verdict.UNVERIFIED


def test_run_in_guests_runs_the_command_in_each(monkeypatch):
    """The one patched function: `run_task` boots; what it is called with is what this is about."""
    tasks = []
    monkeypatch.setattr(
        guest_engine, "run_task", lambda task, environment, say, meanwhile: tasks.append(task) or ran(task.distro)
    )
    made = config()
    choice = guest_run.choose_guests(["debian-13", "debian-12"], "auto", made, ABLE)
    found = guest_run.run_in_guests(choice, made, ("smoke",), ("web",), work_of(*HOST_FINDINGS), Progress(quiet=True))
    assert [(task.distro, task.words, task.names, task.config) for task in tasks] == [
        ("debian-13", ("smoke",), ("web",), made), ("debian-12", ("smoke",), ("web",), made),
    ]  # fmt: skip
    assert found.decides
    assert len(found.services) == 4


@pytest.mark.parametrize(
    ("text", "terminal", "shown"),
    [
        ("building it", False, "cgroup-preflight: building it\n"), ("built, 1 MB", False, "cgroup-preflight: built, 1 MB\n"),
        ("waiting", False, "cgroup-preflight: waiting\n"), ("booting", False, ""), ("booting", True, "  booting\n"),
        ("building \x1b[2J", False, "cgroup-preflight: building \\x1b[2J\n"),
    ],
)  # fmt: skip
def test_long_work_is_told_also_where_nobody_watches(monkeypatch, text, terminal, shown):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    guest_run.say(text)
    assert stream.getvalue() == shown


def test_packages_are_installed_in_a_guest_and_never_here():
    made = config(target=Target(packages=("redis-server",)))
    found = guest_run.choose_guests([], "auto", made, ABLE)
    assert (found.distros, found.chosen, found.fallback) == (("debian-12",), False, False)
    assert guest_run.choose_guests([], "systemd", made, ABLE) is None
