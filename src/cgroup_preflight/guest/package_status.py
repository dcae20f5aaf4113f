"""Which packages an image has, read from its file system without booting it."""

import subprocess

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import tools
from cgroup_preflight.guest.image import RootImage

_STATUS = "/var/lib/dpkg/status"
_SECONDS = 30.0


def status_file(image: RootImage) -> str:
    """The text of dpkg's status file in the image. Raises HostError."""
    argv = (tools.find(tools.DEBUGFS), "-R", f"cat {_STATUS}", str(image.root))
    done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False)
    text = done.stdout.decode("utf-8", "replace")
    if "Package: " not in text:
        raise HostError(
            f"cannot read which packages the image has: {done.stderr.decode(errors='replace').strip()[-200:]}",
            where=str(image.root), remedy=Remedy(title="remove the image; the next run builds it again",
                                                 commands=(("cgroup-preflight", "guest", "remove", image.name),)),
        )  # fmt: skip
    return text
