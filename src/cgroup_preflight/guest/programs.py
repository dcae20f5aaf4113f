"""What the programs of a project need of the guest's system, and what of that the guest lacks, known before the boot."""

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.golang.binary_file import BinaryError, open_image
from cgroup_preflight.golang.dynamic import Needs, needs
from cgroup_preflight.golang.elf import MAGIC
from cgroup_preflight.guest.libraries import LIBRARIES
from cgroup_preflight.guest.recipe import SUITES

#: The kernel reads no more of a script's first line (BINPRM_BUF_SIZE in linux/binfmts.h).
_FIRST_LINE = 256
#: Where the loader looks without being told (ld.so(8), and Debian's /etc/ld.so.conf.d).
_LIBRARY_FOLDERS = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib", "/lib64", "/usr/lib64")
_PROGRAM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_SHOWN = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """A file that the guest lacks: its path or the name of a library, and the program that needs it."""

    name: str
    needed_by: str
    library: bool = False


def lacking(
    programs: Mapping[str, Path], listing: Iterable[str], given: Mapping[str, Path] | None = None
) -> tuple[Lacking, ...]:  # fmt: skip
    """What `programs`, and the libraries that they bring, do not find in the guest, each name once. Raises OSError.

    `programs` are files of the host by the names that the config has for them. `listing` are the paths of programs and
    libraries in the image, whose own needs its packages fulfil. `given` are the files that go into the guest, by their
    paths there: a library is found among them by its name alone, because a program may look for it in any folder.
    """
    given = given or {}
    present = {*listing, *given}
    by_name = {posixpath.basename(path): file for path, file in given.items()}
    found: dict[str, Lacking] = {}
    todo = list(programs.items())
    read = set[Path]()
    while todo:
        shown, file = todo.pop(0)
        if file in read:
            continue
        read.add(file)
        for wanted in _needs(file):
            name = posixpath.basename(wanted.name)
            if wanted.library and name in by_name:
                todo.append((shown, by_name[name]))
            elif not any(posixpath.join(folder, wanted.name) in present for folder in wanted.folders):
                found.setdefault(wanted.name, Lacking(name=wanted.name, needed_by=shown, library=wanted.library))
    # What runs a whole program first: it matters more than each of many libraries.
    return tuple(sorted(found.values(), key=lambda item: item.library))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A file that a program needs: `name` is looked for in `folders`, or is a path."""

    name: str
    folders: tuple[str, ...] = ("/",)
    library: bool = False


def _needs(file: Path) -> tuple[_Wanted, ...]:
    """What a program needs to start; nothing for what is neither ELF nor a script, or is damaged: starting it tells."""
    try:
        with open_image(file) as image:
            head = image.read(0, min(_FIRST_LINE, image.size))
            if head.startswith(b"#!"):
                return _interpreter(head)
            wanted = needs(image) if head.startswith(MAGIC) else Needs()
    except BinaryError:
        return ()
    loader = (_Wanted(name=wanted.loader),) if wanted.loader.startswith("/") else ()
    return (*loader, *(_Wanted(name=name, folders=_LIBRARY_FOLDERS, library=True) for name in wanted.libraries))


def _interpreter(head: bytes) -> tuple[_Wanted, ...]:
    """The program that runs a script: the first word after `#!`, and what `env` is to look for in PATH."""
    words = head[2:].partition(b"\n")[0].decode("utf-8", "replace").split()
    if not words or not words[0].startswith("/"):
        return ()
    named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    by_env = posixpath.basename(words[0]) == "env" and named and "/" not in named[0]
    return (_Wanted(name=words[0]), *((_Wanted(name=named[0], folders=_PROGRAM_FOLDERS),) if by_env else ()))


def told(found: Iterable[Lacking]) -> str:
    """The missing files in one line, each with a program that needs it."""
    words = [f"{item.name} (needed by {item.needed_by})" for item in found]
    return ", ".join(words[:_SHOWN]) + (f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")


def remedy_for(found: Iterable[Lacking], distro: str) -> Remedy:
    """How to give the guest what it lacks: the key of the config, and the packages that bring the libraries in `distro`."""
    items = tuple(found)
    first = items[0]
    place = f"{_LIBRARY_FOLDERS[1]}/{first.name}" if first.library else first.name
    name = posixpath.basename(first.name)
    packages, unknown = _packages([item.name for item in items if item.library], distro)
    quoted = ", ".join(f'"{package}"' for package in packages[:_SHOWN])
    ways = [f"add packages = [{quoted}] to [target]"] if packages else []
    if unknown or not first.library:
        ways.append(f"add the package of {distro} that has {(unknown or [first.name])[0]} to packages in [target] "
                    f"(apt-file search {(unknown or [first.name])[0]})")  # fmt: skip
    copied = f'below [target.paths], as in "{place}" = "lib/{name}"'
    ways += ["link the programs statically", f"copy the files into the project and name them {copied}"]
    return Remedy(title=", or ".join(ways))


def _packages(sonames: Iterable[str], distro: str) -> tuple[list[str], list[str]]:
    """The packages of the libraries that are known, and the names of the others."""
    column = list(SUITES).index(distro)
    named = {soname: LIBRARIES[soname][column] if soname in LIBRARIES else "" for soname in sonames}
    return list(dict.fromkeys(filter(None, named.values()))), [
        soname for soname, package in named.items() if not package
    ]


def policy_name(soname: str) -> str:
    """The package of a library by Debian's rule for names (Debian Policy, 8.1), empty for a name without a version."""
    match = re.fullmatch(r"(lib[A-Za-z0-9+_.-]*?)(?:\.so\.([0-9.]+[a-z]?)|-([0-9.]+)\.so)", soname)
    if match is None:
        return ""
    stem, version = match[1].replace("_", "-").lower(), match[2] or match[3]
    return f"{stem}{'-' if stem[-1].isdigit() or match[3] else ''}{version}"
