"""Commands: argv lists, a time-out that ends all they started, bounded output, and no secret of the job."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc

import pytest

from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.host.command import LiveRunner, stop

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(60)]

SECRETS = {
    "GITHUB_TOKEN": "ghs_secret",
    "CI_JOB_TOKEN": "glcbt-secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "ACTIONS_RUNTIME_TOKEN": "secret",
    "LD_PRELOAD": "/nowhere/evil.so",
    "PYTHONPATH": "/nowhere",
    "SYSTEMD_LOG_LEVEL": "debug",
    "SYSTEMCTL_FORCE_BUS": "1",
    "LC_MESSAGES": "de_DE",
}


@pytest.fixture
def runner():
    return LiveRunner()


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_gone(pid, seconds=5.0):
    until = time.monotonic() + seconds
    while _alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not _alive(pid)


def test_a_command(runner):
    reading = runner.run(("sh", "-c", "echo out; echo err >&2; exit 3"))
    assert isinstance(reading, Known)
    done = reading.value
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert runner.started == 1


def test_no_shell_reads_the_words(runner):
    assert runner.run(("echo", "$HOME; rm -rf *", "`id`", "a b")).value.stdout == "$HOME; rm -rf * `id` a b\n"


def test_input_is_passed_and_otherwise_empty(runner):
    assert runner.run(("cat",), stdin=b"some\0bytes").value.stdout == "some\0bytes"
    assert runner.run(("cat",)).value.stdout == ""


def test_input_that_nobody_reads(runner):
    assert runner.run(("true",), stdin=b"x" * (4 << 20)).value.returncode == 0


def test_what_cannot_be_started_says_why(runner, tmp_path):
    (tmp_path / "plain").write_text("x")
    (tmp_path / "odd").write_bytes(b"\0")
    (tmp_path / "odd").chmod(0o755)
    cases = {
        "/nowhere/program": Why.ABSENT,
        "no-such-program-here": Why.ABSENT,
        f"{tmp_path}/plain": Why.DENIED,
        str(tmp_path): Why.DENIED,
        f"{tmp_path}/odd": Why.FAILED,
    }
    for program, why in cases.items():
        reading = runner.run((program, "--version"))
        assert isinstance(reading, Missing)
        assert reading.why is why


def test_bytes_that_are_no_text(runner):
    assert runner.run(("printf", r"a\377b")).value.stdout == "a\ufffdb"


def test_no_secret_reaches_a_command(runner, monkeypatch):
    with monkeypatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        words = runner.run(("env",)).value.stdout
        kept = runner.environment()
    seen = dict(line.split("=", 1) for line in words.splitlines() if "=" in line)
    assert not set(seen) & set(SECRETS)
    assert "secret" not in words
    assert seen["LC_ALL"] == "C.UTF-8"
    assert set(seen) - set(kept) <= {"_", "PWD", "SHLVL"}
    assert set(kept) <= {"PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "TMPDIR", "LC_ALL"}


def test_extra_environment_and_a_path_in_any_case(monkeypatch):
    with monkeypatch.context() as patch:
        patch.delenv("PATH", raising=False)
        words = LiveRunner({"XDG_RUNTIME_DIR": "/run/user/7"}).run(("/usr/bin/env",)).value.stdout
    assert "XDG_RUNTIME_DIR=/run/user/7\n" in words
    assert "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n" in words


def test_the_time_out_kills_the_whole_process_group(runner, tmp_path):
    began = time.monotonic()
    script = f"sleep 50 & echo $! > {tmp_path}/child; trap '' TERM INT HUP; echo $$ > {tmp_path}/shell; sleep 50"
    reading = runner.run(("sh", "-c", script), timeout=0.5)
    assert time.monotonic() - began < 5
    assert isinstance(reading, Missing)
    assert reading.why is Why.FAILED
    assert "0.5 s" in reading.detail
    for name in ("child", "shell"):
        assert _wait_gone(int((tmp_path / name).read_text()))


def test_the_time_out_kills_what_a_command_that_has_ended_left_behind(runner, tmp_path):
    """It keeps the output open, so that the command does not look as if it had ended."""
    pid = tmp_path / "pid"
    found = runner.run(("sh", "-c", f"sleep 600 & echo $! >{pid}; exit 0"), timeout=0.5)
    assert isinstance(found, Missing)
    assert _wait_gone(int(pid.read_text()))


def test_a_child_that_left_the_group_does_not_hold_us(runner, tmp_path):
    """It keeps our pipe open after everything else is dead."""
    began = time.monotonic()
    away = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 20'"
    reading = runner.run(("sh", "-c", f"{away} & sleep 20"), timeout=0.5)
    taken = time.monotonic() - began
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert isinstance(reading, Missing)
    assert taken < 8


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_huge_output_is_bounded(runner, stream):
    """Not only what is kept: what is held in memory, too."""
    tracemalloc.start()
    reading = runner.run(("sh", "-c", f"head -c 64000000 /dev/zero {stream}"), timeout=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if isinstance(reading, Known):
        assert len(reading.value.stdout) + len(reading.value.stderr) <= 4 << 20
    assert peak < 40 << 20


def test_output_without_an_end_is_bounded(runner):
    began = time.monotonic()
    runner.run(("yes",), timeout=0.3)
    assert time.monotonic() - began < 6


def test_interrupting_us_ends_the_command(tmp_path):
    """Ctrl-C goes to our group only, and the command is in one of its own."""
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from cgroup_preflight.host.command import LiveRunner\n"
        f"LiveRunner().run(('sh', '-c', 'echo $$ > {tmp_path}/pid; sleep 50'))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert _wait_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("argv", [("sleep", "50"), ("/no/such/program",)])
def test_a_signal_while_a_command_starts_ends_it(tmp_path, argv):
    """Popen has started it, and has not returned yet."""
    script = textwrap.dedent(f"""
        import os, signal, subprocess
        from cgroup_preflight.host.command import LiveRunner

        class Started(subprocess.Popen):
            def _execute_child(self, *args):
                try:
                    super()._execute_child(*args)
                    open({str(tmp_path / "pid")!r}, "w").write(str(self.pid))
                finally:
                    os.kill(os.getpid(), signal.SIGINT)

        subprocess.Popen = Started
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            LiveRunner().run({argv!r})
        except KeyboardInterrupt:
            print("interrupted")
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "interrupted\n", done.stderr
    if argv[0] == "sleep":
        assert _wait_gone(int((tmp_path / "pid").read_text()))


def test_start_and_stop(runner):
    process = runner.start(("sh", "-c", "echo ready; sleep 50"))
    assert process.stdout.readline() == b"ready\n"
    stop(process)
    assert process.returncode == -signal.SIGKILL
    stop(process)


def test_stop_of_what_ended_already(runner):
    process = runner.start(("true",))
    process.wait()
    stop(process)
    assert process.returncode == 0


def test_stop_of_what_is_not_ours_to_signal(runner, monkeypatch):
    """A command behind sudo belongs to root: the kernel says EPERM."""
    process = runner.start(("sleep", "0.2"))

    def deny(*_args):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr("cgroup_preflight.host.command.os.killpg", deny)
        stop(process)
    assert process.wait(timeout=5) == 0


def test_several_run_at_the_same_time_and_each_has_its_own_answer(runner, tmp_path):
    """Each waits for what only the other one says."""
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    for path in (one, two):
        os.mkfifo(path)
    script = 'echo "from $0" > "$1" & read word < "$2"; echo "$word"; wait; exit "$3"'
    answers = runner.run_together(
        [("sh", "-c", script, "one", one, two, "3"), ("no-such-program",), ("sh", "-c", script, "two", two, one, "0")],
        timeout=30,
    )
    assert answers[1].why is Why.ABSENT
    assert [(item.value.returncode, item.value.stdout) for item in (answers[0], answers[2])] == [
        (3, "from two\n"), (0, "from one\n"),
    ]  # fmt: skip


def test_one_that_does_not_end_in_time_is_killed_and_the_others_answer(runner, tmp_path):
    pid = tmp_path / "pid"
    answers = runner.run_together([("sh", "-c", f"echo $$ > {pid}; exec sleep 600"), ("echo", "x")], timeout=1)
    assert (type(answers[0]), answers[1].value.stdout) == (Missing, "x\n")
    assert not os.path.exists(f"/proc/{pid.read_text().strip()}")
