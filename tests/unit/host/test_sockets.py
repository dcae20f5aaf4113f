"""Which listening sockets an address reaches, by the tables of the kernel; a real socket is found in the real one."""

import os
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.host.sockets import Listener, UnixListener, parse_listeners, parse_unix_listeners, reached

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def on(address: str, inode: int, port: int = 80) -> Listener:
    return Listener(address=address, port=port, inode=inode)


@pytest.mark.skipif(sys.byteorder == "big", reason="the lines are those of a little-endian machine")
def test_a_table_of_the_kernel():
    text = (
        f"{HEAD}   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 12345 1 0 100 0 0 10 0\n"
        "   1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000  0 12346 1 0 100 0 0 10 0\n"
        "   2: 00000000000000000000000001000000:0050 0:0 0A 0:0 00:0 0 0 0 7 1\n"
    )
    assert parse_listeners(text) == (on("127.0.0.1", 12345, 8080), on("::1", 7))
    assert [item.shown for item in parse_listeners(text)] == ["127.0.0.1:8080", "[::1]:80"]


def test_an_empty_table_is_no_mistake():
    assert parse_listeners("") == parse_listeners(HEAD) == ()


@pytest.mark.parametrize("line", ["x", "0: 0100007F:50 0:0 0A 0:0 0:0 0 0 0 x", "0: 01:50 0:0 0A 0:0 0:0 0 0 0 7 1 2"])
def test_another_file_is_refused_or_names_no_inode(line):
    with pytest.raises(ValueError):
        parse_listeners(f"{HEAD}{line}\n")


@given(st.text(max_size=200))
def test_hostile_text_raises_nothing_else(text):
    try:
        parse_listeners(HEAD + text)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("host", "known", "inodes"),
    [
        ("127.0.0.1", [on("127.0.0.1", 1), on("0.0.0.0", 2), on("::", 3)], {1}),
        ("127.0.0.1", [on("0.0.0.0", 2), on("::", 3)], {2}),
        ("127.0.0.1", [on("::", 3), on("::1", 4)], {3}),
        ("127.0.0.1", [on("::ffff:127.0.0.1", 5), on("0.0.0.0", 2)], {5}),
        ("127.0.0.1", [on("127.0.0.1", 1), on("127.0.0.1", 6)], {1, 6}),
        ("127.0.0.1", [on("127.0.0.2", 1), on("127.0.0.1", 2, 81)], set()),
        ("::1", [on("::1", 4), on("::", 3)], {4}),
        ("::1", [on("::", 3), on("127.0.0.1", 1)], {3}),
        ("localhost", [on("127.0.0.1", 1), on("::1", 4)], {1, 4}),
        ("localhost", [on("127.0.0.1", 1)], {1}),
        ("example.org", [on("127.0.0.1", 1)], set()),
    ],
)
def test_the_most_specific_socket_answers(host, known, inodes):
    assert reached(known, host, 80) == inodes


def test_a_real_socket():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with open("/proc/net/tcp") as file:
            known = parse_listeners(file.read())
        (inode,) = reached(known, *server.getsockname())
        assert os.readlink(f"/proc/self/fd/{server.fileno()}") == f"socket:[{inode}]"


UNIX_HEAD = "Num       RefCount Protocol Flags    Type St Inode Path\n"


def test_a_table_of_unix_sockets():
    """Of those that listen the path can have anything in it, and those that do not listen are none."""
    text = (
        f"{UNIX_HEAD}0000000000000000: 00000002 00000000 00010000 0001 01  4071 /run/a.sock\n"
        "0000000000000000: 00000002 00000000 00010000 0005 01 123456 @an abstract one\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03  4072 /run/a.sock\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01  4073\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01     7  two blanks\n"
        "nonsense\n\n0: 1 2 00010000x 4 5 6 /run/b\n0: 1 2 00010000 4 5 six /run/b\n"
    )
    assert parse_unix_listeners(text) == (
        UnixListener(path="/run/a.sock", inode=4071),
        UnixListener(path="@an abstract one", inode=123456),
        UnixListener(path=" two blanks", inode=7),
    )


def test_a_path_with_a_line_end_takes_no_socket_away():
    forged = "/x\n0: 1 2 00010000 1 1 5 /run/a.sock"
    text = f"{UNIX_HEAD}0: 1 2 00010000 1 1 9 {forged}\n0: 1 2 00010000 1 1 7 /run/a.sock\n"
    found = parse_unix_listeners(text)
    assert {item.inode for item in found if item.path == "/run/a.sock"} == {5, 7}
    assert UnixListener(path="a\x1bb\udcff", inode=1).shown == "a?b?"


@given(st.text(max_size=200))
def test_hostile_unix_sockets_raise_nothing(text):
    parse_unix_listeners(UNIX_HEAD + text)


def test_a_real_unix_socket(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as idle:
        server.bind(str(tmp_path / "s"))
        server.listen()
        idle.bind(str(tmp_path / "idle"))
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as file:
            found = [item for item in parse_unix_listeners(file.read()) if item.path.startswith(str(tmp_path))]
        (only,) = found
        assert os.readlink(f"/proc/self/fd/{server.fileno()}") == f"socket:[{only.inode}]"
