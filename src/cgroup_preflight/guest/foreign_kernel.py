"""The kernel of a root from elsewhere in QEMU: that of a distribution which this tool builds, with its modules.

Such a root mostly has no kernel among its files, and user-mode-linux is one itself.
"""

from collections.abc import Callable
from pathlib import Path

from cgroup_preflight.core.records import replace
from cgroup_preflight.guest import image
from cgroup_preflight.guest.machine import PROGRAMS
from cgroup_preflight.guest.recipe import Recipe, recipe_for
from cgroup_preflight.guest.spec import GuestEngine

#: The stable distribution: systemd from 244 to the newest runs on its kernel, and backports have a newer one.
_DISTRO = "debian-13"


def kernel_recipe(kernel: str) -> Recipe:
    """The recipe of the image with the kernel; `kernel` is `backports` for a newer one."""
    return recipe_for(_DISTRO, with_kernel=True, kernel=kernel)


def with_kernel(
    root: image.RootImage, kernel: str, folder: Path, say: Callable[[str], None] = lambda _: None
) -> image.RootImage:  # fmt: skip
    """The root with a kernel for QEMU, whose image is built if the cache `folder` does not have it. Raises HostError."""
    source = image.ensure(kernel_recipe(kernel), folder, say, programs=(PROGRAMS[GuestEngine.QEMU],))
    return replace(root, kernel=source.kernel, initrd=source.initrd, kernel_image=source)
