"""Makes a process and its later forks take less time under user-mode-linux, where each page fault takes some 50 us.

fork(2) copies the page tables of private memory, but not those of mapped files: a child takes a page fault for each
page of a program or library that it uses. Unless a page of that mapping was written to: then fork copies the page table
of all of it (mm/memory.c, `vma_needs_copy`). So one byte of each mapping is written, with the value that it has.

The pages of a process that locks its memory come all at once, at some 5 us each (mlockall(2)). No guest has swap, so that
they would not be taken away from it either way.
"""

import ctypes
import os

#: Of programs and libraries, what is not written to: their code and their constants.
_KINDS = ("r-xp", "r--p")


#: What is mapped now, and what will be (asm-generic/mman.h).
_CURRENT, _FUTURE = 1, 2
_CPUS = "/proc/cpuinfo"


def faults_are_slow() -> bool:
    """Whether this kernel is user-mode-linux, which says so (arch/um/kernel/um_arch.c)."""
    with open(_CPUS, encoding="utf-8", errors="replace") as file:
        return "User Mode Linux" in file.read(256)


def have_all_pages() -> None:
    """Gives this process all its pages, and those of later mappings when they are made; not its children."""
    ctypes.CDLL(None).mlockall(_CURRENT | _FUTURE)


def copy_at_fork(pid: int) -> None:
    """Does so for all mapped files of a process; where the kernel does not let us, forks stay as they are. As root."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for span, kind, *more in lines:
            if kind in _KINDS and more[-1].startswith("/"):
                _rewrite(memory, int(span.partition("-")[0], 16))
    finally:
        os.close(memory)


def _rewrite(memory: int, at: int) -> None:
    try:
        os.pwrite(memory, os.pread(memory, 1, at), at)
    except OSError:
        return
