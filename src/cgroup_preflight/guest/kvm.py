"""Whether KVM works here: tried, since the device can be there, be ours to open, and hang all the same."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from cgroup_preflight.guest import tools

_DEVICE = "/dev/kvm"
#: Seconds; a processor that works needs a tenth of one for the firmware's first output.
_TRY_SECONDS = 5.0
#: The firmware writes to this port (SeaBIOS, `-chardev ... isa-debugcon,iobase=0x402`) as soon as it runs.
_FIRMWARE_PORT = ("-device", "isa-debugcon,iobase=0x402,chardev=out", "-chardev", "stdio,id=out,signal=off")


def accelerator(folder: Path) -> str:
    """Tells `kvm` where a virtual processor was seen to run, else `tcg`; remembered in `folder` until the next boot."""
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    remembered = folder / f".kvm-{boot}"
    with contextlib.suppress(OSError):
        return remembered.read_text().strip() if remembered.exists() else _remember(remembered)
    return "tcg"


def _remember(path: Path) -> str:
    answer = "kvm" if works() else "tcg"
    for old in path.parent.glob(".kvm-*"):
        old.unlink(missing_ok=True)
    path.write_text(answer)
    return answer


def works() -> bool:
    """Starts a machine without disks and waits for the first byte of its firmware. Raises HostError without QEMU."""
    program = tools.find("qemu-system-x86_64")
    argv = (program, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", "kvm",
            "-cpu", "max", "-m", "64M", *_FIRMWARE_PORT)  # fmt: skip
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    try:
        return bool(_first_byte(process))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _first_byte(process: "subprocess.Popen[bytes]") -> bytes:
    import select

    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], _TRY_SECONDS)
    return os.read(process.stdout.fileno(), 1) if readable else b""
