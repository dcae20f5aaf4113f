"""Run the preflight on a folder, on any machine: `python -m ci.preflight FOLDER [ARGS of cgroup-preflight run]`.

It calls `cgroup-preflight run`, which boots a guest if this host cannot start units. As root on Debian or Ubuntu, it
first installs what the guest needs.
"""

import os
import shutil
import sys
from pathlib import Path

from cgroup_preflight.cli import main as command


def main(words: list[str]) -> int:
    """Run the preflight and return its exit status."""
    os.chdir(words[0])
    can_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    if can_install and not Path("/run/systemd/system").is_dir():
        # The error is on stderr already, and the run reports what it means.
        command(["guest", "build", "--install", "--quiet"])
    return command(["run", *words[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
