"""The SFTP client against servers that are right, cut off, slow, wrong and hostile: a right value or a HostError, never else."""

import os
import random
import stat
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.host.remote import sftp_jobs as jobs
from cgroup_preflight.host.remote.line import Line, LineError
from cgroup_preflight.host.remote.sftp import INTERRUPTED, Sftp
from cgroup_preflight.host.remote.sftp_packets import PACKET_MAX, Reply
from tests.unit.host.remote.ends import (
    SFTP_SERVER,
    answer,
    played,
    program,
    replay,
    silent,
    status,
    text,
    version,
)

MOST = 1 << 20
MODE_FILE = struct.pack(">II", 4, stat.S_IFREG | 0o644)
MODE_FIFO = struct.pack(">II", 4, stat.S_IFIFO | 0o644)


def server(**_: object) -> Line:
    return program(SFTP_SERVER) if SFTP_SERVER else played()


def asked() -> list[jobs.Job]:
    """What the recorded stream below answers."""
    return [jobs.read("/proc/a", MOST), jobs.link("/l"), jobs.names("/d", folders=False), jobs.read("/f", MOST)]


#: The answers to `asked`, in the order of its requests: 1 OPEN, 2 READLINK, 3 OPENDIR, 4 STAT; then what follows from each.
STREAM = (
    version((b"posix-rename@openssh.com", b"1"))
    + answer(102, 1, text(b"\0\0\0\0"))
    + answer(104, 2, struct.pack(">I", 1) + text(b"/target") + text(b"") + struct.pack(">I", 0))
    + answer(102, 3, text(b"dir"))
    + answer(105, 4, MODE_FILE)
    + answer(103, 5, text(b"abc"))
    + answer(104, 6, struct.pack(">I", 2) + text(b".") + text(b"l") + struct.pack(">I", 0) + text(b"n") + text(b"l") + MODE_FILE)
    + answer(102, 7, text(b"file"))
    + status(8, 1)
    + status(9, 1)
    + answer(103, 10, text(b"x" * 300))
    + status(11, 0)
    + status(12, 0)
    + status(13, 1)
)  # fmt: skip
RIGHT = [
    Known(value=b"abc", source="/proc/a"), Known(value="/target", source="/l"), Known(value=("n",), source="/d"),
    Known(value=b"x" * 300, source="/f"),
]  # fmt: skip


def outcome(stream: bytes, piece: int = 1 << 16) -> object:
    line = replay(stream, piece=piece)
    try:
        return Sftp(line, seconds=20).run(asked())
    except HostError as error:
        return error
    finally:
        line.close()


def test_the_recorded_stream_is_right():
    assert outcome(STREAM) == RIGHT


def test_bytes_that_come_one_by_one_are_the_same_answers():
    assert outcome(STREAM, piece=1) == RIGHT


def test_a_stream_that_is_cut_anywhere_is_never_a_value():
    """But for the last answers, which only close files."""
    whole = len(STREAM) - len(status(13, 1))
    for end in range(whole):
        found = outcome(STREAM[:end])
        assert isinstance(found, LineError), end
        assert "closed" in str(found)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_a_changed_byte_raises_nothing_else(place, change):
    found = outcome(STREAM[:place] + bytes([STREAM[place] ^ change]) + STREAM[place + 1 :])
    assert isinstance(found, HostError) or (
        len(found) == len(RIGHT) and all(isinstance(each, Known | Missing) for each in found)
    )


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=400))
def test_garbage_is_a_reason(data):
    assert isinstance(outcome(data), HostError)
    assert isinstance(outcome(version() + data), HostError)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 6), st.binary(max_size=60)), max_size=12))
def test_packets_that_mean_nothing_are_a_reason(packets):
    stream = version() + b"".join(answer(kind, number, body) for kind, number, body in packets)
    found = outcome(stream)
    assert isinstance(found, HostError) or all(isinstance(each, Known | Missing) for each in found)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (version() + answer(102, 9, text(b"h")), "request 9, which was not sent"),
        (version() + struct.pack(">I", PACKET_MAX + 1) + b"x" * 20, f"a packet of {PACKET_MAX + 1} bytes"),
        (version() + struct.pack(">I", 0) + b"x" * 20, "a packet of 0 bytes"),
        (version() + struct.pack(">IB", 1, 102), "in the middle of a field"),
        (version() + answer(102, 1, struct.pack(">I", 1 << 31)), "in the middle of a field"),
        (version() + answer(102, 1, text(b"h") + b"more"), "longer than its fields"),
        (version() + answer(103, 1, text(b"h")), "type 103 in place of 102"),
        (version() + status(1, 0), "success in place of an answer"),
        (version() + status(2, 1), "success in place of an answer"),
        (version() + answer(104, 2, struct.pack(">I", 1 << 30)), "more names than"),
        (version() + answer(104, 2, struct.pack(">I", 0)), "0 targets"),
        (version(*[(b"%d" % n, b"") for n in range(99)]), "too many extensions"),
        (b"x" * (300 << 10), "no SFTP server"),
        (version()[:5] + struct.pack(">I", 4) + version()[9:] + b"x" * (300 << 10), "no SFTP server"),
    ],
)
def test_what_is_wrong_is_named(stream, words):
    found = outcome(stream)
    assert isinstance(found, LineError)
    assert words in str(found)


def test_an_answer_that_comes_twice_is_wrong():
    first = len(version((b"posix-rename@openssh.com", b"1")))
    size = 4 + struct.unpack(">I", STREAM[first : first + 4])[0]
    found = outcome(STREAM[: first + size] + STREAM[first : first + size] + STREAM[first + size :])
    assert "request 1, which was not sent" in str(found)


def test_more_data_than_was_asked_for_is_wrong():
    stream = version() + answer(102, 1, text(b"h")) + answer(103, 2, text(b"xxxxx"))
    line = replay(stream)
    with pytest.raises(LineError, match="5 bytes of 4"):
        Sftp(line).run([jobs.read("/proc/a", 4)])
    line.close()


def test_a_server_that_never_ends_a_file_is_cut_at_the_size_that_was_asked():
    line = replay(version() + answer(102, 1, text(b"h")) + b"".join(answer(103, n, text(b"xx")) for n in range(2, 4)))
    assert Sftp(line).run([jobs.read("/proc/a", 4)]) == [Known(value=b"xxxx", source="/proc/a")]
    line.close()


def test_names_that_lead_elsewhere_are_wrong():
    for name in (b"a/b", b"", b"a\0b"):
        names = struct.pack(">I", 1) + text(name) + text(b"") + struct.pack(">I", 0)
        line = replay(version() + answer(102, 1, text(b"h")) + answer(104, 2, names))
        with pytest.raises(LineError, match="not SFTP"):
            Sftp(line).run([jobs.names("/d", folders=False)])
        line.close()


def test_a_fifo_is_not_opened():
    line = replay(version() + answer(105, 1, MODE_FIFO))
    (found,) = Sftp(line).run([jobs.read("/tmp/fifo", MOST)])
    assert found == Missing(source="/tmp/fifo", why=Why.MALFORMED, detail="not a file")
    line.close()


@pytest.mark.parametrize(
    ("code", "why", "number"),
    [(2, Why.ABSENT, "ENOENT"), (3, Why.DENIED, "EACCES"), (8, Why.UNSUPPORTED, "ENOTSUP"), (4, Why.FAILED, "")],
)
def test_a_refusal_keeps_its_reason(code, why, number):
    line = replay(version() + status(1, code, b"Failure"))
    (found,) = Sftp(line).run([jobs.read("/proc/a", MOST)])
    assert found.why is why
    assert (number or "Failure") in str(found)
    line.close()


def test_noise_of_a_login_before_the_server_is_skipped():
    line = played(noise=b"Welcome!\r\n\x1b[1mYou have mail.\n" * 50)
    sftp = Sftp(line)
    assert not sftp.begun
    (found,) = sftp.run([jobs.read("/proc/self/comm", MOST)])
    assert isinstance(found, Known)
    assert sftp.begun
    line.close()


def test_silence_ends_with_the_time():
    line, there = silent()
    with pytest.raises(LineError, match="did not answer in time"):
        Sftp(line, seconds=0.05).run([jobs.link("/l")])
    line.close()
    there.close()


def test_answers_in_another_order_are_right(tmp_path):
    """The protocol allows it, and OpenSSH does not do it."""
    (tmp_path / "a").write_text("A")
    stream = version() + b"".join(
        answer(104, n, struct.pack(">I", 1) + text(b"%d" % n) + text(b"") + struct.pack(">I", 0)) for n in (3, 1, 2)
    )
    line = replay(stream)
    found = Sftp(line).run([jobs.link(f"/{n}") for n in range(3)])
    assert [each.value for each in found] == ["1", "2", "3"]
    line.close()


def test_an_interrupted_call_leaves_no_answers_for_the_next():
    line, there = silent()
    sftp = Sftp(line, seconds=20)
    first = [True]

    def receive(until: float) -> bytes:
        if first.pop():
            raise KeyboardInterrupt
        return b""

    line.receive = receive
    with pytest.raises(KeyboardInterrupt):
        sftp.run([jobs.link("/l")])
    assert sftp.lost == INTERRUPTED
    line.close()
    there.close()


@pytest.mark.starts_processes
def test_a_hundred_files_take_the_round_trips_of_one(tmp_path):
    for number in range(150):
        (tmp_path / str(number)).write_bytes(bytes([number % 256]) * number)
    line = server()
    sftp = Sftp(line)
    found = sftp.run([jobs.read(f"{tmp_path}/{number}", MOST) for number in range(150)])
    assert [each.value for each in found] == [bytes([number % 256]) * number for number in range(150)]
    assert sftp.round_trips <= 4
    line.close()


@pytest.mark.starts_processes
def test_a_long_file_is_read_whole_and_one_that_is_too_long_is_cut_there(tmp_path):
    data = random.Random(1).randbytes(700_000)
    (tmp_path / "long").write_bytes(data)
    line = server()
    path = f"{tmp_path}/long"
    whole, cut, end, middle = Sftp(line).run(
        [jobs.read(path, MOST), jobs.read(path, 300_000), jobs.read(path, 99, 699_990), jobs.read(path, 9, 1000)]
    )
    assert whole.value == data
    assert cut.value == data[:300_000]
    assert end.value == data[699_990:]
    assert middle.value == data[1000:1009]
    line.close()


@pytest.mark.starts_processes
@pytest.mark.skipif(not SFTP_SERVER, reason="there is no sftp-server here")
def test_files_are_written_whole(tmp_path):
    line = server()
    sftp = Sftp(line)
    data, path = random.Random(2).randbytes(3_000_000), f"{tmp_path}/file"
    assert sftp.run([jobs.write(path, data, 0o640, f"{tmp_path}/.t")]) == [""]
    assert sftp.run([jobs.write(path, b"new", 0o600, f"{tmp_path}/.t")]) == [""]
    assert (os.listdir(tmp_path), os.stat(path).st_mode & 0o777) == (["file"], 0o600)
    assert sftp.run([jobs.write(f"{tmp_path}/no/file", b"", 0o600, f"{tmp_path}/no/.t")]) == [
        "no such file or directory"
    ]
    with open(path, "wb") as file:
        file.write(data)
    with open(path, "rb") as source:
        assert sftp.run([jobs.upload(source, f"{path}2", 0o755)]) == [""]
    with open(f"{path}2", "rb") as file:
        assert file.read() == data
    with open(path, "rb") as source:
        assert sftp.run([jobs.upload(source, f"{path}2", 0o755)]) != [""]  # it exists
    assert sftp.run([jobs.make_folder(f"{tmp_path}/d", 0o700), jobs.make_folder(f"{tmp_path}/d", 0o700)]) == ["", ""]
    assert sftp.run([jobs.make_folder(path, 0o700)]) != [""]
    line.close()


@pytest.mark.parametrize(
    ("path", "sizes", "reads"),
    [
        ("/sys/fs/cgroup/a.slice/memory.max", (5,), 1),
        ("/sys/fs/cgroup/a.slice/cgroup.procs", (4090, 100), 3),
        ("/proc/self/mountinfo", (100, 100), 3),
        ("/proc/12/stat", (300,), 1),
        ("/proc/12/statm", (20,), 2),
        ("/proc/12/cmdline", (20,), 2),
        ("/sys/fs/cgroup/a.slice/cgroup.procs", (), 1),
    ],
)
def test_a_short_file_of_a_cgroup_or_process_is_whole_with_its_first_part(path, sizes, reads):
    job, pieces = jobs.read(path, MOST), [bytes(size) for size in sizes]
    next(job)
    requests, seen = job.send([Reply(kind=102, body=text(b"h"))]), 0
    while requests[0].answered:
        seen += 1
        requests = job.send(
            [Reply(kind=103, body=text(pieces.pop(0))) if pieces else Reply(kind=101, body=status(0, 1)[9:])]
        )
    with pytest.raises(StopIteration) as end:
        job.send([])
    assert (end.value.value, seen) == (Known(value=bytes(sum(sizes)), source=path), reads)
