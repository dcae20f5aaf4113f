"""Guests of QEMU that resume from a saved state: each is a machine of its own, with its own disks and its own clock."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Report, Status, Verdict
from cgroup_preflight.guest import bytecode, image, saved_start
from cgroup_preflight.guest import run as guest_engine
from cgroup_preflight.guest.process import GuestProcess
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import GuestEngine, GuestSpec
from cgroup_preflight.guest.words import INPUT_DIR
from cgroup_preflight.report.read import report_of
from tests.lab.configs import config, service, toml

_SHOP = Path(__file__).parents[2] / "examples" / "shop"

_UNIT = """
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
StandardOutput=append:/run/ids
ExecStart=sh -c "echo %m %b; cat /etc/machine-id /proc/sys/kernel/random/boot_id"
ExecStart=python3 -c "import os, uuid; print(os.urandom(8).hex(), uuid.uuid4().hex)"
"""
#: The journal has one machine ID and one boot: of this machine.
_JOURNAL = "systemctl start ids systemd-journald; logger one; journalctl --sync; ls /run/log/journal; journalctl -b -o cat --no-pager -t root"


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Callable[..., Guest]]:
    """Boots a guest of a distribution with the text and the tool as its input, from the states of this test."""
    with ExitStack() as stack:

        def boot(distro: str, text: str) -> Guest:
            (tmp_path / text).write_text(text)
            folder = image.cache_folder(os.environ)
            root = image.ensure(recipe_for(distro, with_kernel=True), folder)
            guest_engine.warm_up(root, distro, GuestEngine.QEMU, folder, print)
            compiled = bytecode.cached(folder, root.name)
            assert compiled is not None
            spec = GuestSpec(
                engine=GuestEngine.QEMU, distro=distro, cpus=2, memory_mib=512, boot_timeout=240.0,
                states=tmp_path / "states", tool=compiled,
                inputs={"text": tmp_path / text, "src/cgroup_preflight": compiled},
            )  # fmt: skip
            return stack.enter_context(Guest(spec, root))

        yield boot


def _identity(guest: Guest) -> list[str]:
    """What no two machines may have in common."""
    guest.write_file("/run/systemd/system/ids.service", _UNIT.encode())
    guest.run(["systemctl", "daemon-reload"])
    lines = guest.run(["sh", "-c", _JOURNAL]).text.splitlines()
    ids = guest.read_file("/run/ids").decode().split()
    machine, boot_id = ids[0], ids[1]
    assert ids[2:4] == [machine, f"{boot_id[:8]}-{boot_id[8:12]}-{boot_id[12:16]}-{boot_id[16:20]}-{boot_id[20:]}"]
    assert lines == [machine, "one"]
    return [machine, boot_id, *ids[4:], guest.read_file("/proc/sys/kernel/random/uuid").decode()]


def _off(guest: Guest) -> float:
    """Seconds by which the clock of the guest is wrong."""
    before = time.time()
    found = float(guest.run(["date", "+%s.%N"]).text)
    return max(before - found, found - time.time(), 0.0)


@pytest.mark.parametrize("distro", ["debian-12", pytest.param("debian-13", marks=pytest.mark.newest)])
def test_each_guest_that_resumes_is_a_machine_of_its_own(
    boot: Callable[..., Guest], tmp_path: Path, distro: str
) -> None:
    # The first boots, the others resume; all run at the same time.
    guests = [boot(distro, "first")]
    guests[0].write_file("/etc/left-by-the-first", b"x")
    guests += [boot(distro, "second"), boot(distro, "third")]
    assert [guest.resumed for guest in guests] == [False, True, True]
    identities = [_identity(guest) for guest in guests]
    assert len({word for words in identities for word in words}) == sum(map(len, identities))
    for guest, text in zip(guests, ("first", "second", "third"), strict=True):
        assert guest.read_file(str(input_path("text"))) == text.encode()
        assert _off(guest) < 1.0
        done = guest.run(
            ["sh", "-c", "hostname; touch /root/a /run/preflight/in/b; systemctl --failed --no-legend --plain"]
        )
        assert (done.returncode, done.text) == (0, "guest\n")
    assert guests[1].run(["ls", "/etc/left-by-the-first"]).returncode != 0
    assert guests[0].fence == guests[1].fence
    (state,) = (tmp_path / "states").iterdir()
    assert (state.stat().st_mode & 0o777, state.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert state.stat().st_size < 200 << 20
    # A state that is damaged never runs, and is saved again.
    with state.open("r+b") as file:
        file.seek(state.stat().st_size // 2)
        file.write(b"damaged")
    assert [boot(distro, "fourth").resumed, boot(distro, "fifth").resumed] == [False, True]


#: From here on Python finds no module that is not in memory.
_HIDE = f"for place in {INPUT_DIR}/src /usr/lib/python3*; do mount -t tmpfs none $place; done; python3 -c pass"
_LIFT = "while sleep 0.05; do for f in $(find /sys/fs/cgroup -path '*cgpf*-{name}.service/{file}'); do echo max > $f; done; done"


def _judged(guest: Guest, *words: str, folder: str) -> Report:
    """The report of a command of the tool on a project of the guest."""
    argv = (*words, "--engine=systemd", "--inside", "--allow-outside=/", "--format=json")
    started = guest.spawn_tool(argv, folders=bytecode.FOLDERS, cwd=str(input_path(folder)), env={})
    done = guest.wait(started, timeout=300)
    assert done.stdout, done.stderr.decode()
    return report_of(done.stdout)


def _would_resume(spec: GuestSpec, root: image.RootImage) -> bool:
    """Whether a guest would be started from a state; it is not started."""
    asked = []

    def engine(_spec: GuestSpec, _image: image.RootImage, *, resumed: bool = False) -> GuestProcess:
        asked.append(resumed)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        saved_start.start(spec, root, engine)
    return asked == [True]


def test_a_run_has_all_its_modules_in_memory_and_judges_as_after_a_boot(tmp_path: Path) -> None:
    folder = image.cache_folder(os.environ)
    root = image.ensure(recipe_for("debian-12", with_kernel=True), folder)
    guest_engine.warm_up(root, "debian-12", GuestEngine.QEMU, folder, print)
    compiled = bytecode.cached(folder, root.name)
    assert compiled is not None
    job = tmp_path / "job"
    job.mkdir()
    (job / "cgroup-preflight.toml").write_text(toml(config({"job": service("job.sh", TasksMax=16)})))
    (job / "job.sh").write_text("#!/bin/sh\nexec sleep 60\n")
    (job / "job.sh").chmod(0o755)
    spec = GuestSpec(
        engine=GuestEngine.QEMU, distro="debian-12", cpus=2, memory_mib=544, boot_timeout=240.0, tool=compiled,
        states=tmp_path / "states", inputs={"src/cgroup_preflight": compiled, "shop": _SHOP, "job": job},
    )  # fmt: skip
    with Guest(spec, root) as guest:
        assert (guest.resumed, guest.read_file(str(input_path("job/job.sh")))[:9]) == (False, b"#!/bin/sh")
    # The state of another source is of no use for this one.
    another = tmp_path / "another"
    shutil.copytree(compiled, another)
    (another / "cli" / "extra.pyc").write_bytes(b"")
    assert not _would_resume(replace(spec, tool=another), root)
    assert _would_resume(spec, root)
    with Guest(spec, root) as guest:
        assert guest.resumed
        assert guest.run(["sh", "-c", _HIDE]).returncode != 0
        honest = _judged(guest, "run", folder="shop")
        assert honest.verdict is Verdict.PASS, honest.findings
        guest.spawn(["sh", "-c", _LIFT.format(name="job", file="pids.max")])
        lifted = _judged(guest, "smoke", folder="job")
    assert lifted.verdict is Verdict.FAIL, lifted.findings
    assert ("CGP501", "job", Status.FAIL) in [(item.code, item.subject, item.status) for item in lifted.findings]
