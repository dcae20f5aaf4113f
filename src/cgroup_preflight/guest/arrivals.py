"""The package files that apt downloads into a root, each as soon as apt has verified it."""

import os
import subprocess
from collections.abc import Generator, Iterable
from pathlib import Path

from cgroup_preflight.guest.ended import has_ended

#: Downloads packages, with the settings of APT_CONFIG.
APT = ("apt-get", "--yes", "-qq", "-oDebug::NoLocking=1", "--download-only")
#: apt moves a file here when its checksum is that of the verified list; until then it is in `partial`.
ARCHIVES = "var/cache/apt/archives"
_TURN_SECONDS = 0.02


def downloaded(root: Path, names: Iterable[str]) -> Generator[Path]:
    """Lets apt download the packages `names` (apt-patterns(7)) and what they need; yields each file that is complete.

    mmdebstrap has the settings of apt for `root` in MMDEBSTRAP_APT_CONFIG. Raises CalledProcessError.
    """
    argv = (*APT, "install", *names)
    environment = {**os.environ, "APT_CONFIG": os.environ["MMDEBSTRAP_APT_CONFIG"]}
    seen: set[Path] = set()
    with subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL) as apt:
        try:
            ended = False
            while not ended:
                ended = has_ended(apt, _TURN_SECONDS)
                arrived = set((root / ARCHIVES).glob("*.deb")) - seen
                seen |= arrived
                yield from sorted(arrived)
        finally:
            # Whoever waits for packages has failed.
            apt.kill()
    if apt.returncode != 0:
        raise subprocess.CalledProcessError(apt.returncode, argv)
