"""A program for the namespace of a build: downloads packages into a root, unpacks and configures them.

    python3 -m cgroup_preflight.guest.unpack ROOT [PATTERN]... -- NAME...

There are as many `tar` as CPUs, and each unpacks one package after the other, as soon as apt has verified it. dpkg's
database becomes what dpkg itself would write (deb(5), deb-control(5), /usr/share/doc/dpkg). Meanwhile the Python in ROOT
compiles this package into `bytecode.tar` next to ROOT. A package whose maintainer scripts are not known is left to dpkg,
which runs them in ROOT.
"""

import fnmatch
import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from queue import PriorityQueue

from cgroup_preflight.guest import bytecode, package_file
from cgroup_preflight.guest.arrivals import ARCHIVES, downloaded
from cgroup_preflight.guest.maintainer import CONFIGURE, is_known
from cgroup_preflight.guest.tools import STEP

#: This package, compiled for the Python in the root; next to it.
ARCHIVE = "bytecode.tar"
_DATABASE = "var/lib/dpkg"
#: Directories that are links into /usr (Debian's merged /usr); in Debian 12 no package has these links.
_MERGED = ("bin", "sbin", "lib", "lib64")
#: Has the links of _MERGED in Debian 13, and so comes before all others.
_FIRST = "base-files"
#: invoke-rc.d(8): 101 forbids to start anything.
_POLICY = "usr/sbin/policy-rc.d"
_SCRIPTS = ("preinst", "postinst")
#: No variable of the build, which may be a secret of the job or name a folder of it, reaches the scripts of packages.
_DPKG = """
exec chroot "$0" env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \\
    dpkg --force-unsafe-io --install "$@"
"""
_MOUNTS = f"""
for at in dev proc; do
    mount --rbind "/$at" "$0/$at"
done
{_DPKG}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package:
    """A package file: `control` are the files of its control archive, `fields` the paragraph in it."""

    file: Path
    name: str
    fields: str
    control: dict[str, bytes]

    @property
    def stem(self) -> str:
        """The name of its files in dpkg's database, with the architecture where several can be installed."""
        lines = self.fields.splitlines()
        if "Multi-Arch: same" not in lines:
            return self.name
        return f"{self.name}:{_field(self.fields, 'Architecture')}"

    @property
    def is_plain(self) -> bool:
        """Whether it needs no maintainer script to be run."""
        return is_known(self.name) or not any(script in self.control for script in _SCRIPTS)


#: A package and the paths that dpkg lists for it.
_Unpacked = tuple[_Package, list[str]]
#: Files by their turn; None ends it, before or after all files.
_Todo = PriorityQueue[tuple[tuple[bool, float], Path | None]]
_AT_ONCE, _AFTER_ALL = (False, -inf), (True, inf)


def unpack(root: Path, excluded: Sequence[str], files: Iterable[Path]) -> None:
    """Unpacks and configures the packages `files` of `root`, without the files of the patterns `excluded`.

    Each of `files` is complete and verified when it comes. Raises CalledProcessError, package_file.ERRORS.
    """
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    info = root / _DATABASE / "info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "format").write_text("1\n")
    unpacked = sorted(_extract(files, root, excluded), key=lambda found: _turn(found[0].file))
    packages = [item for item, _ in unpacked]
    plain = [item for item in packages if item.is_plain]
    status = [_record(item, paths, root) for item, paths in unpacked if item.is_plain]
    _write_triggers(plain, root / _DATABASE / "triggers")
    (root / _DATABASE / "status").write_text("\n".join(status))
    compiling = bytecode.start_compiling(root)
    try:
        _call(("chroot", str(root), "/bin/sh", "-euc", CONFIGURE))
    finally:
        if compiling is not None:
            bytecode.pack_compiled(root, compiling, root.with_name(ARCHIVE))
    others = [item for item in packages if not item.is_plain]
    if others:
        _install(others, root)


def _field(fields: str, name: str) -> str:
    for line in fields.splitlines():
        if line.startswith(f"{name}: "):
            return line.removeprefix(f"{name}: ")
    raise ValueError(f"a package without the field {name}")


def _read(file: Path) -> _Package:
    control = package_file.control_files(file)
    fields = control.pop("control").decode()
    return _Package(file=file, name=_field(fields, "Package"), fields=fields.strip("\n"), control=control)


def _turn(file: Path) -> tuple[bool, float]:
    """The order of packages: the largest first, because the last ones should take no time; _FIRST is before all others."""
    return (file.name.partition("_")[0] != _FIRST, -file.stat().st_size)


def _extract(files: Iterable[Path], root: Path, excluded: Sequence[str]) -> list[_Unpacked]:
    """Unpacks packages while they come."""
    todo: _Todo = PriorityQueue()
    workers = os.cpu_count() or 1
    unpacked: list[_Unpacked] = []
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(_extract_some, _taken(todo), root, excluded) for _ in range(workers)]
        last = _AT_ONCE
        try:
            for file in _first_first(files, unpacked, root, excluded):
                todo.put((_turn(file), file))
                if any(job.done() for job in jobs):
                    break  # it has failed
            else:
                last = _AFTER_ALL
        finally:
            for _ in jobs:
                todo.put((last, None))
        return [*unpacked, *itertools.chain.from_iterable(job.result() for job in jobs)]


def _first_first(
    files: Iterable[Path], unpacked: list[_Unpacked], root: Path, excluded: Sequence[str]
) -> Iterator[Path]:
    """All `files` but _FIRST, after that has been unpacked."""
    early: list[Path] | None = []
    for file in files:
        if file.name.partition("_")[0] == _FIRST:
            unpacked += _extract_some(iter((file,)), root, excluded)
            yield from early or ()
            early = None
        elif early is None:
            yield file
        else:
            early.append(file)
    yield from early or ()


def _extract_some(files: Iterable[Path], root: Path, excluded: Iterable[str]) -> list[_Unpacked]:
    """Unpacks packages with one `tar`, and only reads those that are left to dpkg."""
    argv = (
        "tar", "--extract", "--ignore-zeros", f"--directory={root}", "--numeric-owner", "--keep-directory-symlink",
        "--delay-directory-restore", *(f"--exclude=.{pattern}" for pattern in excluded),
    )  # fmt: skip
    unpacked: list[_Unpacked] = []

    def plain() -> Iterator[_Package]:
        for package in map(_read, files):
            if package.is_plain:
                yield package
            else:
                unpacked.append((package, []))

    packages = plain()
    # An empty stream is no archive.
    first = next(packages, None)
    if first is None:
        return unpacked
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as tar, suppress(BrokenPipeError):
        assert tar.stdin is not None
        for package in itertools.chain((first,), packages):
            names = package_file.copy_data(package.file, tar.stdin)
            unpacked.append((package, _listed(names, excluded)))
    if tar.returncode != 0:
        raise subprocess.CalledProcessError(tar.returncode, argv)
    return unpacked


def _taken(todo: "_Todo") -> Iterator[Path]:
    """The files of a queue until its end, which is no file."""
    while (file := todo.get()[1]) is not None:
        yield file


def _listed(names: Iterable[str], excluded: Iterable[str]) -> list[str]:
    """The paths of a package in dpkg's list: those of the archive's `names` that are unpacked.

    A package of which only folders are left has the root alone: dpkg removes a package all of whose paths are in one
    that it installs later (dpkg, `pkg_disappear_others`).
    """
    out = re.compile("|".join(map(fnmatch.translate, excluded)) or "(?!)")
    kept = [name for name in names if not out.match(name.removeprefix(".").rstrip("/"))]
    if all(name.endswith("/") for name in kept):
        return ["/."]
    return [name.removeprefix(".").rstrip("/") or "/." for name in kept]


def _record(package: _Package, paths: Iterable[str], root: Path) -> str:
    """Writes the files of an unpacked package in dpkg's database; returns its paragraph of the status file."""
    info = root / _DATABASE / "info"
    (info / f"{package.stem}.list").write_text("".join(f"{path}\n" for path in paths), errors="surrogateescape")
    for name, data in package.control.items():
        path = info / f"{package.stem}.{name}"
        path.write_bytes(data)
        if name.endswith(("inst", "rm", "config")):
            path.chmod(0o755)
    head, _, rest = package.fields.partition("\n")
    files = [line for line in package.control.get("conffiles", b"").decode().splitlines() if line.startswith("/")]
    conffiles = "".join(f"\n {path} {_md5(root / path[1:])}" for path in files)
    return f"{head}\nStatus: install ok installed\n{rest}\n" + (f"Conffiles:{conffiles}\n" if conffiles else "")


def _write_triggers(packages: Iterable[_Package], folder: Path) -> None:
    """Who is interested in which file or event (deb-triggers(5)), for packages that somebody installs later."""
    folder.mkdir(exist_ok=True)
    # Without this file, dpkg takes the folder for one of a version without triggers, and activates them all.
    (folder / "Unincorp").touch()
    for package in packages:
        for line in package.control.get("triggers", b"").decode().splitlines():
            how, _, what = line.partition(" ")
            if not how.startswith("interest"):
                continue
            who = package.name + ("/noawait" if how == "interest-noawait" else "")
            with (folder / ("File" if what.startswith("/") else what)).open("a") as file:
                file.write(f"{what} {who}\n" if what.startswith("/") else f"{who}\n")


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _install(packages: Iterable[_Package], root: Path) -> None:
    """Lets dpkg install packages in `root`, with devices and /proc where we may mount them (in a namespace of their own)."""
    policy = root / _POLICY
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    before = _enabled(root)
    names = [f"/{ARCHIVES}/{item.file.name}" for item in packages]
    alone = subprocess.run(("unshare", "--mount", "true"), check=False, capture_output=True).returncode == 0
    _call((*(("unshare", "--mount", "sh", "-euc", _MOUNTS) if alone else ("sh", "-euc", _DPKG)), str(root), *names))
    policy.unlink()
    # A run starts the units that its config names; what else a package enables would run next to them after a boot.
    for link in _enabled(root) - before:
        link.unlink()


def _enabled(root: Path) -> set[Path]:
    """The links that start units at boot; aliases of units are no such links (systemd.unit(5), [Install])."""
    return {link for kind in ("wants", "requires") for link in (root / "etc/systemd/system").glob(f"*.{kind}/*")}


def _call(argv: tuple[str, ...]) -> None:
    """Runs a command, whose output nobody reads. Raises CalledProcessError."""
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)


def _all_of(root: Path, names: Sequence[str]) -> Generator[Path]:
    """The packages that apt downloads; says how many they are when all have come."""
    count = 0
    with closing(downloaded(root, names)) as files:
        for file in files:
            count += 1
            yield file
    sys.stdout.write(f"{STEP}installing {count} packages\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> None:
    """The program; ends with one line where something fails."""
    root, end = Path(argv[0]), argv.index("--")
    try:
        with closing(_all_of(root, argv[end + 1 :])) as files:
            unpack(root, argv[1:end], files)
    except subprocess.CalledProcessError as error:
        # The command may be a script of a hundred lines; its own message is on stderr.
        sys.exit(f"{' '.join(error.cmd[:2])} exited with {error.returncode}")
    except package_file.ERRORS as error:
        sys.exit(f"a package cannot be unpacked: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
