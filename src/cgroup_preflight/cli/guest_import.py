"""`cgroup-preflight guest import`: takes a root from elsewhere, boots it once, and says what is in it."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from cgroup_preflight.cli import options
from cgroup_preflight.cli.guest_run import say
from cgroup_preflight.config.model import Target
from cgroup_preflight.core.errors import ExitStatus, HostError, UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import foreign, foreign_kernel, image, tools, uml, uml_kernel
from cgroup_preflight.guest.bare import BareGuest
from cgroup_preflight.guest.foreign_try import Tried, try_root
from cgroup_preflight.guest.spec import BootMode, GuestEngine, GuestSpec
from cgroup_preflight.report.escape import plain


def import_root(args: argparse.Namespace) -> int:
    """The action. Raises HostError, UsageError."""
    folder = image.cache_folder(os.environ)
    made = foreign.import_root(args.archive, args.name, folder, say)
    uml_kernel.fetch(folder, say)
    if uml_kernel.found_in(folder) is None:
        tools.require((uml.PROGRAM,))
    made = image.image_in(made.root.parent)
    say("booting it once")
    try:
        tried = try_root(made)
    except HostError:
        image.remove(made.name, folder)
        raise
    options.write_stdout(_said(made, foreign.found_of(made), tried))
    return ExitStatus.PASS


def imported_guest(args: argparse.Namespace, inputs: Mapping[str, Path]) -> BareGuest:
    """A guest of `guest run` or `guest shell` with a root from elsewhere. Raises UsageError."""
    folder = image.cache_folder(os.environ)
    item = foreign.imported(args.distro, folder)
    if item is None:
        raise foreign.unknown(args.distro, folder, "--distro")
    require_qemu_for_kernel(args)
    foreign.refuse(Target(packages=tuple(args.package)), item.distro)
    engine = GuestEngine(args.machine)
    if engine is GuestEngine.QEMU:
        item = foreign_kernel.with_kernel(item, args.kernel, folder, say)
    spec = GuestSpec(
        engine=engine, distro=item.distro, mode=BootMode.FULL if args.full else BootMode.QUICK, inputs=inputs,
        cpus=2 if engine is GuestEngine.QEMU else 1, memory_mib=768 if engine is GuestEngine.QEMU else 512,
        kernel_args=foreign.kernel_args(foreign.found_of(item)), boot_timeout=300.0,
    )  # fmt: skip
    return BareGuest(spec, item)


def require_qemu_for_kernel(args: argparse.Namespace) -> None:
    """Raises UsageError for a newer kernel that user-mode-linux would not use."""
    if args.kernel and args.machine != "qemu":
        raise UsageError("user-mode-linux has a kernel of its own", where=f"--kernel {args.kernel}",
                         remedy=Remedy(title="add --machine qemu"))  # fmt: skip


def _said(made: image.RootImage, found: foreign.Found, tried: Tried) -> str:
    size = sum(file.stat().st_blocks for file in made.root.parent.iterdir()) >> 11
    packages = f", {found.packages} packages of dpkg" if found.packages else ""
    server = found.file_server or "none, so the shell reads files"
    left = f"left out: {found.left_out} devices, files below /dev and /run, and the like\n" if found.left_out else ""
    return (
        f"{made.name}  {size} MB  {plain(found.title) or 'no name in os-release'}{packages}\n"
        f"systemd {plain(tried.version)}, boots in {tried.seconds:.1f} s with user-mode-linux {plain(tried.kernel)}\n"
        f"cgroup v2: {plain(' '.join(tried.controllers))}; sftp-server: {server}\n{left}"
    )
