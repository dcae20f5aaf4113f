"""systemd's private socket, played by a thread: what is asked, and what is made of the answers."""

import contextlib
import socket
import struct
import threading

import pytest

from cgroup_preflight.engines import bus
from cgroup_preflight.engines.base import Phase
from cgroup_preflight.engines.shown import unit_state


def text(word: str) -> bytes:
    return struct.pack("<I", len(word)) + word.encode() + b"\0"


def answer(to: int, signature: str = "", body: bytes = b"", kind: int = 2) -> bytes:
    """A message as the D-Bus Specification draws it, written by hand: serial 99, fields 5 and 8."""
    fields = bytes((5, 1)) + b"u\0" + struct.pack("<I", to)
    if signature:
        fields += bytes((8, 1)) + b"g\0" + bytes((len(signature),)) + signature.encode() + b"\0"
    head = struct.pack("<cBBBIII", b"l", kind, 0, 1, len(body), 99, len(fields)) + fields
    return head + b"\0" * (-len(head) % 8) + body


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A manager that lets in, waits for `calls` messages each time, and says what it is told to."""
    path = str(tmp_path / "private")
    monkeypatch.setattr(bus, "MANAGER_SOCKET", path)
    heard: list[bytes] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    threads = []

    def play(*rounds: tuple[int, bytes], welcome: bytes = b"OK 1234\r\n") -> list[bytes]:
        def serve() -> None:
            for calls, said in rounds:
                line, _ = server.accept()
                # Who was refused the login hangs up without reading on.
                with line, contextlib.suppress(ConnectionError):
                    line.recv(1000)
                    line.sendall(welcome)
                    data = b""
                    while len(data) < 1024 * bool(calls) and (piece := line.recv(65536)):
                        data += piece
                    heard.append(data)
                    line.sendall(said)
                    # Closed with something unread, it would take back what was said.
                    line.shutdown(socket.SHUT_WR)
                    while line.recv(65536):
                        pass

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return heard

    yield play
    server.close()
    for thread in threads:
        thread.join(5)


@pytest.fixture
def line():
    with contextlib.closing(bus.Connection()) as opened:
        yield opened


def test_answers_come_in_any_order_and_one_may_be_a_refusal(manager, line):
    signal = struct.pack("<cBBBIII", b"l", 4, 0, 1, 0, 7, 0)
    heard = manager((2, signal + answer(2, "o", text("/job/2")) + answer(1, "s", text("no such unit"), kind=3)))
    found = line.call(bus.start(["a.service", "b.service"]))
    assert found == [bus.REFUSED, "/job/2"]
    assert b"StartUnit" in heard[0]
    assert text("a.service") in heard[0]
    assert text("replace") in heard[0]


def test_a_line_stays_open_and_a_lost_one_is_made_again(manager, line):
    """Each call has a number of its own, since answers to what filled up the first message, and signals, still come."""
    signal = struct.pack("<cBBBIII", b"l", 4, 0, 1, 0, 7, 0)
    answers = [answer(number, "s", text(str(number))) for number in range(1, 40)]
    heard = manager((1, signal.join(answers)), (1, answer(1, "s", text("again")) + answer(99)))
    assert line.call(bus.kill(["a.service"], 9)) == ["1"]
    assert line.call(bus.stop(["a.service"])) == [str(2 + heard[0].count(b"Ping"))]
    with pytest.raises(bus.BusError, match="closed"):
        line.call(bus.stop(["a.service"]) * 50)
    assert line.call(bus.stop(["b.service"])) == ["again"]


def test_signals_without_an_end_are_no_answer(manager):
    """The line stays open, so that no silence would end the wait."""
    signal = struct.pack("<cBBBIII", b"l", 4, 0, 1, 0, 7, 0)
    manager((1, signal * 20_000))
    with contextlib.closing(bus.Connection(seconds=0.0)) as line, pytest.raises(bus.BusError, match="did not answer"):
        line.call(bus.stop(["a.service"]))


def test_an_answer_that_breaks_off_is_none(manager, line):
    """What is left of a list of properties would look like a unit that lacks the rest."""
    entries = pair(8, "SubState", "s", text("running"))
    entries += pair(8 + len(entries), "MainPID", "u", struct.pack("<I", 4711))
    manager((1, answer(1, "a{sv}", struct.pack("<II", len(entries), 0) + entries)[:-24]))
    with pytest.raises(bus.BusError, match="middle"):
        line.show(["a.service"], ["SubState", "MainPID"])


def test_kill_names_the_signal(manager, line):
    heard = manager((1, answer(1)))
    assert line.call(bus.kill(["a.service"], 9)) == [None]
    assert text("all") + struct.pack("<i", 9) in heard[0]
    assert b"ssi\0" in heard[0]
    # Less would lie with systemd unread.
    assert len(heard[0]) > 512


def test_of_slices_two_properties_are_asked_for(manager, line):
    path, cgroup = (b"\1s\0" + b"\0" + text(word) for word in ("/run/a.slice", "/a.slice"))
    answers = answer(1, "v", path) + answer(2, "v", cgroup) + answer(3, "s", text("unknown"), kind=3)
    heard = manager((4, answers + answer(4, "v", cgroup)))
    assert line.of_slices(["a.slice", "b.slice"]) == {
        "a.slice": {"FragmentPath": "/run/a.slice", "ControlGroup": "/a.slice"}, "b.slice": {"ControlGroup": "/a.slice"},
    }  # fmt: skip
    assert heard[0].count(text("org.freedesktop.systemd1.Unit") + b"\0\0" + text("FragmentPath")) == 2
    assert heard[0].count(text("org.freedesktop.systemd1.Slice")) == 2


def pair(at: int, name: str, signature: str, value: bytes) -> bytes:
    """One entry of a{sv} that begins at offset `at` of the message's body."""
    data = b"\0" * (-at % 8) + text(name)
    data += bytes((len(signature),)) + signature.encode() + b"\0"
    return data + b"\0" * (-(at + len(data)) % (8 if signature[0] == "(" else 4)) + value


def test_properties_are_worded_as_systemctl_words_them(manager, line):
    entries = b""
    for name, signature, value in (
        ("SubState", "s", text("running")), ("MainPID", "u", struct.pack("<I", 4711)),
        ("InvocationID", "ay", struct.pack("<I", 2) + b"\xab\x01"), ("ExecMainCode", "i", struct.pack("<i", -1)),
        ("Other", "b", struct.pack("<I", 1)), ("Job", "(uo)", struct.pack("<I", 7) + text("/job/7")),
    ):  # fmt: skip
        entries += pair(8 + len(entries), name, signature, value)
    body = struct.pack("<II", len(entries), 0) + entries
    heard = manager((2, answer(1, "a{sv}", body) + answer(2, "s", text("unknown"), kind=3)))
    names = ("SubState", "MainPID", "InvocationID", "ExecMainCode", "ControlGroup", "Job")
    assert line.show(["a.service", "7b-c.slice"], names) == {
        "a.service": {
            "SubState": "running",
            "MainPID": "4711",
            "InvocationID": "ab01",
            "ExecMainCode": "-1",
            "Job": "7",
        }
    }
    assert text("/org/freedesktop/systemd1/unit/a_2eservice") in heard[0]
    assert text("/org/freedesktop/systemd1/unit/_37b_2dc_2eslice") in heard[0]


def test_what_is_not_wanted_is_passed_over_whatever_its_type(manager, line):
    """Each one between two that are read: a wrong size would garble the second."""
    number = struct.pack("<Q", 5)
    odd = (
        ("y", b"\x07"), ("b", struct.pack("<I", 1)), ("n", b"\1\0"), ("u", struct.pack("<I", 3)), ("d", number),
        ("s", text("abc")), ("g", b"\1u\0"), ("ay", struct.pack("<I", 3) + b"\1\2\3"), ("as", struct.pack("<I", 0)),
        ("as", struct.pack("<I", 14) + text("a") + b"\0\0" + text("b")), ("at", struct.pack("<I", 8) + number),
        ("(uo)", struct.pack("<I", 7) + text("/")), ("v", b"\1y\0\5"),
        ("a(ss)", struct.pack("<I", 14) + text("a") + b"\0\0" + text("b")), ("a{sv}", struct.pack("<I", 0)),
    )  # fmt: skip
    entries = b""
    for at, (signature, value) in enumerate(odd):
        entries += aligned(8 + len(entries), f"Odd{at}", signature, value)
        entries += aligned(8 + len(entries), f"Even{at}", "s", text(str(at)))
    manager((1, answer(1, "a{sv}", struct.pack("<II", len(entries), 0) + entries)))
    names = [f"Even{at}" for at in range(len(odd))]
    assert line.show(["a.service"], names) == {"a.service": {name: name[4:] for name in names}}


#: Where a value of a type may begin (D-Bus Specification, "Summary of D-Bus Marshalling").
_STARTS = {"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "x": 8, "t": 8, "d": 8, "(": 8, "{": 8}


def aligned(at: int, name: str, signature: str, value: bytes) -> bytes:
    """As `pair`, for any type; of an array, what its first element needs comes after its size."""
    data = b"\0" * (-at % 8) + text(name) + bytes((len(signature),)) + signature.encode() + b"\0"
    data += b"\0" * (-(at + len(data)) % _STARTS.get(signature[0], 4))
    if signature[0] != "a":
        return data + value
    data += value[:4]
    return data + b"\0" * (-(at + len(data)) % _STARTS.get(signature[1], 4)) + value[4:]


def unit_row(at: int, unit: str, active: str, sub: str, job: int) -> bytes:
    """One row of ListUnitsByNames that begins at offset `at` of the array."""
    row = b"\0" * (-at % 8)
    for word in (unit, "about", "loaded", active, sub, "", "/unit"):
        row += b"\0" * (-(at + len(row)) % 4) + text(word)
    row += b"\0" * (-(at + len(row)) % 4) + struct.pack("<I", job)
    for word in ("start", "/job"):
        row += b"\0" * (-(at + len(row)) % 4) + text(word)
    return row


def test_states_are_one_question_for_all_units(manager, line):
    rows = unit_row(0, "a.service", "active", "running", 0)
    rows += unit_row(len(rows), "b.service", "inactive", "dead", 12)
    heard = manager((1, answer(1, "a(ssssssouso)", struct.pack("<II", len(rows), 0) + rows)))
    assert line.states(["a.service", "b.service"]) == {
        "a.service": {"ActiveState": "active", "SubState": "running", "Job": "0"},
        "b.service": {"ActiveState": "inactive", "SubState": "dead", "Job": "12"},
    }
    asked = text("a.service") + b"\0\0" + text("b.service")
    assert b"as\0" in heard[0]
    assert struct.pack("<I", len(asked)) + asked in heard[0]


@pytest.mark.parametrize("pid", [0, 4711])
def test_of_a_unit_in_exec_stop_the_main_process_is_asked_for_too(manager, line, pid):
    """Without it a program that has ended looks like one that has not got its signal yet."""
    rows = unit_row(0, "a.service", "deactivating", "stop", 12)
    rows += unit_row(len(rows), "b.service", "deactivating", "stop-sigterm", 13)
    body = struct.pack("<II", len(rows), 0) + rows
    later = b"".join(answer(number, "v", b"\1u\0\0" + struct.pack("<I", pid)) for number in range(2, 40))
    manager((1, answer(1, "a(ssssssouso)", body) + later))
    found = line.states(["a.service", "b.service"])
    assert found == {
        "a.service": {"ActiveState": "deactivating", "SubState": "stop", "Job": "12", "MainPID": str(pid)},
        "b.service": {"ActiveState": "deactivating", "SubState": "stop-sigterm", "Job": "13"},
    }
    assert unit_state(found["a.service"]).phase is (Phase.BEFORE_SIGNAL if pid else Phase.ENDED)


@pytest.mark.parametrize(("signature", "body"), [("as", struct.pack("<I", 6) + text("a")), ("s", text("a")), ("", b"")])
def test_states_that_are_none_are_an_error(manager, signature, body, line):
    manager((1, answer(1, signature, body)))
    with pytest.raises(bus.BusError):
        line.states(["a.service"])


def test_properties_that_are_none_are_an_error(manager, line):
    manager((1, answer(1, "s", text("a"))))
    with pytest.raises(bus.BusError, match="not properties"):
        line.show(["a.service"], ("Id",))


def test_every_type_can_be_read(manager, line):
    pair = struct.pack("<I", 16) + b"\0\0\0\0" + text("ab") + b"\0" + struct.pack("<Q", 5)
    manager((1, answer(1, "a{st}", pair)))
    assert line.call(bus.stop(["a.slice"])) == [[("ab", 5)]]


@pytest.mark.parametrize("said", [b"", b"l", b"B" + b"\0" * 40, b"l" + b"\xff" * 40, answer(1, "(", b"xx")])
def test_what_is_no_answer_is_an_error(manager, said, line):
    manager((1, said))
    with pytest.raises(bus.BusError):
        line.call(bus.start(["a.service"]))


def test_who_is_not_let_in_asks_elsewhere(manager, line):
    manager((0, b""), welcome=b"REJECTED\r\n")
    with pytest.raises(bus.BusError, match="refused the login"):
        line.call(bus.start(["a.service"]))


def test_no_socket_is_an_error(monkeypatch, tmp_path, line):
    monkeypatch.setattr(bus, "MANAGER_SOCKET", str(tmp_path / "none"))
    with pytest.raises(bus.BusError):
        line.show(["a.service"], ("Id",))


def test_the_managers_own_properties(manager, line):
    """One that it would not tell is left out; what is shown of it is then the version of systemctl."""
    version = b"\x01s\0\0" + text("252.39-1~deb12u2")
    heard = manager((2, answer(1, "v", version) + answer(2, "s", text("no"), kind=3)))
    assert line.of_manager(["Version", "SystemState"]) == {"Version": "252.39-1~deb12u2"}
    assert text("org.freedesktop.systemd1.Manager") in heard[0]
    assert text("SystemState") in heard[0]


def test_properties_of_a_running_unit_are_set_in_one_call(manager):
    heard = manager((1, answer(1)))
    with contextlib.closing(bus.Connection(seconds=5)) as line:
        assert line.call(
            [bus.set_properties("a.slice", {"CPUQuotaPerSecUSec": 500_000, "MemoryMax": (1 << 64) - 1}, runtime=True)]
        ) == [None]
    # Written by hand: a string and its padding, a boolean, an array of (name, variant of type t) on boundaries of 8.
    body = (
        text("a.slice") + struct.pack("<I", 1) + struct.pack("<I", 72) + b"\0" * 4
        + text("CPUQuotaPerSecUSec") + b"\x01t\0" + b"\0" * 6 + struct.pack("<Q", 500_000)
        + text("MemoryMax") + b"\x01t\0" + b"\0" * 7 + b"\xff" * 8
    )  # fmt: skip
    assert b"SetUnitProperties\0" in heard[0]
    assert b"\x01g\0\x07sba(sv)\0" in heard[0]
    start = heard[0].index(text("a.slice"))
    assert heard[0][start : start + len(body)] == body


@pytest.mark.parametrize("signature", ["a()", "az", "aa()", "(sa())"])
def test_elements_of_no_size_are_no_answer(manager, line, signature):
    """They would never end."""
    manager((1, answer(1, signature, struct.pack("<IIII", 8, 8, 8, 8) * 2)))
    with pytest.raises(bus.BusError):
        line.call([bus.Call(path="/", interface="a.b", member="c")])
