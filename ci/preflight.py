"""Run the preflight on a folder: on this host where units can be started, else in a guest.

python -m ci.preflight FOLDER [ARGS of `cgroup-preflight run`]
"""

import os
import sys
from pathlib import Path

from cgroup_preflight.cli import main as command
from cgroup_preflight.cli.common import context, load_config
from cgroup_preflight.errors import PreflightError
from ci.in_guest import main as in_guest


def main(words: list[str]) -> int:
    """The exit status of the run."""
    folder = Path(words[0]).resolve()
    try:
        config = load_config(folder / "cgroup-preflight.toml")
        engine = context(config, config.engine, ()).engine
    except PreflightError:
        engine = None  # the command itself says it better
    if engine is not None and engine.name is None:
        sys.stderr.write(f"no unit can be started on this host ({engine.why_not}); using a guest\n")
        return in_guest([str(folder), "--", "run", *words[1:]])
    os.chdir(folder)
    return command(["run", *words[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
