"""`python -m cgroup_preflight` is the same as the `cgroup-preflight` command."""

import sys

from cgroup_preflight.cli import command

if __name__ == "__main__":
    sys.exit(command())
