"""A guest without an agent as its user sees it: the other ends of its lines are played, word for word."""

import re
import shlex
import socket
import threading
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest import bare, foreign, foreign_try
from cgroup_preflight.guest.bare import LINES, BareGuest
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.spec import BootMode, GuestError, GuestSpec

PASSWD = "root:x:0:0:root:/root:/bin/bash\ntester:x:1000:1000::/home/tester:/bin/sh\nodd line\n"
_END = re.compile(rb"\nprintf '\\n([0-9a-f]{24}) %s\\n' \$\?\n\Z")


class Machine:
    """The ends in the guest: `says` answers the text of a command with its status and output, or with a function that does."""

    def __init__(self, says=lambda _: (0, b""), greeting=b"preflight-ready 7.2\n"):
        pairs = [socket.socketpair() for _ in range(LINES)]
        self.lines = tuple(here for here, _ in pairs)
        self.line = self.lines[0]
        self._ends = [there for _, there in pairs]
        self.texts: list[str] = []
        self._says = says
        self.closed = 0
        self._ends[0].sendall(greeting)
        self._threads = [threading.Thread(target=self._serve, args=(end,), daemon=True) for end in self._ends]
        for thread in self._threads:
            thread.start()

    def _serve(self, end):
        data = b""
        while chunk := end.recv(65536):
            data += chunk
            if not (found := _END.search(data)):
                continue
            text, data = data[: found.start()].decode(), b""
            self.texts.append(text)
            if text.startswith("serve "):
                number = int(re.search(r"/dev/\D+(\d+)", text)[1])
                self._ends[number].sendall(b"line\n")
            answer = (0, PASSWD.encode()) if "cat -- /etc/passwd" in text else self._says(text)
            if callable(answer):
                answer(end, found[1], text)
            else:
                end.sendall(answer[1] + b"\n" + found[1] + b" %d\n" % answer[0])

    def console_tail(self, lines):
        return ("one", "two")[:lines]

    def fence(self):
        return "landlock 7"

    def close(self):
        self.closed += 1
        for line in self.lines:
            line.close()
        for thread in self._threads:
            thread.join(10)
        for end in self._ends:
            end.close()


def guest(machine, **changes):
    root = RootImage(name="none", root=Path("/gone/root.ext4"), kernel=None, bare=True)
    return BareGuest(GuestSpec(boot_timeout=5, **changes), root, lambda *_: machine)


def spawned(text):
    """What the shell of a line says for a command: its number, its output and its errors."""
    between = re.search(r"printf '(\\n--.*?--\\n)'", text)
    return (between[1].replace("\\n", "\n").encode() if between else b"") if "exec setsid" in text else None


def test_a_command_and_what_came_of_it():
    def says(text):
        between = spawned(text)
        return (0, b"/sys/fs/cgroup/x") if between is None else (3, b"77\nout" + between + b"err")

    machine = Machine(says)
    with guest(machine) as made:
        assert (made.fence, made.alive, made.release, made.boot_seconds > 0) == ("landlock 7", True, "7.2", True)
        done = made.run(["a b", "$x"], user="tester", env={"X": "1 2"}, cwd="/d d")
        assert (done.returncode, done.stdout, done.stderr, done.timed_out) == (3, b"out", b"err", False)
        made.run(["true"])
    assert (made.alive, machine.closed) == (False, 1)
    first, second = (text for text in machine.texts if "exec setsid" in text)
    words = shlex.split(first[first.index("exec setsid") :].splitlines()[0])
    assert words[2:7] == ["setpriv", "--reuid=tester", "--regid=tester", "--init-groups", "--"]
    assert {"X=1 2", "HOME=/home/tester", "SHELL=/bin/sh"} <= set(words)
    assert words[words.index("a b") :][:2] == ["a b", "$x"]
    assert "cd -- '/d d'" in first
    assert "setpriv" not in second
    assert len([text for text in machine.texts if text.startswith("serve ")]) == 1


@pytest.mark.parametrize(("status", "code"), [(0, 0), (128, 128), (137, -9), (143, -15)])
def test_signals_are_negative(status, code):
    with guest(Machine(lambda text: (status if "exec setsid" in text else 0, b"7\n" + (spawned(text) or b"")))) as made:
        assert made.run(["x"]).returncode == code


@pytest.mark.parametrize("said", [b"env: 'x': No such file", b"preflight: no such folder", b"setpriv: no"])
def test_a_command_that_cannot_start(said):
    def says(text):
        between = spawned(text)
        return (0, b"") if between is None else (127, b"7\n" + between + said)

    with guest(Machine(says)) as made, pytest.raises(HostError, match=r"No such|no such|setpriv"):
        made.run(["x"])


def test_a_user_that_does_not_exist():
    with guest(Machine()) as made, pytest.raises(HostError, match="no user nobody"):
        made.run(["x"], user="nobody")


def test_a_command_that_takes_too_long_is_ended():
    ended = threading.Event()

    def hang(end, word, text):
        end.sendall(b"55\n")
        ended.wait(10)
        end.sendall(spawned(text) + b"\n" + word + b" 137\n")

    def says(text):
        if text.startswith("end_job"):
            ended.set()
        return hang if "exec setsid" in text else (0, b"")

    machine = Machine(says)
    with guest(machine) as made:
        done = made.run(["sleep"], timeout=0.05)
        assert (done.returncode, done.timed_out) == (-9, True)
    assert any(re.match(r"end_job .*/run-1 55", text) for text in machine.texts)


@pytest.mark.parametrize("greeting", [b"nonsense\n", b"preflight-re"])
def test_a_boot_that_fails(greeting):
    machine = Machine(greeting=greeting)
    if not greeting.endswith(b"\n"):
        machine._ends[0].shutdown(socket.SHUT_RDWR)
    with pytest.raises(GuestError, match="booting") as caught, guest(machine):
        pass
    assert caught.value.console == ("one", "two")
    assert machine.closed == 1


def test_a_lost_guest_says_so_and_stays_lost():
    machine = Machine()
    with guest(machine) as made:
        machine._ends[0].shutdown(socket.SHUT_RDWR)
        with pytest.raises(GuestError, match=r"ended|closed"):
            made.read_file("/x")
        assert not made.alive
        with pytest.raises(GuestError, match="is not running"):
            made.run(["true"])


def test_lines_end_with_an_error():
    with guest(Machine()) as made, pytest.raises(GuestError, match="no line left"):
        for _ in range(LINES):
            made.open_line(["cat"])


def test_files():
    machine = Machine(lambda text: (1, b"") if "missing" in text else (0, b"content\n"))
    with guest(machine) as made:
        assert made.read_file("/a b") == b"content\n"
        with pytest.raises(HostError, match="cannot read /missing"):
            made.read_file("/missing")
        with pytest.raises(HostError, match="cannot write /missing/x"):
            made.write_file("/missing/x", b"x")
    assert any("cat -- '/a b'" in text for text in machine.texts)


def test_a_full_boot_waits_for_systemd():
    machine = Machine(lambda text: (0, b"7\n" + (spawned(text) or b"")))
    with guest(machine, mode=BootMode.FULL):
        assert any("is-system-running --wait" in text for text in machine.texts)


def root_image(tmp_path):
    home = tmp_path / "ubuntu-0123456789abcdef"
    home.mkdir()
    (home / "found.json").write_text(
        '{"title": "", "init": "/lib/systemd/systemd", "systemd": 0, "file_server": "", "packages": {}, "left_out": 0}'
    )
    return RootImage(name=home.name, root=home / "root.ext4", kernel=None, bare=True)


@pytest.mark.parametrize(
    ("controllers", "version", "limit", "said"),
    [
        ("cpu memory pids", "255.4-1", str(64 << 20), ""),
        ("cpu memory", "255.4-1", str(64 << 20), "no pids"),
        ("cpu memory pids", "239 (239-82.el8)", str(64 << 20), "239 .* 244 is needed"),
        ("cpu memory pids", "", str(64 << 20), "unknown"),
        ("cpu memory pids", "v255", "max", "does not have it: max"),
    ],
)
def test_a_root_is_tried(tmp_path, monkeypatch, controllers, version, limit, said):
    class Played:
        release, boot_seconds = "7.2", 1.5

        def __init__(self, spec, item):
            assert "init=/lib/systemd/systemd" in spec.kernel_args

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def read_file(self, _):
            return controllers.encode()

        def run(self, argv, timeout):
            return bare.CommandResult(argv=(), returncode=0, stdout=f"{limit}\n".encode(), stderr=b"")

        def open_line(self, _):
            raise OSError

    monkeypatch.setattr(foreign_try.bus.Connection, "of_manager", lambda *_: {"Version": version})
    item = root_image(tmp_path)
    assert foreign.found_of(item).init
    if said:
        with pytest.raises(HostError, match=said):
            foreign_try.try_root(item, Played)
    else:
        assert foreign_try.try_root(item, Played).controllers == ("cpu", "memory", "pids")


def test_a_network_without_a_route_is_lost():
    def says(text):
        found = spawned(text)
        return (0, b"") if found is None else (1, b"7\n" + found + b"the kernel has no default route\n")

    with guest(Machine(says)) as one, pytest.raises(GuestError, match="no network: the kernel has no default route"):
        one.start_network()


def test_names_are_asked_of_qemu():
    machine = Machine(lambda text: (0, b"") if spawned(text) is None else (0, b"7\n" + spawned(text)))
    with guest(machine) as one:
        one.start_network()
    assert any("/etc/resolv.conf" in text and " network 10.0.2.3 ) &" in text for text in machine.texts)
