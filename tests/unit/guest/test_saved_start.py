"""Saved states, with a QEMU that is played: a thread that speaks its monitor's protocol, and whose state is some bytes."""

import json
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.guest import lost, saved_start, saved_state, tools
from cgroup_preflight.guest.contents import Contents
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.inside.frames import Decoder, Frame, encode
from cgroup_preflight.guest.monitor import Monitor, MonitorError
from cgroup_preflight.guest.saved_state import KEPT, StateError
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import GuestEngine, GuestError, GuestSpec

#: More than one part of the stream, and than a pipe has room for.
MEMORY = bytes(range(256)) * 10_000


class Qemu:
    """A machine; `wrong` names what goes wrong in it: a command of the monitor that is refused, or a word below."""

    def __init__(self, spec, image, *, resumed=False, wrong="", memory=MEMORY) -> None:
        self.spec, self.resumed, self.wrong, self.memory = spec, resumed, wrong, memory
        self.line, self._agent = socket.socketpair()
        self._outer, self._monitor = socket.socketpair()
        self.lines = (self.line, *((self._outer,) if spec.states else ()))
        self.paused, self.resumed_from = False, None
        #: What happened to the machine that loads the tool, in order.
        self.loading: list[str] = []
        self.commands: list[str] = []
        self.renewed: list[Frame] = []
        self.closed = False
        self._running = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._serve_monitor, self._serve)]
        for thread in self._threads:
            thread.start()

    def fill(self, *, alone):
        self.loading.append("tool" if alone else "all")
        if self.wrong == "has no room" and not alone:
            raise StateError(self.wrong)

    @property
    def _loads(self):
        return self.spec.tool is not None and self.spec.states is not None and not self.resumed

    def console_tail(self, lines):
        return ("panic",)

    def fence(self):
        return "landlock 7"

    def close(self):
        self.closed = True
        self._running.set()
        for one in (self.line, self._outer, self._agent, self._monitor):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _serve(self):
        try:
            pauses = self.spec.states is not None or self.spec.engine is GuestEngine.UML
            if pauses and not self.resumed:
                if self._loads:
                    self._agent.sendall(b"P")
                    assert self._agent.recv(1) == b"\n"
                    self.loading.append("loaded")
                self._agent.sendall({"dies in the boot": b"", "talks nonsense": b"x"}.get(self.wrong, b"P"))
                if self.wrong == "dies in the boot":
                    self._agent.close()
                    return
            if pauses:
                if self.spec.states is not None:
                    self._running.wait(10)
                if self._agent.recv(1) != b"\n" or (self.resumed and self.wrong == "dies when it resumes"):
                    self._agent.close()
                    return
            self._agent.sendall(encode(Frame(head={"ok": True})))
            decoder = Decoder()
            while chunk := self._agent.recv(1 << 16):
                for request in decoder.feed(chunk):
                    self.renewed.append(request)
                    failed = self.wrong == "does not renew" and self.resumed
                    head = {"ok": False, "error": "OSError"} if failed else {"ok": True}
                    self._agent.sendall(encode(Frame(head=head)))
        except OSError:
            pass

    def _serve_monitor(self):
        try:
            self._say({"QMP": {"version": {}}})
            given, state = -1, "paused"
            while data := socket.recv_fds(self._monitor, 1 << 16, 1):
                text, descriptors, *_ = data
                if not text:
                    return
                command = json.loads(text)
                name = command["execute"]
                self.commands.append(name)
                given = descriptors[0] if descriptors else given
                if name == self.wrong:
                    self._say({"error": {"desc": "no"}})
                    continue
                self.loading.append(name)
                if name == "migrate":
                    state = self._save(given)
                elif name == "migrate-incoming":
                    if not self._load(given):
                        self._monitor.close()
                        return
                    continue
                elif name == "cont":
                    self._running.set()
                self._say({"event": "ANYTHING"})
                self._say({"return": {"status": state}})
        except OSError:
            pass

    def _save(self, given):
        # The stream is read while the answer to the command is on its way.
        def write():
            rest = memoryview(self.memory)
            try:
                while rest:
                    rest = rest[os.write(given, rest) :]
            except OSError:
                pass
            os.close(given)

        threading.Thread(target=write, daemon=True).start()
        return "failed" if self.wrong == "does not save all" else "completed"

    def _load(self, given):
        self._say({"return": {}})
        loaded = b""
        while chunk := os.read(given, 1 << 16):
            loaded += chunk
        os.close(given)
        return loaded == self.memory

    def _say(self, answer):
        self._monitor.sendall(json.dumps(answer).encode() + b"\n")


@pytest.fixture
def image(tmp_path, monkeypatch):
    """An image of the cache, and a program that is QEMU."""
    home, programs = tmp_path / "images" / "debian-12-0123", tmp_path / "bin"
    home.mkdir(parents=True)
    programs.mkdir()
    (home / "manifest.json").write_text('{"root.ext4": {"sha256": "ab"}}')
    (programs / "qemu-system-x86_64").write_text("QEMU")
    (programs / "qemu-system-x86_64").chmod(0o755)
    monkeypatch.setattr(tools, "_SEARCH_PATH", str(programs))
    return RootImage(name=home.name, root=home / "root.ext4", kernel=home / "vmlinux", initrd=home / "initrd")


class Machines:
    """Boots guests on the image; the machines that were started are in `started`."""

    def __init__(self, image, states) -> None:
        self.image, self.states = image, states
        self.started: list[Qemu] = []

    def __call__(self, *wrong, memory=MEMORY, **changes):
        """A guest that has booted; `wrong` is what goes wrong in each machine that is started for it."""
        left = list(wrong)
        spec = GuestSpec(**{"engine": GuestEngine.QEMU, "boot_timeout": 10, "states": self.states, **changes})

        def engine(spec, image, **words):
            made = Qemu(spec, image, wrong=left.pop(0) if left else "", memory=memory, **words)
            self.started.append(made)
            return made

        guest = Guest(spec, self.image, lambda spec, image: saved_start.start(spec, image, engine))
        with guest:
            return guest

    @property
    def files(self):
        return sorted(path.name for path in self.states.glob("*"))


@pytest.fixture
def machines(image, tmp_path):
    return Machines(image, tmp_path / "states")


def test_the_first_boots_and_the_next_resume(machines):
    assert [machines().resumed for _ in range(3)] == [False, True, True]
    first, second, _ = machines.started
    assert (first.resumed, second.resumed) == (False, True)
    assert first.commands[-1] == second.commands[-1] == "cont"
    (state,) = machines.states.iterdir()
    assert state.name.startswith("debian-12-0123+")
    assert (state.stat().st_mode & 0o777, machines.states.stat().st_mode & 0o777) == (0o600, 0o700)
    assert all(made.closed for made in machines.started)


def test_each_machine_that_paused_becomes_a_new_one_and_another_does_not(machines):
    machines()
    machines()
    renewals = [made.renewed[0] for made in machines.started]
    assert [item.head["op"] for item in renewals] == ["renew", "renew"]
    assert len({item.head["machine_id"] for item in renewals}) == 2
    assert len({item.body for item in renewals}) == 2
    assert all(len(item.body) == 64 and len(item.head["machine_id"]) == 32 for item in renewals)
    assert not machines(states=None).resumed
    assert (machines.started[-1].renewed, machines.started[-1].commands) == ([], [])


def test_other_machines_have_other_states(machines, image):
    kinds = ({}, {"memory_mib": 640}, {"cpus": 2}, {"kernel_args": ("psi=0",)}, {"network": True})
    assert [machines(**changes).resumed for changes in kinds[:KEPT]] == [False] * KEPT
    assert [machines(**changes).resumed for changes in kinds[:KEPT]] == [True] * KEPT
    # The one without a use for the longest time makes room.
    for age, path in enumerate(sorted(machines.states.iterdir(), key=lambda path: path.stat().st_mtime_ns)):
        os.utime(path, (age, age))
    assert not machines(**kinds[KEPT]).resumed
    assert len(machines.files) == KEPT
    assert [machines(**changes).resumed for changes in kinds] == [False, False, False, False, False]


@pytest.fixture
def tool(tmp_path):
    """The compiled package of this tool."""
    (tmp_path / "tool" / "cli").mkdir(parents=True)
    (tmp_path / "tool" / "cli" / "run.pyc").write_bytes(b"compiled")
    return tmp_path / "tool"


def test_the_tool_is_loaded_before_the_state_is_saved_and_the_project_comes_after_it(machines, tool):
    assert [machines(tool=tool).resumed for _ in range(2)] == [False, True]
    first, second = machines.started
    steps = [step for step in first.loading if step in ("tool", "loaded", "stop", "migrate", "all", "cont")]
    assert steps == ["tool", "loaded", "stop", "migrate", "all", "cont"]
    assert [step for step in second.loading if step in ("all", "cont")] == ["all", "cont"]
    assert [made.renewed[0].head["op"] for made in machines.started] == ["renew", "renew"]


def test_without_a_tool_the_disk_is_written_once_before_the_pause_ends(machines):
    assert [machines().resumed for _ in range(2)] == [False, True]
    assert [[step for step in made.loading if step in ("all", "cont")] for made in machines.started] == [
        ["all", "cont"]
    ] * 2


@pytest.mark.parametrize("with_tool", [True, False])
def test_a_project_that_the_disk_has_no_room_for_boots_without_a_pause(machines, tool, with_tool):
    assert not machines("has no room", tool=tool if with_tool else None).resumed
    assert machines.started[-1].spec.states is None


def test_a_state_with_another_tool_is_never_used(machines, tool, tmp_path):
    machines(tool=tool)
    (tool / "cli" / "run.pyc").write_bytes(b"another")
    assert [machines(tool=tool).resumed for _ in range(2)] == [False, True]
    (tool / "cli" / "run.pyc").rename(tool / "cli" / "other.pyc")
    assert [machines(tool=tool).resumed for _ in range(2)] == [False, True]
    assert not machines().resumed
    (tool / "cli" / "other.pyc").rename(tool / "cli" / "run.pyc")
    (tool / "cli" / "run.pyc").write_bytes(b"compiled")
    assert [machines(**words).resumed for words in ({"tool": tool}, {})] == [True, True]


def test_a_tool_that_cannot_be_read_is_loaded_by_a_plain_boot(machines, tool):
    (tool / "cli" / "run.pyc").unlink()
    (tool / "cli" / "run.pyc").symlink_to("nowhere")
    assert not machines(tool=tool).resumed
    assert machines.started[-1].spec.states is None


@pytest.mark.parametrize("wrong", ["migrate", "does not save all"])
def test_a_machine_with_the_tool_whose_state_is_not_saved_has_its_own_disk(machines, tool, wrong):
    assert not machines(wrong, tool=tool).resumed
    assert machines.started[-1].loading[-2:] == ["all", "cont"]
    assert (machines.files, len(machines.started)) == ([], 1)


def test_a_machine_that_talks_nonsense_while_it_loads_the_tool_is_an_error_of_the_boot(machines, tool):
    with pytest.raises(GuestError, match="something else"):
        machines("talks nonsense", tool=tool)
    assert machines.started[-1].closed


def test_where_the_tool_cannot_be_loaded_a_plain_boot_follows(machines, tool):
    assert not machines("dies in the boot", tool=tool).resumed
    first, last = machines.started
    assert first.closed
    assert (first.spec.states is None, last.spec.states) == (False, None)


UML = {"engine": GuestEngine.UML, "states": None}


def test_user_mode_linux_pauses_until_its_disk_is_written_and_is_no_machine_of_a_state(machines):
    assert not machines(**UML).resumed
    (uml,) = machines.started
    assert (uml.loading, uml.renewed, uml.paused) == (["all"], [], False)


def test_a_disk_that_cannot_be_written_ends_the_machine(machines):
    with pytest.raises(StateError, match="has no room"):
        machines("has no room", **UML)
    (uml,) = machines.started
    assert uml.closed


@pytest.mark.parametrize(
    ("wrong", "said"), [("dies in the boot", "ended"), ("talks nonsense", "something else than that it pauses")]
)
def test_user_mode_linux_that_does_not_pause_is_an_error_of_the_boot(machines, wrong, said):
    with pytest.raises(GuestError, match=said):
        machines(wrong, **UML)
    assert machines.started[-1].closed


def test_a_damaged_image_is_named_where_its_machine_does_not_pause(machines, monkeypatch):
    monkeypatch.setattr(lost, "damaged", lambda _home: "root.ext4")
    with pytest.raises(
        GuestError, match=r"its image debian-12-0123 is damaged \(root.ext4\); the guest sent something"
    ):
        machines("talks nonsense", **UML)


@pytest.mark.parametrize("what", ["image", "qemu"])
def test_a_state_belongs_to_the_files_of_the_image_and_to_one_qemu(machines, image, what):
    machines()
    changed = {"image": image.root.parent / "manifest.json", "qemu": Path(tools.find("qemu-system-x86_64"))}[what]
    changed.write_text('{"root.ext4": {"sha256": "cd"}}')
    assert not machines().resumed
    assert machines().resumed


def test_without_a_manifest_it_boots_without_a_pause(machines, image):
    (image.root.parent / "manifest.json").unlink()
    assert not machines().resumed
    assert machines.started[-1].spec.states is None


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _last(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _foreign(path):
    header = json.loads(path.read_bytes()[:4096])
    path.write_bytes(json.dumps({**header, "key": "0" * 64}).encode().ljust(4096) + path.read_bytes()[4096:])


def _format(path):
    header = json.loads(path.read_bytes()[:4096])
    path.write_bytes(json.dumps({**header, "format": 0}).encode().ljust(4096) + path.read_bytes()[4096:])


def _link(path):
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    "harm",
    [
        _flip, _last, _foreign, _format, _link, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"[1]" * 2000),
        lambda path: os.truncate(path, path.stat().st_size - 1), lambda path: os.truncate(path, 4096),
        lambda path: path.write_bytes(path.read_bytes() + b"x"), lambda path: path.chmod(0o622),
    ],
)  # fmt: skip
def test_a_state_that_is_not_as_it_was_saved_is_replaced_and_never_runs(machines, harm):
    machines()
    harm(machines.states / machines.files[0])
    assert not machines().resumed
    assert not any(made.resumed and "cont" in made.commands for made in machines.started)
    assert machines().resumed
    assert all(made.closed for made in machines.started)


@pytest.mark.parametrize("wrong", ["qmp_capabilities", "migrate-incoming", "cont", "dies when it resumes"])
def test_a_machine_that_does_not_resume_boots(machines, wrong):
    machines()
    assert not machines(wrong).resumed
    assert [made.resumed for made in machines.started] == [False, True, False]
    assert machines().resumed


def test_a_state_of_other_memory_is_refused_by_qemu_and_the_guest_boots(machines):
    machines()
    assert not machines(memory=b"another").resumed


def test_a_guest_that_is_lost_after_it_resumed_leaves_no_state(machines):
    machines()
    with pytest.raises(Exception, match="OSError"):
        machines("does not renew")
    assert machines.files == []


@pytest.mark.parametrize("wrong", ["migrate", "does not save all"])
def test_a_state_that_cannot_be_saved_does_no_harm(machines, wrong):
    assert not machines(wrong).resumed
    assert machines.files == []
    assert len(machines.started) == 1


@pytest.mark.parametrize("wrong", ["stop", "getfd", "cont"])
def test_a_machine_that_does_not_go_on_after_the_pause_is_replaced_by_one_without(machines, wrong):
    assert not machines(wrong).resumed
    assert [made.spec.states is None for made in machines.started] == [False, True]
    assert all(made.closed for made in machines.started)


def test_a_machine_that_dies_in_its_boot_is_an_error_of_the_boot(machines):
    with pytest.raises(GuestError, match=r"\(booting\)"):
        machines("dies in the boot")
    with pytest.raises(GuestError, match="something else"):
        machines("talks nonsense")
    assert all(made.closed for made in machines.started)


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_folder_that_others_could_enter_becomes_private(machines, mode):
    machines()
    machines.states.chmod(mode)
    assert machines().resumed
    assert machines.states.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("whole", [True, False])
def test_a_state_of_another_user_is_never_taken(machines, whole):
    machines()
    os.chown(machines.states if whole else machines.states / machines.files[0], 1234, 1234)
    assert not machines().resumed


def test_of_two_jobs_that_save_at_the_same_time_one_does(machines, image, tmp_path):
    key = saved_state.Key(image="i", digest="a" * 64)
    states = tmp_path / "states"
    source, sink = os.pipe()

    def other():
        with pytest.raises(StateError, match="another job"):
            saved_state.save(states, key, source, lambda: True, seconds=5)
        os.write(sink, b"memory")
        os.close(sink)
        return True

    first, end = os.pipe()
    os.close(end)
    saved_state.save(states, key, first, other, seconds=5)
    assert [item.name for item in saved_state.list_states(states)] == [key.name]
    # What a job that was killed left is no obstacle, and goes.
    (states / f".{key.name}.new").write_bytes(b"left")
    (states / ".other.new").write_bytes(b"left")
    saved_state.save(states, key, source, lambda: True, seconds=5)
    assert [path.name for path in states.iterdir()] == [f"{key.name}.state"]
    for one in (first, source):
        os.close(one)


def test_a_qemu_that_neither_sends_nor_takes_the_state_is_not_waited_for(tmp_path):
    key = saved_state.Key(image="i", digest="a" * 64)
    source, sink = os.pipe()
    with pytest.raises(StateError, match="does not send"):
        saved_state.save(tmp_path / "states", key, source, lambda: True, seconds=0.05)
    first, end = os.pipe()
    os.write(end, MEMORY[:60_000])
    os.write(end, b"x")
    os.close(end)
    saved_state.save(tmp_path / "states", key, first, lambda: True, seconds=5)
    os.set_blocking(sink, False)
    os.write(sink, bytes(40_000))
    with saved_state.opened(tmp_path / "states", key) as state, pytest.raises(StateError, match="does not take"):
        saved_state.feed(state, key, sink, seconds=0.05)
    for one in (first, source, sink):
        os.close(one)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"", "ended"),
        (b"{}\n", "did not greet"),
        (b"nonsense\n", "not JSON"),
        (b"[]\n", "did not greet"),
        (b"{", "no answer"),
    ],
)
def test_a_monitor_that_says_anything_else(said, message):
    line, other = socket.socketpair()
    with line, other:
        other.sendall(said)
        if not said:
            other.close()
        with pytest.raises(MonitorError, match=message):
            Monitor(line, seconds=0.1)


@pytest.mark.parametrize(
    ("engine", "accelerator", "systemd", "saved"),
    [
        (GuestEngine.QEMU, "tcg", "252.39-1~deb12u2", True), (GuestEngine.QEMU, "tcg", "257-1", True),
        (GuestEngine.QEMU, "tcg", "262~rc1-1", False), (GuestEngine.QEMU, "tcg", "", False),
        (GuestEngine.QEMU, "kvm", "252.39-1", False), (GuestEngine.UML, "tcg", "252.39-1", False),
    ],
)  # fmt: skip
def test_where_states_are_used(image, engine, accelerator, systemd, saved):
    made = replace(image, contents=Contents(day="", packages={"systemd": systemd} if systemd else {}))
    found = saved_start.states_for(engine, accelerator, made, Path("/cache/images"))
    assert found == (Path("/cache/states") if saved else None)
    assert saved_start.states_for(engine, accelerator, image, Path("/cache/images")) is None
