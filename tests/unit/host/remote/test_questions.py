"""What the outputs of scripts mean: an answer that is not whole is no value, and one that only is old is."""

import math

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.host.remote import sftp_jobs as jobs
from cgroup_preflight.host.remote import sftp_packets as p
from cgroup_preflight.host.remote.programs import _is_pid, _seconds
from cgroup_preflight.host.remote.questions import Kind, Question, reading_of
from cgroup_preflight.host.remote.shell import Output

TREE = Question(kind=Kind.TREE, path="/sys/fs/cgroup")
LISTED = b"1 \x002 a.slice\x00"


@pytest.mark.parametrize(
    "complaint",
    [
        "find: ‘/sys/fs/cgroup/a/b’: No such file or directory",
        "find: '/sys/fs/cgroup/a': No such device",
        "find: ‘x’: No such file or directory\nfind: ‘y’: No such file or directory",
    ],
)
def test_cgroups_that_went_while_they_were_listed_are_no_failure(complaint):
    found = reading_of(TREE, Output(out=LISTED, status=1, err=f"{complaint}\n"))
    assert found == Known(value=(("", 1), ("/a.slice", 2)), source="/sys/fs/cgroup")


@pytest.mark.parametrize(
    ("out", "status", "complaint"),
    [
        (b"", 1, "find: ‘/sys/fs/cgroup’: No such file or directory"),
        (LISTED, 1, "find: ‘/sys/fs/cgroup/a’: Permission denied"),
        (LISTED, 1, "find: ‘x’: No such file or directory\nfind: ‘y’: Input/output error"),
        (LISTED, 1, ""),
        (LISTED, 137, "find: ‘x’: No such file or directory"),
    ],
)
def test_a_list_of_cgroups_that_is_not_whole_is_missing(out, status, complaint):
    assert isinstance(reading_of(TREE, Output(out=out, status=status, err=complaint)), Missing)


@pytest.mark.parametrize("text", [b"nan", b"inf", b"-inf 3", b"1e999", b"", b"x"])
def test_a_clock_says_a_number(text):
    with pytest.raises(HostError, match="the clock cannot be read"):
        _seconds(text)
    assert math.isclose(_seconds(b"12.5\n"), 12.5)
    assert math.isclose(_seconds(b"12.%N\n"), 12.0)


@pytest.mark.parametrize("text", [b"", b"-1", b"9" * 5000, b"1 2", b"x"])
def test_the_number_of_a_process_is_short(text):
    assert not _is_pid(text)
    assert _is_pid(b"4194304")


def _status(code: int) -> p.Reply:
    return p.Reply(kind=p.STATUS, body=code.to_bytes(4, "big") + (4).to_bytes(4, "big") + b"said" + bytes(4))


@pytest.mark.parametrize(("synced", "reason"), [(p.OK, ""), (p.UNSUPPORTED, ""), (p.FAILURE, "said")])
def test_a_file_that_the_disk_does_not_take_does_not_replace_the_old_one(synced, reason):
    job, asked = jobs.write("/x", b"data", 0o644, "/.t"), list[int]()
    handle = p.Reply(kind=p.HANDLE, body=(1).to_bytes(4, "big") + b"h")
    requests, ended = next(job), ""
    while True:
        names = [one.fields[0] for one in requests]
        asked += [one.kind for one in requests]
        replies = [
            handle if one.kind == p.OPEN else _status(synced if one.fields[0] == b"fsync@openssh.com" else p.OK)
            for one in requests
            if one.answered
        ]
        assert not reason or b"posix-rename@openssh.com" not in names
        try:
            requests = job.send(replies)
        except StopIteration as end:
            ended = end.value
            break
    assert ended == reason
    assert (p.REMOVE in asked) is bool(reason)


def test_a_server_that_does_not_say_who_owns_a_file_does_not_say_root():
    job = jobs.status("/x")
    next(job)
    with pytest.raises(StopIteration) as end:
        job.send([p.Reply(kind=p.ATTRS, body=(0x4).to_bytes(4, "big") + (0o100644).to_bytes(4, "big"))])
    assert end.value.value.why is Why.MALFORMED
