"""The command line of QEMU, with an emulated CPU (TCG) unless told otherwise. Pure.

The distribution's own cloud kernel is started directly. It has NVMe, virtio-pci, virtio-console and ext4 built in
(but virtio-blk as a module), so the root disk is NVMe and there is no initial RAM disk to unpack and run.
"""

from dataclasses import dataclass
from pathlib import Path

from cgroup_preflight.guest.kernel_args import common_kernel_args
from cgroup_preflight.guest.spec import BootMode

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
