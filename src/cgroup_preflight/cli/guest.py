"""`cgroup-preflight guest`: builds and removes guest images, and runs commands or a shell in a guest."""

import argparse
import datetime as dt
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from cgroup_preflight.cli import guest_import, options
from cgroup_preflight.cli.guest_run import say
from cgroup_preflight.cli.guest_shell import attach
from cgroup_preflight.config import DEFAULT_DISTRO
from cgroup_preflight.config.keys import DISTROS, KERNELS, parse_package
from cgroup_preflight.core.errors import ExitStatus, UsageError
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import bytecode, image, saved_state, tools, uml_kernel
from cgroup_preflight.guest.bare import BareGuest
from cgroup_preflight.guest.contents import contents_in
from cgroup_preflight.guest.machine import PROGRAMS
from cgroup_preflight.guest.recipe import BACKPORTS, Recipe, recipe_for
from cgroup_preflight.guest.run import warm_up
from cgroup_preflight.guest.saved_start import states_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import BootMode, GuestEngine, GuestSpec
from cgroup_preflight.report.escape import plain

_ABOUT = """\
Manages the guest VM that `run`, `smoke` and `up` use where this host cannot
start units: a Linux kernel with systemd and cgroup v2 that runs as an ordinary
process, without root and without KVM. An image is built once and kept in
~/.cache.

Use it to build the image before the first run (CI: to fill a cache), or to
look into a guest when a service fails only there.

    cgroup-preflight guest build --distro debian-13 --install
    cgroup-preflight guest list
    cgroup-preflight guest run --input dist -- /run/preflight/in/dist/user-api
    cgroup-preflight guest shell --input dist
    cgroup-preflight guest import rootfs.tar --name ubuntu-24.04
    cgroup-preflight guest remove --all

Exit status: `run` and `shell` return that of the command in the guest (`run`: 3
after --timeout). 2 wrong call, 3 the image could not be built or booted, for
example because a program is missing (`guest build --install` installs it).
`cgroup-preflight guest ACTION --help` explains one action.
"""
#: Each action in one line, and when to use it.
_ACTIONS = {
    "build": ("build an image, unless it exists", """
Use it before the first run, or in CI to fill a cache: a run builds the image
itself where it is missing, which takes longer. With --package, it is the image
of a config with these `packages` in [target].

    cgroup-preflight guest build
    cgroup-preflight guest build --distro debian-13 --machine qemu --install
    cgroup-preflight guest build --package redis-server --package nginx
    cgroup-preflight guest build --distro debian-14 --refresh

Exit status: 0 the image exists, 2 wrong call, 3 it could not be built or
booted.
"""),
    "import": ("make an image of a root from elsewhere", """
Use it for a distribution that `guest build` does not know: the export of a
container (`docker export`), or the tarball of a distribution for the cloud. It
needs systemd 244 or later, coreutils, util-linux and mount, for x86-64; no
Python. The archive is unpacked without devices and without a path that leads
out, booted once, and removed again if it cannot be used.

    docker export CONTAINER > rootfs.tar
    cgroup-preflight guest import rootfs.tar --name ubuntu-24.04
    cgroup-preflight guest run --distro ubuntu-24.04 -- systemctl --version

Exit status: 3 if it cannot become a guest, with all that it lacks.
"""),
    "list": ("list the images in the cache", """
Use it to see which images exist, for which machine, and how large they are,
the day of Debian's archive that they were made from, and their systemd and
kernel. It marks images of another version of cgroup-preflight, which this one
never uses. The names at the end of a line are the packages of the image. A
saved state belongs to the image with whose name its own begins.

    cgroup-preflight guest list
"""),
    "remove": ("remove images from the cache", """
Use it to free disk space. The next run builds a removed image again. The saved
states of an image go with it, and so do the modules of this tool that were
compiled for it, unless a run uses them now. --all removes all of these.

    cgroup-preflight guest remove debian-12
    cgroup-preflight guest remove --all
"""),
    "shell": ("boot a guest and open a root shell in it", """
Use it to look into a guest when a service fails only there. The guest is
discarded when the shell ends.

    cgroup-preflight guest shell --input dist

Exit status: that of the shell.
"""),
    "run": ("boot a guest, run a command in it as root, discard the guest", """
Use it to try a program or systemd itself in a guest, without the preflight.
Options of the command come after `--`.

    cgroup-preflight guest run --input dist -- /run/preflight/in/dist/user-api
    cgroup-preflight guest run --full -- systemctl list-units --failed

Exit status: that of the command; 128 plus the number of the signal that ended
it; 3 after --timeout.
"""),
}  # fmt: skip


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("guest", _ABOUT)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = _action(actions, "build", _build)
    _add_kind(build)
    build.add_argument("--install", action="store_true", help="first install missing programs with apt (needs root)")
    build.add_argument("--refresh", action="store_true", help="build it again from Debian's archive as it is now")
    build.add_argument("--quiet", action="store_true", help="do not print the name of the image")
    imports = _action(actions, "import", guest_import.import_root)
    imports.add_argument("archive", type=Path, metavar="ROOTFS.tar", help="a tar archive, also with gzip, xz or bzip2")
    imports.add_argument("--name", required=True, help="the name of the image, as ubuntu-24.04")
    _action(actions, "list", _list)
    remove = _action(actions, "remove", _remove)
    remove.add_argument("name", nargs="*", help="an image or a saved state as `guest list` shows it, or a distribution")
    remove.add_argument("--all", action="store_true", help="remove all images, saved states and compiled modules")
    shell = _action(actions, "shell", _shell)
    run = _action(actions, "run", _run)
    for action in (shell, run):
        _add_kind(action, imported=True)
        action.add_argument("--input", action="append", type=Path, default=[], metavar="PATH",
                            help="a file or folder to copy to /run/preflight/in (read-only)")  # fmt: skip
        action.add_argument("--full", action="store_true", help="start all services of the distribution")
    run.add_argument(
        "--timeout", type=_seconds, default=600.0, metavar="SECONDS", help="time limit of the command (default: 600)"
    )
    run.add_argument("command", nargs="+", metavar="COMMAND", help="a program and its arguments, after `--`; no shell")
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError, HostError; `run` and `shell` exit with what ran in the guest."""
    args = arguments().parse_args(words)
    act: Callable[[argparse.Namespace], int] = args.act
    return act(args)


def _action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str,
    act: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:  # fmt: skip
    about, more = _ACTIONS[name]
    made = actions.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}.\n{more}", allow_abbrev=False,
        formatter_class=options.help_format,
    )  # fmt: skip
    made.set_defaults(act=act)
    return made


def _seconds(text: str) -> float:
    """A time limit of the command line; argparse reports the errors."""
    seconds = float(text)
    if not 0 < seconds < 1e7:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _package(text: str) -> str:
    """A name of the command line; argparse reports the errors."""
    try:
        return parse_package(text)
    except QuantityError as error:
        raise argparse.ArgumentTypeError(f"{error}; use {error.hint}") from None


def _add_kind(to: argparse.ArgumentParser, *, imported: bool = False) -> None:
    """The options that say which guest; with `imported` it may also be the name of a root from elsewhere."""
    if imported:
        known = f"{', '.join(DISTROS)}, or the name of `guest import`"
        to.add_argument("--distro", default=DEFAULT_DISTRO, metavar="NAME", help=f"{known} (default: {DEFAULT_DISTRO})")
    else:
        to.add_argument(
            "--distro", choices=DISTROS, default=DEFAULT_DISTRO, help=f"the distribution (default: {DEFAULT_DISTRO})"
        )
    to.add_argument("--machine", choices=("uml", "qemu"), default="uml", help="user-mode-linux (default) or QEMU")
    to.add_argument("--kernel", choices=KERNELS, default="", help="a newer kernel, from Debian's backports (QEMU)")
    to.add_argument("--package", action="append", type=_package, default=[], metavar="NAME",
                    help="a package that is installed in the image, as packages in [target]; may be given several times")  # fmt: skip


def _build(args: argparse.Namespace) -> int:
    engine = GuestEngine(args.machine)
    if args.install:
        tools.install((PROGRAMS[engine], *image.PROGRAMS))
    folder = image.cache_folder(os.environ)
    # It comes while an image is built, unless this host has no program that runs the image.
    missing = not tools.is_installed(PROGRAMS[engine]) and uml_kernel.found_in(folder) is None
    if engine is GuestEngine.UML and (missing or (not args.refresh and image.exists(_recipe(args), folder))):
        uml_kernel.fetch(folder, say)
    made = _image(args, anew=args.refresh, keep_program=missing)
    warm_up(made, args.distro, engine, folder, say)
    if not args.quiet:
        options.write_stdout(f"{made.name}  {made.root.parent}\n")
    return ExitStatus.PASS


def _image(args: argparse.Namespace, **how: bool) -> image.RootImage:
    programs = (PROGRAMS[GuestEngine(args.machine)],)
    return image.ensure(_recipe(args), image.cache_folder(os.environ), say, programs=programs, **how)


def _recipe(args: argparse.Namespace) -> Recipe:
    guest_import.require_qemu_for_kernel(args)
    return recipe_for(args.distro, with_kernel=args.machine == "qemu", packages=args.package, kernel=args.kernel)


def _list(_args: argparse.Namespace) -> int:
    rows = []
    folder = image.cache_folder(os.environ)
    for item in image.list_images(folder):
        size = _size(item.root.parent)
        kind, old = _kind(item), "" if _is_current(item) else "  from another version"
        packages = f"  {', '.join(item.packages)}" if item.packages else ""
        rows.append(f"{item.name}  {kind:<4}  {size:>5} MB{_inside(item)}{old}{packages}")
    for home in uml_kernel.list_homes(folder):
        old = "" if home.name == uml_kernel.name_in(folder) else "  from another version"
        found = contents_in(home)
        packages = ", ".join(f"{name} {plain(version)}" for name, version in found.packages.items()) if found else ""
        rows.append(f"{home.name}  uml   {_size(home):>5} MB  {packages}{old}")
    for state in saved_state.list_states(saved_state.states_folder(folder)):
        rows.append(f"{state.name}  qemu  {state.size >> 20:>5} MB  saved state")
    options.write_stdout("".join(f"{row}\n" for row in rows))
    return ExitStatus.PASS


def _kind(item: image.RootImage) -> str:
    """The machine of an image; a root from elsewhere has no kernel, and runs in both."""
    return "qemu" if item.kernel else "both" if item.bare else "uml"


def _size(home: Path) -> int:
    """MB on disk."""
    return sum(file.stat().st_blocks for file in home.iterdir()) >> 11


def _is_current(item: image.RootImage) -> bool:
    """Whether this version of the tool would use the image."""
    if item.bare:
        return True
    kernels = ("", *KERNELS) if item.distro in BACKPORTS else ("",)
    return item.recipe_name in {
        recipe_for(distro, with_kernel=item.kernel is not None, packages=item.packages, kernel=kernel).name
        for distro in DISTROS
        for kernel in kernels
        if not kernel or distro in BACKPORTS
    }


def _inside(item: image.RootImage) -> str:
    """The day of the archive with its age, and the versions that matter most; empty where the image does not say."""
    if item.contents is None:
        return ""
    age = item.contents.age(dt.datetime.now(tz=dt.UTC).date())
    known = {"systemd": item.contents.packages.get("systemd", ""), "kernel": item.contents.kernel}
    versions = [f"{name} {plain(version)}" for name, version in known.items() if version]
    day = (
        f"archive of {item.contents.day} ({age} day{'' if age == 1 else 's'} old)"
        if age is not None
        else "archive of an unknown day"
    )
    return f"  {', '.join((day, *versions))}"


def _named(word: str, images: Iterable[image.RootImage]) -> set[str]:
    """The images that a word of the command line names."""
    return {item.name for item in images if word in (item.name, item.distro)}


def _remove(args: argparse.Namespace) -> int:
    folder = image.cache_folder(os.environ)
    images = image.list_images(folder)
    kernels = [home.name for home in uml_kernel.list_homes(folder)]
    states = saved_state.list_states(saved_state.states_folder(folder))
    existing = [*(item.name for item in images), *kernels, *(state.name for state in states)]
    known = {
        word: [
            *(item.name for item in images if item.name in _named(word, images)),
            *(name for name in kernels if name == word),
            *(state.name for state in states if word == state.name or state.image in _named(word, images)),
        ]
        for word in args.name
    }
    names = existing if args.all else [name for found in known.values() for name in found]
    unknown = [word for word, found in known.items() if not found]
    if unknown or not (args.all or args.name):
        what = f"the cache has no image {unknown[0]!r}" if unknown else "name an image, or use --all"
        raise UsageError(
            what, where="guest remove", remedy=Remedy(title=f"images in the cache: {', '.join(existing) or 'none'}")
        )
    for name in dict.fromkeys(names):
        if any(state.name == name for state in states):
            saved_state.remove(name, saved_state.states_folder(folder))
        else:
            image.remove(name, folder)
        options.write_stdout(f"removed {name}\n")
    bytecode.remove_unused(folder)
    return ExitStatus.PASS


def _guest(args: argparse.Namespace) -> Guest | BareGuest:
    if args.distro not in DISTROS:
        return guest_import.imported_guest(args, _inputs(args.input))
    engine = GuestEngine(args.machine)
    inputs, root = _inputs(args.input), _image(args)
    states = states_for(engine, "tcg", root, image.cache_folder(os.environ)) if not args.full else None
    spec = GuestSpec(
        engine=engine, distro=args.distro, mode=BootMode.FULL if args.full else BootMode.QUICK,
        cpus=2 if engine is GuestEngine.QEMU else 1, memory_mib=768 if engine is GuestEngine.QEMU else 512,
        inputs=inputs, boot_timeout=300.0, states=states,
    )  # fmt: skip
    return Guest(spec, root)


def _inputs(paths: list[Path]) -> dict[str, Path]:
    """Files and folders to copy into the guest, by their names. Raises UsageError."""
    found: dict[str, Path] = {}
    for path in paths:
        name = path.resolve().name
        if not path.exists():
            raise UsageError(
                "no such file or folder", where=str(path), remedy=Remedy(title="name a file or folder of this host")
            )
        if not name or name in found:
            raise UsageError(f"another --input has the name {name!r}" if name else "the root folder has no name", where=str(path),
                             remedy=Remedy(title="use a folder that contains the files under different names"))  # fmt: skip
        found[name] = path.resolve()
    return found


def _run(args: argparse.Namespace) -> int:
    with _guest(args) as guest:
        done = guest.run(args.command, timeout=args.timeout)
    options.write_stdout(done.stdout)
    options.write_stderr(done.stderr)
    if done.timed_out:
        options.write_stderr(f"cgroup-preflight: killed the command after {args.timeout:g} s\n")
        return ExitStatus.UNVERIFIED
    # As in a shell: 128 plus the number of the signal.
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _shell(args: argparse.Namespace) -> int:
    with _guest(args) as guest:
        return attach(guest)
