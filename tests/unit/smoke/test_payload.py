"""The program that pushes against limits, where there are none: it must do what it was asked for, and leave nothing.

Under each shell that this machine has: Debian's dash, bash as Red Hat's and Arch's `sh`, and busybox.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cgroup_preflight.smoke.payload import SCRIPT

pytestmark = pytest.mark.starts_processes
#: Seconds that something may take on a slow machine.
_LONG = 60.0
_SHELLS = [name for name in ("dash", "bash", "busybox") if shutil.which(name)]


class Payload:
    """A running one; its stdin stays open until `close`, as the FIFO of a run does."""

    def __init__(self, shell: Path, folder: Path, store: str, tools: str = "") -> None:
        self.out = folder / "out"
        ask = folder / "ask"
        for fifo in (ask, folder / "gate"):
            os.mkfifo(fifo)
        (folder / "payload.sh").write_text(SCRIPT.replace("PATH=", f"PATH={tools}", 1))
        self._handle = os.open(ask, os.O_RDWR | os.O_CLOEXEC)
        kept = f"{store}-kept" if store else ""
        words = [shell, folder / "payload.sh", folder / "gate", store, kept, ask, self.out]
        # A group of its own, as a unit has a cgroup of its own.
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={"PATH": str(folder / "nothing"), "LANG": "de_DE.UTF-8", "enough": "1"}, process_group=0,
        )  # fmt: skip
        assert self.until("up") == [{"up": self.process.pid}]

    def said(self) -> list[dict[str, object]]:
        text = self.out.read_text() if self.out.exists() else ""
        return [{word: int(number)} for word, number in map(str.split, text.splitlines())]

    def ask(self, line: str) -> None:
        os.write(self._handle, f"{line}\n".encode())

    def until(self, word: str, count: int = 1) -> list[dict[str, object]]:
        """The lines with this word, once there are as many."""
        return until(lambda: [line for line in self.said() if word in line], count)

    def processes(self, *, ended: bool = False) -> dict[int, list[str]]:
        """The fields of proc_pid_stat(5) from the state on, of all processes of it but the first, by pid.

        With those that have `ended` and that their parent has not asked for, which the kernel counts as tasks.
        """
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                words = path.read_text().rpartition(")")[2].split()
                if int(words[2]) == self.process.pid and words[0] not in ("X" if ended else "ZX"):
                    found[int(path.parent.name)] = words
        found.pop(self.process.pid, None)
        return found

    def drop(self, count: int = 1) -> None:
        self.ask("drop 0")
        assert self.until("over", count)[-1] == {"over": 0}
        assert self.processes() == {}

    def end(self) -> None:
        """Whatever it still does."""
        self.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def close(self) -> None:
        """Ends its input."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def until(look: Callable[[], list], count: int) -> list:
    end = time.monotonic() + _LONG
    while len(found := look()) < count:
        assert time.monotonic() < end, found
        time.sleep(0.01)
    return found


def linked(folder: Path, name: str) -> Path:
    """A shell by the name of `sh`, which it goes by."""
    link = folder / "sh"
    link.symlink_to(shutil.which(name))
    return link


@pytest.fixture(params=_SHELLS)
def shell(request, tmp_path) -> Path:
    return linked(tmp_path, request.param)


@pytest.fixture(params=[name for name in _SHELLS if name != "busybox"])
def plain_shell(request, tmp_path) -> Path:
    """One that looks for all programs in PATH; busybox has most of them in it."""
    return linked(tmp_path, request.param)


@pytest.fixture(params=["file", "process"])
def store(request) -> Iterator[str]:
    """Where its memory is; nothing may be left there."""
    name = f"/dev/shm/cgpf-test-{os.getpid()}" if request.param == "file" else ""
    yield name
    assert not (name and (os.path.exists(name) or os.path.exists(f"{name}-kept")))


@contextlib.contextmanager
def running(shell: Path, folder: Path, store: str = "", tools: str = "") -> Iterator[Payload]:
    payload = Payload(shell, folder, store, tools)
    try:
        yield payload
        payload.close()
        printed, _ = payload.process.communicate(timeout=_LONG)
        # A line for each word, so that nobody has to look for words all the time, and nothing else.
        assert (printed.strip("\n"), payload.process.returncode) == ("", 0)
        assert len(printed) >= len(payload.said())
        until(lambda: [] if payload.processes() else [True], 1)
    finally:
        payload.end()


def tool(folder: Path, name: str, text: str) -> str:
    """A script in place of this program, for the start of its PATH."""
    script = folder / "tools" / name
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return f"{script.parent}:"


def name_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


@pytest.mark.parametrize(("count", "started"), [(1, 1), (32, 32), (750, 750)])
def test_starts_as_many_tasks_as_asked_for(shell, tmp_path, count, started):
    """Or some more, all of which stay."""
    with running(shell, tmp_path) as payload:
        payload.ask(f"tasks {count}")
        assert payload.until("started") == [{"started": started}]
        # With the one that starts them.
        tasks = until(lambda: list(payload.processes(ended=True)), started + 1)
        assert len(tasks) == started + 1
        time.sleep(0.3)
        assert set(payload.processes(ended=True)) == set(tasks)
        payload.drop()
        assert payload.processes(ended=True) == {}
        payload.ask("tasks 3")
        assert payload.until("started", 2)[1] == {"started": 3}


def test_starts_no_more_tasks_once_it_is_told_to_end_them(shell, tmp_path):
    with running(shell, tmp_path) as payload:
        payload.ask("tasks 20000")
        until(payload.processes, 3)
        payload.drop()
        (started,) = payload.until("started")
        assert 1 <= started["started"] <= 20000


def busy(payload: Payload) -> list[int]:
    """Those that have used some ticks of CPU time."""
    return [pid for pid, words in payload.processes().items() if int(words[11]) + int(words[12]) > 2]


def test_uses_cpu_time_in_as_many_processes_as_asked_for(shell, tmp_path):
    with running(shell, tmp_path) as payload:
        payload.ask("cpu 2")
        assert len(until(lambda: busy(payload), 2)) == 2
        payload.drop()


def test_uses_cpu_time_on_the_named_cpus_from_one_sign_on(shell, tmp_path):
    cpus = sorted(os.sched_getaffinity(0))[:2]
    with running(shell, tmp_path) as payload:
        for turn in (1, 2):
            payload.ask(f"load {','.join(map(str, cpus))}")
            said = payload.until("bound", len(cpus) * turn)
            assert sorted(line["bound"] for line in said[-len(cpus) :]) == cpus
            found = [os.sched_getaffinity(pid) for pid in payload.processes()]
            assert sorted(found, key=min) == [{cpu} for cpu in cpus]
            time.sleep(0.2)
            assert busy(payload) == []
            payload.ask("go")
            until(lambda: busy(payload), len(cpus))
            payload.drop(turn)


def test_does_not_use_time_of_other_cpus_than_those_named(shell, tmp_path):
    """No process may use CPU 4000: on another one it would compete with others than the model says."""
    with running(shell, tmp_path) as payload:
        payload.ask("load 4000")
        assert payload.until("refused") == [{"refused": 4000}]
        until(lambda: [] if payload.processes() else [True], 1)


@pytest.mark.parametrize("kind", ["push", "keep"])
def test_has_as_much_memory_as_asked_for_and_goes_on_with_the_next(shell, tmp_path, store, kind):
    with running(shell, tmp_path, store) as payload:
        for turn, size in enumerate(((8 << 20) + 1, 1 << 20), 1):
            payload.ask(f"{kind} {size}")
            assert payload.until("full", turn)[-1] == {"full": size}
            pid = payload.process.pid
            used, unused = (6, 9) if kind == "push" else (9, 6)
            if store:
                assert os.stat(f"/proc/{pid}/fd/{used}").st_size == size
                # Allocated, and not only as long.
                assert os.stat(f"/proc/{pid}/fd/{used}").st_blocks * 512 >= size
                assert os.stat(f"/proc/{pid}/fd/{unused}").st_size == 0
            else:
                assert max(int(words[21]) for words in payload.processes().values()) * 4096 > size
            payload.drop(turn)
            if store:
                assert os.stat(f"/proc/{pid}/fd/{used}").st_size == 0


def test_memory_as_a_program_has_it_is_in_a_page_table(shell, tmp_path, store):
    with running(shell, tmp_path, store) as payload:
        payload.ask(f"own {8 << 20}")
        assert payload.until("full") == [{"full": 8 << 20}]
        assert max(int(words[21]) for words in payload.processes().values()) * 4096 > 8 << 20
        payload.drop()


@pytest.mark.parametrize(("kind", "score"), [("push", 1000), ("keep", None), ("own", None), ("tasks", 1000)])
def test_only_what_pushes_is_killed_before_others(shell, tmp_path, kind, score):
    own = Path("/proc/self/oom_score_adj").read_text().strip()
    with running(shell, tmp_path) as payload:
        payload.ask(f"{kind} {1 if kind == 'tasks' else 1 << 20}")
        if kind != "tasks":
            payload.until("full")
        found = until(payload.processes, 1 if kind == "tasks" else 2)
        # A task sets its score some time after it has started.
        for _ in range(200):
            scores = {Path(f"/proc/{pid}/oom_score_adj").read_text().strip() for pid in found}
            if str(score or own) in scores:
                break
            time.sleep(0.05)
        assert Path(f"/proc/{payload.process.pid}/oom_score_adj").read_text().strip() == own
        assert str(score or own) in scores
        assert scores <= {str(score or own), own}
        payload.drop()


def test_memory_that_has_no_room_in_a_file_is_that_of_a_process(plain_shell, tmp_path):
    """A tool that cannot allocate: the file system is full, or knows no such call."""
    broken = tool(tmp_path, "fallocate", "exit 1")
    with running(plain_shell, tmp_path, f"/dev/shm/cgpf-test-{os.getpid()}", broken) as payload:
        payload.ask(f"push {4 << 20}")
        assert payload.until("full") == [{"full": 4 << 20}]
        assert max(int(words[21]) for words in payload.processes().values()) * 4096 > 4 << 20
        payload.drop()


def test_without_a_place_for_the_file_memory_is_that_of_a_process(shell, tmp_path):
    with running(shell, tmp_path, "/nonexistent/store") as payload:
        payload.ask("push 4096")
        assert payload.until("full") == [{"full": 4096}]
        payload.drop()


def test_survives_a_child_that_is_killed_while_it_takes_memory(plain_shell, tmp_path):
    """As the kernel does it at a limit."""
    slow = tool(tmp_path, "fallocate", "exec sleep 600")
    with running(plain_shell, tmp_path, f"/dev/shm/cgpf-test-{os.getpid()}", slow) as payload:
        payload.ask("push 1048576")
        (victim,) = until(lambda: [pid for pid in payload.processes() if name_of(pid) == "sleep"], 1)
        os.kill(victim, signal.SIGKILL)
        assert payload.until("ended") == [{"ended": 137}]
        payload.drop()
        payload.ask("own 1048576")
        payload.until("full")
        payload.drop(2)


def test_survives_a_child_that_is_killed_with_its_memory(shell, tmp_path):
    with running(shell, tmp_path) as payload:
        payload.ask(f"own {16 << 20}")
        payload.until("full")
        victim, _ = max(payload.processes().items(), key=lambda item: int(item[1][21]))
        os.kill(victim, signal.SIGKILL)
        payload.drop()
        payload.ask("own 2097152")
        assert payload.until("full", 2)[1] == {"full": 2 << 20}
        payload.drop(2)


@pytest.mark.parametrize(
    "line",
    ["cpu 1", "load {cpu}", "load {cpu}\ngo", "tasks 20", "tasks 600", "push 1048576", "keep 1048576", "own 1048576"],
)
@pytest.mark.parametrize("end", ["input", signal.SIGTERM, signal.SIGKILL])
def test_all_that_it_has_started_ends_with_it(shell, tmp_path, line, end):
    """When the tool dies its input ends; and a payload that is killed cannot end anything."""
    payload = Payload(shell, tmp_path, "")
    try:
        payload.ask(line.format(cpu=min(os.sched_getaffinity(0))))
        until(payload.processes, 1)
        if end == "input":
            payload.close()
        else:
            payload.process.send_signal(end)
        payload.process.wait(timeout=_LONG)
        until(lambda: [] if payload.processes() else [True], 1)
    finally:
        payload.end()


def test_a_line_that_it_does_not_know_is_left_out(shell, tmp_path):
    with running(shell, tmp_path) as payload:
        payload.ask("boil 3")
        payload.ask("drop")
        assert payload.until("over") == [{"over": 0}]


@pytest.mark.parametrize("words", [["-n"], ["-n", "-u"]])
def test_a_shell_can_read_it(shell, words):
    done = subprocess.run([shell, *words], input=SCRIPT, capture_output=True, text=True, timeout=_LONG, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
