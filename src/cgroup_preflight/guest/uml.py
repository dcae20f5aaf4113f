"""The command line of user-mode-linux, a Linux kernel that runs as an ordinary process. Pure.

Switches: Documentation/virt/uml/user_mode_linux_howto_v2.rst and `linux.uml --help`.
"""

from pathlib import Path

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.guest.spec import BootMode, common_kernel_args

PROGRAM = "linux.uml"


@dataclass(frozen=True, slots=True, kw_only=True)
class UmlMachine:
    """One user-mode-linux; `work` is its own folder for the disk overlay, PID files and `empty/`.

    With `seccomp` it runs the guest's processes under seccomp if it can (since Linux 6.16), else under ptrace. That is
    faster, but every process of the guest can then write to the memory of all: only for a host that confines the whole.
    """

    program: str
    root: Path
    input: Path
    work: Path
    line_fds: tuple[int, ...]
    memory_mib: int
    mode: BootMode
    seccomp: bool = True
    kernel_args: tuple[str, ...] = ()


def uml_argv(machine: UmlMachine) -> tuple[str, ...]:
    """The command; kernel messages and console go to stdout, the guest's serial lines are `line_fds`, in order."""
    return (
        machine.program,
        f"mem={machine.memory_mib}M",
        f"umid={machine.work.name}",
        f"uml_dir={machine.work}/",
        f"hostfs={machine.work / 'empty'}",
        f"ubd0={machine.work / 'root.cow'},{machine.root}",
        f"ubd1={machine.input}",
        f"seccomp={'auto' if machine.seccomp else 'off'}",
        "root=/dev/ubda",
        "rw",
        "con=null",
        "con0=null,fd:1",
        "ssl=null",
        *(f"ssl{number}=fd:{line},fd:{line}" for number, line in enumerate(machine.line_fds)),
        # raid6 takes a second to find its fastest checksum routine, which only RAID uses; it has another name since Linux 7.
        # hostfs mounts folders of the host; the argument above does not confine it, because `..` leads out.
        # mmapper makes a file of the host a device.
        "initcall_blacklist=raid6_select_algo,raid6_init,init_hostfs,mmapper_init",
        # The kernel would try to start a program for each of 512 old-style terminals: a third of a second.
        "pty.legacy_count=0",
        # A module would be code in this kernel, which is a process of the host.
        "sysctl.kernel.modules_disabled=1",
        *common_kernel_args(mode=machine.mode, input_device="/dev/ubdb", channel_device="/dev/ttyS0"),
        "noreboot",
        *machine.kernel_args,
    )
