"""Commands inside the guest: each with its own session and its own cgroup below the agent's delegated one.

The agent's service has `Delegate=yes`, so making children below its cgroup is allowed (systemd CGROUP_DELEGATION.md).
Linux only; runs as root.
"""

import os
import pwd
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cgroup_preflight.guest.inside import copies

#: How long a killed job may take to be gone (seconds); a task stuck in the kernel must not stall the agent.
REAP_SECONDS = 5.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run: `user` None means root; `env` is added to a login's environment; `cwd` None means home."""

    argv: tuple[str, ...]
    user: str | None = None
    env: Mapping[str, str]
    cwd: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A started command; `place` is its cgroup directory."""

    process: "subprocess.Popen[bytes] | copies.Copy"
    place: Path
    stdout: IO[bytes]
    stderr: IO[bytes]


#: Starts a process with streams for stdin, stdout and stderr, which calls the function before all else.
Begin = Callable[[tuple[int, int, int], Callable[[], None]], "subprocess.Popen[bytes] | copies.Copy"]


def own_cgroup(text: str) -> Path:
    """The cgroup directory where systemd keeps us, from /proc/self/cgroup `text`: on v2, hybrid or v1.

    With v1 mounted at all, systemd's own hierarchy is the one that is called so (systemd, cg_get_keyed_path).
    """
    paths = {tuple(line.split(":", 2)[:2]): line.split(":", 2)[2] for line in text.splitlines()}
    for (_, controllers), path in paths.items():
        if controllers == "name=systemd":
            return Path("/sys/fs/cgroup/systemd" + path)
    return Path("/sys/fs/cgroup" + paths["0", ""])


def settle(cgroup: Path) -> None:
    """Moves the agent into a leaf, so that its cgroup may have children with processes."""
    leaf = cgroup / "agent"
    leaf.mkdir(exist_ok=True)
    (leaf / "cgroup.procs").write_text(str(os.getpid()))


def login_environment(account: pwd.struct_passwd) -> dict[str, str]:
    """What a login of `account` would have; the user manager's runtime directory only if it is there."""
    base = {
        "PATH": _PATH,
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell,
        "LANG": "C.UTF-8",
    }
    runtime = f"/run/user/{account.pw_uid}"
    if os.path.isdir(runtime):
        base["XDG_RUNTIME_DIR"] = runtime
    return base


def start(command: Command, *, stdin: bytes, place: Path) -> Job:
    """Starts `command` in cgroup `place`; raises OSError, KeyError (no such user), subprocess.SubprocessError."""
    account = pwd.getpwnam(command.user or "root")
    return _started(
        place,
        stdin,
        lambda streams, enter: subprocess.Popen(
            command.argv,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            env={**login_environment(account), **command.env},
            cwd=command.cwd or account.pw_dir,
            start_new_session=True,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=os.getgrouplist(account.pw_name, account.pw_gid),
            preexec_fn=enter,  # noqa: PLW1509 - one thread
        ),
    )


def start_tool(command: Command, folders: list[str], *, place: Path) -> Job:
    """Starts this tool in a copy of the agent, as root; `argv` are its words, its package is in one of `folders`."""
    account = pwd.getpwnam("root")
    environment = {**login_environment(account), **command.env}
    return _started(
        place,
        b"",
        lambda streams, enter: copies.start(
            lambda: copies.tool(list(command.argv), folders),
            copies.Child(streams=streams, folder=command.cwd or account.pw_dir, environment=environment),
            enter,
        ),
    )


def _started(place: Path, stdin: bytes, begin: Begin) -> Job:
    place.mkdir()
    # Files, not pipes: nobody has to read along, and a daemon that a command leaves behind holds up no one.
    # In memory, so that a full disk is not in the way of finding out that it is full.
    feed, stdout, stderr = (os.fdopen(os.memfd_create(name), "w+b") for name in ("stdin", "stdout", "stderr"))
    feed.write(stdin)
    feed.seek(0)
    # Opened as root: the kernel judges a move by who opened the file, and the child writes as another user.
    procs = os.open(place / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        process = begin((feed.fileno(), stdout.fileno(), stderr.fileno()), lambda: _enter(procs))
    except BaseException:
        place.rmdir()
        raise
    finally:
        feed.close()
        os.close(procs)
    return Job(process=process, place=place, stdout=stdout, stderr=stderr)


def wait(job: Job, *, timeout: float) -> bool:
    """Waits up to `timeout` seconds; True if the job's first process ended by itself."""
    # Popen.wait() with a time-out looks again and again; the end of a process can be waited for.
    if job.process.poll() is None:
        handle = os.pidfd_open(job.process.pid)
        try:
            select.select([handle], [], [], timeout)
        finally:
            os.close(handle)
    return job.process.poll() is not None


def kill(job: Job) -> None:
    """Kills the whole job: what is in its cgroup, and its process group."""
    _kill_cgroup(job.place)
    _signal_group(job, signal.SIGKILL)
    wait(job, timeout=REAP_SECONDS)


def send_signal(job: Job, number: int, *, group: bool) -> None:
    """Signals the first process, or as a terminal would, its process group; a job that ended is no error."""
    if group:
        _signal_group(job, number)
    else:
        job.process.send_signal(number)


def collect(job: Job) -> tuple[bytes, bytes]:
    """Output so far, (stdout, stderr); ends the job's place. Call once, after `wait` or `kill`."""
    outputs = []
    for stream in (job.stdout, job.stderr):
        stream.seek(0)
        outputs.append(stream.read())
        stream.close()
    _remove_cgroup(job.place)
    return outputs[0], outputs[1]


def _enter(procs: int) -> None:
    # "0" means the writer itself.
    os.write(procs, b"0")


def _signal_group(job: Job, number: int) -> None:
    try:
        os.killpg(job.process.pid, number)
    except ProcessLookupError:
        pass


def _kill_cgroup(place: Path) -> None:
    """Process by process, again until none is left: v1 and kernels before 5.14 have no `cgroup.kill`."""
    deadline = time.monotonic() + REAP_SECONDS
    while (pids := _members(place)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


def _members(place: Path) -> list[int]:
    texts = [procs.read_text() for procs in place.rglob("cgroup.procs")]
    # Zombies are not listed: what is listed can still be killed.
    return [int(pid) for text in texts for pid in text.split()]


def _remove_cgroup(place: Path) -> None:
    """Best effort: what a command left running on purpose (a daemon it started) keeps its place."""
    deadline = time.monotonic() + 0.2
    while True:
        try:
            for child in sorted(place.rglob("*/"), reverse=True):
                child.rmdir()
            place.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        else:
            return
