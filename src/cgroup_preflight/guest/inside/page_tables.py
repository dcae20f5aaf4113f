"""Makes later forks of a process take less time under user-mode Linux, where each page fault takes some 80 us.

fork(2) copies the page tables of private memory, but not those of mapped files: a child takes a page fault for each
page of a program or library that it uses. Unless a page of that mapping was written to: then fork copies the page table
of all of it (mm/memory.c, `vma_needs_copy`). So one byte of each mapping is written, with the value that it has.
"""

import os

#: Of programs and libraries, what is not written to: their code and their constants.
_KINDS = ("r-xp", "r--p")


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
