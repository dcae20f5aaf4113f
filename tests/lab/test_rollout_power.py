"""`rollout` and a host that loses its power: the disk of a running guest, as it is at that moment, boots again."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.guest import image, machine
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.process import GuestProcess, make_folder
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import BootMode, GuestSpec
from tests.lab.rollouts import CALM, NEW, OLD, QUOTA, Host, said, toml

pytestmark = pytest.mark.measured
_CUTS = 12
_OTHER = "/sys/fs/cgroup/lab17other.slice/cpu.max"
#: Two slices, so that the promotion has two calls.
_TWO = toml(QUOTA, more='[rollout.slices.lab17other]\nCPUQuota = "150%"\n', restore="120s")
#: Calls the tool, and ends it as SIGKILL would after so many persistent changes.
_KILLED_AFTER = """
import os, sys
from cgroup_preflight.rollout.systemd import Systemd
real, left = Systemd.set, [int(sys.argv[1])]
def set(self, unit, values, *, runtime):
    words = real(self, unit, values, runtime=runtime)
    left[0] -= not runtime
    if not left[0]:
        os.sync()
        os.kill(os.getpid(), 9)
    return words
Systemd.set = set
sys.argv[1:] = sys.argv[2:]
from cgroup_preflight.cli import main
sys.exit(main())
"""


def _from(disk: Path) -> Callable[[GuestSpec, RootImage], GuestProcess]:
    """Starts a guest on a copy of another one's disk; nothing else offers that."""

    def with_disk() -> Path:
        folder = make_folder()
        _copy(disk, folder / "root.cow")
        return folder

    def start(spec: GuestSpec, root: RootImage) -> GuestProcess:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine, "make_folder", with_disk)
            return machine.start(spec, root)

    return start


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", str(source), str(target)], check=True, timeout=60)


def _power_cut(guest: Guest, target: Path) -> None:
    """Copies the disk of a guest while it stands still: a copy of what is written meanwhile would be torn."""
    disk = _disk(guest)
    found = [int(item.name) for item in Path("/proc").iterdir() if item.name.isdigit() and _is_of(item, disk)]
    assert found
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    try:
        until = time.monotonic() + 10
        while not all(map(_stands_still, found)):
            assert time.monotonic() < until
            time.sleep(0.01)
        _copy(disk, target)
    finally:
        for pid in found:
            os.kill(pid, signal.SIGCONT)


def _is_of(process: Path, disk: Path) -> bool:
    try:
        return str(disk).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


def _stands_still(pid: int) -> bool:
    """Whether each thread is stopped (proc(5), `T`), or there is none any more."""
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return True
    return all(text.rpartition(")")[2].split()[0] in "TZX" for text in texts)


def _disk(guest: Guest) -> Path:
    assert guest._process is not None
    return guest._process._folders[0] / "root.cow"


@pytest.fixture(scope="module", params=["debian-12", "debian-13", "debian-14"])
def start(
    request: pytest.FixtureRequest, lab_inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Guest]:
    """Starts a guest whose file system has a journal, as those of hosts have: without one a power cut tears the file system."""
    spec = GuestSpec(distro=request.param, mode=BootMode.FULL, inputs=lab_inputs)
    root = image.ensure(recipe_for(request.param), image.cache_folder(os.environ))
    with_journal = tmp_path_factory.mktemp("root") / "root.ext4"
    _copy(root.root, with_journal)
    with_journal.chmod(0o600)
    subprocess.run(["/usr/sbin/tune2fs", "-j", "-J", "size=16", str(with_journal)], check=True, timeout=60)
    root = replace(root, root=with_journal)

    def make(disk: Path | None = None) -> Guest:
        return Guest(spec, root, _from(disk)) if disk else Guest(spec, root)

    return make


@pytest.fixture
def host(start: Callable[..., Guest]) -> Iterator[Host]:
    with start() as guest:
        made = Host(guest=guest)
        for name, text in (("slice", "[Slice]\nCPUQuota=200%\n"), ("service", CALM.replace("lab17", "lab17other"))):
            guest.write_file(f"/etc/systemd/system/lab17other.{name}", text.encode())
        made.prepare(_TWO)
        # After a start of the host the services run again.
        for name in ("lab17", "lab17other"):
            made.shell(f"mkdir -p /etc/systemd/system/multi-user.target.wants; ln -sf ../{name}.service "
                       f"/etc/systemd/system/multi-user.target.wants/{name}.service; systemctl daemon-reload; systemctl start {name}.service")  # fmt: skip
        guest.run(["sync"])
        yield made


def _quotas(host: Host) -> tuple[str, str]:
    return host.kernel()["cpu.max"], host.shell(f"cat {_OTHER}").strip()


def _booted(host: Host, label: str, say: Callable[..., None]) -> list[str]:
    """What is wrong after a start: nobody calls the tool for a while, then `status` and `resume`."""
    began, old, new = time.monotonic(), OLD["cpu.max"], NEW["cpu.max"]
    at_first = _quotas(host)
    last = host.last()
    mixed = None
    while time.monotonic() - began < 300:
        now = _quotas(host)
        if now in ((old, old), (new, new)):
            mixed = round(time.monotonic() - began, 1)
            break
        time.sleep(0.5)
    wrong = [] if mixed is not None else [f"{label}: in between for ever: {_quotas(host)}"]
    status = host.call("status") if last else (0, {"findings": []})
    said = [item["message"] for item in status[1]["findings"] if item["code"] == "CGP807"]
    if last not in ("", "promoted", "restored"):
        code, report = host.call("resume")
        if code not in (0, 1):
            wrong.append(f"{label}: resume {code} {report}")
    end, now = host.last(), _quotas(host)
    wanted = (new, new) if end == "promoted" else (old, old)
    if now != wanted or (host.left() and end != "promoted"):
        wrong.append(f"{label}: {end} and {now} {host.left()}")
    say(
        f"{label}: journal {last or 'empty'}, first {at_first}, whole after {mixed}s, status {status[0]} {said[-1:]}, resume -> {end} {now}"
    )
    return wrong


def test_a_finished_rollout_outlives_a_power_failure_and_a_start_of_the_host(
    host: Host, start: Callable[..., Guest], tmp_path: Path, say: Callable[..., None]
) -> None:
    """Nobody syncs after the tool."""
    assert host.apply()[0] == 0
    _power_cut(host.guest, tmp_path / "disk")
    with start(tmp_path / "disk") as guest:
        again = Host(guest=guest)
        say("after the start:", again.last(), _quotas(again), again.left())
        assert _quotas(again) == (NEW["cpu.max"],) * 2
        status, report = again.call("status")
        say("after the start:", again.last(), _quotas(again), "status", status, said(report)[-1:])
        assert (status, again.last()) == (0, "promoted")
        assert again.is_new({"cpu.max": NEW["cpu.max"]})


def test_a_power_failure_between_two_promotions_is_taken_back_by_the_next_start(
    host: Host, start: Callable[..., Guest], tmp_path: Path, say: Callable[..., None]
) -> None:
    argv = host.argv("apply", "--yes")
    done = host.guest.run(
        ["python3", "-c", _KILLED_AFTER, "1", *argv[3:]], env=host.environment, cwd=host.place, timeout=120
    )
    assert done.returncode == -9, done
    assert host.last() == "promote"
    _power_cut(host.guest, tmp_path / "disk")
    with start(tmp_path / "disk") as guest:
        again = Host(guest=guest)
        assert set(_quotas(again)) == {OLD["cpu.max"], NEW["cpu.max"]}, "one slice has its new values"
        assert _booted(again, "between two promotions", say) == []


@pytest.mark.timeout(1800)
def test_a_power_failure_at_any_moment_ends_wholly_old_or_wholly_new(
    host: Host, start: Callable[..., Guest], tmp_path: Path, say: Callable[..., None]
) -> None:
    """Some moments of the whole way, more of them near its end, without a sync."""
    chance = random.Random(18)
    began = time.monotonic()
    assert host.apply()[0] == 0
    whole = time.monotonic() - began
    wrong: list[str] = []
    for number in range(_CUTS):
        host.shell(
            "systemctl stop lab17other.service lab17other.slice; rm -rf /etc/systemd/system.control/lab17other.slice.d"
        )
        host.prepare(_TWO)
        host.shell("systemctl start lab17other.service")
        assert _quotas(host) == (OLD["cpu.max"],) * 2
        host.guest.run(["sync"])
        running = host.begin()
        if number % 2:
            time.sleep(chance.uniform(0.5, whole))
        else:
            host.wait_for("promote")
            time.sleep(chance.uniform(0.0, 2.0))
        _power_cut(host.guest, tmp_path / "disk")
        host.guest.wait(running, timeout=120)
        with start(tmp_path / "disk") as guest:
            wrong += _booted(Host(guest=guest), f"cut {number}", say)
    assert wrong == []
