"""The recipe of a root image (distribution, packages, users, added files), its hash, and the build commands. Pure."""

import hashlib
from dataclasses import dataclass

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.overlay import OverlayFile, overlay
from cgroup_preflight.guest.tools import IN_NAMESPACE, KEYRING

#: Debian's code names by the names in config and command line.
SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}

_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "sudo",
    "python3",
    "python3-packaging",
    "procps",
)
#: QEMU boots the kernel of the distribution; user-mode-linux is a kernel itself.
_KERNEL_PACKAGES = ("linux-image-cloud-amd64",)

#: Documentation and translations: a third of the root.
_EXCLUDED_PATHS = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")

#: Hooks of mmdebstrap: `sh -c` runs them after all packages are installed, with the root as $1.
_USER_HOOKS = (
    'chroot "$1" useradd --create-home --uid 1000 --shell /bin/bash tester',
    'chroot "$1" useradd --create-home --uid 1001 --shell /bin/bash runner',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that determines the content of a root: equal recipes make interchangeable roots."""

    distro: str
    suite: str
    packages: tuple[str, ...]
    with_kernel: bool
    hooks: tuple[str, ...]
    excluded_paths: tuple[str, ...]
    files: tuple[OverlayFile, ...]
    size_mib: int

    @property
    def key(self) -> str:
        """16 hex digits over the whole recipe, so that each change makes another image."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The folder of the image in the cache."""
        return f"{self.distro}-{self.key}"


def recipe_for(distro: str, *, with_kernel: bool = False) -> Recipe:
    """The recipe for `distro` ("debian-12", "debian-13"); raises UsageError for another one."""
    suite = SUITES.get(distro)
    if suite is None:
        raise UsageError(
            f"unknown guest distribution {distro!r}",
            remedy=Remedy(title=f"choose one of: {', '.join(sorted(SUITES))}"),
        )
    return Recipe(
        distro=distro,
        suite=suite,
        packages=_PACKAGES + (_KERNEL_PACKAGES if with_kernel else ()),
        with_kernel=with_kernel,
        hooks=_USER_HOOKS,
        excluded_paths=_EXCLUDED_PATHS,
        files=overlay(hostname="guest", machine_id=hashlib.sha256(distro.encode()).hexdigest()[:32]),
        size_mib=2048,
    )


def mmdebstrap_argv(recipe: Recipe, *, output: str, unprivileged: bool) -> tuple[str, ...]:
    """The command that makes the root as the tar archive `output`, without the added files."""
    return (
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--format=tar",
        f"--mode={'unshare' if unprivileged else 'root'}",
        # By default mmdebstrap on Ubuntu trusts only Ubuntu's keys.
        f"--keyring={KEYRING}",
        f"--include={','.join(recipe.packages)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.excluded_paths),
        *(f"--customize-hook={hook}" for hook in recipe.hooks),
        recipe.suite,
        output,
    )


#: Unpacks both archives, moves the kernel out, makes the file system. $1 is its size in MiB, $2 is "kernel" or "".
#: One script, because an ordinary user has to run all of it in one user namespace.
#: `listing` has the paths of programs and libraries, so that a service that needs others is known before the boot.
#: The touched files tell systemd that its catalogue, users and cache match /usr: no update at boot.
#: No journal and no reserved blocks, because an image is written once.
_IMAGE_SCRIPT = r"""
mkdir root
tar -xpf root.tar -C root --numeric-owner --exclude=./dev/*
tar -xpf overlay.tar -C root --numeric-owner --owner=0 --group=0
touch root/etc/.updated root/var/.updated
(cd root && find bin/ sbin/ usr/bin/ usr/sbin/ lib/ lib64/ usr/lib/ usr/lib64/ ! -type d \
    '(' -path '*bin/*' -o -name '*.so' -o -name '*.so.*' ')' -printf '/%p\n') > listing
if [ "$2" = kernel ]; then
    cp root/boot/vmlinuz-* vmlinuz
    rm -r root/boot/*
fi
mke2fs -q -F -t ext4 -O ^has_journal -m 0 -L preflight -d root root.ext4 "$1M"
rm -rf root root.tar overlay.tar
"""


def image_argv(recipe: Recipe, *, unprivileged: bool) -> tuple[str, ...]:
    """The command that turns root.tar and overlay.tar of the working directory into root.ext4 and vmlinuz."""
    namespace = IN_NAMESPACE if unprivileged else ()
    kernel = "kernel" if recipe.with_kernel else ""
    return (*namespace, "sh", "-euc", _IMAGE_SCRIPT, "image", str(recipe.size_mib), kernel)
