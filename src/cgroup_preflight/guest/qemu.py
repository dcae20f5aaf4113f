"""The command line of QEMU, with an emulated CPU (TCG) unless told otherwise. Pure.

The distribution's own cloud kernel is started directly. It has NVMe, virtio-pci, virtio-console and ext4 built in
(but virtio-blk as a module), so the root disk is NVMe and there is no initial RAM disk to unpack and run.

Whether KVM works here: tried, since the device can be there, be ours to open, and hang all the same.
"""

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cgroup_preflight.guest import tools
from cgroup_preflight.guest.spec import BootMode, common_kernel_args

PROGRAM = "qemu-system-x86_64"


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuMachine:
    """One virtual machine; `kernel` is a bzImage, `accelerator` "tcg" or "kvm"."""

    program: str
    kernel: Path
    root: Path
    input: Path
    channel_fd: int
    cpus: int
    memory_mib: int
    mode: BootMode
    accelerator: str = "tcg"
    network: bool = False
    kernel_args: tuple[str, ...] = ()


def qemu_argv(machine: QemuMachine) -> tuple[str, ...]:
    """The whole command; kernel messages and console go to stdout, the agent's line to `channel_fd`."""
    return (
        machine.program,
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35,usb=off,smm=off", "-accel", _accelerator(machine.accelerator)),
        *("-cpu", _cpu(machine.accelerator)),
        *("-smp", str(machine.cpus), "-m", f"{machine.memory_mib}M"),
        *("-kernel", str(machine.kernel), "-append", " ".join(_kernel_args(machine))),
        *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
        *("-chardev", f"socket,id=channel,fd={machine.channel_fd}"),
        *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=channel"),
        # snapshot: writes go to a temporary file that is unlinked as soon as it is open.
        *("-drive", f"if=none,id=root,file={_escaped(machine.root)},format=raw,snapshot=on"),
        *("-drive", f"if=none,id=input,file={_escaped(machine.input)},format=raw,read-only=on"),
        # Only one is NVMe: of two, controllers or name spaces, the names swap now and then, being probed side by side.
        *("-device", "nvme,drive=root,serial=root", "-device", "virtio-blk-pci,drive=input"),
        *(("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net") if machine.network else ()),
    )


def _kernel_args(machine: QemuMachine) -> tuple[str, ...]:
    return (
        "root=/dev/nvme0n1",
        "rootwait",
        "rw",
        "console=ttyS0",
        # An emulated CPU may be slower than the kernel's own checks think a clock can be.
        # Nor is the length of a loop measured: taken from the clock's rate, each short wait would be five times as long.
        *(("tsc=unstable", "lpj=2000000") if machine.accelerator == "tcg" else ("tsc=reliable",)),
        # The rest of a boot on an emulated CPU: moving the kernel to a random place, waiting for all CPUs to have seen each
        # change, testing checksum routines and clocks, watching for lock-ups, a fifth level of page tables.
        "nokaslr",
        "rcupdate.rcu_expedited=1",
        "cryptomgr.notests",
        "no_timer_check",
        "nowatchdog",
        "no5lvl",
        # Nothing in there is worth guarding from its neighbours or from its kernel, and every guard is emulated.
        "mitigations=off",
        "rodata=off",
        # Nor cleared before somebody reads it: memory that a probe holds, and nobody reads, then takes none of the host's.
        "init_on_alloc=0",
        *common_kernel_args(mode=machine.mode, input_device="/dev/vda", channel_device="/dev/vport0p1"),
        *machine.kernel_args,
    )


def _accelerator(name: str) -> str:
    # What is translated is kept in this many MiB. QEMU's own default is an eighth of the host's memory, up to 1 GiB, all of which
    # a run of some seconds would fill.
    return "tcg,thread=multi,tb-size=56" if name == "tcg" else name


def _cpu(accelerator: str) -> str:
    # `rep stosb`, which a real CPU is quick at, is emulated byte by byte: without ERMS, kernel and programs clear and copy
    # memory otherwise, in half the time.
    return "max,-erms" if accelerator == "tcg" else "max"


def _escaped(path: Path) -> str:
    """A comma ends a value in QEMU's option syntax, unless doubled."""
    return str(path).replace(",", ",,")


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
