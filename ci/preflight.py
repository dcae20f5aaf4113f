"""Run the preflight on a folder, wherever this is: `python -m ci.preflight FOLDER [ARGS of cgroup-preflight run]`.

It is `cgroup-preflight run`, which boots a guest where this host cannot start units. All that is added: as root
on Debian or Ubuntu, what the guest needs is installed first.
"""

import os
import shutil
import sys
from pathlib import Path

from cgroup_preflight.cli import main as command


def main(words: list[str]) -> int:
    """The exit status of the run."""
    os.chdir(words[0])
    can_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    if can_install and not Path("/run/systemd/system").is_dir():
        # What went wrong is on stderr, and the run says what it means.
        command(["guest", "build", "--install", "--quiet"])
    return command(["run", *words[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
