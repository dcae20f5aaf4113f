"""Files that are added to the guest's root when it is built: units, sudo rights, settings for a short boot.

The agent is not one of them: it arrives on the input disk of each boot, so that an image outlives its changes.
Every change of a text here is a new image.
"""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.guest import starter
from cgroup_preflight.guest.words import (
    CHANNEL_ARGUMENT,
    FULL_TARGET,
    INPUT_ARGUMENT,
    INPUT_DIR,
    PAUSE_ARGUMENT,
    PAUSED,
    QUICK_TARGET,
)

_QUICK_UNITS = "/usr/local/lib/preflight-quick"
#: A quick boot has only the few units of the run and no generators, because systemd would load each of the
#: distribution's four hundred units. The kernel passes unknown KEY=VALUE arguments to PID 1 as environment, and systemd
#: does not pass them on to services (systemd, docs/ENVIRONMENT.md).
QUICK_KERNEL_ARGS = (
    f"SYSTEMD_UNIT_PATH=/run/systemd/transient:/run/systemd/system:{_QUICK_UNITS}",
    "SYSTEMD_GENERATOR_PATH=/nowhere",
    "SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nowhere",
)

#: The same with the units of packages (systemd.unit(5), "System Unit Search Path"), but with the targets of a quick boot.
_ALL_FOLDERS = (
    "/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient", _QUICK_UNITS,
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
)  # fmt: skip
ALL_UNITS = (f"SYSTEMD_UNIT_PATH={':'.join(_ALL_FOLDERS)}",)

_UNITS = "/etc/systemd/system"
_STARTER = starter.PATH

_AGENT = "preflight-agent.service"

#: Units that a throwaway guest does not need; with an emulated CPU each adds seconds to the boot.
_MASKED_UNITS = (
    "getty@.service",
    "serial-getty@.service",
    "console-getty.service",
    "getty-static.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-random-seed.service",
    "systemd-boot-random-seed.service",
    "systemd-pcrphase.service",
    "ldconfig.service",
    "systemd-networkd-wait-online.service",
    # Debian 13's needs a library that only a guest with a kernel of its own has.
    "systemd-modules-load.service",
    "systemd-timesyncd.service",
    # Loads drivers for devices that no guest has, which takes ten seconds on an emulated CPU.
    "systemd-udev-trigger.service",
    # Other units start it late; it would then hide the files that are already in /tmp.
    "tmp.mount",
)
_MASKED_GENERATORS = (
    "systemd-cryptsetup-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-veritysetup-generator",
    "systemd-system-update-generator",
    "systemd-bless-boot-generator",
    "systemd-rc-local-generator",
    "systemd-sysv-generator",
    "systemd-getty-generator",
    "systemd-run-generator",
    "systemd-tpm2-generator",
    "systemd-ssh-generator",
    "systemd-import-generator",
    "systemd-factory-reset-generator",
)
#: Units of the distribution that a quick boot uses unchanged.
_UNITS_OF_QUICK_BOOT = (
    "dbus.service",
    "dbus.socket",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
)
#: Implicit dependencies of every service (systemd.service(5)), empty here: the real ones start some fifty units.
_EMPTY_TARGETS = ("basic.target", "shutdown.target", "sockets.target", "sysinit.target")


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayFile:
    """A file of root's, or with `link` a symbolic link; `mode` are its permission bits."""

    path: str
    content: str = ""
    mode: int = 0o644
    link: str = ""


#: Imports the standard library modules of agent and tool while the input disk is mounted, then becomes the agent.
#: After a pause it mounts the disk itself: a program would take an emulated CPU a tenth of a second. The disk may have been
#: empty before the pause, or another one, so the kernel first has to forget what it read of that (BLKFLSBUF, linux/fs.h).
_AGENT_START = f"""
import argparse, ctypes, fcntl, fractions, json, os, runpy, shutil, socket, subprocess, sys, tempfile, time, tomllib, tty
channel, disk, pause = sys.argv[1:]
if pause:
    while not os.path.exists(channel):
        time.sleep(0.02)
    mount = ctypes.CDLL(None).mount
    os.makedirs("{INPUT_DIR}")
    line = os.open(channel, os.O_RDWR | os.O_NOCTTY)
    if os.isatty(line):
        tty.setraw(line)
    os.write(line, b"{PAUSED.decode()}")
    os.read(line, 1)
    os.close(line)
    device = os.open(disk, os.O_RDONLY)
    fcntl.ioctl(device, 0x1261)
    os.close(device)
    # MS_NOSUID, MS_NODEV, MS_NOATIME (linux/mount.h)
    status = mount(disk.encode(), b"{INPUT_DIR}", b"ext4", 2 | 4 | 1024, None)
else:
    try:
        _, status = os.wait()
    except ChildProcessError:
        # dash asks at the end of each command for what has ended: it was told, and this process is not.
        status = not os.path.ismount("{INPUT_DIR}")
if status:
    sys.exit("the input disk could not be mounted")
sys.path.insert(0, "{INPUT_DIR}/agent")
runpy.run_module("cgroup_preflight.guest.inside.agent", run_name="__main__", alter_sys=True)
"""
_STARTER_TEXT = f"""#!/bin/sh
# Mounts this boot's input disk and becomes the agent that came with it.
set -eu
read -r words < /proc/cmdline
pause=
for word in $words; do
    case $word in
        {PAUSE_ARGUMENT}) pause=yes ;;
        {INPUT_ARGUMENT}=*) input=${{word#*=}} ;;
        {CHANNEL_ARGUMENT}=*) channel=${{word#*=}} ;;
    esac
done
[ "$pause" ] || mount --mkdir -t ext4 -o nosuid,nodev,noatime "$input" {INPUT_DIR} &
cd /
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -S -c '{_AGENT_START}' "$channel" "$input" "$pause"
"""


def _quick_unit(first: str) -> str:
    return f"""[Unit]
Description=cgroup-preflight: D-Bus, the journal and the agent, nothing else
DefaultDependencies=no
Requires={first}
Wants=dbus.socket systemd-journald.socket systemd-journald-dev-log.socket
AllowIsolate=yes
"""


_EMPTY_TARGET = """[Unit]
Description=Nothing to wait for in a quick boot
DefaultDependencies=no
"""


def overlay(*, hostname: str, machine_id: str, bare: bool = False) -> tuple[OverlayFile, ...]:
    """All files of a guest; `machine_id` is 32 hex digits, because systemd does more work in a boot without one.

    A `bare` root has no agent, but a shell at the first line (`guest.starter`).
    """
    unit, text = (starter.UNIT, starter.UNIT_TEXT) if bare else (_AGENT, starter.AGENT_UNIT_TEXT)
    return (
        *_identity(hostname, machine_id),
        OverlayFile(path=_STARTER, content=starter.TEXT if bare else _STARTER_TEXT, mode=0o755),
        OverlayFile(path=f"{_UNITS}/{unit}", content=text),
        OverlayFile(path=f"{_UNITS}/{FULL_TARGET}.wants/{unit}", link=f"{_UNITS}/{unit}"),
        OverlayFile(path=f"{_UNITS}/default.target", link=f"/lib/systemd/system/{FULL_TARGET}"),
        *(OverlayFile(path=f"{_UNITS}/{unit}", link="/dev/null") for unit in _MASKED_UNITS),
        OverlayFile(path=f"{_QUICK_UNITS}/{unit}", content=text),
        OverlayFile(path=f"{_QUICK_UNITS}/{QUICK_TARGET}", content=_quick_unit(unit)),
        *(
            OverlayFile(path=f"{_QUICK_UNITS}/{unit}", link=f"/lib/systemd/system/{unit}")
            for unit in _UNITS_OF_QUICK_BOOT
        ),
        *(OverlayFile(path=f"{_QUICK_UNITS}/{unit}", content=_EMPTY_TARGET) for unit in _EMPTY_TARGETS),
        *(OverlayFile(path=f"/etc/systemd/system-generators/{name}", link="/dev/null") for name in _MASKED_GENERATORS),
    )


def _identity(hostname: str, machine_id: str) -> tuple[OverlayFile, ...]:
    texts: Mapping[str, str] = {
        "/etc/hostname": f"{hostname}\n",
        "/etc/hosts": f"127.0.0.1 localhost {hostname}\n::1 localhost\n",
        "/etc/machine-id": f"{machine_id}\n",
        "/etc/fstab": "",
        # Volatile, to save the writes to the disk overlay.
        "/etc/systemd/journald.conf.d/preflight.conf": (
            "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\nRateLimitIntervalSec=0\n"
        ),
    }
    rights = OverlayFile(path="/etc/sudoers.d/runner", content="runner ALL=(ALL:ALL) NOPASSWD: ALL\n", mode=0o440)
    return (*(OverlayFile(path=path, content=text) for path, text in texts.items()), rights)


def write_overlay(files: Iterable[OverlayFile], target: Path) -> None:
    """Writes `files` to the tar archive `target`, with root as owner and times of zero; folders are not in it."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            info = tarfile.TarInfo(file.path.lstrip("/"))
            info.mode = file.mode
            if file.link:
                info.type, info.linkname = tarfile.SYMTYPE, file.link
            _add_bytes(archive, info, file.content.encode())


def _add_bytes(archive: tarfile.TarFile, info: tarfile.TarInfo, content: bytes) -> None:
    info.size = 0 if info.issym() else len(content)
    archive.addfile(info, io.BytesIO(content))
