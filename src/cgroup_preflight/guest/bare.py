"""A running guest without an agent: standard programs at the ends of its lines do what the host asks.

The first line has a shell, which starts the programs at the others: a shell for each command that runs, and those of
`open_line`.
"""

import contextlib
import itertools
import os
import posixpath
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import starter
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.line import WINDOW, Line, LineError
from cgroup_preflight.guest.lost import failed, lost
from cgroup_preflight.guest.machine import start
from cgroup_preflight.guest.process import GuestProcess
from cgroup_preflight.guest.shell import Shell
from cgroup_preflight.guest.spec import Background, BootMode, CommandResult, GuestEngine, GuestError, GuestSpec
from cgroup_preflight.guest.user_network import RESOLVER

#: Lines into a guest: the shell of the host, and one for each program that runs at the same time.
LINES = 12
#: Devices of the lines in the guest, by number.
_DEVICES = {GuestEngine.UML: ("/dev/ttyS{}", 0), GuestEngine.QEMU: ("/dev/vport0p{}", 1)}
#: Seconds that an answer may take besides the command itself.
_GRACE = 20.0
_KILL_SECONDS = 5.0
_CONSOLE_LINES = 12
_SETTLE_TIMEOUT = 60.0
_JOBS = "/run/preflight/jobs"
#: Kills each process until none is left, where the kernel has no cgroup.kill (before 5.14).
_SETUP = r"""
umask 022
mkdir -p /run/preflight/jobs
cgroup() {
    while IFS=: read -r number controllers path; do
        case $number:$controllers in
            *:name=systemd) printf '/sys/fs/cgroup/systemd%s\n' "$path"; return ;;
            0:) found=/sys/fs/cgroup$path ;;
        esac
    done < /proc/self/cgroup
    printf '%s\n' "$found"
}
serve() { (
    exec 0<>"$1" 1>&0
    shift
    [ ! -t 0 ] || stty raw -echo
    printf 'line\n'
    exec "$@"
) & }
end_job() {
    if [ -e "$1/cgroup.kill" ]; then
        echo 1 > "$1/cgroup.kill"
    else
        for turn in 1 2 3 4 5; do
            for pid in $(cat "$1/cgroup.procs"); do kill -KILL "$pid" 2>/dev/null; done
        done
    fi
    kill -KILL "-$2" 2>/dev/null
}
home=$(cgroup)
mkdir -p "$home/host"
echo $$ > "$home/host/cgroup.procs"
printf '%s\n' "$home"
"""
#: What a command starts from: its files, its cgroup, its folder. The number of the process comes first.
_SPAWN = """( exec < {stdin} > {place}.out 2> {place}.err
echo 0 > {cgroup}/cgroup.procs
cd -- {cwd} 2>/dev/null || {{ echo 'preflight: no such folder' >&2; exit 126; }}
exec setsid {command} ) &
pid=$!; printf '%s\\n' $pid; wait $pid; status=$?
cat {place}.out; printf '{between}'; cat {place}.err
rm -f {place}.*; rmdir {cgroup} 2>/dev/null
( exit $status )"""
#: The file of name servers may be a link to one of a program that does not run.
_NETWORK_SCRIPT = """
found=
while read -r device target rest; do [ "$target" != 00000000 ] || found=$device; done < /proc/net/route
[ -n "$found" ] || { echo 'the kernel has no default route' >&2; exit 1; }
rm -f /etc/resolv.conf
printf 'nameserver %s\\n' "$1" > /etc/resolv.conf
"""
_NOT_STARTED = (b"env: ", b"setpriv: ", b"setsid: ", b"preflight: ")
_SEE_REQUEST = Remedy(title="check the program, user or path named above: it must exist inside the guest")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A command that runs: the shell that waits for it, its cgroup, and what is between its output and its errors."""

    shell: Shell
    cgroup: str
    between: bytes


class BareGuest:
    """A guest that lives as long as its `with` block; for one thread at a time. Like `guest.session.Guest`.

    A guest that dies, hangs or panics raises GuestError with the last console lines. `release` is that of its kernel.
    """

    def __init__(
        self, spec: GuestSpec, image: RootImage, start: Callable[[GuestSpec, RootImage], GuestProcess] = start
    ) -> None:
        self.spec = replace(spec, lines=max(spec.lines, LINES))
        self._image, self._start = image, start
        self._stack = contextlib.ExitStack()
        self._process: GuestProcess | None = None
        self._control: Shell | None = None
        self._home = ""
        self._numbers = itertools.count(1)
        self._unused: list[tuple[str, Line]] = []
        self._idle: list[Shell] = []
        self._jobs: dict[int, _Job] = {}
        self._terminal: Shell | None = None
        self._logins: dict[str, tuple[str, str, str]] = {}
        self.boot_seconds = 0.0
        self.fence = self.release = ""

    def __enter__(self) -> Self:
        """Boots; returns when the guest can run commands (FULL: when systemd has finished starting)."""
        started = time.monotonic()
        try:
            self._process = self._stack.enter_context(contextlib.closing(self._start(self.spec, self._image)))
            self._greet(self._process)
            self.fence = self._process.fence()
            if self.spec.mode is BootMode.FULL:
                self.run(["systemctl", "is-system-running", "--wait"], timeout=_SETTLE_TIMEOUT)
        except BaseException:
            self._stack.close()
            raise
        self.boot_seconds = time.monotonic() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends every process of the guest and removes its files, its disk overlay too."""
        self._control = None
        self._stack.close()

    def _greet(self, process: GuestProcess) -> None:
        pattern, first = _DEVICES[self.spec.engine]
        lines = [Line(end) for end in process.lines]
        self._unused = [(pattern.format(number), line) for number, line in enumerate(lines, first)][:0:-1]
        lines[0].seconds = self.spec.boot_timeout
        with self._answering("booting"):
            words = lines[0].readline(200).decode(errors="replace")
            if not words.startswith(starter.GREETING):
                raise LineError("ended" if not words.endswith("\n") else "sent something that is no greeting")
            self.release = words.removeprefix(starter.GREETING).strip()
            lines[0].seconds = _GRACE
            self._control = Shell(lines[0], "control", window=self._window)
            _, home = self._control.ask(_SETUP)
            self._home = home.decode(errors="replace").strip()

    @property
    def _window(self) -> int:
        return WINDOW if self.spec.engine is GuestEngine.UML else 0

    def open_line(self, argv: Sequence[str]) -> Line:
        """Starts a program at a line of its own, which is its input and output. Raises GuestError, also without a line."""
        if not self._unused:
            raise self._failed("has no line left")
        device, line = self._unused.pop()
        self._ask(f"serve {device} {shlex.join(argv)}")
        with self._answering(argv[0]):
            if line.readline(8) != b"line\n":
                raise LineError(f"could not start {argv[0]} at a line")
        return line

    def run(
        self, argv: Sequence[str], *, user: str | None = None, env: Mapping[str, str] | None = None,
        cwd: str | None = None, timeout: float = 60.0, stdin: bytes = b"",
    ) -> CommandResult:  # fmt: skip
        """Runs `argv` (no shell) as `user` (default root); after `timeout` seconds kills it and all that it started.

        Raises HostError if the command cannot start, GuestError if the guest is lost. A command may fail: see the result.
        """
        return self.wait(self.spawn(argv, user=user, env=env, cwd=cwd, stdin=stdin), timeout=timeout)

    def spawn(
        self, argv: Sequence[str], *, user: str | None = None, env: Mapping[str, str] | None = None,
        cwd: str | None = None, stdin: bytes = b"",
    ) -> Background:  # fmt: skip
        """Starts `argv` and returns at once; `wait` ends it."""
        name, folder, login_shell = self._login(user or "root")
        number, shell = next(self._numbers), self._free_shell()
        place, cgroup, between = f"{_JOBS}/{number}", f"{self._home}/run-{number}", f"\n--{id(shell)}-{number}--\n"
        setup = f"mkdir {shlex.quote(cgroup)}"
        if stdin:
            with self._answering("writing the input"):
                shell.write(f"{place}.in", stdin)
        variables = {"PATH": starter.PROGRAM_PATH, "HOME": folder, "USER": name, "LOGNAME": name,
                     "SHELL": login_shell, "LANG": "C.UTF-8", **(env or {})}  # fmt: skip
        words = ["env", "-i", *(f"{key}={value}" for key, value in variables.items()), *argv]
        if user not in (None, "root"):
            words = ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", "--", *words]
        text = _SPAWN.format(
            stdin=f"{place}.in" if stdin else "/dev/null", place=place, cgroup=shlex.quote(cgroup),
            cwd=shlex.quote(cwd or folder), command=shlex.join(words), between=between.replace("\n", "\\n"),
        )  # fmt: skip
        with self._answering(argv[0]):
            shell.begin(f"{setup}\n{text}")
            pid = shell.first_line(_GRACE)
        if not pid.isdigit():
            raise self._failed("sent something that is no answer")
        self._jobs[number] = _Job(shell=shell, cgroup=cgroup, between=between.encode())
        return Background(argv=tuple(argv), job=number, pid=int(pid))

    def signal(self, background: Background, number: int, *, group: bool = False) -> None:
        """Signals the command alone, or with `group` its process group, as Ctrl-C at a terminal does."""
        if not self._jobs[background.job].shell.has_ended():
            self._ask(f"kill -{int(number)} {'-' if group else ''}{background.pid}")

    def wait(self, background: Background, *, timeout: float = 60.0) -> CommandResult:
        """Waits for the end of the command; after `timeout` seconds kills it and all that it started."""
        done = self.poll(background, timeout=timeout)
        if done is not None:
            return done
        self._ask(f"end_job {shlex.quote(self._jobs[background.job].cgroup)} {background.pid}")
        done = self.poll(background, timeout=_KILL_SECONDS + _GRACE)
        if done is None:
            raise self._lost(f"did not end {background.argv[0]}")
        return replace(done, timed_out=True)

    def poll(self, background: Background, *, timeout: float = 0.0) -> CommandResult | None:
        """As `wait`, but lets a command run on after `timeout` seconds, and returns None for it."""
        job = self._jobs[background.job]
        with self._answering(background.argv[0]):
            answer = job.shell.wait(timeout)
        if answer is None:
            return None
        del self._jobs[background.job]
        self._idle.append(job.shell)
        status, both = answer
        # The line's end after the number of the process is the first byte.
        stdout, _, stderr = both[1:].partition(job.between)
        if status in (126, 127) and stderr.startswith(_NOT_STARTED):
            words = stderr.decode(errors="replace").strip().splitlines()[0]
            raise HostError(f"{self.spec.name}: {words}", remedy=_SEE_REQUEST)
        code = status if status <= 128 else 128 - status
        return CommandResult(argv=background.argv, returncode=code, stdout=stdout, stderr=stderr)

    def read_file(self, path: str) -> bytes:
        """The content of `path` in the guest, also below /proc and /sys; raises HostError."""
        status, content = self._ask(f"cat -- {shlex.quote(path)} 2>/dev/null")
        if status != 0:
            raise HostError(f"{self.spec.name}: cannot read {path}", remedy=_SEE_REQUEST)
        return content

    def write_file(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Writes `path` in the guest as root, with its parent directories; raises HostError."""
        place = shlex.quote(path)
        status, _ = self._ask(
            f"mkdir -p {shlex.quote(posixpath.dirname(path))} && printf '' > {place} && chmod {mode:o} {place}"
        )
        if status != 0:
            raise HostError(f"{self.spec.name}: cannot write {path}", remedy=_SEE_REQUEST)
        with self._answering(f"writing {path}"):
            self._shell().write(path, content)

    def open_terminal(self, argv: Sequence[str], *, rows: int, columns: int) -> None:
        """Starts `argv` as root at the guest's one terminal, for `exchange`; its size is in characters."""
        name, folder, login_shell = self._login("root")
        inner = f"stty rows {rows} columns {columns}; exec {shlex.join(argv)}"
        words = ["env", "-i", f"PATH={starter.PROGRAM_PATH}", f"HOME={folder}", f"USER={name}", f"LOGNAME={name}",
                 f"SHELL={login_shell}", "LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'linux')}", "script", "-qefc", inner, "/dev/null"]  # fmt: skip
        self._terminal = self._free_shell()
        with self._answering("opening a terminal"):
            self._terminal.begin(f"cd {shlex.quote(folder)}; echo; {shlex.join(words)}")
            # What is typed before would be a command for the shell itself.
            self._terminal.first_line(_GRACE)

    def exchange(self, typed: bytes, *, timeout: float) -> tuple[bytes, int | None]:
        """Types at the terminal; returns its output within `timeout` seconds, and the exit status once it has ended."""
        if self._terminal is None:
            raise ValueError("no terminal is open")
        with self._answering("the terminal"):
            self._terminal.type(typed)
            shown = self._terminal.some(timeout)
            answer = self._terminal.wait(0.0) if self._terminal.has_ended() else None
        return (shown, None) if answer is None else (shown + answer[1], answer[0])

    def start_network(self) -> None:
        """Names for the network of QEMU, whose addresses the initial RAM disk has set. Raises GuestError without them."""
        done = self.run(["sh", "-euc", _NETWORK_SCRIPT, "network", RESOLVER])
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise GuestError(f"{self.spec.name}: no network: {words[-1][:200] if words else done.returncode}",
                             console=self.console_tail(), remedy=Remedy(title="set network = false in [target]"))  # fmt: skip

    def require(self, doing: str) -> None:
        """Asks whether the guest still answers. Raises GuestError, also for `doing`, where it does not."""
        with self._answering(doing):
            self._shell().ask(":", seconds=_GRACE)

    def end(self) -> None:
        """Ends every process of the guest, so that its lines end; also for another thread."""
        if self._process is not None:
            self._process.end()

    @property
    def alive(self) -> bool:
        """Whether the guest still answers; False from the first answer that is missing."""
        return self._control is not None

    def console_tail(self, lines: int = _CONSOLE_LINES) -> tuple[str, ...]:
        """The last lines of kernel messages and console."""
        return self._process.console_tail(lines) if self._process is not None else ()

    def _shell(self) -> Shell:
        if self._control is None:
            raise self._failed("is not running")
        return self._control

    def _ask(self, text: str) -> tuple[int, bytes]:
        with self._answering(text.partition(" ")[0]):
            return self._shell().ask(text, seconds=_GRACE)

    def _free_shell(self) -> Shell:
        if self._idle:
            return self._idle.pop()
        self._shell()
        return Shell(self.open_line(["sh", "+i"]), f"line{len(self._unused)}", window=self._window)

    def _login(self, user: str) -> tuple[str, str, str]:
        """Name, home and shell of a user (passwd(5)). Raises HostError."""
        if user not in self._logins:
            for row in self.read_file("/etc/passwd").decode(errors="replace").splitlines():
                parts = row.split(":")
                if len(parts) == 7:
                    self._logins[parts[0]] = (parts[0], parts[5], parts[6])
        if user not in self._logins:
            raise HostError(f"{self.spec.name}: no user {user}", remedy=_SEE_REQUEST)
        return self._logins[user]

    @contextlib.contextmanager
    def _answering(self, doing: str) -> Iterator[None]:
        try:
            yield
        except LineError as error:
            raise self._lost(f"{error} ({doing})") from error

    def _lost(self, what: str) -> HostError:
        # A missing answer could still arrive, and would then be taken for the answer to a later request.
        self._control = None
        return lost(self.spec.name, self._image, what, self.console_tail())

    def _failed(self, what: str) -> HostError:
        return failed(self.spec.name, what, self.console_tail())
