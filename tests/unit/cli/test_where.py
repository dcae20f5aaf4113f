"""Where `run` would start the services: the paragraph at the end of `check`, for each choice that `run` can make."""

import pytest

from cgroup_preflight.cli.guest_run import choose_guests
from cgroup_preflight.cli.where import where_run_starts
from tests.unit.checks.contexts import context
from tests.unit.cli.calling import call
from tests.unit.core.making import config_of
from tests.unit.host.fabricate import facts

NO_SYSTEMD = facts(systemd_running=False, pid1="tini")
ON_HOST = "`cgroup-preflight run` would start the services on this host"
IN_GUEST = "`cgroup-preflight run` would start the services in a guest, a VM with"


@pytest.mark.parametrize(
    ("found", "config", "says"),
    [
        (facts(), "", [f"{ON_HOST}, as root with the system manager."]),
        (facts(1000), "", [f"{ON_HOST} with the system manager, through sudo -n"]),
        (facts(1000, sudo=False), "", [f"{ON_HOST} with your user manager."]),
        (NO_SYSTEMD, "", [f"{IN_GUEST} debian-12, because no engine works here: systemd, user: systemd is not PID 1 (PID 1 is tini)"]),
        (NO_SYSTEMD, "[target]\ndistro = 'debian-13'\n", [f"{IN_GUEST} debian-13", "the config has a distro or packages"]),
        (facts(), "[target]\ndistro = 'debian-13'\n", [f"{IN_GUEST} debian-13", "the config has a distro or packages"]),
        (facts(), "[smoke]\nengine = 'guest'\n", [f"{IN_GUEST} debian-12", "the config has the engine guest"]),
        (NO_SYSTEMD, "[smoke]\nengine = 'user'\n", ["would start no service: the config has the engine user", "tini"]),
    ],
)  # fmt: skip
def test_it_is_what_run_chooses(found, config, says):
    made = config_of(config) if config else None
    seen = context(found, wanted=made.engine if made else "auto")
    text = where_run_starts(made, seen)
    for part in says:
        assert part in text
    # The same function as that of `run`.
    guests = choose_guests((), made.engine if made else "auto", made, seen)
    assert (IN_GUEST in text) is (guests is not None)


def test_a_guest_that_the_limits_make_impossible_is_said():
    config = config_of("[target]\nmachine = 'uml'\ncpus = 4\n[services.a]\nbinary = 'x'\nMemoryMax = '64M'\n")
    text = where_run_starts(config, context(NO_SYSTEMD))
    assert "but the guest cannot start here: user-mode-linux has one CPU, and cpus in [target] is 4" in text


def test_an_imported_root_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = where_run_starts(config_of("[target]\ndistro = 'debian-21'\n"), context(facts()))
    assert (
        "would start no service: [target] distro: no distribution and no imported root 'debian-21'; did you mean debian-1"
        in text
    )


@pytest.mark.starts_processes
def test_check_says_it_at_the_end_of_its_text_alone(tmp_path):
    text = call(tmp_path, "check").out
    assert text.splitlines()[-1].startswith("`cgroup-preflight run` would ")
    assert "would" not in call(tmp_path, "check", "-q").out.splitlines()[-1]
    call(tmp_path, "snapshot", "-o", "host.json")
    for words in (["--root", "host.json"], ["--format", "markdown"], ["--format", "json"]):
        assert "`cgroup-preflight run` would" not in call(tmp_path, "check", *words).out


@pytest.mark.starts_processes
def test_check_names_what_a_guest_lacks(tmp_path):
    """The PATH of `call` has no program; on a host with systemd nothing is missing."""
    last = call(tmp_path, "check").out.splitlines()[-1]
    if IN_GUEST in last:
        assert "but the guest cannot start here: the guest needs linux.uml, " in last
        assert "apt-get install" in last
