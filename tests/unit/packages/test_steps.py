"""The steps with a dpkg that is a shell script of the test: order, output, time limit. The lab has the real one."""

import pytest

from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.local import LocalClock
from cgroup_preflight.packages.steps import Done, Steps, last_lines
from tests.unit.packages.making import SERVICE, UNITS, package, release

pytestmark = pytest.mark.starts_processes

_DPKG = """#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >> "{folder}/calls"
{body}
"""


def steps(folder, body="", timeout=20.0):
    for name in ("dpkg", "dpkg-query", "systemctl"):
        (folder / name).write_text(_DPKG.format(folder=folder, body=body))
        (folder / name).chmod(0o755)
    runner = LiveRunner({"PATH": f"{folder}:/usr/bin:/bin"})
    return Steps(runner, LocalClock(), str(folder), timeout)


def calls(folder):
    return (folder / "calls").read_text().splitlines()


def test_all_packages_are_installed_together_without_questions(tmp_path):
    one, other = package(tmp_path), package(tmp_path, name="b.deb")
    done = steps(tmp_path, "echo 'Setting up user-api (1.0) ...'; cat").install([one, other])
    assert (done.ok, done.output, done.culprit) == (True, ("Setting up user-api (1.0) ...",), "user-api")
    (call,) = calls(tmp_path)
    assert call.startswith("noninteractive --force-confdef --force-confold")
    assert call.endswith(f"--install {one.real} {other.real}")


def test_removal_and_purge_name_the_packages(tmp_path):
    made = steps(tmp_path)
    made.remove([package(tmp_path)])
    made.purge([package(tmp_path)])
    assert [line.split("io ")[1] for line in calls(tmp_path)] == ["--remove user-api", "--purge user-api"]


@pytest.mark.parametrize(
    ("line", "culprit"),
    [
        ("Setting up shop (1.0) ...", "shop"),
        ("Unpacking shop (1.1) over (1.0) ...", "shop"),
        ("dpkg: error processing package shop (--install):", "shop"),
        ("Removing shop (1.0) ...", "shop"),
        ("anything else", ""),
    ],
)
def test_the_package_at_which_a_step_stops_is_known(line, culprit):
    assert Done(what="installation", status=1, output=("Selecting x", line, " more"), seconds=0.0).culprit == culprit


def test_a_step_that_fails_keeps_its_status_and_output(tmp_path):
    done = steps(tmp_path, "echo first; echo 'no database' >&2; exit 3").install([package(tmp_path)])
    assert (done.status, done.output) == (3, ("first", "no database"))


def test_a_step_that_hangs_ends_at_its_limit_with_the_output_so_far(tmp_path):
    done = steps(tmp_path, "echo 'Setting up shop (1.0) ...'; echo waiting; sleep 60", timeout=0.5).install(
        [package(tmp_path)]
    )
    assert (done.status, done.output[-1]) == (None, "waiting")
    assert done.seconds < 30


def test_a_daemon_of_a_script_that_keeps_the_output_open_does_not_block_the_step(tmp_path):
    done = steps(tmp_path, "setsid sleep 3 & echo started").install([package(tmp_path)])
    assert (done.status, done.output) == (0, ("started",))
    assert done.seconds < 3


def test_output_is_bounded_and_has_no_control_characters(tmp_path):
    (tmp_path / "output").write_bytes(b"\x1b[31mred\r\nx\xff" + b"y" * 1000 + b"\n" + b"line\n" * 10_000)
    lines = last_lines(str(tmp_path / "output"))
    assert len(lines) == 30
    (tmp_path / "output").write_bytes(b"\x1b[31mred\r\nx\xff" + b"y" * 1000)
    first, second = last_lines(str(tmp_path / "output"))
    assert first == "?[31mred"
    assert len(second) == 300
    assert last_lines(str(tmp_path / "absent")) == ()


def test_shipped_files_are_those_that_dpkg_lists_without_folders(tmp_path):
    made = steps(tmp_path, f"printf '/.\\n/usr\\n{tmp_path}\\n/usr/bin/user-api\\ndiverted by x\\n'")
    assert made.shipped([package(tmp_path)]) == {"/usr/bin/user-api"}


def test_an_archive_is_unpacked_by_a_script_and_started_again_after_an_upgrade(tmp_path):
    archive = package(tmp_path, release({f"shop/{UNITS}/user-api.service": SERVICE}), "shop.tar.gz")
    # `sh` is the test's own here: nothing may be unpacked to / of this machine.
    (tmp_path / "bin").mkdir()
    made = steps(tmp_path)
    real = made._programs

    class Played:
        def run(self, argv, *, timeout, stdin=b""):
            assert argv[:2] == ("sh", "-c")
            return real.run(("sh", "-c", 'echo "$@" >> "$0"', str(tmp_path / "calls"), *(word for word in argv[4:] if "\n" not in word)), timeout=timeout)  # fmt: skip

    made._programs = Played()
    assert made.upgrade([archive]).ok
    unpack, restart = calls(tmp_path)
    assert unpack == f"sh -euc unpack {archive.real} shop {tmp_path}/{archive.sha256}.files"
    assert restart == "systemctl try-restart -- user-api.service"
    made.remove([archive])
    assert calls(tmp_path)[-1] == f"sh -euc remove {tmp_path}/{archive.sha256}.files user-api.service"
    assert made.purge([archive]).ok
    assert len(calls(tmp_path)) == 3
