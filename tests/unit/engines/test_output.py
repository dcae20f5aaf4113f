"""Output of services: what was read is freed on the disk, what was not read stays, and the end stays for the report."""

import os

from cgroup_preflight.engines.output import Output
from cgroup_preflight.engines.ready import LogWatch
from cgroup_preflight.host.local import LocalFiles

MIB = 1 << 20


def written(path, mebibytes: int) -> None:
    with open(path, "ab") as file:
        file.writelines(b"x" * (MIB - 1) + b"\n" for _ in range(mebibytes))


def on_disk(path) -> int:
    return os.stat(path).st_blocks * 512


def test_what_nobody_reads_is_freed_but_for_its_end(tmp_path):
    path = tmp_path / "out"
    written(path, 20)
    output = Output(str(path))
    assert output.free(LocalFiles(), None) == 0
    assert output.freed == 19 * MIB
    assert path.stat().st_size == 20 * MIB
    assert on_disk(path) <= 2 * MIB
    assert path.read_bytes()[-MIB:] == b"x" * (MIB - 1) + b"\n"
    written(path, 1)
    output.free(LocalFiles(), None)
    assert output.freed == 19 * MIB, "a little more is not worth a call"


def test_what_is_not_read_yet_stays_and_is_counted(tmp_path):
    path = tmp_path / "out"
    written(path, 10)
    with path.open("ab") as file:
        file.write(b"READY\n")
    watch, output = LogWatch(LocalFiles(), str(path), "^READY$"), Output(str(path))
    assert output.free(LocalFiles(), watch.offset) == 10 * MIB + 6
    assert output.freed == 0
    for _ in range(200):
        watch.read()
        output.free(LocalFiles(), watch.offset)
    assert watch.found
    assert 4 * MIB <= output.freed <= 9 * MIB + 6


def test_a_file_that_does_not_exist_yet(tmp_path):
    assert Output(str(tmp_path / "none")).free(LocalFiles(), None) == 0
