"""Runs commands in the guest, each in its own session and its own cgroup below that of the agent.

The agent's service has `Delegate=yes` and may therefore make child cgroups (systemd CGROUP_DELEGATION.md). Needs root.
"""

import os
import pwd
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from cgroup_preflight.guest.inside import copies

#: Seconds that a killed job may take to end; a task that hangs in the kernel must not block the agent.
_REAP_SECONDS = 5.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Command(NamedTuple):
    """A command to run: `user` None means root; `env` is added to a login's environment; `cwd` None means home."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    user: str | None = None
    cwd: str | None = None


class Job(NamedTuple):
    """A started command; `cgroup` is the directory of its cgroup. `pipe` is the reading end of its stdout, -1 for a file."""

    process: "subprocess.Popen[bytes] | copies.Copy"
    cgroup: Path
    stdout: IO[bytes]
    stderr: IO[bytes]
    pipe: int = -1


#: Starts a process with streams for stdin, stdout and stderr; the process calls the function first.
_Begin = Callable[[tuple[int, int, int], Callable[[], None]], "subprocess.Popen[bytes] | copies.Copy"]


def own_cgroup(text: str) -> Path:
    """The directory of our own cgroup, from the text of /proc/self/cgroup on v2, hybrid or v1.

    Where v1 is mounted, systemd uses its own named hierarchy (systemd, cg_get_keyed_path).
    """
    paths = {tuple(line.split(":", 2)[:2]): line.split(":", 2)[2] for line in text.splitlines()}
    for (_, controllers), path in paths.items():
        if controllers == "name=systemd":
            return Path("/sys/fs/cgroup/systemd" + path)
    return Path("/sys/fs/cgroup" + paths["0", ""])


def move_to_leaf(cgroup: Path) -> None:
    """Moves the agent into a child cgroup: only a cgroup without processes can enable controllers for its children."""
    leaf = cgroup / "agent"
    leaf.mkdir(exist_ok=True)
    (leaf / "cgroup.procs").write_text(str(os.getpid()))


def login_environment(account: pwd.struct_passwd) -> dict[str, str]:
    """The environment of a login of `account`; XDG_RUNTIME_DIR only if the user manager has made that directory."""
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


def start(command: Command, *, stdin: bytes, cgroup: Path) -> Job:
    """Starts `command` in `cgroup`. Raises OSError, KeyError (no such user), subprocess.SubprocessError."""
    account = pwd.getpwnam(command.user or "root")
    return _started(
        cgroup,
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


def start_tool(command: Command, folders: list[str], *, cgroup: Path, piped: bool = False) -> Job:
    """Starts this tool as root in a fork of the agent; `argv` are its words, one of `folders` has its package."""
    account = pwd.getpwnam("root")
    environment = {**login_environment(account), **command.env}
    return _started(
        cgroup,
        b"",
        lambda streams, enter: copies.start(
            lambda: copies.tool(list(command.argv), folders),
            copies.Child(streams=streams, folder=command.cwd or account.pw_dir, environment=environment),
            enter,
        ),
        piped=piped,
    )


def _started(cgroup: Path, stdin: bytes, begin: _Begin, *, piped: bool = False) -> Job:
    cgroup.mkdir()
    # Files, not pipes: they need no reader, and a daemon that the command leaves behind does not block us. In memory, so
    # that we can still report a full disk.
    feed, stdout, stderr = (os.fdopen(os.memfd_create(name), "w+b") for name in ("stdin", "stdout", "stderr"))
    feed.write(stdin)
    feed.seek(0)
    # Opened as root: the kernel checks the rights of the opener, and the child writes as another user.
    procs = os.open(cgroup / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    pipe, output = os.pipe() if piped else (-1, os.dup(stdout.fileno()))
    try:
        process = begin((feed.fileno(), output, stderr.fileno()), lambda: _enter(procs))
    except BaseException:
        cgroup.rmdir()
        raise
    finally:
        feed.close()
        os.close(procs)
        os.close(output)
    return Job(process=process, cgroup=cgroup, stdout=stdout, stderr=stderr, pipe=pipe)


def wait(job: Job, *, timeout: float) -> bool:
    """Waits up to `timeout` seconds; True if the job's first process has ended."""
    # With a pidfd, because Popen.wait() with a time-out polls.
    if job.process.poll() is None:
        handle = os.pidfd_open(job.process.pid)
        try:
            select.select([handle], [], [], timeout)
        finally:
            os.close(handle)
    return job.process.poll() is not None


def kill(job: Job) -> None:
    """Kills all processes of the job's cgroup and of its process group."""
    _kill_cgroup(job.cgroup)
    _signal_group(job, signal.SIGKILL)
    wait(job, timeout=_REAP_SECONDS)


def send_signal(job: Job, number: int, *, group: bool) -> None:
    """Signals the first process, or with `group` its process group; does nothing if the job has ended."""
    if group:
        _signal_group(job, number)
    else:
        job.process.send_signal(number)


def collect(job: Job) -> tuple[bytes, bytes]:
    """The output as (stdout, stderr); removes the job's cgroup. Call once, after `wait` or `kill`."""
    outputs = []
    for stream in (job.stdout, job.stderr):
        stream.seek(0)
        outputs.append(stream.read())
        stream.close()
    if job.pipe >= 0:
        os.close(job.pipe)
    _remove_cgroup(job.cgroup)
    return outputs[0], outputs[1]


def _enter(procs: int) -> None:
    # "0" is the writing process itself.
    os.write(procs, b"0")


def _signal_group(job: Job, number: int) -> None:
    try:
        os.killpg(job.process.pid, number)
    except ProcessLookupError:
        pass


def _kill_cgroup(cgroup: Path) -> None:
    """Kills each process until none is left, because v1 and kernels before 5.14 have no `cgroup.kill`."""
    deadline = time.monotonic() + _REAP_SECONDS
    while (pids := _members(cgroup)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


def _members(cgroup: Path) -> list[int]:
    texts = [procs.read_text() for procs in cgroup.rglob("cgroup.procs")]
    # The kernel does not list zombies.
    return [int(pid) for text in texts for pid in text.split()]


def _remove_cgroup(cgroup: Path) -> None:
    """Removes the cgroup, unless a daemon of the command still runs in it."""
    deadline = time.monotonic() + 0.2
    while True:
        try:
            for child in sorted(cgroup.rglob("*/"), reverse=True):
                child.rmdir()
            cgroup.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        else:
            return
