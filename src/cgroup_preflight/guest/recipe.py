"""The recipe of a root image (distribution, packages, users, added files), its hash, and the build commands. Pure."""

import hashlib
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cgroup_preflight
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.arrivals import APT
from cgroup_preflight.guest.maintainer import CONFIGURE
from cgroup_preflight.guest.overlay import OverlayFile, overlay
from cgroup_preflight.guest.tools import KEYRING, STEP

#: Debian's code names by the names in config and command line.
SUITES = {"debian-12": "bookworm", "debian-13": "trixie", "debian-14": "forky"}
#: Distributions whose packages change from day to day: the day and the versions of an image belong to its name.
MOVING = frozenset({"debian-14"})
#: The suites with a newer kernel for a distribution: `kernel = "backports"`.
BACKPORTS = {"debian-13": "trixie-backports"}

_PACKAGES = (
    # Instead of usrmerge, which needs all of Perl.
    "usr-is-merged",
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "sudo",
    "procps",
)
#: What runs this tool in a guest; a bare guest has none of it.
_FOR_AGENT = ("python3", "python3-packaging")
#: In its place a bare guest has the file server of OpenSSH: one program, which needs nothing but the C library. The package
#: would bring the client of OpenSSH, Kerberos and FIDO with it.
_FILE_SERVER, _FILE_SERVER_PATH = "openssh-sftp-server", "usr/lib/openssh/sftp-server"
_BUILDERS = ("recipe.py", "package_lists.py", "arrivals.py", "unpack.py", "package_file.py")
_KERNEL_BUILDERS = ("initrd.py", "machine_code.py", "user_network.py", "kernel_image.py")
#: Most of it is a hole.
_SIZE_MIB = 2048
#: QEMU boots the kernel of the distribution; user-mode-linux is a kernel itself.
_KERNEL_PACKAGES = ("linux-image-cloud-amd64",)

#: Documentation and translations, a third of the root; names of devices, which only udev looks up.
_EXCLUDED_PATHS = (
    *(f"/usr/share/{name}/*" for name in ("man", "doc", "locale", "info")),
    "*/lib/udev/hwdb.d/*",
)
#: Modules of the kernel for devices that no guest has, a name of a folder below drivers.
_NO_DEVICES = ("comedi", "hid", "hv", "infiniband", "net/ethernet", "net/wwan", "xen")
_MODULES = tuple(f"*/lib/modules/*/kernel/drivers/{name}/*" for name in _NO_DEVICES)

#: What mmdebstrap calls the variant "minbase", as names and patterns for apt (apt-patterns(7)).
_MINBASE = ("?essential", "?priority(required)", "apt")
#: mmdebstrap runs it with its settings of apt: suites, mirror, keys. apt verifies what it downloads.
DOWNLOAD_ONLY = f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" {shlex.join(APT)}'
#: Downloads and verifies the package lists in the format that is unpacked soonest (xz takes three times as long, for 3 MB
#: less), and makes no index of all packages.
_UPDATE = (
    'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" TMPDIR="$1/tmp"; apt-get update -qq --error-on=any '
    "-oAcquire::CompressionTypes::Order::=gz -opkgCacheFile::Generate=false"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that determines the content of a root: equal recipes make interchangeable roots.

    `extra` are those of the packages that somebody named. `builder` is a hash of the programs that follow the recipe.
    `bare` has no agent (`guest.starter`). `backports` is the suite of the kernel where that is not the distribution's own.
    """

    distro: str
    suite: str
    packages: tuple[str, ...]
    extra: tuple[str, ...]
    with_kernel: bool
    backports: str
    scripts: tuple[str, ...]
    excluded_paths: tuple[str, ...]
    files: tuple[OverlayFile, ...]
    bare: bool
    size_mib: int
    builder: str

    @property
    def key(self) -> str:
        """16 hex digits over the whole recipe, so that each change makes another image."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The folder of the image in the cache."""
        return f"{self.distro}-{self.key}"

    @property
    def moving(self) -> bool:
        """Whether the archive changes what the recipe makes; the name of an image then goes on with day and versions."""
        return self.distro in MOVING or bool(self.backports)


def recipe_for(
    distro: str, *, with_kernel: bool = False, packages: Iterable[str] = (), kernel: str = "", bare: bool = False
) -> Recipe:  # fmt: skip
    """The recipe for a `distro` of SUITES with more `packages`, in any order; `kernel` is "backports" for a newer one.

    Raises UsageError for another distribution, and for one without a newer kernel.
    """
    suite = SUITES.get(distro)
    if suite is None:
        raise UsageError(
            f"unknown guest distribution {distro!r}",
            remedy=Remedy(title=f"choose one of: {', '.join(sorted(SUITES))}"),
        )
    extra = tuple(sorted(set(packages)))
    backports = _backports(distro) if kernel and with_kernel else ""
    kernels = tuple(f"{name}/{backports}" if backports else name for name in _KERNEL_PACKAGES)
    return Recipe(
        distro=distro,
        suite=suite,
        packages=(*_PACKAGES, *(() if bare else _FOR_AGENT), *(kernels if with_kernel else ()), *extra),
        extra=extra,
        with_kernel=with_kernel,
        backports=backports,
        scripts=(CONFIGURE, _IMAGE_SCRIPT),
        excluded_paths=(*_EXCLUDED_PATHS, *(_MODULES if with_kernel else ())),
        files=overlay(hostname="guest", machine_id=hashlib.sha256(distro.encode()).hexdigest()[:32], bare=bare),
        bare=bare,
        size_mib=_SIZE_MIB if not extra else 2 * _SIZE_MIB,
        builder=_builder((*_BUILDERS, *(_KERNEL_BUILDERS if with_kernel else ()))),
    )


def _backports(distro: str) -> str:
    if distro not in BACKPORTS:
        raise UsageError(
            f"{distro} has no kernel from backports here", where="kernel in [target]",
            remedy=Remedy(title=f"choose one of: {', '.join(BACKPORTS)}, or leave kernel out"),
        )  # fmt: skip
    return BACKPORTS[distro]


def _builder(names: Iterable[str]) -> str:
    here = Path(__file__).parent
    data = b"".join((here / name).read_bytes() for name in names)
    return hashlib.sha256(data).hexdigest()


def download_command(names: Iterable[str], hook: str, options: Iterable[str] = ()) -> str:
    """A line of shell that runs `hook` with the settings of apt for an empty root; the suite and the folder follow.

    The lists of apt have what the packages `names` can need.
    """
    update = f'{_UPDATE} && {_program("package_lists")} "$1" {shlex.join(names)} && apt-cache gencaches -qq -oDebug::NoLocking=1'
    return shlex.join((
        "mmdebstrap",
        "--variant=extract",
        "--format=directory",
        "--mode=root",
        # Cleaning would remove the packages, and what they put into their folders.
        "--skip=chroot/mount,cleanup/apt,cleanup/reproducible,cleanup/run,cleanup/tmp",
        # By default mmdebstrap on Ubuntu trusts only Ubuntu's keys.
        f"--keyring={KEYRING}",
        *options,
        # With lists and an index, mmdebstrap does not update them (mmdebstrap(1), setup).
        f"--setup-hook={update}",
        f"--extract-hook={hook}",
    )) + ' "$@"'  # fmt: skip


def _program(name: str) -> str:
    """A line of shell that starts a program of this package; its arguments follow."""
    source = str(Path(cgroup_preflight.__file__).parent.parent)
    return shlex.join(("env", f"PYTHONPATH={source}", sys.executable, "-m", f"cgroup_preflight.guest.{name}"))


_FILE_SERVER_SCRIPT = f"""
dpkg-deb --fsys-tarfile root/{_FILE_SERVER}_*.deb | tar -x -C root ./{_FILE_SERVER_PATH}
rm root/{_FILE_SERVER}_*.deb
"""
#: A suite of the archive of mmdebstrap's own sources, with their options.
_ADD_SUITE = (
    'sed -n \'s/ [a-z]* main$/ {suite} main/p;T;q\' "$1/etc/apt/sources.list" > "$1/etc/apt/sources.list.d/more.list"'
)
#: Where this host's apt accepts package lists older than their Valid-Until (apt.conf(5)), the build does, too: the list of
#: a moving suite is valid for a week, and some mirrors lag behind. Leaves the option in "$@".
VALIDITY = r"""
set --
case $(apt-config shell checked Acquire::Check-Valid-Until/b 2>/dev/null) in
    *false*) set -- '--aptopt=Acquire::Check-Valid-Until "false"' ;;
esac
"""
#: The files of a root are in memory where there is enough of it (KiB) and we may mount: a third of the time.
_FOLDER_SCRIPT = r"""
mkdir tree
available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
[ "$available" -lt 2097152 ] || mount -t tmpfs -o mode=755 tmpfs tree 2>/dev/null || :
cd tree
"""
#: Adds users and files to a configured root, moves the kernel out, makes the file system of `size` MiB.
#: One script, because an ordinary user has to run all of it in one user namespace.
#: `listing` has the paths of programs and libraries, so that a service that needs others is known before the boot.
#: `units.tar` has the units, and in `owners` the packages that ship them, for the same reason.
#: `contents` has the dates of the package lists and the versions of the packages.
#: The touched files tell systemd that its catalogue, users and cache match /usr: no update at boot.
#: No journal and no reserved blocks, because an image is written once.
_IMAGE_SCRIPT = r"""
chroot root /usr/sbin/useradd --create-home --uid 1000 --shell /bin/bash tester
chroot root /usr/sbin/useradd --create-home --uid 1001 --shell /bin/bash runner
for list in root/var/lib/apt/lists/*Release; do
    [ ! -e "$list" ] || sed -n "s/^Date: /archive ${list##*/} /p;T;q" "$list"
done > ../contents
awk '/^Package: / { name = $2 } /^Version: / { print name, $2 }' root/var/lib/dpkg/status >> ../contents
rm -rf --one-file-system root/dev/* root/tmp/* root/var/cache/apt/* root/var/lib/apt/lists/*
tar -xpf ../overlay.tar -C root --numeric-owner --owner=0 --group=0
touch root/etc/.updated root/var/.updated
(cd root && find bin/ sbin/ usr/bin/ usr/sbin/ lib/ lib64/ usr/lib/ usr/lib64/ ! -type d \
    '(' -path '*bin/*' -o -name '*.so' -o -name '*.so.*' ')' -printf '/%p\n') > ../listing
(cd root && find etc/systemd/system usr/local/lib/systemd/system usr/lib/systemd/system \
    '(' -name '*.service' -o -name '*.socket' -o -name '*.conf' ')' ! -path '*.wants/*' ! -path '*.requires/*' -print0 \
    2>/dev/null) > ../paths || :
(cd root/var/lib/dpkg/info && grep -H '/systemd/system/[^/]*[.]service$' *.list) > ../owners || :
tar -cf ../units.tar -C .. owners -C tree/root --null --verbatim-files-from --no-recursion -T ../paths
rm ../paths ../owners
[ ! -e bytecode.tar ] || mv bytecode.tar ..
for kernel in root/boot/vmlinuz-* root/usr/lib/modules/*/vmlinuz; do
    [ ! -e "$kernel" ] || mv "$kernel" ../vmlinuz
done
rm -rf root/boot/*
mke2fs -q -F -t ext4 -O ^has_journal -m 0 -L preflight -d root ../root.ext4 "${size}M"
cd ..
rm -rf overlay.tar tree/root
"""


def _install_command(recipe: Recipe) -> str:
    """The line that makes the folder `root` with apt's settings, and unpacks and configures its packages."""
    wanted = (*_MINBASE, *recipe.packages)
    names = (*(name.partition("/")[0] for name in wanted), *((_FILE_SERVER,) if recipe.bare else ()))
    hook = f'{_program("unpack")} "$1" {shlex.join((*recipe.excluded_paths, "--", *wanted))}'
    if recipe.bare:
        hook += f' && cd "$1" && {DOWNLOAD_ONLY} download {_FILE_SERVER}'
    excluded = (f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.excluded_paths)
    # After mmdebstrap has written its own sources.
    added = (f"--setup-hook={_ADD_SUITE.format(suite=recipe.backports)}",) if recipe.backports else ()
    return download_command(names, hook, (*excluded, *added))


def build_argv(recipe: Recipe) -> tuple[str, ...]:
    """The command that makes root.ext4, listing and vmlinuz in the working directory, where overlay.tar is."""
    steps = (
        f"echo '{STEP}downloading the packages'",
        "size=$1",
        VALIDITY,
        f"{_install_command(recipe)} {recipe.suite} root",
        *((_FILE_SERVER_SCRIPT,) if recipe.bare else ()),
    )
    script = "\n".join((_FOLDER_SCRIPT, *steps, _IMAGE_SCRIPT))
    return ("sh", "-euc", script, "build", str(recipe.size_mib))
