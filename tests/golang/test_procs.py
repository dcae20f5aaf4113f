"""GOMAXPROCS in the memory of running programs, of each toolchain and each way to link them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ci.toolchains import TESTED

from cgroup_preflight.golang.binary_file import open_image
from cgroup_preflight.golang.symbols import address_of
from cgroup_preflight.host.local import LocalProcesses
from tests.golang.conftest import Sample

#: What is found of a program that set 5, after it started with 3.
LINKED = {
    "plain": (Sample(source="procs"), 5),
    "trimpath": (Sample(source="procs", flags=["-trimpath", "-ldflags=-w"]), 5),
    "stripped": (Sample(source="procs", flags=["-ldflags=-s -w"]), None),
    "pie": (Sample(source="procs", flags=["-buildmode=pie"]), None),
}


@pytest.mark.parametrize("version", TESTED)
@pytest.mark.parametrize("name", LINKED)
def test_what_the_scheduler_uses_is_read(
    version: str, name: str, compile_sample: Callable[[str, Sample, Path], Path], tmp_path: Path
) -> None:
    sample, expected = LINKED[name]
    binary = compile_sample(version, sample, tmp_path / "app")
    with open_image(binary) as image:
        address = address_of(image, "runtime.gomaxprocs", 4)
    assert (address is None) is (expected is None)
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([str(binary)], env={"GOMAXPROCS": "3"}, text=True, **pipes) as program:
        assert program.stdin is not None
        assert program.stderr is not None
        assert program.stderr.readline() == "3\n"
        if address is not None:
            found = LocalProcesses().memory(program.pid, address, 4)
            assert int.from_bytes(found, "little") == expected
        program.stdin.close()
        assert program.wait(timeout=60) == 0
