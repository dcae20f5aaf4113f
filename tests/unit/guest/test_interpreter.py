"""An ELF program gets another loader, and the folder of its libraries."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgroup_preflight.guest.interpreter import with_interpreter

LOADER = "/lib64/ld-linux-x86-64.so.2"
_STRINGS_AT, _DYNAMIC_AT, _ADDRESS = 0x200, 0x300, 0x60000000


def program(runpath: bytes = b"/lib64:/lib", *, kinds: tuple[int, ...] = (3, 1, 2)) -> bytes:
    """A program of three segments: its loader, all of the file, and the dynamic section with a DT_RUNPATH."""
    texts = {3: (0x180, len(LOADER) + 1), 1: (0, 0x400), 2: (_DYNAMIC_AT, 48)}
    data = bytearray(0x400)
    data[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q14xHH", data, 32, 64, 56, len(kinds))
    for number, kind in enumerate(kinds):
        offset, size = texts[kind]
        struct.pack_into("<IIQQQQQQ", data, 64 + 56 * number, kind, 4, offset, _ADDRESS + offset, 0, size, size, 1)
    data[0x180 : 0x180 + len(LOADER)] = LOADER.encode()
    names = b"\0libc.so.6\0" + runpath + b"\0next"
    data[_STRINGS_AT : _STRINGS_AT + len(names)] = names
    struct.pack_into("<QQQQQQ", data, _DYNAMIC_AT, 5, _ADDRESS + _STRINGS_AT, 29, 11, 0, 0)
    return bytes(data)


def test_the_kernel_finds_the_new_loader_and_the_loader_the_folder():
    made = with_interpreter(program(), "/cache/ld.so")
    kind, _, offset, _, _, size, _, _ = struct.unpack_from("<IIQQQQQQ", made, 64)
    assert (kind, made[offset : offset + size]) == (3, b"/cache/ld.so\0")
    assert made[_STRINGS_AT + 11 :].startswith(b"$ORIGIN\0\0\0\0\0next")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no ELF"),
        (b"#!/bin/sh\n", "no ELF"),
        (program()[:100], "no whole ELF"),
        (program(b"/lib"), "only 4 bytes"),
        (program(kinds=(1, 2)), "0 segments"),
        (program(kinds=(3, 1)), "0 segments"),
        (program(kinds=(3, 2)), "no segment has the strings"),
        (program(kinds=(3, 3, 1, 2)), "2 segments"),
        (program().replace(struct.pack("<QQ", 29, 11), struct.pack("<QQ", 15, 11)), "no DT_RUNPATH"),
    ],
)
def test_what_cannot_be_changed_is_an_error(data, said):
    with pytest.raises(ValueError, match=said):
        with_interpreter(data, "/cache/ld.so")


@given(st.integers(0, 0x3FF), st.integers(0, 255))
@example(191, 128)  # an offset that no file can have
def test_a_program_that_is_damaged_is_changed_or_an_error(place, value):
    data = bytearray(program())
    data[place] = value
    try:
        made = with_interpreter(bytes(data), "/cache/ld.so")
    except ValueError:
        return
    assert made.endswith(b"/cache/ld.so\0")


@pytest.mark.starts_processes
def test_a_real_program_starts_by_a_copy_of_the_loader(tmp_path):
    """The copy works like the original, and without it the program does not start."""
    source = Path("/usr/bin/linux.uml")
    if sys.platform != "linux" or not source.exists() or not Path(LOADER).exists():
        pytest.skip("needs a program with DT_RUNPATH: user-mode-linux")
    for name in (LOADER, "/lib/x86_64-linux-gnu/libc.so.6"):
        shutil.copy(name, tmp_path)
    copy = tmp_path / "program"
    copy.write_bytes(with_interpreter(source.read_bytes(), str(tmp_path / Path(LOADER).name)))
    copy.chmod(0o755)
    done = subprocess.run([copy, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert (
        done.stdout
        == subprocess.run([source, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    )
    (tmp_path / Path(LOADER).name).unlink()
    with pytest.raises(FileNotFoundError):
        subprocess.run([copy, "--version"], capture_output=True, timeout=30, check=False)
