"""`run --host`, `smoke --host` and `rollout --host` over a real sshd: one guest is the caller and the hosts.

All between them is ssh.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from cgroup_preflight.engines.guard import LOOK_SECONDS, SILENCE_SECONDS
from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import GuestSpec
from tests.lab.configs import ENVIRONMENT, Call, Lab, Outcome, config, service
from tests.lab.conftest import KINDS
from tests.lab.rollouts import OFTEN, Host, said, toml
from tests.lab.test_smoke_example import assert_passed
from tests.lab.test_smoke_limits import meddling
from tests.unit.stated import round_trips

_PACKAGES = ("openssh-client", "openssh-server")
#: systemd 252; 257 and the newest are not part of the ordinary run.
_SYSTEMS = ("debian-12", *(pytest.param(name, marks=pytest.mark.newest) for name in ("debian-13", "debian-14")))
#: By the names of hosts in the configuration of ssh: port and user. The second sshd has no SFTP; nobody listens at 2299.
_HOSTS = {
    "far": (2222, "root"), "far2": (2222, "root"), "nosftp": (2223, "root"), "sudo": (2222, "runner"),
    "user": (2222, "tester"), "closed": (2299, "root"), "noisy": (2224, "root"),
}  # fmt: skip
_SSHD = "ListenAddress 127.0.0.1\nPermitRootLogin yes\nUsePAM yes\nMaxSessions 50\nPidFile none\n"
_SFTP = "Subsystem sftp /usr/lib/openssh/sftp-server\n"
_BANNER = "Banner /etc/issue\nForceCommand echo 'Welcome to this host!'; exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n"
_SETUP = """
set -e
mkdir -p /run/sshd /root/.ssh; chmod 700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/lab; ssh-keygen -A > /dev/null
for u in root runner tester; do
    h=$(getent passwd $u | cut -d: -f6); mkdir -p $h/.ssh; cp /root/.ssh/lab.pub $h/.ssh/authorized_keys
    chown -R $u: $h/.ssh; chmod 700 $h $h/.ssh; usermod -p '*' $u
done
for n in 2222 2223 2224; do systemd-run -q --unit=lab-sshd$n /usr/sbin/sshd -D -p $n -f /etc/ssh/lab$n; done
until ssh far true && ssh nosftp true; do sleep 0.2; done
"""
#: As a program of a pull request that gives itself more memory, where it is root; and the honest one.
_LIFTS = """#!/bin/sh
[ "$(id -u)" = 0 ] || exec sleep 60
mount -o remount,bind,rw /sys/fs/cgroup
sleep 0.5
echo max > /sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/memory.max
exec sleep 60
"""
_STAYS = "#!/bin/sh\nexec sleep 60\n"
#: Says that it has begun, and is ready when the disk is full.
_WAITS = """#!/bin/sh
: > /tmp/lab-begun
while [ ! -e /tmp/lab-filled ]; do sleep 0.1; done
echo READY
exec sleep 60
"""
#: Fills the disk of a private folder to its last block: fallocate in memory takes all that it is asked for, or nothing.
_FILL = "fallocate -l $(df -Pk /var/tmp | awk 'END {print $4}')K /var/tmp/fill || true; cat /dev/zero > /var/tmp/rest || true"
#: Leaves less on this disk than a private folder must have.
_CROWD = "f=$(($(df -Pk /tmp | awk 'END {print $4}') - 120000)); [ $f -le 0 ] || fallocate -l ${f}K /tmp/lab-crowd"
#: How often each is killed in a whole run; and the moments of the short test, in seconds after the first trace on the host.
_KILLS, _MOMENTS = int(os.environ.get("CGPF_LAB_KILLS", "30")), (0.0, 3.0)
#: Whether a run has left a first trace on the host.
_TRACE = "ls -d /run/cgpf* /var/tmp/cgpf* /tmp/cgpf[0-9a-f]* 2>/dev/null | grep -q ."
#: What the end itself takes on a busy machine, seconds.
_END = 60.0


@pytest.fixture(scope="module", params=_SYSTEMS)
def lab(request: pytest.FixtureRequest, lab_inputs: dict[str, Path]) -> Iterator[Lab]:
    """A guest with three sshds, whose root reaches itself and two users of it by ssh."""
    spec: GuestSpec = replace(KINDS[0].spec, distro=request.param, inputs=lab_inputs)
    root = image.ensure(recipe_for(spec.distro, packages=_PACKAGES), image.cache_folder(os.environ))
    with Guest(spec, root) as guest:
        for number, more in ((2222, _SFTP), (2223, ""), (2224, _BANNER)):
            guest.write_file(f"/etc/ssh/lab{number}", (_SSHD + more).encode())
        hosts = "".join(f"Host {name}\n Port {port}\n User {user}\n" for name, (port, user) in _HOSTS.items())
        common = " HostName 127.0.0.1\n IdentityFile /root/.ssh/lab\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n"
        guest.write_file("/root/.ssh/config", f"{hosts}Host *\n{common}".encode(), mode=0o600)
        made = Lab(guest)
        made.shell(_SETUP, timeout=120)
        yield made


def _of(outcome: Outcome, host: str) -> Outcome:
    """The outcome without the name of the host, as of a run on the machine itself."""
    mark = f"{host}: "
    report: dict[str, Any] = {
        **outcome.report,
        "findings": [{**item, "subject": item["subject"].removeprefix(mark)} for item in outcome.report["findings"]],
        "services": [{**item, "name": item["name"].removeprefix(mark)} for item in outcome.report["services"]],
    }
    return replace(outcome, report=report)


def _bad(lab: Lab, services: Mapping[str, Any] = MappingProxyType({})) -> str:
    own = {name: service(name, MemoryMax="64M", slice="api", smoke={"duration": "3s"}) for name in ("lifts", "stays")}
    whole = config({**own, **services}, {"api": {"MemoryMax": "128M"}})
    return lab.write("far", whole, {"lifts": _LIFTS, "stays": _STAYS})


#: Hides each Python from all that starts later, also from units; the agent, and the tool as a fork of it, run on.
_HIDE = """
for f in $(readlink -f /usr/bin/python3*[0-9] | sort -u); do mountpoint -q $f || mount --bind /dev/null $f; done
for host in far user; do if ssh $host 'python3 -c 1' 2>&1; then exit 1; fi; done
"""
_SHOW = "for f in $(readlink -f /usr/bin/python3*[0-9] | sort -u); do while mountpoint -q $f; do umount $f; done; done"


class _Pythonless(Lab):
    """Calls about hosts that have no Python."""

    def spawn(self, *args: str, folder: str | Path, user: str | None = None) -> Call:
        assert user is None
        self.shell(_HIDE)
        report = "/tmp/report-pythonless.json"
        words = [*args, "--format=text", f"--format=json={report}"]
        background = self.guest.spawn_tool(words, folders=[str(input_path("src"))], cwd=str(folder), env=ENVIRONMENT)
        return Call(background=background, report=report)

    def leftovers(self) -> list[str]:
        self.shell(_SHOW)
        return super().leftovers()


@pytest.fixture
def pythonless(lab: Lab) -> Iterator[Lab]:
    yield _Pythonless(lab.guest)
    lab.shell(_SHOW)


def test_the_example_passes_on_a_machine_without_python_and_nothing_is_left_there(pythonless: Lab, shop: Path) -> None:
    """All limits, also by exceeding them."""
    outcome = pythonless.run("run", "--host", "far", "--inject=never", folder=shop)
    (own,) = outcome.findings("CGP129")
    assert (own["subject"], own["status"], own["evidence"]["host"]) == ("far", "pass", "far")
    assert "over ssh" in own["message"]
    assert own["evidence"]["asked_with"] == "systemd-stdio-bridge"
    assert own["evidence"]["round_trips"] <= round_trips()["`run`: the three services of examples/shop"][0]
    assert all(item["evidence"]["host"] == "far" for item in outcome.report["findings"])
    assert_passed(_of(outcome, "far"), engine="systemd", below="")


def test_a_limit_that_does_not_hold_there_fails_and_its_honest_twin_passes(pythonless: Lab) -> None:
    """One that a service lifts, and one that is lifted once its probe uses CPU time."""
    folder = _bad(pythonless, {"loose": service("stays", CPUQuota="20%", slice="api")})
    files, running = (
        "/sys/fs/cgroup/cgpf*.slice/*/*-_probe-*.service/cpu.max",
        "[ $(wc -l < ${f%/*}/cgroup.procs) -gt 1 ]",
    )
    lifts = f"for f in {files}; do grep -q '^20000 ' $f && {running} && echo 40000 100000 > $f; done"
    with meddling(pythonless, lifts):
        outcome = pythonless.run("smoke", "--host", "far", folder=folder)
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)
    assert outcome.finding("CGP501", "far: lifts")["status"] == "fail"
    assert outcome.finding("CGP501", "far: stays")["status"] == "pass"
    assert outcome.finding("CGP511", "far: loose")["status"] == "fail"
    # One probe for the limit that both have.
    assert outcome.finding("CGP511", "far: lifts")["status"] == "pass"
    assert outcome.finding("CGP511", "far: api.slice")["status"] == "pass"


def test_a_host_that_is_not_reached_is_unverified_next_to_one_that_is_judged(lab: Lab) -> None:
    outcome = lab.run("smoke", "stays", "--host", "closed", "--host", "far2", folder=_bad(lab))
    assert (outcome.verdict, outcome.exit_status) == ("unverified", 3)
    own = {item["subject"]: item for item in outcome.findings("CGP129")}
    assert {name: item["status"] for name, item in own.items()} == {"closed": "unverified", "far2": "pass"}
    assert "Connection refused" in own["closed"]["message"]
    assert [row["name"] for row in outcome.report["services"]] == ["far2: stays"]


@pytest.mark.measured
@pytest.mark.parametrize("host", ["nosftp", "sudo", "user", "noisy"])
def test_the_example_passes_in_each_way_to_be_let_in(lab: Lab, shop: Path, host: str) -> None:
    """Without an SFTP server, through sudo, with the manager of a user, and with a login that prints a greeting."""
    if host == "user":
        lab.guest.start_user_manager("tester")
    outcome = lab.run("run", "--host", host, "--inject=never", folder=shop, timeout=600)
    user = host == "user"
    below = "/user.slice/user-1000.slice/user@1000.service" if user else ""
    assert_passed(_of(outcome, host), engine="user" if user else "systemd", below=below)


def test_two_hosts_are_in_one_report_each_with_its_own_verdict(lab: Lab, say: Callable[..., None]) -> None:
    """The manager of the system, under which the service is root and lifts its limit, and that of a user."""
    lab.guest.start_user_manager("tester")
    began = time.monotonic()
    outcome = lab.run("smoke", "lifts", "--host", "far", "--host", "user", folder=_bad(lab))
    say("two hosts", round(time.monotonic() - began, 1), "s")
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)
    own = {item["subject"]: (item["status"], item["evidence"]["verdict"]) for item in outcome.findings("CGP129")}
    assert own == {"far": ("fail", "fail"), "user": ("pass", "pass")}
    assert {name: outcome.finding("CGP501", f"{name}: lifts")["status"] for name in own} == {
        "far": "fail",
        "user": "pass",
    }
    assert {row["name"]: row["engine"] for row in outcome.report["services"]} == {
        "far: lifts": "systemd", "user: lifts": "user",
    }  # fmt: skip
    about = [item for item in outcome.report["findings"] if item["subject"] not in (*own, "run")]
    assert all(item["subject"].startswith(f"{item['evidence']['host']}: ") for item in about)
    assert {item["evidence"]["host"] for item in about} == set(own)


def test_a_quota_that_is_too_low_is_rolled_out_and_taken_back(lab: Lab, say: Callable[..., None]) -> None:
    host = Host(guest=lab.guest)
    host.prepare(toml('CPUQuota = "5%"\n'), OFTEN)
    began = time.monotonic()
    argv = host.argv("apply", "--host", "far", "--yes")
    done = lab.guest.run(argv, env=ENVIRONMENT, cwd=host.place, timeout=240)
    report = json.loads(done.stdout)
    say("rolled out and taken back", round(time.monotonic() - began, 1), "s", said(report)[:2])
    assert done.returncode == 1, said(report)
    records = [json.loads(line) for line in lab.shell(f"cat {host.state}/hosts/far/*.journal").splitlines()]
    assert any(item["kind"] == "verified" for item in records), "a step was in the kernel"
    assert records[-1]["kind"] == "restored"
    assert host.is_old()
    host.clear()


@contextmanager
def _small_disk(lab: Lab, size: str) -> Iterator[None]:
    """A disk of its own for private folders: /run of the guest has less than they need."""
    lab.shell(f"mount -t tmpfs -o size={size} none /var/tmp")
    try:
        yield
    finally:
        lab.shell("umount -l /var/tmp; rm -f /tmp/lab-begun /tmp/lab-filled /tmp/lab-crowd")


def test_a_disk_that_is_full_at_the_start_is_unverified(lab: Lab) -> None:
    with _small_disk(lab, "16m"):
        folder = _bad(lab)
        lab.shell(f"{_FILL}; {_CROWD}")
        outcome = lab.run("smoke", "stays", "--host", "far", folder=folder)
    assert (outcome.verdict, outcome.exit_status) == ("unverified", 3)
    (own,) = outcome.findings("CGP129")
    assert own["status"] == "unverified"
    assert "no folder with space" in own["message"]
    assert " 0 KiB free in /var/tmp" in own["message"]


#: What a run comes to on a disk that fills in the middle of it: the code and the subject of what names the disk. Against a
#: limit that the guest has memory for, a probe is to push: the run ends where its program cannot be written.
_ON_FULL_DISK = {"8G": ("CGP505", "far: waits"), "64M": ("CGP129", "far")}


@pytest.mark.parametrize("limit", ["8G", pytest.param("64M", marks=pytest.mark.measured)])
def test_a_disk_that_fills_in_mid_run_is_unverified_and_not_the_fault_of_the_service(
    lab: Lab, limit: str, say: Callable[..., None]
) -> None:
    """Its ready line is lost."""
    began = time.monotonic()
    waits = service("waits", ready="log:READY", slice="api", MemoryMax=limit, smoke={"start_timeout": "4s"})
    with _small_disk(lab, "136m"):
        folder = lab.write("full", config({"waits": waits}, {"api": {}}), {"waits": _WAITS})
        call = lab.spawn("smoke", "--host", "far", folder=folder)
        lab.until("[ -e /tmp/lab-begun ]")
        lab.shell(f"{_FILL}; : > /tmp/lab-filled")
        outcome = lab.wait(call, leaves=True)
        _gone(lab, LOOK_SECONDS + _END)
    say("a disk that fills", limit, round(time.monotonic() - began, 1), "s")
    assert (outcome.verdict, outcome.exit_status) == ("unverified", 3), "\n".join(said(outcome.report))
    assert outcome.findings("CGP129")[0]["status"] == "unverified"
    found = outcome.finding(*_ON_FULL_DISK[limit])
    say(found["message"])
    assert found["status"] == "unverified"
    assert "the disk of far is full: " in found["message"]
    assert " KiB free in /var/tmp; free some and run again (" in found["message"]
    if limit == "8G":
        assert outcome.finding("CGP501", "far: waits")["status"] == "pass"


def _gone(lab: Lab, seconds: float) -> float:
    """Seconds until nothing of the run is left; fails after `seconds`."""
    began = time.monotonic()
    while left := lab.leftovers():
        assert time.monotonic() - began < seconds, left
        time.sleep(0.5)
    return time.monotonic() - began


def _kill(lab: Lab, call: Call, what: str) -> str | None:
    """Kills the tool, or ssh alone; the verdict, empty without a report. None where nothing of it ran any more."""
    words = {"tool": ("-f", "[m] cgroup_preflight smoke"), "ssh": ("-x", "ssh")}[what]
    killed = lab.guest.run(["pkill", "-9", *words]).returncode == 0
    outcome = lab.wait(call, leaves=True)
    if killed and what == "ssh" and outcome.verdict == "unverified":
        assert [item["code"] for item in outcome.report["findings"]] == ["CGP129"]
    return str(outcome.report.get("verdict", "")) if killed else None


def _kill_at(lab: Lab, folder: str, what: str, moment: float) -> tuple[float, int, str, float]:
    """Kills so many seconds after the first trace of a run, or somewhat sooner where the run was over by then.

    The moment, how much was there, the verdict, and seconds until all was gone.
    """
    while True:
        call = lab.spawn("smoke", "stays", "--host", "far", folder=folder)
        lab.until(_TRACE)
        time.sleep(moment)
        there = len(lab.leftovers())
        verdict = _kill(lab, call, what)
        if there and verdict is not None:
            return round(moment, 1), there, verdict, round(_gone(lab, LOOK_SECONDS + _END), 1)
        assert moment, "nothing is there, or runs, right after the first trace"
        _gone(lab, LOOK_SECONDS + _END)
        moment = max(moment - 0.5, 0.0)


_COLUMNS = "seconds after the first trace, units, files and cgroups there, verdict, seconds until all were gone:"


@pytest.mark.parametrize("what", ["tool", "ssh"])
def test_nothing_is_left_after_kill_9(lab: Lab, what: str, say: Callable[..., None]) -> None:
    folder = _bad(lab)
    taken = [_kill_at(lab, folder, what, moment) for moment in _MOMENTS]
    say(what, _COLUMNS, *taken)
    assert {verdict for *_, verdict, _ in taken} == {"" if what == "tool" else "unverified"}
    assert max(there for _, there, *_ in taken) >= 8


@pytest.mark.measured
@pytest.mark.parametrize("what", ["tool", "ssh"])
def test_nothing_is_left_after_kill_9_at_any_point(lab: Lab, what: str, say: Callable[..., None]) -> None:
    folder = _bad(lab)
    call = lab.spawn("smoke", "stays", "--host", "far", folder=folder)
    lab.until(_TRACE)
    began = time.monotonic()
    assert lab.wait(call).verdict == "pass"
    span = time.monotonic() - began
    taken = [_kill_at(lab, folder, what, number * span / _KILLS) for number in range(_KILLS)]
    say(what, _COLUMNS, *taken)
    # What had been proved before a late end is proved.
    assert {verdict for *_, verdict, _ in taken} <= {"" if what == "tool" else "unverified", "pass"}
    assert {verdict for *_, verdict, _ in taken[: _KILLS // 2]} == {"" if what == "tool" else "unverified"}
    assert max(there for _, there, *_ in taken) >= 8


@pytest.mark.measured
def test_after_a_silence_the_host_ends_the_run_itself(lab: Lab, say: Callable[..., None]) -> None:
    """As when a cable is pulled: both ends of the connection stand still, and no byte comes any more."""
    call = lab.spawn("smoke", "stays", "--host", "far", folder=_bad(lab))
    lab.until("ls -d /sys/fs/cgroup/cgpf*.slice/*/*.service >/dev/null 2>&1")
    lab.shell("pkill -STOP -x ssh")
    seconds = _gone(lab, SILENCE_SECONDS + 2 * LOOK_SECONDS + _END)
    lab.shell("pkill -9 -x ssh")
    outcome = lab.wait(call, leaves=True)
    say(f"gone after {seconds:.0f} s of silence")
    assert outcome.verdict == "unverified"
    assert seconds > SILENCE_SECONDS / 2
