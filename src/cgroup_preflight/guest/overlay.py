"""Files laid over the guest's root when it is built: units, users' rights, what keeps a boot short. Pure text.

The agent itself is not among them: it comes with each boot's input archive, so the image outlives changes to it.

Tar archives made here: the overlay of an image, and the input of a boot. Same content, same bytes.

Owner is root and times are zero throughout; the guest sees them read-only.
"""

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Where the input archive is unpacked (a memory file system, read-only afterwards).
INPUT_DIR = "/run/preflight/in"
QUICK_TARGET = "preflight-quick.target"
FULL_TARGET = "multi-user.target"
#: Kernel arguments the starter reads; the dot makes the kernel take them for a module's and stay silent.
INPUT_ARGUMENT = "preflight.input"
CHANNEL_ARGUMENT = "preflight.channel"

_QUICK_UNITS = "/usr/local/lib/preflight-quick"
#: A quick boot has a handful of units, those of the run, and no generators: of the distribution's four hundred, systemd
#: would look at each. The kernel hands unknown KEY=VALUE arguments to PID 1 as its environment, which systemd does not
#: pass on to services (systemd, docs/ENVIRONMENT.md).
QUICK_KERNEL_ARGS = (
    f"SYSTEMD_UNIT_PATH=/run/systemd/transient:/run/systemd/system:{_QUICK_UNITS}",
    "SYSTEMD_GENERATOR_PATH=/nowhere",
    "SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nowhere",
)

_UNITS = "/etc/systemd/system"
_STARTER = "/usr/local/lib/preflight-start"

#: Things a throwaway guest has no use for, each costing seconds of boot under an emulated CPU.
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
    "systemd-timesyncd.service",
    # Loads drivers for devices that no guest has; an emulated CPU is busy with that for ten seconds.
    "systemd-udev-trigger.service",
    # Started late by others, it would hide what was put into /tmp before.
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
#: The distribution's own units that a quick boot has, unchanged.
_UNITS_OF_QUICK_BOOT = (
    "dbus.service",
    "dbus.socket",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
)
#: What every service orders itself against (systemd.service(5), implicit dependencies); on real machines they pull in
#: some fifty others.
_EMPTY_TARGETS = ("basic.target", "shutdown.target", "sockets.target", "sysinit.target")


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayFile:
    """One file or, with `link`, one symbolic link; `mode` are permission bits; owner is root."""

    path: str
    content: str = ""
    mode: int = 0o644
    link: str = ""


#: Loads what the agent and the tool take of the standard library while the input is unpacked; then the agent is there.
_AGENT_START = f"""
import argparse, dataclasses, fractions, json, os, runpy, shutil, socket, subprocess, sys, tempfile, tomllib, tty
_, status = os.wait()
if status:
    sys.exit("the input could not be unpacked")
sys.path.insert(0, "{INPUT_DIR}/agent")
runpy.run_module("cgroup_preflight.guest.inside.agent", run_name="__main__", alter_sys=True)
"""
_STARTER_TEXT = f"""#!/bin/sh
# Unpacks this boot's input and becomes the agent that came with it.
set -eu
read -r words < /proc/cmdline
for word in $words; do
    case $word in
        {INPUT_ARGUMENT}=*) input=${{word#*=}} ;;
        {CHANNEL_ARGUMENT}=*) channel=${{word#*=}} ;;
    esac
done
unpack() {{
    case $input in
        /dev/vd*) modprobe virtio_blk ;;
    esac
    mount --mkdir -t tmpfs -o mode=0755,nosuid,nodev,size=80% preflight {INPUT_DIR}
    # In pieces of 512 KiB: each reading and writing is a matter of its own for an emulated CPU.
    tar -b 1024 -xf "$input" -C {INPUT_DIR} --no-same-owner
    mount -o remount,ro {INPUT_DIR}
}}
unpack &
cd /
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -S -c '{_AGENT_START}' "$channel"
"""

# Delegate: the agent makes a cgroup per command. No default dependencies: the same unit serves both targets.
_AGENT_UNIT = f"""[Unit]
Description=cgroup-preflight guest agent
DefaultDependencies=no
After=systemd-journald.socket systemd-remount-fs.service
Conflicts=shutdown.target
Before=shutdown.target
# Without it nobody can talk to the guest: the host learns of that by the line's end, not by waiting.
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate

[Service]
ExecStart={_STARTER}
Delegate=yes
OOMScoreAdjust=-900
TasksMax=infinity
# Its last words belong into the console tail, for when they are needed nobody can ask the journal any more.
StandardOutput=null
StandardError=tty
TTYPath=/dev/console
"""

_QUICK_UNIT = """[Unit]
Description=cgroup-preflight: D-Bus, the journal and the agent, nothing else
DefaultDependencies=no
Requires=preflight-agent.service
Wants=dbus.socket systemd-journald.socket systemd-journald-dev-log.socket
AllowIsolate=yes
"""
_EMPTY_TARGET = """[Unit]
Description=Nothing to wait for in a quick boot
DefaultDependencies=no
"""


def overlay(*, hostname: str, machine_id: str) -> tuple[OverlayFile, ...]:
    """All files for a guest called `hostname`; `machine_id` is 32 hex digits, so that no boot is a first boot."""
    return (
        *_identity(hostname, machine_id),
        OverlayFile(path=_STARTER, content=_STARTER_TEXT, mode=0o755),
        OverlayFile(path=f"{_UNITS}/preflight-agent.service", content=_AGENT_UNIT),
        OverlayFile(
            path=f"{_UNITS}/{FULL_TARGET}.wants/preflight-agent.service",
            link=f"{_UNITS}/preflight-agent.service",
        ),
        OverlayFile(path=f"{_UNITS}/default.target", link=f"/lib/systemd/system/{FULL_TARGET}"),
        *(OverlayFile(path=f"{_UNITS}/{unit}", link="/dev/null") for unit in _MASKED_UNITS),
        OverlayFile(path=f"{_QUICK_UNITS}/preflight-agent.service", content=_AGENT_UNIT),
        OverlayFile(path=f"{_QUICK_UNITS}/{QUICK_TARGET}", content=_QUICK_UNIT),
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
        # Volatile: nothing of a run is worth a write to the disk overlay.
        "/etc/systemd/journald.conf.d/preflight.conf": (
            "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\nRateLimitIntervalSec=0\n"
        ),
    }
    rights = OverlayFile(path="/etc/sudoers.d/runner", content="runner ALL=(ALL:ALL) NOPASSWD: ALL\n", mode=0o440)
    return (*(OverlayFile(path=path, content=text) for path, text in texts.items()), rights)


_SKIPPED = frozenset({"__pycache__", ".git", ".mypy_cache", ".ruff_cache"})


def write_overlay(files: Iterable[OverlayFile], target: Path) -> None:
    """Writes `files` as archive `target`; the reader makes their directories."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            info = tarfile.TarInfo(file.path.lstrip("/"))
            info.mode = file.mode
            if file.link:
                info.type, info.linkname = tarfile.SYMTYPE, file.link
            _add_bytes(archive, info, file.content.encode())


def write_input(inputs: Mapping[str, Path], target: Path) -> None:
    """Writes each file or folder of `inputs` under its name as archive `target`; raises OSError."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in sorted(inputs.items()):
            archive.add(path, arcname=name, filter=_plain)


def _add_bytes(archive: tarfile.TarFile, info: tarfile.TarInfo, content: bytes) -> None:
    info.size = 0 if info.issym() else len(content)
    archive.addfile(info, io.BytesIO(content))


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if _SKIPPED.intersection(Path(info.name).parts):
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info
