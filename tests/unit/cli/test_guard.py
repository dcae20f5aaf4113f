"""Ways out of a command that need a process of their own."""

import os
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
