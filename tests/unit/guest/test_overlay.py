"""How the agent starts in the guest: a real process, without the mount."""

import subprocess
import sys

import pytest

from cgroup_preflight.guest import overlay
from cgroup_preflight.guest.words import INPUT_DIR

pytestmark = pytest.mark.starts_processes


@pytest.mark.parametrize(("folder", "said"), [("/proc", "No module named"), ("", "mounted")])
def test_a_mount_that_the_shell_has_waited_for_is_looked_for(tmp_path, folder, said):
    """Without a child to wait for: what is mounted there decides."""
    text = overlay._AGENT_START.replace(INPUT_DIR, folder or str(tmp_path))
    words = [sys.executable, "-I", "-S", "-c", text, "line", "disk", ""]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
