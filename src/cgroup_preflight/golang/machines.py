"""Names of architectures: ELF's number, Go's GOARCH and the kernel's `uname -m`, and which runs on which."""

from collections.abc import Mapping
from types import MappingProxyType

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang.elf_format import ElfHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What an ELF file was built for; `bits` 32 or 64, `big_endian` its byte order.

    `goarch` and `uname` are None where Go has no port; `number` is ELF's e_machine.
    """

    number: int
    bits: int
    big_endian: bool
    goarch: str | None
    uname: str | None

    def __str__(self) -> str:
        """The `uname -m` spelling, or ELF's number where there is none."""
        return self.uname or f"ELF machine {self.number} ({self.bits} bits)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether a program can run somewhere; None where the names alone do not tell.

    `why` is never empty for an answer other than True.
    """

    ok: bool | None
    why: str = ""


#: (e_machine, bits, big endian) -> (GOARCH, `uname -m`). Numbers: the gABI's list of e_machine values and
#: include/uapi/linux/elf-em.h; ports: `go tool dist list`. Both byte orders of MIPS share their `uname -m`.
_MACHINES: Mapping[tuple[int, int, bool], tuple[str, str]] = MappingProxyType(
    {
        (3, 32, False): ("386", "i686"),
        (8, 32, False): ("mipsle", "mips"),
        (8, 32, True): ("mips", "mips"),
        (8, 64, False): ("mips64le", "mips64"),
        (8, 64, True): ("mips64", "mips64"),
        (21, 64, False): ("ppc64le", "ppc64le"),
        (21, 64, True): ("ppc64", "ppc64"),
        (22, 64, True): ("s390x", "s390x"),
        (40, 32, False): ("arm", "arm"),
        (62, 64, False): ("amd64", "x86_64"),
        (183, 64, False): ("arm64", "aarch64"),
        (243, 64, False): ("riscv64", "riscv64"),
        (258, 64, False): ("loong64", "loongarch64"),
    }
)

#: Where 32-bit programs may run beside 64-bit ones, and what that hangs on.
_COMPATIBLE: Mapping[tuple[str, str], Fit] = MappingProxyType(
    {
        ("i686", "x86_64"): Fit(ok=True, why="a 32-bit program on a 64-bit kernel (CONFIG_IA32_EMULATION)"),
        ("arm", "aarch64"): Fit(ok=None, why="it is a 32-bit program, which not every 64-bit ARM CPU can run"),
        ("mips", "mips64"): Fit(ok=None, why="it is a 32-bit program; the kernel may lack support for it"),
    }
)


def elf_machine(header: ElfHeader) -> Machine:
    """The machine that an ELF header names, with Go's and the kernel's words for it."""
    big_endian = header.order == ">"
    goarch, uname = _MACHINES.get((header.machine, header.bits, big_endian), (None, None))
    return Machine(number=header.machine, bits=header.bits, big_endian=big_endian, goarch=goarch, uname=uname)


def canonical(machine: str) -> str:
    """One spelling for the many that kernels use: i386 .. i686, armv6l .. armv8l, amd64, arm64."""
    if machine in ("i386", "i486", "i586", "i686", "x86"):
        return "i686"
    if machine.startswith("armv") or machine == "arm":
        return "arm"
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def fit_machine(built_for: Machine, machine: str) -> Fit:
    """Whether a program built for one machine runs on a kernel whose `uname -m` is `machine`."""
    target = canonical(machine)
    if built_for.uname is None:
        return Fit(ok=False, why=f"it was built for {built_for}, which is no Linux machine that Go knows")
    if target not in {uname for _, uname in _MACHINES.values()}:
        return Fit(ok=None, why=f"it was built for {built_for}; this tool does not know the machine {machine!r}")
    if built_for.uname == target:
        if target.startswith("mips"):
            return Fit(ok=None, why="the kernel's machine name does not tell which byte order it runs")
        return Fit(ok=True)
    return _COMPATIBLE.get(
        (built_for.uname, target),
        Fit(
            ok=False,
            why=f"it was built for {built_for} (GOARCH={built_for.goarch}), the machine is {machine}",
        ),
    )
