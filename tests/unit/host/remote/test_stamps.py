"""The clock of another host, before and after what is read of it in one question."""

import struct

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.host.remote import sftp_jobs
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.files import RemoteFiles
from cgroup_preflight.host.remote.stamps import AFTER, BEFORE, span_of
from tests.unit.host.remote import ends


def reading(text: bytes) -> Known[bytes]:
    return Known(value=text, source=BEFORE)


def test_a_span_is_in_doubt_by_half_of_what_it_took_and_a_step_of_the_clock():
    span = span_of(reading(b"10.00 1.00\n"), reading(b"12.00 1.00\n"))
    assert (span.middle_ns, span.slack_ns) == (11_005_000_000, 1_005_000_000)
    assert span_of(reading(b"10.00 1.00\n"), reading(b"10.00 1.00\n")).slack_ns == 5_000_000


def test_what_no_clock_says_is_an_error():
    for bad in (Missing(source=BEFORE, why=Why.ABSENT), reading(b"\xff"), reading(b"x"), reading(b"")):
        for pair in ((bad, reading(b"1.00 1\n")), (reading(b"1.00 1\n"), bad)):
            with pytest.raises(HostError, match="its clock cannot be read"):
                span_of(*pair)
    with pytest.raises(HostError, match="goes back"):
        span_of(reading(b"2.00 1\n"), reading(b"1.99 1\n"))


@pytest.mark.starts_processes
@pytest.mark.parametrize("files", [None, ("false",)], ids=["sftp", "shell"])
def test_both_spellings_are_read_of_a_real_machine(files):
    lines = ends.LocalLines(files=files)
    asker = Asker(lines.shell, lines.files)
    found = RemoteFiles(asker).many([BEFORE, "/proc/stat", AFTER])
    asker.close()
    assert span_of(found[BEFORE], found[AFTER]).slack_ns < 60e9


@pytest.mark.parametrize("mount", ["/sys/fs/cgroup", "elsewhere"])
def test_a_server_reads_everything_between_the_two(monkeypatch, tmp_path, mount):
    """More files than are under way at a time, some of which do not exist: as cgroups without a controller."""
    if mount != "elsewhere":
        monkeypatch.setattr(sftp_jobs, "_KERNEL", (*sftp_jobs._KERNEL, f"{tmp_path}/"))
    names, order = dict[bytes, bytes](), list[bytes]()
    answered = ends._answered

    def noted(kind, body, handles):
        number, size = struct.unpack(">II", body[:8])
        name = body[8 : 8 + size]
        if kind == 3:
            names[b"h%d" % number] = name
        if kind == 5:
            order.append(names[name])
        return answered(kind, body, handles)

    monkeypatch.setattr(ends, "_answered", noted)
    paths = [f"{tmp_path}/{number}" for number in range(200)]
    for path in paths[::3]:
        with open(path, "w", encoding="ascii") as file:
            file.write("1\n")
    asker = Asker(ends.LocalLines().shell, ends.played)
    found = RemoteFiles(asker).many([BEFORE, *paths, AFTER])
    asker.close()
    assert sum(isinstance(one, Known) for one in found.values()) == len(paths[::3]) + 2
    # What comes behind is only the end of a file that was read already.
    first = list(dict.fromkeys(order))
    assert (first[0], first[-1]) == (BEFORE.encode(), AFTER.encode())
