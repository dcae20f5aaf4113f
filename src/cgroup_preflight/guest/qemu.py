"""QEMU: its command line, with an emulated CPU (TCG) or KVM, and whether KVM works on this host.

QEMU starts the distribution's cloud kernel directly, with an initial RAM disk of our own that has little more than the
drivers of virtio in it (initrd.py). All devices are such as QEMU can save the state of: it cannot for NVMe.
"""

import contextlib
import itertools
import os
import signal
import subprocess
from pathlib import Path

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.guest import tools
from cgroup_preflight.guest.initrd import FOREIGN_INIT, INPUT_DEVICE, READ_ONLY_INIT
from cgroup_preflight.guest.spec import BootMode, common_kernel_args
from cgroup_preflight.guest.words import PAUSE_ARGUMENT

PROGRAM = "qemu-system-x86_64"
_KVM = "/dev/kvm"
#: Seconds; where KVM works, the firmware writes its first byte within a tenth of one.
_TRY_SECONDS = 5.0
#: The port that the firmware writes to as soon as it runs (SeaBIOS, `-chardev ... isa-debugcon,iobase=0x402`).
_FIRMWARE_PORT = ("-device", "isa-debugcon,iobase=0x402,chardev=out", "-chardev", "stdio,id=out,signal=off")


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuMachine:
    """One virtual machine; `kernel` is a bzImage or its ELF image, `accelerator` "tcg" or "kvm".

    With `monitor_fd`, QEMU takes the commands of its QMP there. With `paused`, the machine boots to the point where its
    state can be saved, and mounts nothing that it could write to. With `resumed`, it waits for such a state instead.
    `modules` is the root of the image that the kernel is from, where `root` is not that one.
    """

    program: str
    kernel: Path
    initrd: Path
    root: Path
    input: Path
    line_fds: tuple[int, ...]
    cpus: int
    memory_mib: int
    mode: BootMode
    accelerator: str = "tcg"
    network: bool = False
    kernel_args: tuple[str, ...] = ()
    monitor_fd: int = -1
    paused: bool = False
    resumed: bool = False
    modules: Path | None = None


def qemu_argv(machine: QemuMachine) -> tuple[str, ...]:
    """The command; kernel messages and console go to stdout, the guest's virtio ports are `line_fds`, in order."""
    return (
        machine.program,
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35,usb=off,smm=off", "-accel", _accelerator(machine.accelerator)),
        *("-cpu", _cpu(machine.accelerator)),
        *("-smp", str(machine.cpus), "-m", f"{machine.memory_mib}M"),
        *("-kernel", str(machine.kernel), "-initrd", str(machine.initrd), "-append", " ".join(_kernel_args(machine))),
        *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
        *("-device", "virtio-serial-pci"),
        *itertools.chain.from_iterable(_line(number, line) for number, line in enumerate(machine.line_fds)),
        # With snapshot, writes go to a temporary file that QEMU unlinks as soon as it is open.
        *("-drive", f"if=none,id=root,file={_escaped(machine.root)},format=raw,snapshot=on"),
        *("-drive", f"if=none,id=input,file={_escaped(machine.input)},format=raw,cache=unsafe"),
        # The kernel names the disks by the order of these devices.
        *("-device", "virtio-blk-pci,drive=root", "-device", "virtio-blk-pci,drive=input"),
        *(() if machine.modules is None else _read_only("modules", machine.modules)),
        *(("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net") if machine.network else ()),
        *(() if machine.monitor_fd < 0 else _monitor(machine.monitor_fd)),
        *(("-incoming", "defer") if machine.resumed else ()),
    )


def _read_only(name: str, path: Path) -> tuple[str, ...]:
    drive = f"if=none,id={name},file={_escaped(path)},format=raw,readonly=on"
    return ("-drive", drive, "-device", f"virtio-blk-pci,drive={name}")


def _monitor(descriptor: int) -> tuple[str, ...]:
    return ("-chardev", f"socket,id=monitor,fd={descriptor}", "-mon", "chardev=monitor,mode=control")


def _line(number: int, descriptor: int) -> tuple[str, ...]:
    """One virtio port; the guest's kernel numbers them from 1 on, as port 0 is for a console."""
    name = f"line{number}"
    return "-chardev", f"socket,id={name},fd={descriptor}", "-device", f"virtserialport,chardev={name},nr={number + 1}"


def _kernel_args(machine: QemuMachine) -> tuple[str, ...]:
    return (
        *((f"rdinit={READ_ONLY_INIT}", PAUSE_ARGUMENT) if machine.paused else ()),
        *((f"rdinit={FOREIGN_INIT}",) if machine.modules is not None else ()),
        "console=ttyS0",
        # An emulated CPU can be too slow for the kernel's check of the TSC. The length of a delay loop is given, because
        # the value from the clock rate would make each short delay five times as long.
        *(("tsc=unstable", "lpj=2000000") if machine.accelerator == "tcg" else ("tsc=reliable",)),
        # Each of these is slow on an emulated CPU: a random kernel address, RCU grace periods, self-tests of checksums and
        # timers, watchdogs, a fifth level of page tables.
        "nokaslr",
        "rcupdate.rcu_expedited=1",
        "cryptomgr.notests",
        "no_timer_check",
        "nowatchdog",
        "no5lvl",
        # The guest has no secrets to protect, and an emulated CPU pays for each mitigation.
        "mitigations=off",
        "rodata=off",
        # The kernel does not clear memory in advance: memory that a probe only allocates then takes none of the host's.
        "init_on_alloc=0",
        # A library that all processes have at one address is translated once.
        *(("norandmaps",) if machine.accelerator == "tcg" else ()),
        *common_kernel_args(mode=machine.mode, input_device=INPUT_DEVICE, channel_device="/dev/vport0p1"),
        *machine.kernel_args,
    )


def _accelerator(name: str) -> str:
    # The size of the translation cache in MiB. The default is an eighth of the host's memory, up to 1 GiB. A run of three
    # services has as much translated code; a cache that is full is emptied, and all is translated again.
    return "tcg,thread=multi,tb-size=84" if name == "tcg" else name


def _cpu(accelerator: str) -> str:
    # QEMU emulates `rep stosb` byte by byte. Without ERMS the guest clears and copies memory in another way that takes half
    # the time.
    return "max,-erms" if accelerator == "tcg" else "max"


def _escaped(path: Path) -> str:
    """A comma ends a value in QEMU's option syntax, unless it is doubled."""
    return str(path).replace(",", ",,")


def accelerator(folder: Path) -> str:
    """`kvm` where KVM works, else `tcg`. Tries it once per boot of this host, and keeps the answer in `folder`."""
    if not os.access(_KVM, os.R_OK | os.W_OK):
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
    """Starts a machine without disks and waits for the first byte of its firmware. Raises HostError without QEMU.

    Only a try tells: on some hosts /dev/kvm can be opened, and the virtual CPU then hangs.
    """
    program = tools.find(PROGRAM)
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
