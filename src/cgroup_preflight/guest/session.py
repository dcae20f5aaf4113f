"""A running guest: boots it, runs commands in it, reads and writes its files, starts its network, ends it.

with Guest(GuestSpec(inputs={"src": Path("src")}), image) as guest:
    print(guest.run(["systemctl", "--version"]).text)
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.channel import Channel, ChannelError
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.inside.frames import Frame
from cgroup_preflight.guest.lost import failed, lost
from cgroup_preflight.guest.process import GuestProcess
from cgroup_preflight.guest.saved_start import start
from cgroup_preflight.guest.spec import Background, BootMode, CommandResult, GuestError, GuestSpec
from cgroup_preflight.guest.user_network import ADDRESS, GATEWAY, RESOLVER
from cgroup_preflight.guest.words import INPUT_DIR

#: Seconds that an answer may take besides the command itself: for the line, and to kill a command that timed out.
_GRACE = 20.0
_CONSOLE_LINES = 12
_SETTLE_TIMEOUT = 60.0
_RANDOM_BYTES = 64
_SEE_REQUEST = Remedy(title="check the program, user or path named above: it must exist inside the guest")
#: Sets address, flags and route by ioctl, because the image has no programs for it (linux/sockios.h, linux/route.h).
_NETWORK_SCRIPT = r"""
import fcntl, os, socket, struct, subprocess, sys, time
address, gateway, resolver = sys.argv[1:]
subprocess.run(["modprobe", "virtio_net"], check=True)
for _ in range(100):
    names = [name for name in os.listdir("/sys/class/net") if name != "lo"]
    if names: break
    time.sleep(0.05)
name = names[0].encode()
def inet(text): return struct.pack("<HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8916, struct.pack("16s16s8x", name, inet(address)))        # SIOCSIFADDR
    fcntl.ioctl(s, 0x891C, struct.pack("16s16s8x", name, inet("255.255.255.0")))  # SIOCSIFNETMASK
    fcntl.ioctl(s, 0x8914, struct.pack("16sH22x", name, 0x1 | 0x40))            # SIOCSIFFLAGS: up, running
    route = struct.pack("@L16s16s16sHhLPhPLLH", 0, inet("0.0.0.0"), inet(gateway), inet("0.0.0.0"), 0x3, 0, 0, 0, 0, 0, 0, 0, 0)
    fcntl.ioctl(s, 0x890B, bytearray(route.ljust(120, b"\0")))                  # SIOCADDRT: up, gateway
with open("/etc/resolv.conf", "w") as file: file.write(f"nameserver {resolver}\n")
"""


class Guest:
    """A guest that lives as long as its `with` block; for one thread at a time.

    A guest that dies, hangs or panics raises GuestError with the last console lines. `boot_seconds`, `fence` (what
    confines it on this host, in words) and `resumed` (whether it resumed from a saved state) are known once it runs.
    """

    def __init__(
        self, spec: GuestSpec, image: RootImage, start: Callable[[GuestSpec, RootImage], GuestProcess] = start
    ) -> None:
        self.spec = spec
        self._start = start
        self._image = image
        self._stack = contextlib.ExitStack()
        self._process: GuestProcess | None = None
        self._channel: Channel | None = None
        self.boot_seconds = 0.0
        self.fence = ""
        self.resumed = False

    def __enter__(self) -> Self:
        """Boots; returns when the guest can run commands (FULL: when systemd has finished starting)."""
        started = time.monotonic()
        try:
            self._process = self._stack.enter_context(contextlib.closing(self._start(self.spec, self._image)))
            self._channel = Channel(self._process.line)
            self._receive(timeout=self.spec.boot_timeout, doing="booting")
            self.fence = self._process.fence()
            self.resumed = self._process.resumed_from is not None
            if self._process.paused:
                self._renew()
            if self.spec.mode is BootMode.FULL:
                self.run(["systemctl", "is-system-running", "--wait"], timeout=_SETTLE_TIMEOUT)
        except BaseException:
            self._forget_state()
            self._stack.close()
            raise
        self.boot_seconds = time.monotonic() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends every process of the guest and removes its files, its disk overlay too."""
        self._channel = None
        self._stack.close()

    def end(self) -> None:
        """Begins to end every process of the guest, and returns at once; nothing more can be asked of it."""
        self._channel = None
        if self._process is not None:
            self._process.end()

    def _renew(self) -> None:
        """What a saved state must not give to two machines."""
        import uuid

        head = {"op": "renew", "seconds": time.time(), "machine_id": uuid.uuid4().hex}
        self._ask(head, os.urandom(_RANDOM_BYTES), timeout=0.0)

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
        stdin: bytes = b"",
    ) -> CommandResult:
        """Runs `argv` (no shell) as `user` (default root); after `timeout` seconds kills it and all that it started.

        Raises HostError if the command cannot start, GuestError if the guest is lost. A command may fail: see the result.
        """
        head = {"op": "run", **_command(argv, user, env, cwd), "timeout": timeout}
        answer = self._ask(head, stdin, timeout=timeout)
        return _completed(tuple(argv), answer)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes = b"",
    ) -> Background:
        """Starts `argv` and returns at once; `wait` ends it."""
        answer = self._ask({"op": "spawn", **_command(argv, user, env, cwd)}, stdin, timeout=0.0)
        return Background(argv=tuple(argv), job=answer.head["job"], pid=answer.head["pid"])

    def spawn_tool(
        self, words: Sequence[str], *, folders: Sequence[str], cwd: str, env: Mapping[str, str], piped: bool = False
    ) -> Background:  # fmt: skip
        """As `spawn`, for the command line of this tool; `folders` hold its package and the packages that it needs.

        With `piped`, its stdout is for the request `relay` (inside/agent.py), and the result of `wait` has none.
        """
        head = {"op": "tool", **_command(words, None, env, cwd), "folders": list(folders)}
        head |= {"piped": True} if piped else {}
        answer = self._ask(head, timeout=0.0)
        return Background(argv=("cgroup-preflight", *words), job=answer.head["job"], pid=answer.head["pid"])

    def signal(self, background: Background, number: int, *, group: bool = False) -> None:
        """Signals the command alone, or with `group` its process group, as Ctrl-C at a terminal does."""
        self._ask({"op": "signal", "job": background.job, "signal": int(number), "group": group}, timeout=0.0)

    def wait(self, background: Background, *, timeout: float = 60.0) -> CommandResult:
        """Waits for the end of the command; after `timeout` seconds kills it and all that it started."""
        head = {"op": "wait", "job": background.job, "timeout": timeout, "kill": True}
        return _completed(background.argv, self._ask(head, timeout=timeout))

    def poll(self, background: Background, *, timeout: float = 0.0) -> CommandResult | None:
        """As `wait`, but lets a command run on after `timeout` seconds, and returns None for it."""
        answer = self._ask({"op": "wait", "job": background.job, "timeout": timeout}, timeout=timeout)
        return _completed(background.argv, answer) if answer.head["ended"] else None

    def read_file(self, path: str) -> bytes:
        """The content of `path` in the guest, also below /proc and /sys; raises HostError."""
        return self._ask({"op": "get", "path": path}, timeout=0.0).body

    def write_file(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Writes `path` in the guest as root, with its parent directories; raises HostError."""
        self._ask({"op": "put", "path": path, "mode": mode}, content, timeout=0.0)

    def open_terminal(self, argv: Sequence[str], *, rows: int, columns: int) -> None:
        """Starts `argv` as root at the guest's one terminal, for `exchange`; its size is in characters."""
        term = os.environ.get("TERM", "linux")
        self._ask({"op": "terminal", "argv": list(argv), "rows": rows, "columns": columns, "term": term}, timeout=0.0)

    def exchange(self, typed: bytes, *, timeout: float) -> tuple[bytes, int | None]:
        """Types at the terminal; returns its output within `timeout` seconds, and the exit status once it has ended."""
        answer = self._ask({"op": "exchange", "timeout": timeout}, typed, timeout=timeout)
        return answer.body, answer.head["status"]

    def start_user_manager(self, user: str) -> None:
        """Makes `systemctl --user` work for `user`, as a lingering login would; raises HostError."""
        for argv in (["loginctl", "enable-linger", user], ["systemctl", "start", f"user@{self.uid(user)}.service"]):
            done = self.run(argv)
            if done.returncode != 0:
                raise self._failed(f"{' '.join(argv)}: {done.stderr.decode(errors='replace').strip()}")

    def start_network(self) -> None:
        """Connects the guest to QEMU's user network, with fixed addresses and no DHCP. Raises GuestError."""
        done = self.run(["python3", "-I", "-c", _NETWORK_SCRIPT, ADDRESS, GATEWAY, RESOLVER])
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise GuestError(f"{self.spec.name}: no network: {words[-1][:200] if words else done.returncode}",
                             console=self.console_tail(), remedy=Remedy(title="set network = false in [target]"))  # fmt: skip

    def uid(self, user: str) -> int:
        """The user ID of `user` in the guest."""
        return int(self.run(["id", "-u", user]).text)

    @property
    def alive(self) -> bool:
        """Whether the guest still answers; False from the first answer that is missing."""
        return self._channel is not None

    def console_tail(self, lines: int = _CONSOLE_LINES) -> tuple[str, ...]:
        """The last lines of kernel messages and console."""
        return self._process.console_tail(lines) if self._process is not None else ()

    def fileno(self) -> int:
        """The descriptor of the channel, which is readable when an answer comes; -1 once the guest is lost."""
        return self._process.line.fileno() if self._process is not None and self._channel is not None else -1

    def request(self, head: dict[str, Any], body: bytes = b"", *, timeout: float = 0.0) -> None:
        """Sends a request, whose answer `answer` returns; the methods above do both. Raises GuestError."""
        if self._channel is None:
            raise self._failed("is not running")
        try:
            self._channel.send(head, body, timeout=timeout + _GRACE)
        except ChannelError as error:
            raise self._lost(f"{error} (request: {head['op']})") from error

    def has_answer(self, *, read: bool) -> bool:
        """Whether `answer` would not wait; `read`: the descriptor is readable. Raises GuestError."""
        if self._channel is None:
            raise self._failed("is not running")
        try:
            return self._channel.has_answer(read=read)
        except ChannelError as error:
            raise self._lost(str(error)) from error

    def answer(self, operation: str, *, timeout: float = 0.0) -> Frame:
        """The answer to the oldest request without one. Raises GuestError, HostError for one that is an error."""
        answer = self._receive(timeout=timeout + _GRACE, doing=f"request: {operation}")
        if not answer.head["ok"]:
            raise HostError(f"{self.spec.name}: {answer.head['error']}", remedy=_SEE_REQUEST)
        return answer

    def _ask(self, head: dict[str, Any], body: bytes = b"", *, timeout: float) -> Frame:
        self.request(head, body, timeout=timeout)
        return self.answer(head["op"], timeout=timeout)

    def _receive(self, *, timeout: float, doing: str) -> Frame:
        if self._channel is None:
            raise self._failed("is not running")
        try:
            return self._channel.receive(timeout=timeout)
        except ChannelError as error:
            raise self._lost(f"{error} ({doing})") from error

    def _forget_state(self) -> None:
        """Whatever went wrong in a guest that resumed, the next one boots."""
        if self._process is not None and self._process.resumed_from is not None:
            with contextlib.suppress(OSError):
                self._process.resumed_from.unlink(missing_ok=True)

    def _lost(self, what: str) -> HostError:
        # The missing answer could still arrive, and would then be taken for the answer to a later request.
        self._channel = None
        self._forget_state()
        return lost(self.spec.name, self._image, what, self.console_tail())

    def _failed(self, what: str) -> HostError:
        return failed(self.spec.name, what, self.console_tail())


def input_path(name: str) -> Path:
    """The path in the guest of input `name` of its spec."""
    return Path(INPUT_DIR) / name


def _command(argv: Sequence[str], user: str | None, env: Mapping[str, str] | None, cwd: str | None) -> dict[str, Any]:
    return {"argv": list(argv), "user": user, "env": dict(env or {}), "cwd": cwd}


def _completed(argv: tuple[str, ...], answer: Frame) -> CommandResult:
    split = int(answer.head["stdout_size"])
    return CommandResult(
        argv=argv,
        returncode=answer.head["returncode"],
        stdout=answer.body[:split],
        stderr=answer.body[split:],
        timed_out=not answer.head["ended"],
    )
