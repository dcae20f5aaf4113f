"""Ways out of a command that need a process of their own."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.starts_processes
def test_an_interrupt_within_executed_text_ends_with_the_status_of_the_contract(tmp_path):
    """A Ctrl-C while a module makes a dataclass: Python would end by the signal, not with 130."""
    (tmp_path / "interrupted.py").write_text(
        textwrap.dedent("""
            import sys, types
            from cgroup_preflight.cli import guard

            def main(words):
                exec("raise KeyboardInterrupt")

            sys.modules["cgroup_preflight.cli.check"] = types.SimpleNamespace(main=main)
            sys.exit(guard.run_command(["check"]))
        """)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, "interrupted" in done.stderr) == (130, True), done


_DROPPED = """
import os, sys, time
from cgroup_preflight.cli import guard
class Interrupted:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        for _ in range(1000): pass
def work(words):
    {act}
    print("it went on", flush=True)
    time.sleep(60)
guard._run = work
sys.exit(guard.run_command(["check"]))
"""


@pytest.mark.starts_processes
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_that_python_drops_comes_again(number, status):
    program = _DROPPED.format(act="Interrupted()")
    done = subprocess.run(
        [sys.executable, "-c", program, str(int(number))], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (status, "it went on\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.starts_processes
def test_another_exception_that_python_drops_is_shown():
    program = _DROPPED.format(act="type('Odd', (), {'__del__': lambda self: 1 / 0})(); os._exit(7)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 7
    assert "ZeroDivisionError" in done.stderr
