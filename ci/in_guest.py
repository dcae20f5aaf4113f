"""Run cgroup-preflight on a folder inside a throwaway guest: `python -m ci.in_guest FOLDER -- ARGS`."""

import os
import sys
from pathlib import Path

from cgroup_preflight.core.errors import PreflightError
from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import BootMode, CommandResult, GuestSpec

SOURCE = Path(__file__).resolve().parents[1] / "src"


def boot(folder: Path) -> Guest:
    """Return a Debian 12 guest, not booted yet, with the source and a copy of `folder`. Raises HostError."""
    spec = GuestSpec(mode=BootMode.FULL, inputs={"src": SOURCE, "work": folder})
    return Guest(spec, image.ensure(recipe_for(spec.distro), image.cache_folder(os.environ)))


def run_in_guest(folder: Path, words: list[str]) -> CommandResult:
    """Run `cgroup-preflight WORDS` in `folder` inside a guest. Raises HostError."""
    with boot(folder) as guest:
        return guest.run(
            ["python3", "-m", "cgroup_preflight", *words], cwd=str(input_path("work")), timeout=300,
            env={"PYTHONPATH": str(input_path("src")), "PYTHONPYCACHEPREFIX": "/tmp/pycache"},  # noqa: S108 - the guest's
        )  # fmt: skip


def main(words: list[str]) -> int:
    """Run the command in the guest and return its exit status."""
    if len(words) < 2 or words[1] != "--":
        sys.stderr.write("usage: python -m ci.in_guest FOLDER -- ARGS\n")
        return 2
    try:
        done = run_in_guest(Path(words[0]).resolve(), words[2:])
    except PreflightError as error:
        sys.stderr.write(f"{error}\n  next: {error.remedy.title}\n")
        return int(error.exit_status)
    sys.stdout.write(done.text)
    sys.stderr.write(done.stderr.decode(errors="replace"))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
