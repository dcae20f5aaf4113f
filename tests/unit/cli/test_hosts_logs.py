"""Lines of other hosts that wait to be printed: a host that writes long ones does not fill this machine's memory."""

import queue
import threading

import pytest

from cgroup_preflight.cli import hosts_logs

LONG = "x" * (1 << 17)


@pytest.mark.parametrize(("waiting", "text", "waits"), [(9, LONG, True), (8, LONG, False), (9, "short", False)])
def test_long_lines_wait_for_others(waiting, text, waits):
    lines = queue.Queue[str | None](1000)
    for _ in range(waiting):
        lines.put("line")
    ended = threading.Event()
    thread = threading.Thread(target=hosts_logs._put, args=(lines, text, ended))
    thread.start()
    thread.join(0.5 if waits else 20)
    assert thread.is_alive() is waits
    lines.get()
    thread.join(20)
    assert not thread.is_alive()
    assert lines.qsize() == waiting


def test_the_end_of_the_command_ends_what_waits():
    lines, ended = queue.Queue[str | None](1000), threading.Event()
    for _ in range(9):
        lines.put("line")
    thread = threading.Thread(target=hosts_logs._put, args=(lines, LONG, ended))
    thread.start()
    ended.set()
    thread.join(20)
    assert not thread.is_alive()
    assert lines.qsize() == 9
